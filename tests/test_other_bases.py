"""Base models that are not plain: with a LoRA of PEFT's in their layers, or with weights in eight bits."""

import copy

import peft
import pytest
import torch
from batches import ROWS, padded
from families import WIDTH, gpt2, llama, qwen2
from transformers import BertConfig, BertForSequenceClassification

from softprompt_lab import PromptTuningConfig, SoftPromptModel
from softprompt_lab.engine.selection import exact_strategies
from softprompt_lab.engine.strategies import padded as padded_strategy

P = 4
WRITE = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}


def vectors(seed: int = 3) -> torch.Tensor:
    """A random prompt at the scale of the words."""
    return torch.randn(P, WIDTH, generator=torch.Generator().manual_seed(seed)) * 0.2


def with_lora(base) -> peft.PeftModel:
    """A LoRA of PEFT's whose effect is not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = peft.get_peft_model(
            base, peft.LoraConfig(r=4, task_type="CAUSAL_LM", init_lora_weights=False)
        )
    return model.eval()


def by_hand(base, row: list[int], prompt: torch.Tensor) -> torch.Tensor:
    """The logits (T, V) of a row behind vectors that are put in front of its embeddings."""
    words = base.get_input_embeddings()(torch.tensor([row]))
    return base(inputs_embeds=torch.cat([prompt[None], words], dim=1)).logits[0, len(prompt) - 1 :]


def assert_behaves(model: SoftPromptModel, base) -> None:
    """Logits, loss, gradient and text of a padded batch are those of the rows alone, put together by hand."""
    ids, mask, labels = padded(ROWS, "left")
    prompt = model.prompt.detach().clone().requires_grad_()
    alone = [by_hand(base, row, prompt) for row in ROWS]
    with torch.no_grad():
        for logits, kept, expected in zip(model(ids, mask).logits, mask.bool(), alone, strict=True):
            torch.testing.assert_close(logits[kept], expected[1:], rtol=1e-4, atol=1e-4)
    picked = torch.cat([logits[-3:-1] for logits in alone])
    expected = torch.nn.functional.cross_entropy(
        picked, torch.tensor([token for row in ROWS for token in row[-2:]])
    )
    (wanted,) = torch.autograd.grad(expected, prompt)
    for loss in (model(ids, mask, labels).loss, model.loss(ids, mask, labels)):
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        (found,) = torch.autograd.grad(loss, model.prompts["default"].embedding.weight)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
    for sequence, row in zip(model.generate(ids, mask, **WRITE), ROWS, strict=True):
        written = list(row)
        for _ in range(WRITE["max_new_tokens"]):
            with torch.no_grad():
                ahead = by_hand(base, written, prompt)[-1]
            ahead[base.generation_config.eos_token_id] = -torch.inf
            written.append(int(ahead.argmax()))
        assert sequence[ids.shape[1] :].tolist() == written[len(row) :]
    assert all(weight.grad is None and not weight.requires_grad for weight in base.parameters())


# ----------------------------------------------------------------------------------------------------------- LoRA


@pytest.mark.parametrize("base", [gpt2, llama])
def test_a_prompt_over_a_lora(base):
    """The LoRA acts, is frozen, and the prompt is what it would be over any other model."""
    lora = with_lora(base())
    model = SoftPromptModel(lora, PromptTuningConfig(P), start=vectors())
    assert_behaves(model, lora)
    ids = torch.tensor([ROWS[0]])
    plain = SoftPromptModel(base(), PromptTuningConfig(P), start=vectors())
    assert (model(ids).logits - plain(ids).logits).abs().max() > 0.1
    assert len(exact_strategies(model.base_model)) == len(exact_strategies(plain.base_model))


def test_prompt_and_lora_are_saved_and_loaded(tmp_path):
    """Each in its own folder, the prompt's by us and the LoRA's by PEFT, and put together again on a fresh base."""
    lora = with_lora(llama())
    model = SoftPromptModel(lora, PromptTuningConfig(P), start=vectors())
    model.save_pretrained(tmp_path / "prompt")
    lora.save_pretrained(tmp_path / "lora")
    again = peft.PeftModel.from_pretrained(llama(), tmp_path / "lora")
    loaded = SoftPromptModel.from_pretrained(again, tmp_path / "prompt")
    ids, mask, labels = padded(ROWS, "right")
    assert torch.equal(loaded(ids, mask).logits, model(ids, mask).logits)
    assert torch.equal(loaded.loss(ids, mask, labels), model.loss(ids, mask, labels))
    assert torch.equal(loaded.generate(ids, mask, **WRITE), model.generate(ids, mask, **WRITE))


def test_a_lora_is_trained_with_the_prompt_if_it_is_set_free(tmp_path):
    """`requires_grad` after wrapping: both get the gradient of the loss, are in the state, and `generate` follows."""
    lora = with_lora(llama())
    model = SoftPromptModel(lora, PromptTuningConfig(P), start=vectors())
    free = {name: weight for name, weight in model.base_model.named_parameters() if "lora_" in name}
    for weight in free.values():
        weight.requires_grad_()
    ids, mask, _ = batch = padded(ROWS, "left")
    model.generate(ids, mask, **WRITE)  # keeps the prompt's keys and values
    trained = [model.prompts["default"].embedding.weight, *free.values()]
    slow, fast = (
        torch.autograd.grad(loss, trained) for loss in (model(*batch).loss, model.loss(*batch))
    )
    for ours, theirs in zip(fast, slow, strict=True):
        assert ours.norm() > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    optimizer = torch.optim.SGD(trained, lr=1.0)
    model.loss(*batch).backward()
    optimizer.step()
    model.prompts["default"].embedding.weight.data.copy_(vectors())  # the LoRA alone has moved
    assert {name for name in model.state_dict() if name.startswith("base_model.")} == {
        f"base_model.{n}" for n in free
    }
    lora.save_pretrained(tmp_path / "lora")
    again = peft.PeftModel.from_pretrained(llama(), tmp_path / "lora")
    fresh = SoftPromptModel(again, PromptTuningConfig(P), start=vectors())
    assert torch.equal(model.generate(ids, mask, **WRITE), fresh.generate(ids, mask, **WRITE))
    options = {"output_logits": True, "return_dict_in_generate": True, **WRITE}
    assert torch.equal(*(each.generate(ids, mask, **options).logits[0] for each in (model, fresh)))


def test_another_choice_of_adapters_reaches_generate():
    """PEFT's switches act on the layers; a prompt's kept keys and values are computed anew."""
    lora = with_lora(gpt2())
    model = SoftPromptModel(lora, PromptTuningConfig(P), start=vectors())
    plain = SoftPromptModel(gpt2(), PromptTuningConfig(P), start=vectors())
    ids = torch.tensor([ROWS[0]])
    first = {
        "max_new_tokens": 1,
        "output_logits": True,
        "return_dict_in_generate": True,
        "do_sample": False,
    }
    acting = model.generate(ids, **first).logits[0]
    with lora.disable_adapter():
        torch.testing.assert_close(
            model.generate(ids, **first).logits[0], plain.generate(ids, **first).logits[0]
        )
    assert torch.equal(model.generate(ids, **first).logits[0], acting)


def test_a_base_behind_pefts_prompt_is_refused():
    """Two prompts, one of them unseen, would be counted wrongly."""
    prompted = peft.get_peft_model(
        gpt2(), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    )
    with pytest.raises(
        ValueError, match=r"behind PEFT's PROMPT_TUNING already; pass base_model.get_base_model"
    ):
        SoftPromptModel(prompted, PromptTuningConfig(P))


def test_a_head_is_the_loras_or_the_prompts():
    """PEFT's LoRA for SEQ_CLS brings a head to train, under names that no folder of a prompt has."""
    config = BertConfig(
        vocab_size=99, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=4
    )
    prompt = PromptTuningConfig(P, task_type="SEQ_CLS")
    headed = peft.get_peft_model(
        BertForSequenceClassification(config), peft.LoraConfig(task_type="SEQ_CLS")
    )
    with pytest.raises(ValueError, match=r"LoraConfig\(task_type=None\)"):
        SoftPromptModel(headed, prompt)
    without = peft.get_peft_model(BertForSequenceClassification(config), peft.LoraConfig())
    assert SoftPromptModel(without, prompt).heads["default"].names == [
        "classifier.weight",
        "classifier.bias",
    ]


