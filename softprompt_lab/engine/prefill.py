"""Prefill without pads: the texts of a batch but their last tokens, read in packed rows behind kept prefixes.

What comes of it is a longer prefix for each row, so `generate` goes on from the last tokens as from any text.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from transformers import DynamicCache

from ..batch import distinct_prompts
from .exactness import takes
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
    found: list[Prefix] = []
    for part in _groups(texts):
        found += _read_row(base_model, prefixes[part], texts[part])
    return found


def _groups(texts: Sequence[Sequence[int]]) -> Iterator[slice]:
    """Yield runs of texts that fill a packed row."""
    start, tokens = 0, 0
    for number, text in enumerate(texts):
        if number > start and tokens + len(text) > ROW_TOKENS:
            yield slice(start, number)
            start, tokens = number, 0
        tokens += len(text)
    yield slice(start, len(texts))


def _read_row(
    base_model: nn.Module, prefixes: Sequence[Prefix], texts: Sequence[Sequence[int]]
) -> list[Prefix]:
    """Read `[prefixes, each once | texts]` in one call; a text sees its own prefix and what stands before in itself."""
    distinct, numbers = distinct_prompts(prefixes, len(texts))
    ends = torch.tensor([prefix_length(prefix) for prefix in distinct]).cumsum(dim=0).tolist()
    fronts = [slice(end - prefix_length(p), end) for p, end in zip(distinct, ends, strict=True)]
    words = base_model.get_input_embeddings()
    ids = torch.tensor([token for text in texts for token in text], dtype=torch.long)
    if not len(ids):
        return list(prefixes)
    sees = torch.zeros(len(ids), ends[-1] + len(ids), dtype=torch.bool)
    positions, spans, start = [], [], ends[-1]
    for number, text in zip(numbers, texts, strict=True):
        front, own = fronts[number], slice(start, start + len(text))
        rows = slice(own.start - ends[-1], own.stop - ends[-1])
        sees[rows, front] = True
        sees[rows, own] = torch.ones(len(text), len(text), dtype=torch.bool).tril()
        length = front.stop - front.start
        positions += range(length, length + len(text))
        spans.append((front, own))
        start = own.stop
    device, dtype = words.weight.device, words.weight.dtype
    mask = torch.zeros(sees.shape, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)
    cache = DynamicCache(
        [
            tuple(torch.cat(parts, dim=2) for parts in zip(*pairs, strict=True))
            for pairs in zip(*distinct, strict=True)
        ]
    )
    base_model(
        inputs_embeds=words(ids.to(device))[None],
        position_ids=torch.tensor([positions], device=device),
        attention_mask=mask.to(device)[None, None],
        past_key_values=cache,
        use_cache=True,
        **({"logits_to_keep": 1} if takes(base_model, "logits_to_keep") else {}),
    )
    return [
        [
            tuple(torch.cat([part[:, :, span] for span in pair], dim=2) for part in layer)
            for layer in ((each.keys, each.values) for each in cache.layers)
        ]
        for pair in spans
    ]
