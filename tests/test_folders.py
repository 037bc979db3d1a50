"""Several prompts in one folder, as PEFT lays them out, and what else PEFT puts beside a prompt."""

import re
import shutil

import peft
import pytest
import torch
from families import gpt2
from test_heads import base_of

from softprompt_lab import AdapterError, PromptTuningConfig, SoftPromptModel, load_adapter
from softprompt_lab.saving import PENDING

IDS = torch.tensor([[5, 17, 33, 8, 61, 12, 44]])
LENGTHS = {"default": 3, "mail": 5, "news": 2}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def several(task: str = "CAUSAL_LM", base=gpt2) -> SoftPromptModel:
    """A base model behind three prompts of different lengths."""
    torch.manual_seed(0)
    model = SoftPromptModel(base(), PromptTuningConfig(LENGTHS["default"], task_type=task))
    for name in ("mail", "news"):
        model.add_prompt(name, PromptTuningConfig(LENGTHS[name], task_type=task))
    return model


def logits_of(model: SoftPromptModel, name: str) -> torch.Tensor:
    """With one of the prompts."""
    model.set_prompt(name)
    return model(IDS).logits


@pytest.fixture
def pefts(tmp_path) -> tuple:
    """PEFT's model with three adapters, saved."""
    configs = {
        name: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=length)
        for name, length in LENGTHS.items()
    }
    torch.manual_seed(0)
    model = peft.get_peft_model(gpt2(), configs["default"]).eval()
    for name in ("mail", "news"):
        model.add_adapter(name, configs[name])
    model.save_pretrained(tmp_path / "theirs")
    return model.eval(), tmp_path / "theirs"


def test_all_of_pefts_adapters_are_loaded(pefts):
    """Each by its name, the one called "default" at work."""
    theirs, folder = pefts
    model = SoftPromptModel.from_pretrained(gpt2(), folder)
    assert model.active_prompt == "default"
    assert {name: len(model.prompt_by_name(name)) for name in model.prompts} == LENGTHS
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == {
        "prompts.default.embedding.weight"
    }
    for name, length in LENGTHS.items():
        theirs.set_adapter(name)
        expected = theirs(input_ids=IDS).logits[:, length:]
        torch.testing.assert_close(logits_of(model, name), expected, **CLOSE)


def test_all_that_we_save_peft_loads_and_so_do_we(tmp_path):
    """Whatever prompt is active; the card's figures go to that one."""
    model = several()
    model.set_prompt("mail")
    model.save_pretrained(tmp_path, results={"accuracy": "0.9"})
    theirs = peft.PeftModel.from_pretrained(gpt2(), tmp_path).eval()
    for name in ("mail", "news"):
        theirs.load_adapter(tmp_path / name, name)
    again = SoftPromptModel.from_pretrained(gpt2(), tmp_path)
    for name, length in LENGTHS.items():
        theirs.set_adapter(name)
        torch.testing.assert_close(
            theirs(input_ids=IDS).logits[:, length:], logits_of(model, name), **CLOSE
        )
        assert torch.equal(logits_of(again, name), logits_of(model, name))
        place = tmp_path if name == "default" else tmp_path / name
        assert ("0.9" in (place / "README.md").read_text()) == (name == "mail")


def test_each_prompts_head_comes_with_it(tmp_path):
    """Classifiers that were moved apart."""
    model = several("SEQ_CLS", lambda: base_of("Bert", "SEQ_CLS"))
    with torch.no_grad():
        for number, name in enumerate(LENGTHS):
            for weight in model.head_weights([name]).values():
                weight += number
    model.save_pretrained(tmp_path, safe_serialization=False)
    again = SoftPromptModel.from_pretrained(base_of("Bert", "SEQ_CLS"), tmp_path)
    for name in LENGTHS:
        assert torch.equal(logits_of(again, name), logits_of(model, name))


def test_the_prompts_to_load_can_be_named(pefts):
    """Some, none, one that is not there."""
    _, folder = pefts
    chosen = SoftPromptModel.from_pretrained(gpt2(), folder, prompt_names=["news"])
    assert list(chosen.prompts) == ["default", "news"]
    assert list(SoftPromptModel.from_pretrained(gpt2(), folder, prompt_names=[]).prompts) == [
        "default"
    ]
    with pytest.raises(AdapterError, match=f"{re.escape(str(folder / 'post'))} is no folder"):
        SoftPromptModel.from_pretrained(gpt2(), folder, prompt_names=["post"])


