"""Checkpoints: one file with everything that a training run needs to go on as if it had never stopped.

The order of the rows follows from the seed, so the number of steps stands for the sampler; nothing else in a step is
random. torch writes the file and reads it with `weights_only`, so nothing in it runs. The values are JSON in it: what
could not be read back is refused when it is saved.
"""

import io
import json
from pathlib import Path
from typing import Any

import torch

from ..durable import atomic_write
from ..errors import AdapterError
from ..untrusted import plain_file

CHECKPOINT_NAME = "checkpoint.pt"
MAX_BYTES = 8_000_000_000
State = tuple[dict[str, Any], dict[str, Any]]  # tensors and JSON values, by name


def save_checkpoint(path: Path, state: State) -> None:
    """Replace the checkpoint in one move.

    Raises:
        AdapterError: it cannot be written; the one before is unharmed.
    """
    tensors, values = state
    content = io.BytesIO()
    torch.save((tensors, json.dumps(values)), content)
    try:
        atomic_write(path, content.getvalue())
    except OSError as error:
        raise AdapterError(
            f"{path} cannot be written: {error}. The checkpoint before it is unharmed."
        ) from error


def load_checkpoint(path: Path) -> State:
    """Return what `save_checkpoint` wrote of a run, on the CPU; its values name the "step".

    Raises:
        AdapterError: there is none, or it is damaged.
    """
    plain_file(path, MAX_BYTES)
    try:
        tensors, text = torch.load(path, map_location="cpu", weights_only=True)
        values = json.loads(text)
        if type(values["step"]) is not int or values["step"] < 0:
            raise ValueError(f"step={values['step']!r}")
    except Exception as error:  # torch has one of many for each kind of damage
        raise AdapterError(
            f"{path} is no checkpoint of this package or is damaged: {error!r}"
        ) from error
    return tensors, values


def flat(state: dict[str, Any], prefix: str) -> State:
    """Return an optimizer's state for one weight: tensors apart from plain numbers."""
    tensors = {
        f"{prefix}/{key}": value for key, value in state.items() if isinstance(value, torch.Tensor)
    }
    return tensors, {
        key: value for key, value in state.items() if not isinstance(value, torch.Tensor)
    }


def below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors below a prefix, by the rest of their names."""
    return {
        name.removeprefix(f"{prefix}/"): value
        for name, value in tensors.items()
        if name.startswith(f"{prefix}/")
    }
