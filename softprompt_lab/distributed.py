"""More than one process: each computes a share of every batch, and the prompts' gradients are summed.

Under `accelerate launch` or `torchrun` the processes find each other; alone, nothing here does anything. Only prompts
are exchanged, a few thousand numbers, so no wrapper stands around the model.
"""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

import torch

from .errors import LabError

Row = TypeVar("Row")


@cache
def _state() -> Any:
    """Accelerate's knowledge of the processes, or None where there is one."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched == 1:
        return None
    from accelerate import PartialState

    state = PartialState(
        cpu=not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU") == "true"
    )
    if state.num_processes != launched:
        raise LabError(
            f"{launched} processes were launched and Accelerate joined {state.num_processes}: each would train on a "
            "part of the rows alone. Start them with `accelerate launch` or `torchrun`."
        )
    return state


def processes() -> tuple[int, int]:
    """This process's number and how many there are."""
    state = _state()
    return (0, 1) if state is None else (state.process_index, state.num_processes)


def is_main() -> bool:
    """True in the one process that prints and writes."""
    return processes()[0] == 0


def own_device() -> torch.device | None:
    """The device that the launcher gave this process; None where there is no launcher."""
    state = _state()
    return None if state is None else state.device


def share(rows: Sequence[Row]) -> list[Row]:
    """The rows of a batch that this process computes."""
    rank, world = processes()
    return list(rows[rank::world])


def sum_over_processes(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The sum of each tensor over all processes, the same in every one of them."""
    if _state() is None:
        return list(tensors)
    from accelerate.utils import reduce

    return [reduce(tensor, reduction="sum") for tensor in tensors]


def from_main(value: Any) -> Any:
    """The main process's value, in every process: whatever is measured or drawn must be the same everywhere."""
    if _state() is None:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]
