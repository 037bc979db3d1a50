"""Logits and loss at the labels, on the way through the base model that is cheapest for a batch.

Which ways a base model takes is found out by asking it once and comparing the numbers, never from a list of names;
which of them is cheapest for a batch is counted (`costs.py`).
"""

import logging
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import nn

from .costs import Remembered, costs_of
from .gradient_checkpointing import gradient_checkpointing
from .locks import lock
from .packing import Example, Target
from .strategies import (
    BLOCKS,
    ENCODER_DECODER,
    PACKED,
    PADDED,
    PREFIXED,
    LabelLogits,
    Prompts,
    Strategy,
)

logger = logging.getLogger(__name__)

# What an architecture says when a 4-D mask or an argument is foreign to it; the padded way remains.
OBJECTIONS = (
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    NotImplementedError,
)


def label_logits(
    base_model: nn.Module, prompts: torch.Tensor | Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """The logits that predict each label of the examples, one call of the base model at a time, inside a `turn`.

    Args:
        prompts: one (P, D), or several; `Example.prompt` is the number of the one that stands in front.
    """
    prompts = [prompts] if isinstance(prompts, torch.Tensor) else prompts
    with gradient_checkpointing(base_model):
        yield from select_strategy(base_model, prompts, examples).logits(
            base_model, prompts, examples
        )


def label_loss(
    base_model: nn.Module, prompts: torch.Tensor | Prompts, examples: Sequence[Example]
) -> Float[torch.Tensor, ""]:
    """Mean cross-entropy over the labelled tokens, in nats; the value of a padded batch's `forward(...).loss`.

    Raises:
        ValueError: no token is labelled.
    """
    with lock(base_model):
        parts = list(label_logits(base_model, prompts, examples))
    if not parts:
        raise ValueError(
            "no token of this batch has a label (all are -100); nothing can be learned from it."
        )
    logits = torch.cat([part.logits for part in parts])  # (M, V)
    return nn.functional.cross_entropy(logits, torch.cat([part.label_ids for part in parts]))


# ------------------------------------------------------------------------------------------------- the choice

_ways = Remembered()


def select_strategy(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Strategy:
    """Of the ways that this base model takes exactly, the one that costs least; of two equal ones the plainer.

    A single text is a row without pads on every way, so it takes the plainest.
    """
    ways = strategies_of(base_model)
    if len(ways) == 1 or sum(len(example.targets) for example in examples) == 1:
        return ways[-1]
    costs = costs_of(base_model)
    return min(reversed(ways), key=lambda way: way.cost(costs, prompts, examples))


def strategies_of(base_model: nn.Module) -> list[Strategy]:
    """The ways that give this base model's own numbers; asked once, then remembered."""

    def find() -> list[Strategy]:
        if base_model.config.is_encoder_decoder:
            return [ENCODER_DECODER]
        return [way for way in (BLOCKS, PACKED, PREFIXED) if is_exact(way, base_model)] + [PADDED]

    return _ways(base_model, find)


@torch.inference_mode(False)
@torch.enable_grad()
def is_exact(way: Strategy, base_model: nn.Module) -> bool:
    """True if a way gives, for a batch, the logits and the prompt's gradient of its rows one by one on the padded way.

    A model that takes its positions from the mask (ALiBi), ignores a 4-D mask or detaches a cache fails here or raises.
    """
    words = base_model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, words.shape[0], (22,), generator=generator).tolist()
    prompt = words[ids[:3]].detach().float().requires_grad_()
    examples = [
        Example(ids[3:8], [Target.of(ids[8:10]), Target.of(ids[10:13])]),
        Example(ids[13:15], [Target.of(ids[15:18])]),
        Example(ids[18:20], [Target.of(ids[20:22])]),
    ]
    try:
        together = _numbers(way, base_model, prompt, [examples])
    except torch.OutOfMemoryError:
        raise
    except OBJECTIONS as error:
        logger.info("%s does not go %s: %r", type(base_model).__name__, way.logits.__name__, error)
        return False
    rows = [
        [Example(example.context, [target])] for example in examples for target in example.targets
    ]
    alone = _numbers(PADDED, base_model, prompt, rows)
    errors = [error_of(ours, theirs) for ours, theirs in zip(together, alone, strict=True)]
    logger.info("%s %s: errors %s", type(base_model).__name__, way.logits.__name__, errors)
    return all(error <= tolerance_of(words.dtype) for error in errors)


def error_of(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The mean difference, relative to the spread of what it is compared with (root mean squares)."""
    return float((ours.float() - theirs.float()).square().mean().sqrt() / theirs.float().std())


def tolerance_of(dtype: torch.dtype) -> float:
    """Rounding passes, a wrong position or mask does not: it moves a gradient by its own length."""
    return 1e-3 if dtype in (torch.float32, torch.float64) else 0.2


def _numbers(
    way: Strategy, base_model: nn.Module, prompt: torch.Tensor, batches: list[list[Example]]
) -> tuple:
    """The labels' log-probabilities in the order of their owners, and the gradient of their sum at the prompt."""
    found, ahead = [], 0
    for examples in batches:
        parts = list(way.logits(base_model, [prompt], examples))
        logits = torch.cat([part.logits for part in parts])
        owners = [(owner[0] + ahead, owner[1]) for part in parts for owner in part.owners]
        order = sorted(range(len(owners)), key=lambda place: owners[place])
        found.append(logits[order])
        ahead += len(examples)
    together = torch.cat(found)
    (gradient,) = torch.autograd.grad(together.log_softmax(dim=-1)[:, 0].sum(), prompt)
    return together.detach(), gradient
