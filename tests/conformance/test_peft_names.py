"""What PEFT's tests ask of adapters by name: reading, adding, deleting and disabling them, and the base beneath."""

import itertools
import warnings

import pandas as pd
import peft
import pytest
import torch
from batches import ROWS, padded
from families import base_of, gpt2, llama, t5
from prompted import P, as_peft, model_of, random_start, with_prompt
from words import word_tokenizer

from softprompt_lab import PromptTuningConfig, SoftPromptModel, evaluate, load_task

IDS = torch.tensor([row[:3] for row in ROWS])
NEW = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
# PEFT's names and ours, as README.md lists them
NAMES = {
    "save_pretrained": "save_pretrained",
    "from_pretrained": "from_pretrained",
    "load_adapter": "load_prompt",
    "add_adapter": "add_prompt",
    "set_adapter": "set_prompt",
    "delete_adapter": "delete_prompt",
    "disable_adapter": "disable_adapter",
    "active_adapter": "active_prompt",
    "peft_config": "configs",
    "base_model": "base_model",
    "get_prompt": "get_prompt",
    "get_prompt_embedding_to_save": "prompt_by_name",
    "get_nb_trainable_parameters": "trainable_parameters",
    "print_trainable_parameters": "print_trainable_parameters",
}


def two_prompts(base, task: str | None = None) -> SoftPromptModel:
    """A second prompt of another length beside the first."""
    model = with_prompt(base, task)
    config = PromptTuningConfig(2, task_type=model.prompt_config.task_type)
    model.add_prompt("delete_me", config, start=random_start(2, 5))
    return model


def test_what_peft_has_is_here_by_its_name_or_ours():
    """Each exists in both."""
    model = with_prompt(gpt2())
    theirs = as_peft(model)
    for name, ours in NAMES.items():
        assert hasattr(theirs, name), name
        assert hasattr(model, ours), ours
    assert torch.equal(
        model.prompt_by_name("default"), theirs.get_prompt_embedding_to_save("default")
    )
    assert torch.equal(model.get_prompt(2), theirs.get_prompt(2))
    assert model.trainable_parameters() == theirs.get_nb_trainable_parameters()


@pytest.mark.parametrize("name", ["test-adapter", "two words"])
def test_a_prompts_parameters_carry_its_name(name, tmp_path):
    """Its folder too, which PEFT loads."""
    model = with_prompt(gpt2())
    model.add_prompt(name, PromptTuningConfig(P))
    assert f"prompts.{name}.embedding.weight" in dict(model.named_parameters())
    model.save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(gpt2(), tmp_path / name, adapter_name=name)
    assert torch.equal(theirs.get_prompt(1)[0], model.prompt_by_name(name))


@pytest.mark.parametrize("name", ["", " two words", "two  words", "a.b", "a/b", "train", "keys"])
def test_a_name_that_cannot_be_kept_is_refused(name):
    """No path, and nothing that a module of torch is called."""
    with pytest.raises(ValueError, match=f"cannot be called {name!r}"):
        with_prompt(gpt2()).add_prompt(name, PromptTuningConfig(P))


def test_the_active_prompt_is_read_by_its_name():
    """An encoder-decoder's as PEFT's."""
    model = two_prompts(t5())
    assert [model.active_prompt] == as_peft(model).active_adapters
    model.set_prompt("delete_me")
    assert model.active_prompt == "delete_me"
    assert model.prompt_config is model.configs["delete_me"]


