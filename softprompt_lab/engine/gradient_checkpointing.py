"""Gradient checkpointing of a base model that stays in eval mode.

transformers' layers compute their activations again in training mode only, where their dropout acts too. Here a layer
is called as in training and computes as in evaluation.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

# The layers of each base model: a walk through a small one's modules takes as long as a layer's pass.
_layers: WeakKeyDictionary[nn.Module, list[ref]] = WeakKeyDictionary()


@contextmanager
def gradient_checkpointing(base_model: nn.Module) -> Iterator[None]:
    """Let the layers for which checkpointing is enabled keep nothing for a backward pass, and compute it again there.

    Nothing changes where no gradient is computed: checkpointing layers forget their cache.
    """
    enabled = checkpointed_layers(base_model) if torch.is_grad_enabled() else []
    layers = [layer for layer in enabled if not layer.training]
    functions = [layer._gradient_checkpointing_func for layer in layers]
    try:
        for layer, function in zip(layers, functions, strict=True):
            layer.training = True
            layer._gradient_checkpointing_func = partial(_in_eval_mode, layer, function)
        yield
    finally:
        for layer, function in zip(layers, functions, strict=True):
            layer.training = False
            layer._gradient_checkpointing_func = function


def checkpointed_layers(base_model: nn.Module) -> list[nn.Module]:
    """Return the layers for which gradient checkpointing is enabled."""
    if base_model not in _layers:
        parts = base_model.modules()
        _layers[base_model] = [ref(x) for x in parts if isinstance(x, GradientCheckpointingLayer)]
    layers = (found() for found in _layers[base_model])
    return [layer for layer in layers if layer is not None and layer.gradient_checkpointing]


def _in_eval_mode(layer: nn.Module, checkpoint: Callable, function: Callable, *args: Any) -> Any:
    """Return torch's `checkpoint` of a layer's forward pass without its dropout."""

    def compute(*args: Any) -> Any:
        before, layer.training = layer.training, False
        try:
            return function(*args)
        finally:
            layer.training = before

    return checkpoint(compute, *args)
