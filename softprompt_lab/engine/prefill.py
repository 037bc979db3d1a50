"""Prefill without pads: the texts of a batch but their last tokens, read in one call behind kept prefixes.

What comes of it is a longer prefix for each row, so `generate` goes on from the last tokens as from any text.
"""

from collections.abc import Sequence
from itertools import chain

import torch
from jaxtyping import Bool
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from ..batch import distinct_prompts, takes
from .blocks import Blocks, attention_over_blocks
from .prefixes import Prefix, joined, prefix_length
from .strategies import tokens_of_call


def pays(base_model: nn.Module, lengths: Sequence[int]) -> bool:
    """Return whether the pads of texts with these lengths cost more than one more call and building what it needs."""
    pads = max(lengths) * len(lengths) - sum(lengths)
    return pads > 2 * tokens_of_call(base_model) + len(lengths)


@torch.no_grad()
def read_texts(
    base_model: nn.Module, prefixes: Sequence[Prefix], texts: Sequence[Sequence[int]]
) -> tuple[Prefix, Bool[torch.Tensor, "B K"]]:
    """Return each row's prefix with its text behind it as one prefix of B rows, and the mask of what is no pad.

    Args:
        prefixes: one for each text.
        texts: token ids; an empty text leaves its prefix as it is.
    """
    words = base_model.get_input_embeddings()
    distinct, numbers = distinct_prompts(prefixes, len(texts))
    fronts = [prefix_length(prefix) for prefix in distinct]
    lengths = [len(text) for text in texts]
    pieces = torch.arange(sum(fronts) + sum(lengths)).split([*fronts, *lengths])
    front = _padded([pieces[number] for number in numbers])  # (B, P): of the keys, -1 at pads
    own = _padded(pieces[len(distinct) :])  # (B, T)
    cache = DynamicCache(joined(distinct, dim=2))
    if sum(lengths):
        starts = [fronts[number] for number in numbers]
        places = [range(start, start + n) for start, n in zip(starts, lengths, strict=True)]
        ids, position_ids = (
            torch.tensor([list(chain(*rows))], device=words.weight.device)
            for rows in (texts, places)
        )
        only = {"logits_to_keep": 1} if takes(base_model, "logits_to_keep") else {}
        with attention_over_blocks(base_model):
            base_model(
                inputs_embeds=words(ids),
                position_ids=position_ids,
                blocks=_blocks(front, own - sum(fronts), words.weight.device),
                past_key_values=cache,
                use_cache=True,
                **only,
            )
    keys = torch.cat([front, own], dim=1).to(words.weight.device)  # (B, K)
    rows = [
        tuple(part[0][:, keys.clamp_min(0)].transpose(0, 1) for part in (layer.keys, layer.values))
        for layer in cache.layers
    ]
    return rows, keys >= 0


def _padded(pieces: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return runs of numbers as rows, padded with -1 on the right."""
    return pad_sequence(list(pieces), batch_first=True, padding_value=-1)


def _blocks(front: torch.Tensor, own: torch.Tensor, device: torch.device) -> Blocks:
    """Return texts as one batch, each behind its own part of the keys in front (B, P); `own` (B, T) are its tokens."""
    real = own >= 0
    causal = torch.ones(own.shape[1], own.shape[1], dtype=torch.bool).tril()
    sees = real[:, None] & causal | torch.eye(own.shape[1], dtype=torch.bool)  # (B, T, T)
    sees_front = (front >= 0)[:, None].expand(*own.shape, -1)
    mask = torch.cat([sees_front, sees], dim=-1)[:, None]
    return Blocks(
        own.clamp_min(0).flatten().to(device),
        real.flatten().nonzero()[:, 0].to(device),
        [mask.to(device)],
        [front.clamp_min(0).to(device)],
    )
