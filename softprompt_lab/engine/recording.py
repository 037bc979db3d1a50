"""A training step recorded as one CUDA graph: small work on a GPU is bound by launching its kernels, not by computing.

A graph repeats the same kernels on the same memory, so a packed row is padded to one of a few sizes and its numbers are
copied into place. A recording is used if it gives the unrecorded step's loss and gradient, and takes less time.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import nn

from .costs import Remembered, costs_of
from .packing import Example, PackedRow, packed_mask
from .scoring import OBJECTIONS, error_of, tolerance_of
from .strategies import additive, packed_call, packed_rows

logger = logging.getLogger(__name__)

TOKENS = 128  # a row's text is padded to a multiple of so many tokens
LABELS = 32  # and its labels to a multiple of so many
MOST_TOKENS = 1024  # longer rows are bound by computing, and their dense mask is large
MOST_RECORDINGS = 8  # of one base model: each holds the memory of its step
WARM_UP = 3  # runs before a graph is recorded, in which libraries choose their kernels


class Buffers(NamedTuple):
    """The memory that a recorded step reads: P virtual tokens, N of text, M labels, pads included."""

    prompt: Float[torch.Tensor, "P D"]
    ids: torch.Tensor
    position_ids: torch.Tensor
    mask: torch.Tensor
    places: torch.Tensor
    label_ids: torch.Tensor
    weights: torch.Tensor

    def fill(self, values: "Buffers") -> None:
        """Copy another row's numbers into place."""
        for ours, theirs in zip(self, values, strict=True):
            ours.copy_(theirs)


class Recording:
    """A step of one size: fill the buffers, replay, read loss and gradient."""

    def __init__(self, base_model: nn.Module, values: Buffers, record: Callable) -> None:
        self.buffers = Buffers(*(part.clone() for part in values))
        self.buffers.prompt.requires_grad_()
        self.loss: torch.Tensor
        self.gradient: torch.Tensor

        def step() -> None:
            self.loss, self.gradient = weighted_loss(base_model, self.buffers)

        self.replay = record(step)

    def __call__(self, values: Buffers) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and gradient of a row of this size."""
        with torch.no_grad():
            self.buffers.fill(values)
        self.replay()
        return self.loss, self.gradient.clone()  # the next replay writes over it


def weighted_loss(base_model: nn.Module, row: Buffers) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels' losses times their weights, summed, and the gradient at the prompt."""
    words = base_model.get_input_embeddings()(row.ids)  # (N, D)
    logits = base_model(
        inputs_embeds=torch.cat([row.prompt.to(words.dtype), words])[None],
        position_ids=row.position_ids,
        attention_mask=row.mask,
        logits_to_keep=row.places,
        use_cache=False,
    ).logits[0]  # (M, V)
    loss = row.weights @ nn.functional.cross_entropy(
        logits.float(), row.label_ids, reduction="none"
    )
    (gradient,) = torch.autograd.grad(loss, row.prompt)
    return loss.detach(), gradient


def cuda_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Warm a step up on a stream of its own and record it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def padded_row(
    base_model: nn.Module, prompt: Float[torch.Tensor, "P D"], row: PackedRow, weight: float
) -> Buffers:
    """A packed row with pads behind its text that see the prompt only, and labels of weight zero."""
    more, fewer = -len(row.ids) % TOKENS, -len(row.label_ids) % LABELS
    padded = PackedRow(
        segments=row.segments + [-1] * more,  # a segment that nobody else sees
        parents=row.parents + [0] * more,
    )
    device, dtype = prompt.device, base_model.get_input_embeddings().weight.dtype
    positions = [*range(len(prompt)), *row.position_ids, *[len(prompt)] * more]
    weights = [weight] * len(row.label_ids) + [0.0] * fewer
    return Buffers(
        prompt.detach(),
        torch.tensor(row.ids + [0] * more, device=device),
        torch.tensor(positions, device=device)[None],
        additive(packed_mask(padded, len(prompt)).to(device), dtype)[None, None],
        torch.tensor(row.label_positions + [0] * fewer, device=device),
        torch.tensor(row.label_ids + [0] * fewer, device=device),
        torch.tensor(weights, device=device),
    )


