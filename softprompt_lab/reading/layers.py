"""Where a base model keeps its last layer, attention and unembedding: asked with a few tokens, not listed by name.

A call of three tokens is watched, and a part is known by the numbers that go in and come out. What cannot be found so,
or does not give the model's own logits again, is refused with a ValueError.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import nn

from ..engine.locks import lock

TOKENS = 3  # of the call that is watched
TOLERANCE = 1e-5  # of the logits, relative to the largest


class Call(NamedTuple):
    """A module that was entered (`out` False) or left (`out` True), with its first tensor then."""

    module: nn.Module
    out: bool
    states: torch.Tensor | None


@contextmanager
def watching(base_model: nn.Module, enter: Callable, leave: Callable) -> Iterator[None]:
    """Every module calls `enter(module, args, kwargs)` before it computes and `leave(module, args, output)` after it.

    No other thread uses the base model meanwhile: it would be watched too.
    """
    handles = []
    with lock(base_model):
        try:
            for module in base_model.modules():
                handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
                handles.append(module.register_forward_hook(leave))
            yield
        finally:
            for handle in handles:
                handle.remove()


@torch.no_grad()
def watched_call(base_model: nn.Module) -> tuple[list[Call], Any]:
    """Every module that a call of three tokens enters and leaves, in order, and the output with its hidden states."""
    calls: list[Call] = []

    def enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
        calls.append(Call(module, False, first_tensor((*args, kwargs.get("hidden_states")))))

    def leave(module: nn.Module, args: tuple, output: Any) -> None:
        calls.append(Call(module, True, first_tensor(output)))

    words = base_model.get_input_embeddings().weight
    ids = torch.arange(TOKENS, device=words.device)[None] + min(7, len(words) - TOKENS)
    with watching(base_model, enter, leave):
        return calls, base_model(input_ids=ids, output_hidden_states=True, use_cache=False)


def _last_layer(base_model: nn.Module, calls: Sequence[Call], output: Any) -> nn.Module:
    """Return the last layer: of the modules with parts, the first that is entered with the last but one hidden state.

    Raises:
        ValueError: there is none.
    """
    state = output.hidden_states[-2]  # the last one has passed the final norm
    for call in calls:
        if not call.out and any(call.module.children()) and _same(call.states, state):
            return call.module
    raise ValueError(
        f"the last layer of {type(base_model).__name__} was not found: no module takes its input."
    )


class Unembedding(NamedTuple):
    """The way from the last layer's output to the logits: the modules that the model calls, one after the other."""

    last_layer: nn.Module
    modules: Sequence[nn.Module]

    def __call__(self, states: Float[torch.Tensor, "*B N D"]) -> Float[torch.Tensor, "*B N V"]:
        """The logits of hidden states, in float32."""
        for module in self.modules:
            states = module(states)
        return states.float()


def unembedding(base_model: nn.Module) -> Unembedding:
    """The final norm and the unembedding of a base model, as it calls them.

    Raises:
        ValueError: these modules do not give the model's own logits to 1e-5 (a model that caps or scales them, or that
            takes its last steps in another way).
    """
    calls, output = watched_call(base_model)
    last = _last_layer(base_model, calls, output)
    end = max(place for place, call in enumerate(calls) if call.out and call.module is last)
    modules, entered = [], []
    for call in calls[end + 1 :]:
        if not call.out:
            modules += [call.module] if not entered else []
            entered.append(call.module)
        elif entered:  # what was entered before the layers is left here too
            entered.pop()
    found = Unembedding(last, modules)
    with torch.no_grad():
        ours, theirs = found(calls[end].states), output.logits.float()
    error = float((ours - theirs).abs().max()) if ours.shape == theirs.shape else float("inf")
    if not error <= TOLERANCE * max(1.0, float(theirs.abs().max())):
        names = ", ".join(type(module).__name__ for module in modules)
        raise ValueError(
            f"the last layer's output through {names} differs from the logits of {type(base_model).__name__} by "
            f"{error:.1g}: the model does more to them (a cap, a scale), and a lens would not show its predictions."
        )
    return found


@torch.no_grad()
def states_of(
    base_model: nn.Module, last_layer: nn.Module, embeddings: Float[torch.Tensor, "B N D"]
) -> list[Float[torch.Tensor, "B N _"]]:
    """The L + 1 hidden states: what each layer reads, and the last one's output *before* the final norm."""
    kept: list[torch.Tensor] = []
    with lock(base_model):
        handle = last_layer.register_forward_hook(
            lambda module, args, output: kept.append(first_tensor(output))
        )
        try:
            states = base_model(
                inputs_embeds=embeddings, output_hidden_states=True, use_cache=False
            ).hidden_states
        finally:
            handle.remove()
    return [*states[:-1], kept[-1]]


def first_tensor(values: Any) -> torch.Tensor | None:
    """A tensor, or the first of a tuple that is one."""
    parts = values if isinstance(values, tuple) else (values,)
    return next((part for part in parts if isinstance(part, torch.Tensor)), None)


def _same(ours: torch.Tensor | None, theirs: torch.Tensor) -> bool:
    """True for equal numbers."""
    return ours is not None and ours.shape == theirs.shape and torch.equal(ours, theirs)


# ------------------------------------------------------------------------------------------------- attention


@contextmanager
def attention_by_hand(base_model: nn.Module) -> Iterator[None]:
    """Let a base model compute its attention step by step ("eager"), the one way that shows the weights."""
    config = base_model.config.get_text_config(decoder=True)
    with lock(base_model):
        before = config._attn_implementation
        config._attn_implementation = "eager"
        try:
            yield
        finally:
            config._attn_implementation = before


@torch.no_grad()
def attention_weights(
    base_model: nn.Module, embeddings: Float[torch.Tensor, "B N D"]
) -> list[Float[torch.Tensor, "B H N N"]]:
    """The attention of every layer: how much each place (row) looks at each place (column); rows sum to 1.

    Raises:
        ValueError: the base model does not give them.
    """
    with attention_by_hand(base_model):
        found = base_model(
            inputs_embeds=embeddings, output_attentions=True, use_cache=False
        ).attentions
    if not found or any(weights is None or weights.ndim != 4 for weights in found):
        raise ValueError(f"{type(base_model).__name__} does not show its attention weights.")
    return list(found)
