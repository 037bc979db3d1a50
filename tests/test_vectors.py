"""A prompt's vectors in plain files: what is written is read back, also by other libraries; what is damaged refused."""

import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import EDITS, damaged
from families import gpt2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from safetensors.torch import save as save_tensors

from softprompt_lab import (
    AdapterError,
    PromptTuningConfig,
    SoftPromptModel,
    export_prompt,
    import_prompt,
)

ENDINGS = (".safetensors", ".npy", ".json")
PROMPT = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([[5, 17, 33, 8]])


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_reads_back_to_the_last_bit(tmp_path, ending):
    """Also tiny and large numbers, a slice of a larger tensor, one with a gradient, half precision."""
    extremes = torch.tensor([[1e-45, -0.0, 3.4e38], [1 / 3, 1e-7, 16777217.0]])
    for prompt in (
        PROMPT,
        extremes,
        PROMPT[1:3],
        PROMPT.T,
        PROMPT.clone().requires_grad_(),
        PROMPT.bfloat16(),
    ):
        back = import_prompt(export_prompt(prompt, tmp_path / f"prompt{ending}"))
        assert back.dtype == torch.float32
        assert torch.equal(back, prompt.detach().float())
    assert [path.name for path in tmp_path.iterdir()] == [f"prompt{ending}"]


def test_other_libraries_read_what_is_written(tmp_path):
    """safetensors, NumPy and json, each by itself."""
    files = [export_prompt(PROMPT, tmp_path / f"prompt{ending}") for ending in ENDINGS]
    assert torch.equal(load_file(files[0])["prompt_embeddings"], PROMPT)
    assert np.array_equal(np.load(files[1]), PROMPT.numpy())
    assert np.array_equal(
        np.array(json.loads(files[2].read_text()), dtype=np.float32), PROMPT.numpy()
    )


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
def test_arrays_of_other_floats_are_read(tmp_path, dtype):
    """Half and double precision, the other byte order, columns first."""
    np.save(tmp_path / "a.npy", np.asfortranarray(PROMPT.numpy().astype(dtype)))
    expected = torch.from_numpy(PROMPT.numpy().astype(dtype).astype(np.float32))
    assert torch.equal(import_prompt(tmp_path / "a.npy"), expected)


def test_the_only_tensor_needs_no_name(tmp_path):
    """Of several, the one with PEFT's name."""
    save_file({"embedding.weight": PROMPT}, tmp_path / "one.safetensors")
    save_file({"prompt_embeddings": PROMPT, "other": torch.zeros(2)}, tmp_path / "two.safetensors")
    for name in ("one", "two"):
        assert torch.equal(import_prompt(tmp_path / f"{name}.safetensors"), PROMPT)


def test_imported_vectors_start_a_prompt(tmp_path):
    """From a model to a file, and in front of another copy of its base."""
    model = SoftPromptModel(gpt2(), PromptTuningConfig(3))
    file = export_prompt(model.prompt, tmp_path / "prompt.npy")
    again = SoftPromptModel(gpt2(), PromptTuningConfig(3), start=import_prompt(file))
    assert torch.equal(again(IDS).logits, model(IDS).logits)


# ------------------------------------------------------------------------------------------------- what is refused


class Bomb:
    """Unpickled, it would write a file."""

    def __reduce__(self):
        return (open, ("owned", "w"))


def claims(shape: str, dtype: str = "<f4") -> bytes:
    """An array of 96 bytes under a header that says what it likes."""
    header = (
        f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117)
        + b"\n"
    )
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(96)


