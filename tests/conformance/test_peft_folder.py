"""What PEFT's tests ask of the saved folder: its files, several prompts, what a loaded prompt answers."""

import json
import os

import peft
import pytest
import torch
import yaml
from batches import ROWS
from families import base_of, gpt2, llama, t5
from prompted import as_peft, model_of, random_start, with_prompt
from transformers import AutoModelForCausalLM

from softprompt_lab import AdapterError, PromptTuningConfig, SoftPromptModel

IDS = torch.tensor([row[:3] for row in ROWS])
KINDS = {
    "gpt2": (gpt2, None),
    "t5": (t5, None),
    "bert classes": (lambda: base_of("Bert", "SEQ_CLS"), "SEQ_CLS"),
    "bert features": (lambda: base_of("Bert", "FEATURE_EXTRACTION"), "FEATURE_EXTRACTION"),
}
EVERY_KIND = pytest.mark.parametrize(("build", "task"), KINDS.values(), ids=KINDS)


def answer(model, task: str | None) -> torch.Tensor:
    """Logits or features, without the prompt's places."""
    labels = {"labels": IDS} if task is None else {}
    output = model(input_ids=IDS, **labels)
    found = output["last_hidden_state" if task == "FEATURE_EXTRACTION" else "logits"]
    return found[:, -IDS.shape[1] :] if found.dim() == 3 else found


def front_matter(folder) -> dict:
    """The YAML at the head of a card."""
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@EVERY_KIND
def test_the_folder_has_pefts_files(build, task, safe, tmp_path):
    """Configuration, tensors and a card whose front matter is PEFT's; nothing of the base model."""
    base = build()
    base.name_or_path = base.config._name_or_path = "somebody/base"
    model = with_prompt(base, task)
    as_peft(model).save_pretrained(tmp_path / "theirs", safe_serialization=safe)
    model.save_pretrained(tmp_path / "ours", safe_serialization=safe)
    assert sorted(os.listdir(tmp_path / "ours")) == sorted(os.listdir(tmp_path / "theirs"))
    ours, theirs = (front_matter(tmp_path / name) for name in ("ours", "theirs"))
    tags, expected = set(ours.pop("tags")), set(theirs.pop("tags"))
    assert ours == theirs
    assert (
        expected <= tags <= {*expected, "transformers"}
    )  # PEFT finds it on bases that have a part called model
    ours, theirs = (
        json.loads((tmp_path / name / "adapter_config.json").read_text())
        for name in ("ours", "theirs")
    )
    assert ours["base_model_name_or_path"] == theirs["base_model_name_or_path"] == "somebody/base"
    differing = {key for key in ours if ours[key] != theirs[key]}
    assert differing <= {
        "prompt_tuning_init",
        "modules_to_save",
        "peft_version",
    }  # ours is of the format
    assert ours.keys() == theirs.keys()


