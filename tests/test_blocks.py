"""Attention over blocks: the dense mask's numbers and gradients, asked of models that hand it on, and of no others."""

import pytest
import torch
from families import bloom, gpt2, llama

from softprompt_lab import PromptTuningConfig, SoftPromptModel
from softprompt_lab.batch import Example, Target
from softprompt_lab.engine import blocks
from softprompt_lab.engine.blocks import attention, attention_over_blocks, blocks_of
from softprompt_lab.engine.packing import PackedRow, packed_mask
from softprompt_lab.engine.selection import exact_strategies
from softprompt_lab.engine.strategies import blocks as block_strategy
from softprompt_lab.engine.strategies import packed

P, HEADS, WIDTH = 3, 2, 8


def row_of(examples: list[Example], prompt_length: int = P) -> PackedRow:
    """One packed row."""
    return PackedRow.of(list(enumerate(examples)), 0, prompt_length)


EXAMPLES = {
    "one text": [Example([1, 2, 3], [Target.of([4, 5])])],
    "rivals behind one context": [
        Example([1, 2], [Target.of([3, 4, 5]), Target.of([6, 7]), Target.of([8])])
    ],
    "rivals without a context": [
        Example([], [Target.of([3, 4, 5]), Target.of([6, 7])]),
        Example([1], []),
    ],
    "like lengths": [Example([1] * n, [Target.of([2])]) for n in (4, 5, 6)],
    "far lengths": [Example([1] * n, [Target.of([2, 3])]) for n in (1, 40, 7, 9, 2, 30)],
    "nothing but labels": [Example([], [Target.of([4])])],
    "a shared beginning": [
        Example([1, 2, 3], [Target.of([4, 5])]),
        Example([1, 2], [Target.of([6, 7])]),
    ],
    "an empty one": [Example([], [Target.of([4])]), Example([1, 2], [Target.of([3])])],
}


@pytest.mark.parametrize(
    ("name", "prompt_length"), [*((name, P) for name in EXAMPLES), ("far lengths", 0)]
)
def test_equals_the_dense_mask(name, prompt_length):
    """Outputs and the gradients of queries, keys and values."""
    row = row_of(EXAMPLES[name], prompt_length)
    length = prompt_length + len(row.ids)
    torch.manual_seed(0)
    states = [
        torch.randn(1, HEADS, length, WIDTH, dtype=torch.float64, requires_grad=True)
        for _ in range(3)
    ]
    mask = packed_mask(row, prompt_length)
    expected = torch.nn.functional.scaled_dot_product_attention(*states, attn_mask=mask).transpose(
        1, 2
    )
    ours, _ = attention(
        torch.nn.Module(), *states, None, blocks=blocks_of(row, prompt_length, torch.device("cpu"))
    )
    torch.testing.assert_close(ours, expected)
    weights = torch.randn_like(expected)
    for found, right in zip(
        torch.autograd.grad((ours * weights).sum(), states),
        torch.autograd.grad((expected * weights).sum(), states),
        strict=True,
    ):
        torch.testing.assert_close(found, right)


def test_texts_of_far_lengths_do_not_pad_each_other():
    """A batch has at most half as many pads as tokens."""
    row = row_of(EXAMPLES["far lengths"])
    found = blocks_of(row, P, torch.device("cpu"))
    assert len(row.ids) - row.shared <= len(found.tokens) <= blocks.SIMILAR * len(row.ids)


def test_the_base_models_attention_is_put_back_after_an_error():
    """Whoever calls the base model next has the attention that was chosen."""
    base = llama()
    with pytest.raises(ZeroDivisionError), attention_over_blocks(base):
        1 / (base.config._attn_implementation != blocks.NAME)
    assert base.config._attn_implementation == "sdpa"


def test_a_model_that_takes_no_other_attention_goes_another_way(monkeypatch):
    """BLOOM computes attention itself; a model whose attention cannot be taken over packs with the dense mask."""
    assert block_strategy not in exact_strategies(bloom())
    monkeypatch.setattr(blocks, "NAME", "eager")  # which knows nothing of blocks and has no mask
    assert exact_strategies(gpt2())[0] is packed


def test_layers_that_recompute_take_the_mask():
    """Gradient checkpointing calls a layer again when its attention has been put back; the ways are asked anew."""
    base = llama()
    assert exact_strategies(base)[0] is block_strategy
    SoftPromptModel(
        base, PromptTuningConfig(P)
    ).gradient_checkpointing_enable()  # its name in every release
    base.train()
    assert exact_strategies(base)[0] is packed
    base.eval()
    assert exact_strategies(base)[0] is block_strategy


@pytest.mark.parametrize(
    "option",
    [{"softcap": 30.0}, {"position_bias": torch.zeros(1, 2, 7, 7)}, {"s_aux": torch.zeros(2)}],
)
def test_what_blocks_cannot_do_is_refused(option):
    """A cap, a bias or sinks change the numbers."""
    row = row_of(EXAMPLES["one text"])
    states = [torch.randn(1, HEADS, P + len(row.ids), WIDTH) for _ in range(3)]
    with pytest.raises(ValueError, match="not cut into blocks"):
        attention(
            torch.nn.Module(),
            *states,
            None,
            blocks=blocks_of(row, P, torch.device("cpu")),
            **option,
        )