@pytest.mark.parametrize("active", [True, False], ids=["active", "inactive"])
@pytest.mark.parametrize(
    ("build", "task"),
    [(llama, None), (t5, None), (lambda: base_of("Bert", "SEQ_CLS"), "SEQ_CLS")],
    ids=["llama", "t5", "bert with a head"],
)
def test_a_deleted_prompt_is_gone(build, task, active):
    """No parameter and no configuration is left; the other answers as if there had been one only, and learns."""
    model, alone = two_prompts(build(), task), with_prompt(build(), task)
    labels = IDS if task is None else torch.tensor([0, 1, 2])
    if active:
        model.set_prompt("delete_me")
        with pytest.warns(UserWarning, match="'delete_me' was active; 'default' is from now on"):
            model.delete_prompt("delete_me")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.delete_prompt("delete_me")
    assert list(model.configs) == [model.active_prompt] == ["default"]
    assert model.state_dict().keys() == alone.state_dict().keys()
    ours, expected = model(IDS, labels=labels), alone(IDS, labels=labels)
    assert torch.equal(ours.logits, expected.logits)
    ours.loss.backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)
    assert model.trainable_parameters() == alone.trainable_parameters()
    with pytest.raises(ValueError, match="no prompt called 'delete_me'; there are: default"):
        model.delete_prompt("delete_me")


def test_a_name_is_free_again():
    """What is kept from one `generate` to the next does not outlive its prompt."""
    model = two_prompts(llama())
    names = ["delete_me"] * len(IDS)
    model.generate(IDS, prompt_names=names, **NEW)
    model.delete_prompt("delete_me")
    model.add_prompt("delete_me", PromptTuningConfig(P), start=random_start(seed=9))
    other = SoftPromptModel(llama(), PromptTuningConfig(P), start=random_start(seed=9))
    assert torch.equal(model.generate(IDS, prompt_names=names, **NEW), other.generate(IDS, **NEW))


def test_the_last_prompt_stays():
    """PEFT is left without an adapter and cannot be called; the bare base model is there all the time."""
    model = with_prompt(gpt2())
    with pytest.raises(
        ValueError,
        match=r"'default' is the only prompt; the model without one is model\.base_model",
    ):
        model.delete_prompt("default")
    assert torch.equal(model.base_model(IDS).logits, gpt2()(IDS).logits)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("build", [gpt2, llama, t5])
def test_disabled_the_bare_model_answers(build, side):
    """Logits, loss and tokens to the bit; afterwards the prompt answers as before."""
    model, bare = with_prompt(build()), build()
    ids, mask, labels = padded(ROWS, side)
    before, tokens = model(ids, mask, labels), model.generate(ids, mask, **NEW)
    with model.disable_adapter(), torch.no_grad():
        ours, expected = (
            model(ids, mask, labels),
            bare(input_ids=ids, attention_mask=mask, labels=labels),
        )
        assert torch.equal(ours.logits, expected.logits)
        assert torch.equal(ours.loss, expected.loss)
        assert torch.equal(model.loss(ids, mask, labels), expected.loss)
        assert torch.equal(
            model.generate(ids, mask, **NEW),
            bare.generate(input_ids=ids, attention_mask=mask, **NEW),
        )
        words = bare.get_input_embeddings()(ids)
        again = model(inputs_embeds=words, attention_mask=mask, labels=labels)
        assert torch.equal(
            again.logits, bare(inputs_embeds=words, attention_mask=mask, labels=labels).logits
        )
    assert not torch.allclose(before.logits, expected.logits)
    assert torch.equal(model(ids, mask, labels).logits, before.logits)
    assert torch.equal(model.generate(ids, mask, **NEW), tokens)


@pytest.mark.parametrize("task", ["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"])
def test_disabled_a_models_own_head_answers(task):
    """Not the trained copy."""
    model, bare = model_of("Bert", task), base_of("Bert", task)
    with torch.no_grad():
        for weight in model.heads.parameters():
            weight += 1
    with model.disable_adapter():
        assert torch.equal(model(IDS)[0], bare(IDS)[0])
    assert not torch.allclose(model(IDS)[0], bare(IDS)[0])


