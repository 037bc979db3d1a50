"""The saved folder: what either package saves, the other loads; nothing half-written, nothing executed."""

import json
import os
import pickle
from contextlib import nullcontext

import peft
import pytest
import torch
from batches import ROWS
from families import WIDTH, bloom, gpt2
from safetensors.torch import load_file, save_file
from transformers import BloomConfig, BloomForCausalLM

from softprompt_lab import (
    AdapterError,
    PromptTuningConfig,
    SoftPromptModel,
    load_adapter,
    save_adapter,
    saving,
)
from softprompt_lab.config import PEFT_VERSION

P = 5
IDS = torch.tensor([ROWS[0]])
# Of the file operations of a save; a folder that cannot be synced (0, 4, 6, 10) is not an error.
REPORTED = {1, 2, 3, 5, 7, 8, 9}


@pytest.fixture
def model():
    """GPT-2 behind a prompt."""
    torch.manual_seed(0)
    return SoftPromptModel(gpt2(), PromptTuningConfig(num_virtual_tokens=P))


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_peft_loads_what_we_save(family, tmp_path, safe):
    """Invariant 5, there: equal logits on every family."""
    torch.manual_seed(1)
    model = SoftPromptModel(family, PromptTuningConfig(num_virtual_tokens=P))
    expected = model(IDS).logits
    model.save_pretrained(tmp_path, safe_serialization=safe)
    loaded = peft.PeftModel.from_pretrained(family, tmp_path).eval()
    torch.testing.assert_close(loaded(input_ids=IDS).logits[:, P:], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_we_load_what_peft_saves(family, tmp_path, safe):
    """Invariant 5, back."""
    theirs = peft.get_peft_model(
        family, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P)
    ).eval()
    expected = theirs(input_ids=IDS).logits[:, P:]
    theirs.save_pretrained(tmp_path, safe_serialization=safe)
    model = SoftPromptModel.from_pretrained(theirs.get_base_model(), tmp_path)
    torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-5, atol=1e-5)


def test_config_and_tensor_are_pefts(model, tmp_path):
    """The same keys and values in the JSON, the same tensor name, type and metadata in the file."""
    model.save_pretrained(tmp_path / "ours")
    theirs = peft.get_peft_model(
        gpt2(),
        peft.PromptTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=P, prompt_tuning_init="SAMPLE_VOCAB"
        ),
    )
    theirs.save_pretrained(tmp_path / "theirs")
    ours, reference = (
        json.loads((tmp_path / n / "adapter_config.json").read_text()) for n in ("ours", "theirs")
    )
    assert ours == reference | {
        "peft_version": PEFT_VERSION,
        "base_model_name_or_path": None,
    }  # before 0.21, ""
    assert not reference["base_model_name_or_path"]
    ours, reference = (tmp_path / n / saving.SAFE_NAME for n in ("ours", "theirs"))
    assert load_file(ours).keys() == load_file(reference).keys()
    assert ours.stat().st_size == reference.stat().st_size


def test_the_tutorials_folder_has_three_files_and_33_kilobytes(tmp_path):
    """A BLOOM of width 1024 with 8 virtual tokens: 8 * 1024 * 4 bytes and the format's own."""
    base = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=1024, n_layer=1, n_head=16))
    base.name_or_path = "bigscience/bloomz-560m"
    model = SoftPromptModel(base, PromptTuningConfig(num_virtual_tokens=8))
    folder = tmp_path / saving.default_folder_name(model.prompt_config)
    model.save_pretrained(folder, safe_serialization=False)
    assert folder.name == "bloomz-560m_PROMPT_TUNING_CAUSAL_LM"
    assert sorted(os.listdir(folder)) == ["README.md", "adapter_config.json", "adapter_model.bin"]
    assert 32_768 < (folder / "adapter_model.bin").stat().st_size < 35_500
    theirs = peft.get_peft_model(
        base, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=8)
    )
    keys = json.loads((folder / "adapter_config.json").read_text()).keys()
    theirs.save_pretrained(tmp_path / "theirs")
    assert keys == json.loads((tmp_path / "theirs" / "adapter_config.json").read_text()).keys()


def test_the_card_says_what_was_measured(model, tmp_path):
    """PEFT's front matter, its last line, and the caller's figures."""
    model.save_pretrained(tmp_path, results={"test accuracy": "0.87"})
    card = (tmp_path / "README.md").read_text()
    assert "library_name: peft" in card
    assert "pipeline_tag: text-generation" in card
    assert "| test accuracy | 0.87 |" in card
    assert card.rstrip().endswith(f"- PEFT {model.prompt_config.peft_version}")


def test_saving_again_replaces_the_other_format(model, tmp_path):
    """One set of weights in a folder, and what else lies there stays."""
    (tmp_path / "notes.txt").write_text("mine")
    model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, safe_serialization=False)
    assert sorted(os.listdir(tmp_path)) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.bin",
        "notes.txt",
    ]


