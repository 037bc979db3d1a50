"""Folders from strangers: refused with the reason, whatever is in them; nothing runs, hangs or fills the memory."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from families import WIDTH
from fuzzing import archive, program_of
from safetensors.torch import save_file

from softprompt_lab import AdapterError, PromptTuningConfig, load_adapter, save_adapter, saving
from softprompt_lab.config import CONFIG_NAME
from softprompt_lab.saving import PENDING, PICKLE_NAME, SAFE_NAME, TENSOR_NAME

P = 5
OWNED = "owned"  # a file that an attack would make


class Bomb:
    """Unpickled, it would write a file."""

    def __reduce__(self):
        return (open, (OWNED, "w"))


def pickled(value) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def as_bin(folder: Path, content: bytes) -> None:
    """Weights as a pickle, in place of safetensors."""
    (folder / SAFE_NAME).unlink()
    (folder / PICKLE_NAME).write_bytes(content)


def configured(folder: Path, **change) -> None:
    """Change fields of the configuration."""
    path = folder / CONFIG_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def compressed(content: bytes) -> bytes:
    """The same archive, its records deflated, one of them a gigabyte of zeros."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as plain,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, b"\0" * 2**24 if "/data/" in name else plain.read(name))
    return buffer.getvalue()


def program() -> bytes:
    """The pickle in what torch.save writes of the prompt."""
    return program_of(pickled({"prompt_embeddings": PROMPT}))


def outside(folder: Path, name: str) -> None:
    """Put a link in place of a file, to the file outside."""
    target = folder.parent / f"outside-{name}"
    shutil.move(folder / name, target)
    (folder / name).symlink_to(target)


def pipe(folder: Path, name: str) -> None:
    """A pipe that nobody writes to: whoever reads it waits for ever."""
    (folder / name).unlink()
    os.mkfifo(folder / name)


def pending(folder: Path, link: bool) -> None:
    """An interrupted save that is none: somebody's files, moved here and deleted there."""
    place = folder.parent / "somebody" if link else folder / PENDING
    place.mkdir()
    (place / "letter.txt").write_text("dear reader")
    if link:
        (folder / PENDING).symlink_to(place)


def stuck(folder: Path) -> None:
    """An interrupted save with a pipe in it."""
    (folder / PENDING).mkdir()
    os.mkfifo(folder / PENDING / "remove")


