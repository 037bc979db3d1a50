"""Checkpoints: one file with everything that a training run needs to go on as if it had never stopped.

A safetensors file: prompts, what the optimizer remembers and the snapshots as tensors, the rest as JSON in its
metadata. The order of the rows follows from the seed, so the number of steps stands for the sampler; nothing else in a
step is random. No pickle is written or read.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..durable import atomic_write
from ..errors import AdapterError
from ..untrusted import plain_file

CHECKPOINT_NAME = "checkpoint.safetensors"
MAX_BYTES = 8_000_000_000
State = tuple[dict[str, torch.Tensor], dict[str, Any]]  # tensors and JSON values, by name


def save_checkpoint(path: Path, state: State) -> None:
    """Replace the checkpoint in one move.

    Raises:
        AdapterError: it cannot be written; the one before is unharmed.
    """
    tensors, values = state
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        atomic_write(path, save(plain, metadata={"format": "pt", "values": json.dumps(values)}))
    except OSError as error:
        raise AdapterError(
            f"{path} cannot be written: {error}. The checkpoint before it is unharmed."
        ) from error


def load_checkpoint(path: Path) -> State:
    """What `save_checkpoint` wrote of a run: its values name the "step".

    Raises:
        AdapterError: there is none, or it is damaged.
    """
    content = plain_file(path, MAX_BYTES).read_bytes()
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        values = json.loads(header["__metadata__"]["values"])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdapterError(
            f"{path} is no checkpoint of this package or is damaged: {error!r}"
        ) from error
    step = values.get("step") if isinstance(values, dict) else None
    if type(step) is not int or step < 0:
        raise AdapterError(f"{path} is no checkpoint of this package or is damaged: step={step!r}")
    return tensors, values


def flat(state: dict[str, Any], prefix: str) -> State:
    """An optimizer's state for one weight: tensors apart from plain numbers."""
    tensors = {
        f"{prefix}/{key}": value for key, value in state.items() if isinstance(value, torch.Tensor)
    }
    return tensors, {
        key: value for key, value in state.items() if not isinstance(value, torch.Tensor)
    }


def below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors below a prefix, by the rest of their names."""
    return {
        name.removeprefix(f"{prefix}/"): value
        for name, value in tensors.items()
        if name.startswith(f"{prefix}/")
    }
