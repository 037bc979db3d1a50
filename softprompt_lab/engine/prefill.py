"""Prefill without pads: the texts of a batch but their last tokens, read in packed rows behind kept prefixes.

What comes of it is a longer prefix for each row, so `generate` goes on from the last tokens as from any text.
"""

from collections.abc import Sequence
from itertools import chain, groupby

import torch
from jaxtyping import Bool
from torch import nn
from transformers import DynamicCache

from ..batch import distinct_prompts
from .exactness import takes
from .packing import additive, same
from .prefixes import Prefix, joined, prefix_length
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
) -> tuple[Prefix, Bool[torch.Tensor, "B N"]]:
    """Return each row's prefix with its text behind it as one prefix of B rows, and the mask of what is no pad.

    Args:
        prefixes: one for each text.
        texts: token ids; an empty text leaves its prefix as it is.
    """
    ends = torch.tensor([len(text) for text in texts]).cumsum(dim=0).tolist()
    pairs = zip(prefixes, texts, strict=True)
    lengths = torch.tensor([prefix_length(prefix) + len(text) for prefix, text in pairs])
    longest, parts = int(lengths.max()), []
    for _, part in groupby(range(len(texts)), key=lambda row: ends[row] // ROW_TOKENS):
        rows = list(part)
        own = [prefixes[row] for row in rows], [texts[row] for row in rows]
        parts.append(_read_row(base_model, *own, longest))
    mask = torch.arange(longest) >= longest - lengths[:, None]
    return joined(parts, dim=0), mask.to(base_model.get_input_embeddings().weight.device)


def _read_row(
    base_model: nn.Module,
    prefixes: Sequence[Prefix],
    texts: Sequence[Sequence[int]],
    longest: int,
) -> Prefix:
    """Read `[prefixes, each once | texts]` in one call; a text sees its own prefix and what stands before in itself.

    Args:
        longest: tokens of a row of the result; what is too much stands in front and means nothing.
    """
    distinct, numbers = distinct_prompts(prefixes, len(texts))
    words, lengths = base_model.get_input_embeddings(), [len(text) for text in texts]
    fronts = [prefix_length(prefix) for prefix in distinct]
    front_of_keys = torch.arange(len(distinct)).repeat_interleave(torch.tensor(fronts))
    text_of_tokens = torch.arange(len(texts)).repeat_interleave(torch.tensor(lengths))  # (N,)
    front_of_tokens = torch.tensor(numbers)[text_of_tokens]
    sees_own = same(text_of_tokens, text_of_tokens).tril()
    sees = torch.cat([same(front_of_tokens, front_of_keys), sees_own], dim=1)
    starts = [fronts[number] for number in numbers]
    places = [range(start, start + n) for start, n in zip(starts, lengths, strict=True)]
    cache = DynamicCache(joined(distinct, dim=2))
    if sum(lengths):
        base_model(
            inputs_embeds=words(torch.tensor([list(chain(*texts))], device=words.weight.device)),
            position_ids=torch.tensor([list(chain(*places))], device=words.weight.device),
            attention_mask=additive(sees, words.weight),
            past_key_values=cache,
            use_cache=True,
            **({"logits_to_keep": 1} if takes(base_model, "logits_to_keep") else {}),
        )
    pieces = torch.arange(sum(fronts) + sum(lengths)).split([*fronts, *lengths])
    rows = [
        torch.cat([pieces[number], pieces[len(distinct) + row]])
        for row, number in enumerate(numbers)
    ]
    index = torch.stack([nn.functional.pad(row, (longest - len(row), 0)) for row in rows])
    index = index.to(words.weight.device)
    return [
        (layer.keys[0][:, index].transpose(0, 1), layer.values[0][:, index].transpose(0, 1))
        for layer in cache.layers
    ]