PROMPT = torch.zeros(P, WIDTH)
ATTACKS = {
    "a pickle that calls": (
        lambda f: as_bin(f, pickled({"prompt_embeddings": Bomb()})),
        "no call of (io|_io).open",
    ),
    "a bare pickle": (lambda f: as_bin(f, pickle.dumps(Bomb())), "no plain file of tensors"),
    "a compressed archive": (
        lambda f: as_bin(f, compressed(pickled({"prompt_embeddings": PROMPT}))),
        r"is compressed; a saved prompt is small and plain",
    ),
    "an expanded tensor": (
        lambda f: as_bin(
            f,
            pickled(
                {
                    "prompt_embeddings": PROMPT,
                    "base_model.score.weight": torch.zeros(1).expand(10**6, 10**6),
                }
            ),
        ),
        r"no plain tensor: torch.strided, shape \(1000000, 1000000\)",
    ),
    "a sparse tensor": (
        lambda f: as_bin(f, pickled({"prompt_embeddings": PROMPT.to_sparse()})),
        "no call of torch.serialization._get_layout",
    ),
    "a list of tensors": (
        lambda f: as_bin(f, pickled([PROMPT])),
        "no tensor called 'prompt_embeddings'",
    ),
    "a pickle that asks for 4 GB": (
        lambda f: as_bin(f, archive(b"\x80\x02ctorch\nFloatTensor\nJ\0\0\0\x40\x85R.")),
        "no call of torch.FloatTensor",
    ),
    "a key that takes years to hash": (
        lambda f: as_bin(f, archive(b"\x80\x02)q\0" + b"h\0h\0\x86q\0" * 60 + b"}h\0K\1s.")),
        "no plain file of tensors",
    ),
    "a storage that takes years to hash": (
        lambda f: as_bin(
            f, archive(b"\x80\x02)q\0" + b"h\0h\0\x86q\0" * 60 + b"(h\0h\0h\0h\0h\0tQ.")
        ),
        "no plain file of tensors",
    ),
    "a tensor larger than its record": (
        lambda f: as_bin(f, archive(program().replace(b"K\xa0t", b"K\xa1t"), bytes(640))),
        "no plain file of tensors",
    ),
    "a tensor beyond its storage": (
        lambda f: as_bin(f, archive(program().replace(b"K\x05K \x86", b"K\x06K \x86"), bytes(640))),
        "no plain file of tensors",
    ),
    "a header without end": (
        lambda f: (f / SAFE_NAME).write_bytes(struct.pack("<Q", 2**60) + b"{}"),
        "is damaged or no tensor file",
    ),
    "weights that are a link": (
        lambda f: outside(f, SAFE_NAME),
        "is a link that leaves its folder",
    ),
    "a configuration that is a link": (
        lambda f: outside(f, CONFIG_NAME),
        "is a link that leaves its folder",
    ),
    "a configuration that is a pipe": (lambda f: pipe(f, CONFIG_NAME), "is no plain file"),
    "weights that are a pipe": (lambda f: pipe(f, SAFE_NAME), "is no plain file"),
    "a link to a device": (
        lambda f: (f / CONFIG_NAME).unlink() or (f / CONFIG_NAME).symlink_to("/dev/zero"),
        "is a link that leaves its folder",
    ),
    "a link to itself": (
        lambda f: (f / CONFIG_NAME).unlink() or (f / CONFIG_NAME).symlink_to(CONFIG_NAME),
        "cannot be opened",
    ),
    "a large configuration": (
        lambda f: (f / CONFIG_NAME).write_text(" " * 2_000_000),
        "2,000,000 bytes is too large",
    ),
    "a deep configuration": (
        lambda f: (f / CONFIG_NAME).write_text("[" * 100_000),
        "cannot be read as JSON",
    ),
    "a long number": (
        lambda f: (f / CONFIG_NAME).write_text('{"num_virtual_tokens": ' + "9" * 10_000 + "}"),
        "cannot be read as JSON",
    ),
    "more tokens than there are": (
        lambda f: configured(f, num_virtual_tokens=10**15),
        r"has shape \(5, 32\); the configuration says \(1000000000000000, 32\)",
    ),
    "a number for a prompt": (
        lambda f: (
            configured(f, token_dim=None, task_type="SEQ_2_SEQ_LM"),
            save_file({TENSOR_NAME: torch.zeros(())}, f / SAFE_NAME),
        ),
        r"has shape \(\); the configuration says",
    ),
    "modules that are no names": (
        lambda f: configured(f, modules_to_save=[1]),
        r"modules_to_save=\[1\]",
    ),
    "another method": (lambda f: configured(f, peft_type="LORA"), "peft_type='LORA'"),
    "an interrupted save of others": (
        lambda f: pending(f, link=False),
        "is no interrupted save of this package",
    ),
    "an interrupted save elsewhere": (
        lambda f: pending(f, link=True),
        "is no interrupted save of this package",
    ),
    "an interrupted save with a pipe": (stuck, "is no interrupted save of this package"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A good adapter, to be spoiled."""
    monkeypatch.chdir(tmp_path)
    return save_adapter(tmp_path / "adapter", PromptTuningConfig(P, token_dim=WIDTH), PROMPT)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_folder_is_refused_with_its_reason(folder, name):
    """Nothing outside the folder is touched, and nothing ran."""
    spoil, reason = ATTACKS[name]
    spoil(folder)
    others = {path: path.read_bytes() for path in folder.parent.rglob("*.txt")}
    with pytest.raises(AdapterError, match=reason):
        load_adapter(folder)
    assert not Path(OWNED).exists()
    assert all(path.read_bytes() == content for path, content in others.items())


def test_a_tensor_that_grows_in_float32_is_refused(folder, monkeypatch):
    """A byte a number in the file, four in memory: the limit is on what is made."""
    configured(folder, num_virtual_tokens=40)
    save_file(
        {"prompt_embeddings": torch.zeros(40, WIDTH).to(torch.float8_e4m3fn)}, folder / SAFE_NAME
    )
    assert load_adapter(folder)[1].shape == (40, WIDTH)
    monkeypatch.setattr(saving, "MAX_TENSOR_BYTES", 4 * 40 * WIDTH - 1)
    with pytest.raises(
        AdapterError, match=r"holds 1,280 numbers; as float32 they take more than 5,119 bytes"
    ):
        load_adapter(folder)


def test_no_tokenizer_is_loaded_on_a_configs_word(folder):
    """peft issue 2888: its arguments are dropped, whatever they ask for."""
    configured(
        folder, tokenizer_kwargs={"trust_remote_code": True}, tokenizer_name_or_path="somebody/code"
    )
    config, prompt = load_adapter(folder)
    assert config.tokenizer_kwargs is None
    assert torch.equal(prompt, PROMPT)
