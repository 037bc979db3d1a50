"""Gradient checkpointing of a base model that stays in eval mode.

transformers' layers recompute their activations in training mode only, where their dropout acts too. Here a layer is
called as in training and computes as in evaluation.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


@contextmanager
def gradient_checkpointing(base_model: nn.Module) -> Iterator[None]:
    """Let the layers for which checkpointing is enabled keep nothing for a backward pass, and compute it again there.

    Nothing changes where no gradient is asked for: checkpointing layers forget their cache.
    """
    layers = [
        layer
        for layer in checkpointed_layers(base_model)
        if not layer.training and torch.is_grad_enabled()
    ]
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


def with_gradient_checkpointing(forward: Callable) -> Callable:
    """A `forward` whose `base_model` is `recomputing`."""

    @wraps(forward)
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with gradient_checkpointing(self.base_model):
            return forward(self, *args, **kwargs)

    return call


_layers: WeakKeyDictionary[nn.Module, list[ref]] = (
    WeakKeyDictionary()
)  # found once: a walk takes half a millisecond


def checkpointed_layers(base_model: nn.Module) -> list[nn.Module]:
    """The layers that recompute in training mode."""
    if base_model not in _layers:
        layers = [
            part for part in base_model.modules() if isinstance(part, GradientCheckpointingLayer)
        ]
        _layers[base_model] = [ref(layer) for layer in layers]
    known = (found() for found in _layers[base_model])
    return [layer for layer in known if layer is not None and layer.gradient_checkpointing]


def _in_eval_mode(layer: nn.Module, checkpoint: Callable, function: Callable, *args: Any) -> Any:
    """torch's `checkpoint` of a layer's forward pass without its dropout."""

    def compute(*args: Any) -> Any:
        before, layer.training = layer.training, False
        try:
            return function(*args)
        finally:
            layer.training = before

    return checkpoint(compute, *args)
