"""What a base model takes, found out by asking it once and comparing numbers, never from a list of names."""

import logging
import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn

from ..embedding import OBJECTIONS, asked_once
from .gradient_checkpointing import checkpointed_layers

logger = logging.getLogger(__name__)


def remembered(find: Callable[..., Any]) -> Callable[..., Any]:
    """Ask a question about a base model once for each type, device, attention and checkpointing that it has."""
    asked = asked_once(lambda base_model, key, *arguments: find(base_model, *arguments))

    @wraps(find)
    def answer(base_model: nn.Module, *arguments: Any) -> Any:
        words = base_model.get_input_embeddings().weight
        attention = getattr(base_model.config, "_attn_implementation", None)
        recomputes = any(layer.training for layer in checkpointed_layers(base_model))
        return asked(base_model, (words.dtype, words.device, attention, recomputes), *arguments)

    return answer


def attention_window(base_model: nn.Module) -> float:
    """Return how far a token sees in the layer where it sees least; packing and prefixes are exact within it."""
    shape = base_model.config.get_text_config(decoder=True)
    windows = (getattr(shape, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((float(window) for window in windows if window), default=math.inf)


def tried(base_model: nn.Module, call: Callable[[], Any]) -> Any:
    """Return what a call of the base model gives, None where its architecture objects; the plain way remains."""
    try:
        return call()
    except torch.OutOfMemoryError:
        raise
    except OBJECTIONS as error:
        logger.info("%s objects: %r", type(base_model).__name__, error)
        return None