@pytest.mark.parametrize("call", range(13))
def test_a_save_that_breaks_anywhere_leaves_a_complete_adapter(tmp_path, monkeypatch, call):
    """The n-th file operation fails: whatever n, the folder then holds the old prompt or the new one, whole."""
    old, new = torch.zeros(4, WIDTH), torch.ones(6, WIDTH)
    save_adapter(tmp_path, PromptTuningConfig(4, token_dim=WIDTH), old)
    count = 0

    def failing(function):
        def wrapped(*arguments, **keywords):
            nonlocal count
            count += 1
            if count == call + 1:
                raise OSError("no space left on device")
            return function(*arguments, **keywords)

        return wrapped

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "fsync"):
            patch.setattr(saving.os, name, failing(getattr(os, name)))
        broken = (
            pytest.raises(AdapterError, match="no space left on device")
            if call in REPORTED
            else nullcontext()
        )
        with broken:
            save_adapter(tmp_path, PromptTuningConfig(6, token_dim=WIDTH), new)
    config, prompt = load_adapter(tmp_path)
    assert torch.equal(prompt, {4: old, 6: new}[config.num_virtual_tokens])
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_prompt_that_is_not_as_configured_is_not_saved(tmp_path):
    """Wrong shape, or not finite: refused before a file is touched."""
    config = PromptTuningConfig(4, token_dim=WIDTH)
    with pytest.raises(ValueError, match=r"shape \(3, 32\); the configuration says \(4, 32\)"):
        save_adapter(tmp_path, config, torch.zeros(3, WIDTH))
    with pytest.raises(ValueError, match="not finite"):
        save_adapter(tmp_path, config, torch.full((4, WIDTH), float("inf")))
    assert os.listdir(tmp_path) == []


class Bomb:
    """A pickle that would make a file if it were executed."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_never_executed(model, tmp_path):
    """Neither torch's old format nor a bare pickle runs code."""
    model.save_pretrained(tmp_path / "adapter", safe_serialization=False)
    target = tmp_path / "owned"
    bare = (
        lambda value, path: path.write_bytes(pickle.dumps(value)),
        "it is no plain file of tensors",
    )
    for dump, reason in ((torch.save, "no call of (io|_io).open"), bare):
        dump({"prompt_embeddings": Bomb(target)}, tmp_path / "adapter" / saving.PICKLE_NAME)
        with pytest.raises(
            AdapterError, match=rf"\.bin was refused, and nothing in it was run: .*{reason}"
        ):
            load_adapter(tmp_path / "adapter")
        assert not target.exists()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other": torch.zeros(5, WIDTH)}, "no tensor called 'prompt_embeddings'"),
        (
            {"prompt_embeddings": torch.zeros(4, WIDTH)},
            r"shape \(4, 32\); the configuration says \(5, 32\)",
        ),
        ({"prompt_embeddings": torch.full((5, WIDTH), float("nan"))}, "not finite"),
        ({"prompt_embeddings": torch.zeros(5, WIDTH, dtype=torch.long)}, "torch.int64"),
    ],
)
def test_tensors_are_checked(model, tmp_path, tensors, message):
    """Name, shape, type and values."""
    model.save_pretrained(tmp_path)
    save_file(tensors, tmp_path / saving.SAFE_NAME)
    with pytest.raises(AdapterError, match=message):
        load_adapter(tmp_path)


def test_a_missing_or_damaged_file_is_named(model, tmp_path):
    """No folder, no weights, half a file, a base model of another width."""
    with pytest.raises(AdapterError, match="is no folder"):
        load_adapter(tmp_path / "nowhere")
    model.save_pretrained(tmp_path)
    weights = tmp_path / saving.SAFE_NAME
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(AdapterError, match="is damaged or no tensor file"):
        load_adapter(tmp_path)
    weights.unlink()
    with pytest.raises(AdapterError, match="holds neither"):
        load_adapter(tmp_path)
    save_adapter(tmp_path, PromptTuningConfig(4, token_dim=8), torch.zeros(4, 8))
    with pytest.raises(AdapterError, match="does not fit this base model: token_dim=8"):
        SoftPromptModel.from_pretrained(bloom(), tmp_path)


def test_half_precision_is_raised_to_float32(tmp_path):
    """As PEFT does."""
    save_adapter(tmp_path, PromptTuningConfig(2, token_dim=WIDTH), torch.ones(2, WIDTH))
    save_file(
        {"prompt_embeddings": torch.ones(2, WIDTH, dtype=torch.bfloat16)},
        tmp_path / saving.SAFE_NAME,
    )
    assert load_adapter(tmp_path)[1].dtype == torch.float32