# ---------------------------------------------------------------------------------------------------- eight bits


class PackedLinear(torch.nn.Module):
    """A linear layer whose weights are integers and no parameters, as GPTQ's and AWQ's are."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.register_buffer("scale", weight.abs().amax(dim=1, keepdim=True) / 127)
        self.register_buffer("packed", (weight / self.scale).round().to(torch.int8))
        self.register_buffer("bias", linear.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """With the weights as they were, but for rounding."""
        return torch.nn.functional.linear(states, self.packed * self.scale, self.bias)


def pack(base) -> None:
    """Every linear layer but the one that makes the logits, in place."""
    for module in [*base.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, torch.nn.Linear) and child is not base.get_output_embeddings():
                setattr(module, name, PackedLinear(child))


def quantise_with_torchao(base) -> None:
    """Its int8 weights, the logits' too, in place."""
    quantization = pytest.importorskip(
        "torchao.quantization", reason='torchao: pip install -e ".[quantised]"'
    )
    quantization.quantize_(base, quantization.Int8WeightOnlyConfig())


@pytest.mark.parametrize("quantise", [pack, quantise_with_torchao])
@pytest.mark.parametrize("base", [llama, qwen2])
def test_a_base_in_eight_bits(base, quantise):
    """What the quantised model says of the vectors in front, on the fast ways as on the plain one."""
    whole, quantised = base(), base()
    quantise(quantised)
    model = SoftPromptModel(quantised, PromptTuningConfig(P), start=vectors())
    assert_behaves(model, quantised)
    ids = torch.tensor([ROWS[0]])
    assert (quantised(ids).logits - whole(ids).logits).abs().max() > 1e-3
    assert exact_strategies(quantised) == exact_strategies(whole) != [padded_strategy]
    assert torch.equal(copy.deepcopy(model)(ids).logits, model(ids).logits)
    assert set(model.state_dict()) == {"prompts.default.embedding.weight"}
