"""What this machine multiplies per second, measured once: the base of the choice of a type and of a way."""

import time
from functools import cache

import torch

SIDE = {
    "cpu": 512
}  # of the matrices: large enough to reach the rate, small enough for a hundredth of a second
SIDE_ELSEWHERE = 4096
SLOW_SECONDS = 0.1  # a type that takes longer for one product is emulated; there is no need to measure it again
FASTER = 1.3  # how much faster bfloat16 must be before the base model is kept in it


def side(device: str | torch.device) -> int:
    """Of matrices that reach the rate of a device."""
    return SIDE.get(torch.device(device).type, SIDE_ELSEWHERE)


@cache
def operations_per_second(device: str, dtype: torch.dtype) -> float:
    """Multiplications and additions of a matrix product on `device` ("cpu", "cuda:0", ...), the best of a few runs."""
    length = side(device)
    a, b = (torch.ones(length, length, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for attempt in range(6):
        _wait(device)
        began = time.perf_counter()
        a @ b
        _wait(device)
        seconds = time.perf_counter() - began
        if attempt or seconds > SLOW_SECONDS:  # the first one starts libraries
            best = min(best, seconds)
        if attempt and best > SLOW_SECONDS:
            break
    return 2 * length**3 / best


def _wait(device: str) -> None:
    """An accelerator's call returns before its work is done."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind != "cpu":
        getattr(torch, kind).synchronize()


def fastest_dtype(device: str) -> torch.dtype:
    """bfloat16 where this machine multiplies it clearly faster than float32, float32 elsewhere."""
    rates = {
        dtype: operations_per_second(device, dtype) for dtype in (torch.float32, torch.bfloat16)
    }
    return (
        torch.bfloat16 if rates[torch.bfloat16] > FASTER * rates[torch.float32] else torch.float32
    )
