"""Which strategy a batch takes: the first in a fixed order that is exact on its base model and pays for this batch."""

import logging
from collections.abc import Sequence

import torch
from torch import nn

from ..batch import Example, Prompts, Target
from .exactness import attention_window, error_of, remembered, some_ids, tolerance_of, tried
from .packing import unique_tokens
from .strategies import (
    Strategy,
    blocks,
    dense_tokens,
    encoder_decoder,
    packed,
    padded,
    prefixed,
)

logger = logging.getLogger(__name__)

SAVED_TOKENS = 100  # that prefixes must save at least: the second call costs about half of that


def select_strategy(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Strategy:
    """Return the strategy for a batch: packed rows where they are exact, else prefixes where the prompt is long.

    A single text is a row without pads in every strategy, so it takes the plainest.
    """
    exact = exact_strategies(base_model)
    if len(exact) == 1 or sum(len(example.targets) for example in examples) == 1:
        return exact[-1]
    window = attention_window(base_model)
    longest = max(len(prompts[example.prompt]) + len(example) for example in examples)
    tokens = unique_tokens(examples)
    dense = tokens <= dense_tokens(prompts[0].device) or blocks not in exact
    if dense and packed in exact and max(map(len, prompts)) + tokens <= window:
        return packed
    if blocks in exact and longest <= window:
        return blocks
    if prefixed in exact and longest <= window and _prefixes_pay(prompts, examples):
        return prefixed
    return padded


def _prefixes_pay(prompts: Prompts, examples: Sequence[Example]) -> bool:
    """Return whether computing each prompt once saves more tokens than the calls for the prompts cost."""
    lengths = [len(prompt) - 1 for prompt in prompts]
    read = sum(lengths[example.prompt] * len(example.targets) for example in examples)
    return min(lengths) > 0 and read - sum(lengths) > SAVED_TOKENS * len(prompts)


@remembered
def exact_strategies(base_model: nn.Module) -> list[Strategy]:
    """Return the strategies that give this base model's own numbers; found out once, then remembered."""
    if base_model.config.is_encoder_decoder:
        return [encoder_decoder]
    return [way for way in (blocks, packed, prefixed) if is_exact(way, base_model)] + [padded]


@torch.inference_mode(False)
@torch.enable_grad()
def is_exact(strategy: Strategy, base_model: nn.Module) -> bool:
    """Return whether a batch gets the logits and the prompt's gradient of its rows one by one in padded rows.

    A model that takes its positions from the mask (ALiBi), ignores a 4-D mask or detaches a cache fails here or raises.
    """
    words = base_model.get_input_embeddings().weight
    ids = some_ids(base_model, 22).tolist()
    prompt = words[ids[:3]].detach().float().requires_grad_()
    examples = [
        Example(ids[3:8], [Target.of(ids[8:10]), Target.of(ids[10:13])]),
        Example(ids[13:15], [Target.of(ids[15:18])]),
        Example(ids[18:20], [Target.of(ids[20:22])]),
    ]
    rows = [
        [Example(example.context, [target])] for example in examples for target in example.targets
    ]
    together = tried(base_model, lambda: _numbers(strategy, base_model, prompt, [examples]))
    if together is None:
        return False
    alone = _numbers(padded, base_model, prompt, rows)
    errors = [error_of(found, expected) for found, expected in zip(together, alone, strict=True)]
    logger.info("%s, %s: errors %s", type(base_model).__name__, strategy.__name__, errors)
    return all(error <= tolerance_of(words.dtype) for error in errors)


def _numbers(
    strategy: Strategy, base_model: nn.Module, prompt: torch.Tensor, batches: list[list[Example]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the labels' logits in the order of their owners, and a gradient of them at the prompt."""
    found = []
    for examples in batches:
        parts = list(strategy(base_model, [prompt], examples))
        owners = [owner for part in parts for owner in part.owners]
        order = sorted(range(len(owners)), key=lambda number: owners[number])
        found.append(torch.cat([part.logits for part in parts])[order])
    logits = torch.cat(found)
    (gradient,) = torch.autograd.grad(logits.log_softmax(dim=-1)[:, 0].sum(), prompt)
    return logits.detach(), gradient
