"""What PEFT's tests ask of training: what learns and what stays, from which start, through which inputs."""

import peft
import pytest
import torch
import transformers
from batches import ROWS, padded
from families import CONFIGS, ENCODERS, WIDTH, _build, gpt2, gpt_neox, llama, t5
from prompted import P, as_peft, model_of, random_start, with_prompt
from transformers.modeling_layers import GradientCheckpointingLayer
from words import word_tokenizer

from softprompt_lab import PromptTuningConfig, SoftPromptModel

IDS = torch.tensor([row[:3] for row in ROWS])


def bert() -> transformers.BertModel:
    """An encoder without a head and without dropout."""
    return _build(
        transformers.BertModel,
        CONFIGS["Bert"](hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
    )


def gradient(model: SoftPromptModel, loss: torch.Tensor) -> torch.Tensor:
    """The prompt's gradient of a loss, which reaches nothing of the base model."""
    for weight in model.parameters():
        weight.grad = None
    loss.backward()
    assert all(weight.grad is None for weight in model.base_model.parameters())
    return model.prompts["default"].embedding.weight.grad


@pytest.mark.parametrize("build", [gpt2, llama, t5])
def test_a_base_prepared_for_training_trains_the_prompt_the_same(build):
    """PEFT's preparations need a hook on the words' vectors; the prompt learns with it and without."""
    plain = with_prompt(build())
    assert not plain.word_embeddings_module(IDS).requires_grad
    expected = gradient(plain, plain(IDS, labels=IDS).loss)
    base = peft.prepare_model_for_kbit_training(build())
    base.enable_input_require_grads()
    prepared = with_prompt(base)
    assert prepared.word_embeddings_module(IDS).requires_grad
    torch.testing.assert_close(gradient(prepared, prepared(IDS, labels=IDS).loss), expected)


@pytest.mark.parametrize("start", ["TEXT", "SAMPLE_VOCAB", "RANDOM"])
def test_every_start_is_pefts_and_learns(start, tmp_path):
    """The same rows from the same seed, the same gradient, and a lower loss behind one step."""
    tokenizer = word_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    text = {"prompt_tuning_init_text": "is the parcel late"} if start == "TEXT" else {}
    options = {
        "num_virtual_tokens": 6,
        "task_type": "CAUSAL_LM",
        "prompt_tuning_init": start,
        **text,
    }
    torch.manual_seed(4)
    if start == "SAMPLE_VOCAB":
        torch.nn.Embedding(6, WIDTH)  # PEFT draws a random prompt first
    model = SoftPromptModel(gpt2(), PromptTuningConfig(**options), tokenizer=tokenizer)
    torch.manual_seed(4)
    theirs = peft.get_peft_model(
        gpt2(), peft.PromptTuningConfig(**options, tokenizer_name_or_path=str(tmp_path))
    )
    weight = theirs.prompt_encoder["default"].embedding.weight
    assert torch.equal(model.prompt, weight)
    theirs.eval()(input_ids=IDS, labels=IDS).loss.backward()
    loss = model(IDS, labels=IDS).loss
    torch.testing.assert_close(gradient(model, loss), weight.grad, rtol=1e-4, atol=1e-6)
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    assert model(IDS, labels=IDS).loss < loss


@pytest.mark.parametrize("family", ENCODERS)
def test_gradients_of_features_equal_peft(family):
    """Of the text's states; PEFT's output has the prompt's in front."""
    model = model_of(family, "FEATURE_EXTRACTION")
    theirs = as_peft(model)
    theirs(input_ids=IDS).last_hidden_state[:, P:].square().sum().backward()
    expected = theirs.prompt_encoder["default"].embedding.weight.grad
    found = gradient(model, model(IDS).last_hidden_state.square().sum())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])
@pytest.mark.parametrize("build", [llama, gpt_neox, t5, bert])
def test_checkpointing_changes_no_gradient(build, reentrant):
    """Layers that recompute what they forgot: each is called twice, and the prompt's gradient is the same."""
    model = with_prompt(build(), "FEATURE_EXTRACTION" if build is bert else None)
    labels = {} if build is bert else {"labels": IDS}
    expected = gradient(model, model(IDS, **labels)[0].square().sum())
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model(IDS, **labels)  # what is asked of a base model once is asked here
    layer = next(
        part for part in model.base_model.modules() if isinstance(part, GradientCheckpointingLayer)
    )
    calls = []
    next(
        part for part in layer.modules() if isinstance(part, torch.nn.Linear)
    ).register_forward_hook(lambda *_: calls.append(1))
    found = gradient(model, model(IDS, **labels)[0].square().sum())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert len(calls) == 2


@pytest.mark.parametrize("build", [gpt2, llama, t5])
def test_word_vectors_in_place_of_ids(build):
    """Whatever the padding the same as their ids, and unpadded PEFT's."""
    model = with_prompt(build())
    ids, mask, labels = padded(ROWS, "left")
    words = model.word_embeddings_module(ids)
    ours = model(inputs_embeds=words, attention_mask=mask, labels=labels)
    assert torch.equal(ours.logits, model(ids, mask, labels).logits)
    theirs = as_peft(model)(inputs_embeds=model.word_embeddings_module(IDS), labels=IDS).loss
    torch.testing.assert_close(
        model(inputs_embeds=model.word_embeddings_module(IDS), labels=IDS).loss, theirs
    )


def test_word_vectors_in_front_of_a_head():
    """Classes, tokens, spans and features read them too."""
    for task in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"):
        model = model_of("Bert", task)
        words = model.word_embeddings_module(IDS)
        assert torch.equal(model(inputs_embeds=words)[0], model(IDS)[0])


def test_ids_or_word_vectors_but_not_both():
    """And for a text that goes on, ids: what is generated is behind them."""
    model = with_prompt(gpt2())
    words = model.word_embeddings_module(IDS)
    for given in ({}, {"input_ids": IDS, "inputs_embeds": words}):
        with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
            model(**given)
    with pytest.raises(ValueError, match="inputs_embeds cannot be passed: pass input_ids"):
        model.generate(IDS, inputs_embeds=words)


def test_a_prompt_beside_the_active_one_is_frozen():
    """From the moment it is added: an optimiser over the model's parameters finds the active one only."""
    model = with_prompt(gpt2())
    model.add_prompt("second", PromptTuningConfig(2), start=random_start(2))
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == [
        "prompts.default.embedding.weight"
    ]
    model.set_prompt("second")
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == [
        "prompts.second.embedding.weight"
    ]