def test_a_folder_without_an_adapter_of_its_own_says_where_they_are(pefts):
    """PEFT writes such a folder when no adapter is called "default"."""
    _, folder = pefts
    for path in folder.glob("adapter_*"):
        path.unlink()
    for load in (load_adapter, lambda place: SoftPromptModel.from_pretrained(gpt2(), place)):
        with pytest.raises(
            AdapterError, match=r"its sub-folders do: mail, news\. Give one of them"
        ):
            load(folder)
    assert load_adapter(folder / "mail")[1].shape == (LENGTHS["mail"], 32)


def test_other_sub_folders_are_passed_over(pefts):
    """A trainer's checkpoints, a link, a copy called "default"; a damaged prompt and one that does not fit are not."""
    _, folder = pefts
    for name in ("checkpoint-500", "default"):
        shutil.copytree(folder / "mail", folder / name)
    (folder / "linked").symlink_to(folder / "mail")
    assert list(SoftPromptModel.from_pretrained(gpt2(), folder).prompts) == list(LENGTHS)
    assert list(SoftPromptModel.from_pretrained(gpt2(), folder, prompt_names=()).prompts) == [
        "default"
    ]
    shutil.copytree(folder / "mail", folder / "train")
    with pytest.raises(
        AdapterError, match="train does not fit this base model: a prompt cannot be called 'train'"
    ):
        SoftPromptModel.from_pretrained(gpt2(), folder)
    shutil.rmtree(folder / "train")
    (folder / "news" / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(AdapterError, match=r"news.*is damaged"):
        SoftPromptModel.from_pretrained(gpt2(), folder)


def test_a_named_prompt_whose_first_save_was_interrupted_is_found(tmp_path):
    """Complete, but not yet moved to its place."""
    model = several()
    model.save_pretrained(tmp_path)
    pending = tmp_path / "mail" / PENDING
    pending.mkdir()
    for path in list((tmp_path / "mail").glob("*.*")):
        if path != pending:
            path.rename(pending / path.name)
    again = SoftPromptModel.from_pretrained(gpt2(), tmp_path)
    assert torch.equal(again.prompt_by_name("mail"), model.prompt_by_name("mail"))
    assert not pending.exists()


# ------------------------------------------------------------------------------------------- what lies beside a prompt


def test_word_embeddings_that_were_saved_too_must_be_the_base_models(tmp_path):
    """PEFT saves resized ones; the base model's own are no news."""
    theirs = peft.get_peft_model(
        gpt2(), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    ).eval()
    theirs.save_pretrained(tmp_path / "same", save_embedding_layers=True)
    model = SoftPromptModel.from_pretrained(gpt2(), tmp_path / "same")
    torch.testing.assert_close(model(IDS).logits, theirs(input_ids=IDS).logits[:, 3:], **CLOSE)
    for change in ("values", "rows"):
        with torch.no_grad():
            theirs.get_base_model().get_input_embeddings().weight[7] += 1
        if change == "rows":
            theirs.get_base_model().resize_token_embeddings(120)
        theirs.save_pretrained(tmp_path / change, save_embedding_layers=True)
        with pytest.raises(
            AdapterError, match=r"another lm_head.weight of shape \(\d+, 32\) is saved with it"
        ):
            SoftPromptModel.from_pretrained(gpt2(), tmp_path / change)


def test_a_module_trained_with_a_prompt_for_text_is_not_passed_over(tmp_path):
    """It would be another model's output; PEFT can train it."""
    config = peft.PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=3, modules_to_save=["ln_f"]
    )
    peft.get_peft_model(gpt2(), config).save_pretrained(tmp_path)
    with pytest.raises(
        AdapterError, match=r"modules_to_save=\['ln_f'\]: a prompt for CAUSAL_LM trains none"
    ):
        SoftPromptModel.from_pretrained(gpt2(), tmp_path)


def test_the_card_names_no_folder_of_this_machine(tmp_path):
    """A hub's base model yes, a path no: a hub refuses the card, and it is nobody's business."""
    for name, named in (
        ("bigscience/bloomz-560m", True),
        ("gpt2", True),
        ("/home/me/gpt2", False),
        ("./gpt2", False),
    ):
        base = gpt2()
        base.name_or_path = name
        model = SoftPromptModel(base, PromptTuningConfig(3))
        card = (model.save_pretrained(tmp_path) / "README.md").read_text()
        front = card.split("---")[1]
        assert (f"base_model: {name}" in front) == named
        assert (f"base_model:adapter:{name}" in front) == named
        assert named or name not in card
