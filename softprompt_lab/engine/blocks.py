"""Attention over the blocks of a packed row: a text looks at the prompt and at itself, and no other pair is computed.

A dense mask hides the other texts of a row, at the price of a row's length squared. Here the queries, keys and values
of a row are laid out as one small batch for texts of like length, through transformers' own attention interface.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from .packing import PROMPT_SEGMENT, PackedRow

NAME = "softprompt_lab_blocks"
LIKE_LENGTH = (
    1.5  # texts share a batch while the longest is at most so many times as long as the shortest
)
PAD_SEGMENT = -1  # sees the prompt and itself, is seen by pads only


class Block(NamedTuple):
    """A batch of n texts of up to L tokens: True in `mask` where one may look, first at its prompt, then at the L.

    Attributes:
        seen: first and last but one of the places in front that these texts look at.
    """

    rows: int
    length: int
    seen: tuple[int, int]
    mask: Bool[torch.Tensor, "n 1 L K"]


class Blocks(NamedTuple):
    """The N last tokens of a packed row, its texts, as batches that hold M places, pads included.

    In front of them stand the prompt and what the texts share, or several prompts whose keys and values are there.

    Attributes:
        there: the token (0 is the first behind the front) at each of the M places; some token at a pad.
        back: the place of each of the N tokens.
        real: False at pads.
    """

    there: Int[torch.Tensor, "M"]
    back: Int[torch.Tensor, "N"]
    real: Bool[torch.Tensor, "M"]
    batches: Sequence[Block]


def blocks_of(row: PackedRow, prompt_length: int, device: torch.device) -> Blocks:
    """Lay the examples of a row, each with all its targets, out by length."""
    front = prompt_length + row.shared
    segments, parents = row.segments[row.shared :], row.parents[row.shared :]
    return lay_out([(0, front)] * len(row.lengths), row.lengths, segments, parents, device)


def lay_out(
    seen: Sequence[tuple[int, int]],
    lengths: Sequence[int],
    segments: Sequence[int],
    parents: Sequence[int],
    device: torch.device,
) -> Blocks:
    """Texts that stand one behind the other, as batches of those that see the same of the front and are of like length.

    Args:
        seen, lengths: what each text sees of the front, and its tokens.
        segments, parents: of each token, as in a `PackedRow`.
    """
    starts = torch.tensor([0, *lengths]).cumsum(0).tolist()
    segments, parents = (torch.tensor(part, dtype=torch.long) for part in (segments, parents))
    nothing = torch.empty(0, dtype=torch.long)
    there, batches = [(nothing, nothing.bool())], []
    for group in _groups(seen, lengths):
        longest, (first, last) = lengths[group[0]], seen[group[0]]
        inside = torch.arange(longest)
        places = torch.tensor([starts[number] for number in group])[:, None] + inside  # (n, L)
        pad = inside >= torch.tensor([lengths[number] for number in group])[:, None]
        places = places.masked_fill(pad, 0)
        segment = segments[places].masked_fill(pad, PAD_SEGMENT)
        parent = parents[places].masked_fill(pad, PROMPT_SEGMENT)
        looks = (segment[:, :, None] == segment[:, None]) | (
            parent[:, :, None] == segment[:, None]
        )  # (n, L, L)
        mask = torch.cat([looks.new_ones(*pad.shape, last - first), looks.tril()], dim=-1)[:, None]
        batches.append(Block(len(group), longest, (first, last), mask.to(device)))
        there.append((places, pad))
    flat = torch.cat([places.flatten() for places, _ in there])
    real = torch.cat([~pad.flatten() for _, pad in there])
    back = torch.empty(len(segments), dtype=torch.long)
    back[flat[real]] = real.nonzero()[:, 0]
    return Blocks(flat.to(device), back.to(device), real.to(device), batches)


def _groups(seen: Sequence[tuple[int, int]], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Texts that see the same, longest first, cut where the next is much shorter; empty ones fall away."""
    group: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: (seen[number], -lengths[number])):
        apart = group and (
            seen[number] != seen[group[0]] or lengths[number] * LIKE_LENGTH < lengths[group[0]]
        )
        if apart:
            yield group
            group = []
        if lengths[number]:
            group.append(number)
    if group:
        yield group


def groups_of(lengths: Sequence[int]) -> int:
    """How many batches texts of these lengths make that see the same."""
    return len(list(_groups([(0, 0)] * len(lengths), lengths)))


@contextmanager
def attention_over_blocks(base_model: nn.Module) -> Iterator[None]:
    """Let a base model's layers call `attention`; they hand on the `blocks` that the model is called with."""
    config = base_model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def attention(
    module: nn.Module,
    query: Float[torch.Tensor, "1 H Q d"],
    key: Float[torch.Tensor, "1 G N d"],
    value: Float[torch.Tensor, "1 G N d"],
    attention_mask: torch.Tensor | None,
    blocks: Blocks,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    position_bias: torch.Tensor | None = None,
    s_aux: torch.Tensor | None = None,
    **_,
) -> tuple[Float[torch.Tensor, "1 Q H d"], None]:
    """Scaled dot product attention of a packed row, as transformers calls it.

    The queries are those of the front and the texts, or of the texts alone on a cache that holds the front.
    """
    if any(part is not None for part in (attention_mask, softcap, position_bias, s_aux)):
        raise ValueError(
            "attention with a mask, a cap, a bias or sinks of its own is not cut into blocks."
        )
    texts_length, options = len(blocks.back), {"scaling": scaling, "dropout": dropout}
    parts = [part[0].transpose(0, 1) for part in (query, key, value)]  # (P+N, heads, d)
    fronts = [
        part[: len(part) - texts_length].transpose(0, 1)[None] for part in parts
    ]  # (1, heads, P, d)
    laid_out = [
        _Regroup.apply(part[len(part) - texts_length :], blocks.there, blocks.back)
        for part in parts
    ]  # (M, heads, d)
    outputs, start = [query.new_empty(0, query.shape[1], value.shape[3])], 0
    for rows, longest, (first, last), mask in blocks.batches:
        end = start + rows * longest
        own = [
            part[start:end].unflatten(0, (rows, longest)).transpose(1, 2) for part in laid_out
        ]  # (n, heads, L, d)
        keys, values = (
            torch.cat([front[:, :, first:last].expand(rows, -1, -1, -1), text], dim=2)
            for front, text in zip(fronts[1:], own[1:], strict=True)
        )
        outputs.append(
            sdpa_attention_forward(module, own[0], keys, values, mask, **options)[0].flatten(0, 1)
        )
        start = end
    texts = _Regroup.apply(
        torch.cat(outputs) * blocks.real[:, None, None], blocks.back, blocks.there
    )  # (N, H, d)
    if fronts[0].shape[2]:
        prompt = sdpa_attention_forward(module, *fronts, None, is_causal=True, **options)[0][
            0
        ]  # (P, H, d)
        texts = torch.cat([prompt, texts])
    return texts[None], None


class _Regroup(torch.autograd.Function):
    """Rows in another order, some of them twice; the gradient takes the way back, on which copies fall away.

    Right where the copies' gradients are zero: those at pads, whose outputs are multiplied by zero.
    """

    @staticmethod
    def forward(ctx, states: torch.Tensor, there: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        """`states[there]`."""
        ctx.save_for_backward(back)
        return states.index_select(0, there)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """`gradient[back]`."""
        return gradient.index_select(0, *ctx.saved_tensors), None, None


AttentionInterface.register(NAME, attention)