# ---------------------------------------------------------------------------------------------------- the choice

_recordings = Remembered()


def recorded_backward(
    base_model: nn.Module,
    prompts: Sequence[torch.Tensor],
    examples: Sequence[Example],
    weights: Sequence[float],
) -> Float[torch.Tensor, " K"] | None:
    """Add to the prompts' gradients those of weighted losses by recorded steps, and return the losses.

    Args:
        weights: for each prompt what a label's loss counts.

    Returns:
        None, with no gradient touched, where there is no CUDA or some row has no recording that is exact and pays.
    """
    if prompts[0].device.type != "cuda" or getattr(base_model, "hf_device_map", None):
        return None
    steps = recorded_steps(base_model, prompts, examples, weights, cuda_graph)
    if steps is None:
        return None
    losses = torch.zeros(len(prompts), device=prompts[0].device)
    for number, recording, values in steps:
        loss, gradient = recording(values)
        prompts[number].backward(gradient)
        losses[number] += loss
    return losses


def recorded_steps(
    base_model: nn.Module,
    prompts: Sequence[torch.Tensor],
    examples: Sequence[Example],
    weights: Sequence[float],
    record: Callable,
) -> list[tuple[int, Recording, Buffers]] | None:
    """(number of the prompt, recording, what to fill it with) for each packed row, or None where one is missing."""
    recordings = _recordings(base_model, dict)
    steps = []
    for prompt, row in packed_rows(prompts, examples, costs_of(base_model).masked_row_tokens):
        if len(row.ids) > MOST_TOKENS:
            return None
        values = padded_row(base_model, prompt, row, weights[row.prompt])
        size = tuple(part.shape for part in values)
        if size not in recordings:
            if len(recordings) == MOST_RECORDINGS:
                return None
            recordings[size] = _record(base_model, prompt, row, values, record)
        if recordings[size] is None:
            return None
        steps.append((row.prompt, recordings[size], values))
    return steps


def _record(
    base_model: nn.Module, prompt: torch.Tensor, row: PackedRow, values: Buffers, record: Callable
) -> Recording | None:
    """A recording that gives the unrecorded step's numbers in less time, or None."""

    def direct() -> tuple[torch.Tensor, torch.Tensor]:
        start = prompt.detach().clone().requires_grad_()
        mask = additive(packed_mask(row, len(prompt)).to(prompt.device), values.mask.dtype)[
            None, None
        ]
        part = packed_call(base_model, start, row, attention_mask=mask)
        loss = (
            nn.functional.cross_entropy(part.logits, part.label_ids, reduction="sum")
            * values.weights[0]
        )
        return loss.detach(), torch.autograd.grad(loss, start)[0]

    try:
        other = values._replace(prompt=values.prompt.flip(0), ids=torch.zeros_like(values.ids))
        recording = Recording(
            base_model, other, record
        )  # on another row: a replay must read what it is filled with
        expected, found = direct(), recording(values)
    except torch.OutOfMemoryError:
        raise
    except OBJECTIONS as error:
        logger.info("%s is not recorded: %r", type(base_model).__name__, error)
        return None
    errors = (
        float((found[0] - expected[0]).abs() / expected[0].abs()),
        error_of(found[1], expected[1]),
    )
    seconds = _seconds(direct), _seconds(lambda: recording(values))
    logger.info("%s recorded: errors %s, seconds %s", type(base_model).__name__, errors, seconds)
    exact = all(error <= tolerance_of(values.mask.dtype) for error in errors)
    return recording if exact and seconds[1] < seconds[0] else None


def _seconds(function: Callable[[], object]) -> float:
    """The best of three runs, until the device is done."""
    best = math.inf
    for _ in range(3):
        began = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best
