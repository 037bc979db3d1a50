"""Generation's first step without pads: all texts of a batch but their last tokens, in one packed row on kept prefixes.

Its keys and values are then laid out as the cache that `generate` goes on from, row by row, pads and all: a pad is a
place with zeros there, and was never computed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import nn
from transformers import DynamicCache

from ..batch import pads_first
from .blocks import attention_over_blocks, lay_out
from .costs import Costs
from .prefixes import Prefix, prefix_mask
from .strategies import call_at


class ReadTexts(NamedTuple):
    """What a packed first step has read: T - 1 columns of B rows behind the longest prompt, P.

    Attributes:
        layers: keys and values (B, G, P+T-1, d) of each layer, 0 at pads and in front of a shorter prompt.
        virtual: (B, P), True at virtual tokens.
        order: (B, T), the column of `input_ids` at each place, pads first.
    """

    layers: Prefix
    virtual: Bool[torch.Tensor, "B P"]
    order: Int[torch.Tensor, "B T"]


def saves(costs: Costs, prefixes: Sequence[Prefix], text: Bool[torch.Tensor, "B T"]) -> bool:
    """True if pads cost more than the call that is made for the last tokens."""
    (rows, columns), tokens = text.shape, int(text.sum())
    front = max(prefix[0][0].shape[2] for prefix in prefixes)
    plain = costs.call(rows, columns, front + columns, rows)
    packed = costs.call(1, tokens - rows, front + tokens / rows, 0) + costs.call(
        rows, 1, front + columns, rows
    )
    return packed < plain


@torch.no_grad()
def read_texts(
    base_model: nn.Module,
    prefixes: Sequence[Prefix],
    numbers: Sequence[int],
    input_ids: Int[torch.Tensor, "B T"],
    text: Bool[torch.Tensor, "B T"],
) -> ReadTexts:
    """Read every text but its last token.

    Args:
        prefixes: each once; `numbers` tells which one stands in front of each row.
    """
    fronts = torch.tensor([0, *(prefix[0][0].shape[2] for prefix in prefixes)]).cumsum(0).tolist()
    texts = [row[kept][:-1].tolist() for row, kept in zip(input_ids, text, strict=True)]
    cache = _read(base_model, prefixes, fronts, numbers, texts)
    order = pads_first(text)
    virtual = prefix_mask([prefixes[number] for number in numbers], len(texts))
    index = _index(fronts, numbers, texts, virtual, order.shape[1] - 1)
    layers = [
        tuple(_taken(part, index) for part in (layer.keys, layer.values)) for layer in cache.layers
    ]
    return ReadTexts(layers, virtual, order)


def _read(
    base_model: nn.Module,
    prefixes: Sequence[Prefix],
    fronts: Sequence[int],
    numbers: Sequence[int],
    texts: Sequence[Sequence[int]],
) -> DynamicCache:
    """One call on the prefixes, one behind the other; each text sees its own."""
    words = base_model.get_input_embeddings()
    device, lengths = words.weight.device, [len(row) for row in texts]
    ids = torch.tensor([token for row in texts for token in row], dtype=torch.long, device=device)
    starts = [fronts[number + 1] - fronts[number] for number in numbers]
    places = [
        place
        for start, length in zip(starts, lengths, strict=True)
        for place in range(start, start + length)
    ]
    segments = [number for number, length in enumerate(lengths, 1) for _ in range(length)]
    seen = [(fronts[number], fronts[number + 1]) for number in numbers]
    blocks = lay_out(seen, lengths, segments, [0] * len(segments), device)
    layers = [
        tuple(torch.cat(parts, dim=2) for parts in zip(*pairs, strict=True))
        for pairs in zip(*prefixes, strict=True)
    ]
    cache = DynamicCache(layers)
    with attention_over_blocks(base_model):
        call_at(
            base_model,
            [0],
            inputs_embeds=words(ids)[None],
            position_ids=torch.tensor(places, dtype=torch.long, device=device)[None],
            past_key_values=cache,
            blocks=blocks,
        )
    return cache


def _index(
    fronts: Sequence[int],
    numbers: Sequence[int],
    texts: Sequence[Sequence[int]],
    virtual: Bool[torch.Tensor, "B P"],
    columns: int,
) -> Int[torch.Tensor, "B N"]:
    """For each place of each row its place in `[zero | prefixes | texts]`."""
    rows, start = [], 1 + fronts[-1]
    for number, tokens in zip(numbers, texts, strict=True):
        prompt = range(1 + fronts[number], 1 + fronts[number + 1])
        own = range(start, start + len(tokens))
        rows.append(
            [0] * (virtual.shape[1] - len(prompt)) + [*prompt] + [0] * (columns - len(own)) + [*own]
        )
        start += len(tokens)
    return torch.tensor(rows, device=virtual.device)


def _taken(states: torch.Tensor, index: Int[torch.Tensor, "B N"]) -> torch.Tensor:
    """Rows (B, G, N, d) out of one row (1, G, all, d), with a zero in front of it."""
    padded = nn.functional.pad(states[0], (0, 0, 1, 0))  # (G, 1 + all, d)
    return padded[:, index].transpose(0, 1)
