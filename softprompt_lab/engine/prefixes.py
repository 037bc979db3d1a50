"""Prefixes: a prompt's keys and values in every layer, computed once and put under any number of rows."""

from collections.abc import Sequence
from operator import is_
from weakref import WeakKeyDictionary, ref

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from transformers import DynamicCache

MOST_PREFIXES = 16  # that are kept for one base model

# Keys and values of each layer: rows, heads, virtual tokens, width of a head.
Prefix = list[tuple[Float[torch.Tensor, "_ H _ d"], Float[torch.Tensor, "_ H _ d"]]]


def prefix_of(base_model: nn.Module, prompt: Float[torch.Tensor, "P D"]) -> Prefix:
    """Return the keys and values of a prompt, with their gradient path, all of them whatever window a layer has."""
    embeddings = prompt[None].to(base_model.get_input_embeddings().weight.dtype)
    cache = base_model(
        inputs_embeds=embeddings, use_cache=True, past_key_values=DynamicCache()
    ).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers]


def stack_prefixes(prefixes: Sequence[Prefix]) -> tuple[Prefix, Bool[torch.Tensor, "B N"]]:
    """Return B prefixes as one of B rows, shorter ones with zeros in front, and the mask of what is no zero."""
    lengths = torch.tensor([prefix_length(prefix) for prefix in prefixes])
    longest = int(lengths.max())
    padded = [
        [
            tuple(nn.functional.pad(part, (0, 0, longest - part.shape[2], 0)) for part in layer)
            for layer in prefix
        ]
        for prefix in prefixes
    ]
    mask = torch.arange(longest) >= longest - lengths[:, None]
    return joined(padded, dim=0), mask.to(prefixes[0][0][0].device)


def cache_of(prefix: Prefix, rows: int) -> DynamicCache:
    """Return a cache that begins with a prefix: of one row under all rows, of B rows each under `rows / B` of them."""

    def under(part: Float[torch.Tensor, "_ H N d"]) -> Float[torch.Tensor, "rows H N d"]:
        one = len(part) == 1
        return (
            part.expand(rows, -1, -1, -1) if one else part.repeat_interleave(rows // len(part), 0)
        )

    return DynamicCache([tuple(map(under, layer)) for layer in prefix])


def joined(prefixes: Sequence[Prefix], dim: int) -> Prefix:
    """Return prefixes beside each other (`dim=0`, rows) or one behind the other (`dim=2`, tokens), in every layer."""
    return [
        tuple(torch.cat(parts, dim=dim) for parts in zip(*layers, strict=True))
        for layers in zip(*prefixes, strict=True)
    ]


def positions(mask: Bool[torch.Tensor, "B N"]) -> Int[torch.Tensor, "B N"]:
    """Return position numbers that count the tokens of a row and skip its pads."""
    return (mask.long().cumsum(dim=1) - 1).clamp_min(0)


def prefix_length(prefix: Prefix) -> int:
    """Return the number of virtual tokens of a prefix."""
    return prefix[0][0].shape[2]


class PrefixMemory:
    """The latest prefixes of each base model, found again by the prompt's numbers while the base model is unchanged."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[nn.Module, list[tuple]] = WeakKeyDictionary()

    @torch.no_grad()
    def prefixes_of(self, base_model: nn.Module, prompts: Sequence[torch.Tensor]) -> list[Prefix]:
        """Return the prefixes of prompts as they and the base model are now."""
        state, kept = _State(base_model), self._kept.setdefault(base_model, [])
        found = []
        for prompt in prompts:
            same = (entry for entry in kept if _is_of(entry, prompt, state))
            entry = next(same, None) or (
                prompt.detach().clone(),
                state,
                prefix_of(base_model, prompt),
            )
            kept[:] = [*(other for other in kept if other is not entry), entry][-MOST_PREFIXES:]
            found.append(entry[2])
        return found


class _State:
    """What changes when a base model does: its weights and buffers, their versions and type, PEFT's adapters.

    Writing through `weight.data` changes no version, so it is not noticed.
    """

    def __init__(self, base_model: nn.Module) -> None:
        weights = [*base_model.parameters(), *base_model.buffers()]
        self.weights = [ref(weight) for weight in weights]
        versions = [None if weight.is_inference() else weight._version for weight in weights]
        layers = [
            vars(module) for module in base_model.modules() if "_active_adapter" in vars(module)
        ]
        names = ("_disable_adapters", "_active_adapter", "scaling", "merged_adapters")
        adapters = [[layer.get(name) for name in names] for layer in layers]  # PEFT's
        self.others = [versions, str(adapters), base_model.get_input_embeddings().weight.dtype]

    def __eq__(self, other: object) -> bool:
        """Return whether nothing has changed; a weight that has gone leaves a reference that no other weight gets."""
        return self.others == other.others and all(map(is_, self.weights, other.weights))


def _is_of(entry: tuple, prompt: torch.Tensor, state: _State) -> bool:
    """Return whether a kept prefix is that of a prompt, the same numbers on the same device, in front of a state."""
    known, known_state, _ = entry
    return known.device == prompt.device and torch.equal(known, prompt) and known_state == state
