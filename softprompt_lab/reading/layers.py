"""What a base model computes on the way: its states by layer, its last two steps, its attention.

Nothing is listed by name. The final norm is the module behind the layers whose output is the last hidden state of a
call of three tokens, and what does not give the model's own logits again is refused with a ValueError.
"""

from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import nn
from transformers import DynamicCache

from ..engine.locks import lock

TOKENS = 3  # of the call that is watched
TOLERANCE = 1e-5  # of the logits, relative to the largest


class Unembedding(NamedTuple):
    """The way from the last layer's output to the logits: the final norm, then the output words."""

    norm: nn.Module
    words: nn.Module

    def __call__(self, states: Float[torch.Tensor, "*B N D"]) -> Float[torch.Tensor, "*B N V"]:
        """The logits of hidden states, in float32."""
        return self.words(self.norm(states)).float()


@torch.no_grad()
def unembedding(base_model: nn.Module) -> Unembedding:
    """Return the final norm and the unembedding of a base model.

    Raises:
        ValueError: no module behind the layers gives the last hidden state, or the output words do not make the model's
            own logits of it to 1e-5 (a model that caps, scales or projects them).
    """
    stacks = [module for module in base_model.modules() if isinstance(module, nn.ModuleList)]
    within = {part for stack in stacks for part in stack.modules()}  # the layers and their parts
    given: list[tuple[nn.Module, Any]] = []
    embeddings = base_model.get_input_embeddings().weight[None, -TOKENS:]
    with lock(base_model), ExitStack() as hooks:
        for module in set(base_model.modules()) - within:
            hook = module.register_forward_hook(lambda module, _, out: given.append((module, out)))
            hooks.enter_context(hook)
        output = base_model(inputs_embeds=embeddings, output_hidden_states=True, use_cache=False)
    state, logits, name = output.hidden_states[-1], output.logits.float(), type(base_model).__name__
    tensors = [(module, out) for module, out in given if isinstance(out, torch.Tensor)]
    norm = next((module for module, out in tensors if torch.equal(out, state)), None)
    if norm is None:
        raise ValueError(f"the final norm of {name} was not found: no module gives its last state.")
    words = base_model.get_output_embeddings()
    error = float((words(state).float() - logits).abs().max())
    if error > TOLERANCE * max(1.0, float(logits.abs().max())):
        raise ValueError(
            f"the last state through the output words differs from the logits of {name} by {error:.1g}: the model does "
            "more to them (a cap, a scale), and a lens would not show its predictions."
        )
    return Unembedding(norm, words)


@torch.no_grad()
def states_of(
    base_model: nn.Module, norm: nn.Module, embeddings: Float[torch.Tensor, "B N D"]
) -> list[Float[torch.Tensor, "B N D"]]:
    """The L + 1 hidden states: what each layer reads, and the last one's output *before* the final norm."""
    kept: list[torch.Tensor] = []
    hook = norm.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    with lock(base_model), hook:
        states = base_model(
            inputs_embeds=embeddings, output_hidden_states=True, use_cache=False
        ).hidden_states
    return [*states[:-1], *kept]


@torch.no_grad()
def attention_of(
    base_model: nn.Module, embeddings: Float[torch.Tensor, "B N D"]
) -> list[tuple[Float[torch.Tensor, "B H N N"], Float[torch.Tensor, "B H N d"]]]:
    """Return each layer's attention weights and the values that they average.

    How much each place (row) looks at each place (column) is shown where attention is computed step by step ("eager");
    the values are those that the model keeps in its cache, one for each head.

    Raises:
        ValueError: the base model does not show its weights.
    """
    config, cache = base_model.config.get_text_config(decoder=True), DynamicCache()
    with lock(base_model):
        before = config._attn_implementation
        config._attn_implementation = "eager"
        try:
            found = base_model(
                inputs_embeds=embeddings, output_attentions=True, past_key_values=cache
            ).attentions
        finally:
            config._attn_implementation = before
    if not found or any(weights is None or weights.ndim != 4 for weights in found):
        raise ValueError(f"{type(base_model).__name__} does not show its attention weights.")
    return [
        (weights, kept.values.repeat_interleave(weights.shape[1] // kept.values.shape[1], dim=1))
        for weights, kept in zip(found, cache.layers, strict=True)
    ]