@EVERY_KIND
def test_a_trained_prompt_answers_the_same_when_it_is_loaded(build, task, tmp_path):
    """Here and in PEFT, from one file of safetensors."""
    model = with_prompt(build(), task)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    answer(model, task).square().mean().backward()
    optimizer.step()
    expected = answer(model, task)
    model.save_pretrained(tmp_path)
    assert "adapter_model.safetensors" in os.listdir(tmp_path)
    assert "adapter_model.bin" not in os.listdir(tmp_path)
    assert torch.equal(answer(SoftPromptModel.from_pretrained(build(), tmp_path), task), expected)
    if task != "SEQ_CLS":  # PEFT's classifier reads a virtual token
        theirs = peft.PeftModel.from_pretrained(build(), tmp_path).eval()
        torch.testing.assert_close(answer(theirs, task), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@EVERY_KIND
def test_named_prompts_go_both_ways(build, task, safe, tmp_path):
    """PEFT writes the prompts that are not called default to sub-folders: so can we, and each loads by a name."""
    model = with_prompt(build(), task)
    config = PromptTuningConfig(
        2, task_type=model.prompt_config.task_type, num_transformer_submodules=1
    )
    model.add_prompt("new-adapter", config, start=random_start(2, 7))
    with torch.no_grad():
        for weight in model.head_weights(["new-adapter"]).values():
            weight += 1
    expected = {}
    for name in ("new-adapter", "default"):
        model.set_prompt(name)
        expected[name] = answer(model, task)
    model.save_pretrained(tmp_path / "ours", safe_serialization=safe)
    theirs = peft.PeftModel.from_pretrained(build(), tmp_path / "ours")
    theirs.load_adapter(tmp_path / "ours" / "new-adapter", "new-adapter")
    theirs.save_pretrained(tmp_path / "theirs", safe_serialization=safe)
    for folder in (tmp_path / "ours", tmp_path / "theirs"):
        loaded = SoftPromptModel.from_pretrained(build(), folder)
        assert loaded.active_prompt == "default"
        for name, right in expected.items():
            loaded.set_prompt(name)
            assert torch.equal(answer(loaded, task), right)


def test_the_prompts_that_are_asked_for_are_loaded(tmp_path):
    """All of several without a word, whatever they are called; or the folder's own and those that are named."""
    model = with_prompt(gpt2())
    for name in ("default2", "other_default", "foodefault_bar", "efaul"):
        model.add_prompt(name, PromptTuningConfig(2), start=random_start(2))
    model.save_pretrained(tmp_path)
    model.save_pretrained(
        tmp_path / "checkpoint-10"
    )  # as Trainer would put it there: not a prompt of this folder
    for asked, names in (
        (None, set(model.configs)),
        (["efaul"], {"default", "efaul"}),
        ([], {"default"}),
    ):
        loaded = SoftPromptModel.from_pretrained(gpt2(), tmp_path, prompt_names=asked)
        assert set(loaded.configs) == names
        for name in names:
            assert torch.equal(loaded.prompt_by_name(name), model.prompt_by_name(name))
    loaded.load_prompt(tmp_path / "efaul", "again")
    assert torch.equal(loaded.prompt_by_name("again"), model.prompt_by_name("efaul"))


def test_a_prompt_that_does_not_fit_is_not_added(tmp_path):
    """A folder of another task, of another width, or a name that is taken: the model stays as it was."""
    model = with_prompt(gpt2())
    model_of("Bert", "SEQ_CLS").save_pretrained(tmp_path / "classes")
    model.save_pretrained(tmp_path / "fits")
    for folder, name, error, message in (
        ("classes", "other", AdapterError, "does not fit this base model"),
        ("nowhere", "other", AdapterError, "is no folder"),
        ("fits", "default", ValueError, "there is a prompt called 'default' already"),
    ):
        with pytest.raises(error, match=message):
            model.load_prompt(tmp_path / folder, name)
    assert list(model.prompts) == list(model.configs) == ["default"]
    assert not model.heads
    assert model.prompt.requires_grad


def test_a_loaded_configuration_is_the_folders(tmp_path):
    """It is read and checked; PEFT takes another one in its place."""
    model = with_prompt(gpt2())
    model.save_pretrained(tmp_path)
    loaded = SoftPromptModel.from_pretrained(gpt2(), tmp_path)
    assert loaded.prompt_config.inference_mode
    assert loaded.prompt_config.to_dict() == {
        **model.prompt_config.to_dict(),
        "inference_mode": True,
    }
    with pytest.raises(TypeError, match="config"):
        SoftPromptModel.from_pretrained(gpt2(), tmp_path, config=model.prompt_config)


def test_what_is_loaded_can_be_trained_on(tmp_path):
    """PEFT refuses `is_trainable=True` for prompts."""
    with_prompt(gpt2()).save_pretrained(tmp_path)
    loaded = SoftPromptModel.from_pretrained(gpt2(), tmp_path)
    before = loaded(IDS, labels=IDS).loss
    before.backward()
    torch.optim.SGD(loaded.parameters(), lr=0.01).step()
    assert loaded(IDS, labels=IDS).loss < before
    with pytest.raises(ValueError, match="Cannot set a prompt learning adapter to trainable"):
        peft.PeftModel.from_pretrained(gpt2(), tmp_path, is_trainable=True)


def test_a_base_that_was_placed_by_a_device_map(tmp_path):
    """The prompt stands where the words are."""
    llama().save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", device_map={"": "cpu"}, dtype=torch.float32
    )
    with_prompt(llama()).save_pretrained(tmp_path / "prompt")
    placed = SoftPromptModel.from_pretrained(base, tmp_path / "prompt")
    assert {weight.device for weight in placed.parameters()} == {torch.device("cpu")}
    assert torch.equal(placed(IDS).logits, with_prompt(llama())(IDS).logits)
