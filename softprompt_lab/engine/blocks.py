"""Attention over the blocks of a packed row: a text looks at the prompt and at itself, and no other pair is computed.

A dense mask hides the other texts of a row, at the price of a row's length squared. Here the queries, keys and values
of a row are laid out as one small batch for texts of similar length, through transformers' own attention interface.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from .packing import PackedRow, same

NAME = "softprompt_lab_blocks"
SIMILAR = 1.5  # the longest text of a batch has at most so many times the shortest's tokens


class Blocks(NamedTuple):
    """The N tokens of a packed row behind its front, as batches with M tokens, pads included.

    The front is the prompt and what the texts share, or keys that are kept, of which each text has its own.

    Attributes:
        tokens: which of the N tokens stands at each of the M positions; some token at a pad.
        positions: at which of the M positions each of the N tokens stands.
        masks: of each batch of B texts of up to T tokens, True where they look, first at the front, then at the T.
        fronts: of each batch, which of the front's keys belong to each text; None: all of them.
    """

    tokens: Int[torch.Tensor, " M"]
    positions: Int[torch.Tensor, " N"]
    masks: Sequence[Bool[torch.Tensor, "B 1 T K"]]
    fronts: Sequence[Int[torch.Tensor, "B F"]] | None = None


def blocks_of(row: PackedRow, prompt_length: int, device: torch.device) -> Blocks:
    """Return the examples of a row, each with all its targets, as batches of similar length."""
    front = prompt_length + row.shared
    segments, parents = (
        torch.tensor(part[row.shared :], dtype=torch.long) for part in (row.segments, row.parents)
    )  # (N,) each
    numbers = torch.arange(len(segments))
    pieces = numbers.split(row.lengths)
    tokens, masks = [numbers[:0]], []
    for group in _groups(row.lengths):
        texts = [pieces[text] for text in group]
        own = pad_sequence(texts, batch_first=True, padding_value=-1)  # (B, T)
        sees = same(segments[own], segments[own]) | same(parents[own], segments[own])  # (B, T, T)
        sees = sees.tril() & (own >= 0)[:, None] | torch.eye(own.shape[1], dtype=torch.bool)
        sees_front = sees.new_ones(*own.shape, front)
        masks.append(torch.cat([sees_front, sees], dim=-1)[:, None].to(device))
        tokens.append(own.flatten())
    flat = torch.cat(tokens)
    positions = flat.argsort()[len(flat) - len(numbers) :]  # behind those of the pads
    return Blocks(flat.clamp_min(0).to(device), positions.to(device), masks)


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield texts of similar length, longest first; empty ones fall away."""
    group: list[int] = []
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        if group and lengths[group[0]] > SIMILAR * lengths[text]:
            yield group
            group = []
        if lengths[text]:
            group.append(text)
    if group:
        yield group


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
    key: Float[torch.Tensor, "1 G K d"],
    value: Float[torch.Tensor, "1 G K d"],
    attention_mask: torch.Tensor | None,
    blocks: Blocks,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    position_bias: torch.Tensor | None = None,
    s_aux: torch.Tensor | None = None,
    **_,
) -> tuple[Float[torch.Tensor, "1 Q H d"], None]:
    """Return the scaled dot product attention of a packed row, as transformers calls it."""
    if any(part is not None for part in (attention_mask, softcap, position_bias, s_aux)):
        raise ValueError(
            "attention with a mask, a cap, a bias or sinks of its own is not cut into blocks."
        )
    options = {"scaling": scaling, "dropout": dropout}
    ends = [part.shape[2] - len(blocks.positions) for part in (query, key, value)]  # of the front
    parts = list(zip((query, key, value), ends, strict=True))
    fronts = [part[:, :, :end] for part, end in parts]  # (1, heads, P, d)
    texts = [
        part[0, :, end:].transpose(0, 1).index_select(0, blocks.tokens) for part, end in parts
    ]  # (M, heads, d)
    outputs, start = [query.new_empty(0, query.shape[1], value.shape[3])], 0
    for number, mask in enumerate(blocks.masks):
        rows, _, length, _ = mask.shape
        end = start + rows * length
        own = [
            part[start:end].unflatten(0, (rows, length)).transpose(1, 2) for part in texts
        ]  # (B, heads, T, d)
        keys, values = (
            torch.cat([_of_rows(first, rows, blocks.fronts, number), text], dim=2)
            for first, text in zip(fronts[1:], own[1:], strict=True)
        )
        found = sdpa_attention_forward(module, own[0], keys, values, mask, **options)[0]
        outputs.append(found.flatten(0, 1))
        start = end
    output = torch.cat(outputs).index_select(0, blocks.positions)[None]  # (1, N, H, d)
    if ends[0]:
        found = sdpa_attention_forward(module, *fronts, None, is_causal=True, **options)[0]
        output = torch.cat([found, output], dim=1)
    return output, None


def _of_rows(
    front: Float[torch.Tensor, "1 heads P d"],
    rows: int,
    chosen: Sequence[Int[torch.Tensor, "B F"]] | None,
    number: int,
) -> Float[torch.Tensor, "B heads F d"]:
    """Return the front's keys or values for each text of a batch: all, or those that were chosen."""
    if chosen is None:
        return front.expand(rows, -1, -1, -1)
    return front[0][:, chosen[number]].transpose(0, 1)


AttentionInterface.register(NAME, attention)
