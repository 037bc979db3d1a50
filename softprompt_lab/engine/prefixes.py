"""Prefixes: a prompt's keys and values in every layer, computed once and put under any number of rows."""

from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from transformers import DynamicCache

# Keys and values of each layer: rows, heads, virtual tokens, width of a head.
Prefix = list[tuple[Float[torch.Tensor, "_ H _ d"], Float[torch.Tensor, "_ H _ d"]]]


def prefix_of(base_model: nn.Module, prompt: Float[torch.Tensor, "P D"]) -> Prefix:
    """The keys and values of a prompt, with their gradient path, every one of them whatever window a layer has."""
    embeddings = prompt[None].to(base_model.get_input_embeddings().weight.dtype)
    cache = base_model(
        inputs_embeds=embeddings, use_cache=True, past_key_values=DynamicCache()
    ).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers]


def layers_of(prefixes: Sequence[Prefix], rows: int) -> Prefix:
    """What a `DynamicCache` is made of: one prefix under all rows, or one for each; shorter ones have zeros in front.

    `prefix_mask` tells the zeros from the rest.
    """
    longest = max(_length(prefix) for prefix in prefixes)
    layers = []
    for pairs in zip(*prefixes, strict=True):  # one layer of every prefix
        keys, values = (
            torch.cat([_pad(part, longest) for part in parts]) for parts in zip(*pairs, strict=True)
        )
        layers.append((keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)))
    return layers


def prefix_mask(prefixes: Sequence[Prefix], rows: int) -> Bool[torch.Tensor, "rows P"]:
    """True at the virtual tokens of what `layers_of` made."""
    lengths = torch.tensor([_length(prefix) for prefix in prefixes])
    longest = int(lengths.max())
    return (
        (torch.arange(longest) >= longest - lengths[:, None])
        .expand(rows, -1)
        .to(prefixes[0][0][0].device)
    )


def positions(mask: Bool[torch.Tensor, "B N"]) -> Int[torch.Tensor, "B N"]:
    """Position numbers that count the tokens of a row and skip its pads."""
    return (mask.long().cumsum(dim=1) - 1).clamp_min(0)


def _length(prefix: Prefix) -> int:
    """Virtual tokens of a prefix."""
    return prefix[0][0].shape[2]


def _pad(states: Float[torch.Tensor, "_ H _ d"], length: int) -> Float[torch.Tensor, "_ H _ d"]:
    """Zeros in front, up to `length`."""
    return nn.functional.pad(states, (0, 0, length - states.shape[2], 0))


class PrefixMemory:
    """The prefixes of named prompts over one base model; one is computed again when its prompt or the model changed."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[torch.Tensor, Hashable, Prefix]] = {}

    def get(self, base_model: nn.Module, name: str, prompt: Float[torch.Tensor, "P D"]) -> Prefix:
        """The prefix of a prompt as it is now."""
        prompt, state = prompt.detach(), _state_of(base_model)
        kept = self._kept.get(name)
        if kept is None or kept[1] != state or not _same(kept[0], prompt):
            with torch.no_grad():
                self._kept[name] = (prompt.clone(), state, prefix_of(base_model, prompt))
        return self._kept[name][2]

    def clear(self) -> None:
        """Forget them all."""
        self._kept.clear()


def _state_of(base_model: nn.Module) -> Hashable:
    """What is another when a base model has changed: its weights, their versions and type, PEFT's active adapters."""
    modules = [*base_model.modules()]
    weights = [
        weight for module in modules for weight in module._parameters.values() if weight is not None
    ]
    versions = [
        (id(weight), None if weight.is_inference() else weight._version) for weight in weights
    ]
    layers = [module for module in modules if "_active_adapter" in module.__dict__]  # PEFT's
    adapters = [(layer._disable_adapters, str(layer._active_adapter)) for layer in layers]
    return base_model.get_input_embeddings().weight.dtype, tuple(versions), tuple(adapters)


def _same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """True for equal numbers on the same device."""
    return ours.shape == theirs.shape and ours.device == theirs.device and torch.equal(ours, theirs)