def test_peft_disables_in_front_of_decoders_only():
    """Its encoder-decoder generates behind the prompt all the same, and its classifier raises."""
    theirs = as_peft(with_prompt(t5()))
    inputs = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), **NEW}
    tokens, bare = theirs.generate(**inputs), t5().generate(**inputs)
    with theirs.disable_adapter():
        assert torch.equal(theirs.generate(**inputs), tokens)
    assert not torch.equal(tokens, bare)
    with pytest.raises(UnboundLocalError), as_peft(model_of("Bert", "SEQ_CLS")).disable_adapter():
        pass


def test_disabling_ends_with_its_block():
    """Nested, and after an error; names of prompts mean nothing inside."""
    model = two_prompts(gpt2())
    expected = model(IDS).logits
    with model.disable_adapter():
        with pytest.raises(ZeroDivisionError), model.disable_adapter():
            raise ZeroDivisionError
        assert torch.equal(model(IDS).logits, gpt2()(IDS).logits)
        for call in (model, model.generate):
            with pytest.raises(
                ValueError, match=r"prompt_names=\['delete_me'.* inside disable_adapter"
            ):
                call(IDS, prompt_names=["delete_me"] * len(IDS))
    assert torch.equal(model(IDS).logits, expected)


def test_disabled_the_bare_model_is_evaluated(tmp_path):
    """`evaluate` measures the base model, as if it had been passed."""
    ends = [
        " ".join(pair)
        for pair in itertools.permutations(["parcel", "train", "bill", "refund", "broken"], 2)
    ]
    rows = [
        (f"{start} {end}", label)
        for start, label in (("why is", "yes"), ("thanks a", "no"))
        for end in ends
    ]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "rows.csv", index=False)
    task = load_task(tmp_path / "rows.csv")
    model = SoftPromptModel(
        llama(), PromptTuningConfig(P), tokenizer=word_tokenizer(), start=random_start()
    )
    expected = evaluate(llama(), task, tokenizer=word_tokenizer())
    with model.disable_adapter():
        found = evaluate(model, task)
    assert found.loss == expected.loss
    pd.testing.assert_frame_equal(found.predictions, expected.predictions)
    assert evaluate(model, task).loss != expected.loss


@pytest.mark.parametrize(
    "name",
    ["unload", "merge_and_unload", "merge_adapter", "add_weighted_adapter", "set_requires_grad"],
)
def test_a_prompt_is_no_change_of_weights(name):
    """What merges, mixes or unloads changed weights is not here; PEFT raises too."""
    model = with_prompt(gpt2())
    with pytest.raises(AttributeError, match=name):
        getattr(model, name)
    with pytest.raises((AttributeError, TypeError)):
        getattr(as_peft(model), name)("default")


@pytest.mark.parametrize("name", ["get_layer_status", "get_model_status"])
def test_no_layer_has_a_status(name):
    """PEFT's own raises for prompts."""
    model = with_prompt(t5())
    assert not hasattr(model, name)
    with pytest.raises(TypeError, match="invalid PeftModel instance"):
        getattr(as_peft(model), name)()


@pytest.mark.parametrize("build", [gpt2, llama, t5])
def test_the_base_models_state_is_its_own(build):
    """Its keys and weights are those of the plain model; what is loaded into it is used, by `generate` too."""
    model, plain, other = with_prompt(build()), build(), build()
    state = model.base_model.state_dict()
    assert state.keys() == plain.state_dict().keys()
    if hasattr(peft, "get_base_model_state_dict"):  # since PEFT 0.20
        assert state.keys() == peft.get_base_model_state_dict(as_peft(model)).keys()
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())
    with torch.no_grad():
        for weight in other.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    before = model.generate(IDS, **NEW)
    result = model.base_model.load_state_dict(other.state_dict())
    assert not result.missing_keys
    assert not result.unexpected_keys
    changed = model.generate(IDS, **NEW)
    assert torch.equal(changed, with_prompt(other).generate(IDS, **NEW))
    assert not torch.equal(changed, before)
    model.base_model.load_state_dict(plain.state_dict())
    assert torch.equal(model.generate(IDS, **NEW), before)