def saved(array: np.ndarray) -> bytes:
    """What np.save writes, pickled objects too."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def tensors(**named: torch.Tensor) -> bytes:
    """A safetensors file."""
    return save_tensors(named)


DAMAGED = "is damaged or no"
REFUSED = {
    "a pickle": ("x.npy", pickle.dumps(Bomb()), DAMAGED),
    "an array of objects": ("x.npy", saved(np.array([[Bomb()]], dtype=object)), DAMAGED),
    "more than there is": ("x.npy", claims("(1000000000000, 32)"), DAMAGED),
    "a shape beyond counting": (
        "x.npy",
        claims("(9223372036854775807, 9223372036854775807)"),
        DAMAGED,
    ),
    "less than nothing": ("x.npy", claims("(-1, 6)"), DAMAGED),
    "whole numbers": (
        "x.npy",
        claims("(4, 6)", "<i4"),
        "holds int32; what is learned is floating point",
    ),
    "complex numbers": ("x.npy", claims("(2, 6)", "<c8"), "holds complex64"),
    "one vector": ("x.npy", claims("(24,)"), r"has shape \(24,\); a prompt is \(P, D\)"),
    "an archive": ("x.npy", b"PK\x03\x04" + bytes(60), DAMAGED),
    "too large for float32": ("x.npy", saved(np.full((2, 3), 1e300)), "not finite"),
    "nothing": ("x.npy", b"", DAMAGED),
    "a header without end": ("x.safetensors", struct.pack("<Q", 2**60) + b"{}", DAMAGED),
    "two tensors": (
        "x.safetensors",
        tensors(a=PROMPT, b=PROMPT + 1),
        r"it holds \['a', 'b'\], and none is called",
    ),
    "no tensor": ("x.safetensors", tensors(), r"it holds \[\], and none is called"),
    "integers": (
        "x.safetensors",
        tensors(a=torch.ones(2, 3, dtype=torch.long)),
        "holds torch.int64",
    ),
    "not a number": ("x.safetensors", tensors(a=torch.full((2, 3), float("nan"))), "not finite"),
    "no rows": ("x.safetensors", tensors(a=torch.zeros(0, 3)), r"has shape \(0, 3\)"),
    "rows of unequal length": ("x.json", b"[[1, 2], [3]]", "no list of equally long lists"),
    "an object": ("x.json", b'{"a": [[1.0]]}', "no list of equally long lists"),
    "numbers without rows": ("x.json", b"[1.0, 2.0]", "no list of equally long lists"),
    "an empty list": ("x.json", b"[]", "no list of equally long lists"),
    "a word": ("x.json", b'[[1.0, "one"]]', "holds 'one' where a number is expected"),
    "nothing where a number is": (
        "x.json",
        b"[[1.0, null]]",
        "holds 'None' where a number is expected",
    ),
    "yes": ("x.json", b"[[1.0, true]]", "holds 'True' where a number is expected"),
    "infinity": ("x.json", b"[[1.0, Infinity]]", "not finite"),
    "a number beyond floats": ("x.json", b"[[1" + b"0" * 400 + b"]]", DAMAGED),
    "a deep list": ("x.json", b"[" * 100_000, DAMAGED),
    "half a file": ("x.json", b"[[1.0, ", DAMAGED),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", REFUSED)
def test_a_strange_file_is_refused_with_its_reason(tmp_path, monkeypatch, kind):
    """Nothing in it runs."""
    monkeypatch.chdir(tmp_path)
    name, content, reason = REFUSED[kind]
    Path(name).write_bytes(content)
    with pytest.raises(AdapterError, match=reason):
        import_prompt(name)
    assert not Path("owned").exists()


def test_files_that_are_none_and_endings_that_are_none(tmp_path):
    """Missing, a folder, a link to elsewhere, too large; other endings; prompts that are none."""
    with pytest.raises(AdapterError, match="does not exist"):
        import_prompt(tmp_path / "x.npy")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(AdapterError, match="is no plain file"):
        import_prompt(tmp_path / "folder.npy")
    (tmp_path / "zero.npy").symlink_to("/dev/zero")
    with pytest.raises(AdapterError, match="is a link that leaves its folder"):
        import_prompt(tmp_path / "zero.npy")
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate(64_000_001)
    with pytest.raises(AdapterError, match="64,000,001 bytes is too large"):
        import_prompt(tmp_path / "large.json")
    for work in (import_prompt, lambda file: export_prompt(PROMPT, file)):
        with pytest.raises(
            ValueError, match=r"ends in '.bin'; vectors are kept in: .safetensors, .npy, .json"
        ):
            work(tmp_path / "x.bin")
    for prompt, reason in ((PROMPT / 0, "not finite"), (PROMPT[:0], r"\(0, 6\)")):
        with pytest.raises(ValueError, match=reason):
            export_prompt(prompt, tmp_path / "y.npy")
    with pytest.raises(AdapterError, match="cannot be written"):
        export_prompt(PROMPT, tmp_path / "zero.npy" / "y.npy")
    assert not (tmp_path / "y.npy").exists()


@settings(max_examples=300, deadline=2000, suppress_health_check=list(HealthCheck), database=None)
@given(ending=st.sampled_from(ENDINGS), edits=EDITS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files(tmp_path_factory, ending, edits):
    """Bytes changed, cut off, put in or left out: right numbers of some shape, or an AdapterError."""
    file = tmp_path_factory.getbasetemp() / f"damaged{ending}"
    content = export_prompt(PROMPT, file).read_bytes()
    file.write_bytes(damaged(content, edits))
    try:
        prompt = import_prompt(file)
    except AdapterError:
        return
    assert prompt.dtype == torch.float32
    assert torch.isfinite(prompt).all()
