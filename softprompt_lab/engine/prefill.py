"""Prefill without pads: the texts of a batch but their last tokens, read in packed rows behind kept prefixes.

What comes of it is a longer prefix for each row, so `generate` goes on from the last tokens as from any text.
"""

from collections.abc import Sequence
from itertools import chain, groupby

import torch
from torch import nn
from transformers import DynamicCache

from ..batch import distinct_prompts
from .exactness import takes
from .packing import additive, same
from .prefixes import Prefix, prefix_length
from .strategies import tokens_of_call

ROW_TOKENS = 256  # of text in one call: its dense mask has as many squared entries


def pays(base_model: nn.Module, lengths: Sequence[int]) -> bool:
    """Return whether the pads of texts with these lengths cost more than the calls that read them without."""
    pads = max(lengths) * len(lengths) - sum(lengths)
    calls = sum(lengths) // ROW_TOKENS + 2  # and one for the last tokens
    return pads > calls * tokens_of_call(base_model) + len(lengths)


@torch.no_grad()
def read_texts(
    base_model: nn.Module, prefixes: Sequence[Prefix], texts: Sequence[Sequence[int]]
) -> list[Prefix]:
    """Return each row's prefix with its text behind it.

    Args:
        prefixes: one for each text.
        texts: token ids; an empty text leaves its prefix as it is.
    """
    ends = torch.tensor([len(text) for text in texts]).cumsum(dim=0).tolist()
    found: list[Prefix] = []
    for _, part in groupby(range(len(texts)), key=lambda row: ends[row] // ROW_TOKENS):
        rows = list(part)
        found += _read_row(
            base_model, [prefixes[row] for row in rows], [texts[row] for row in rows]
        )
    return found


def _read_row(
    base_model: nn.Module, prefixes: Sequence[Prefix], texts: Sequence[Sequence[int]]
) -> list[Prefix]:
    """Read `[prefixes, each once | texts]` in one call; a text sees its own prefix and what stands before in itself."""
    distinct, numbers = distinct_prompts(prefixes, len(texts))
    words, lengths = base_model.get_input_embeddings(), [len(text) for text in texts]
    if not sum(lengths):
        return list(prefixes)
    fronts = [prefix_length(prefix) for prefix in distinct]
    front_of_keys = torch.arange(len(distinct)).repeat_interleave(torch.tensor(fronts))
    text_of_tokens = torch.arange(len(texts)).repeat_interleave(torch.tensor(lengths))  # (N,)
    front_of_tokens = torch.tensor(numbers)[text_of_tokens]
    sees_own = same(text_of_tokens, text_of_tokens).tril()
    sees = torch.cat([same(front_of_tokens, front_of_keys), sees_own], dim=1)
    starts = [fronts[number] for number in numbers]
    places = [range(start, start + n) for start, n in zip(starts, lengths, strict=True)]
    cache = DynamicCache(_joined(distinct))
    base_model(
        inputs_embeds=words(torch.tensor([list(chain(*texts))], device=words.weight.device)),
        position_ids=torch.tensor([list(chain(*places))], device=words.weight.device),
        attention_mask=additive(sees, words.weight),
        past_key_values=cache,
        use_cache=True,
        **({"logits_to_keep": 1} if takes(base_model, "logits_to_keep") else {}),
    )
    pieces = [
        list(zip(*(part.split([*fronts, *lengths], dim=2) for part in layer), strict=True))
        for layer in ((each.keys, each.values) for each in cache.layers)
    ]  # of each layer: the pairs of the prefixes, then those of the texts
    return [
        _joined([[layer[number] for layer in pieces], [layer[text] for layer in pieces]])
        for text, number in enumerate(numbers, start=len(distinct))
    ]


def _joined(prefixes: Sequence[Prefix]) -> Prefix:
    """Return prefixes one behind the other, in every layer."""
    return [
        tuple(torch.cat(parts, dim=2) for parts in zip(*pairs, strict=True))
        for pairs in zip(*prefixes, strict=True)
    ]
