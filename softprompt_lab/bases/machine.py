"""How fast this machine multiplies, measured once: it decides which type dtype="fastest" is."""

from functools import cache

import torch
from torch.utils.benchmark import Timer

SIDE = {"cpu": 512}  # of the matrices: large enough to reach the rate, small enough for 0.1 s
SIDE_ELSEWHERE = 4096
FASTER = 1.3  # how much faster bfloat16 must be before the base model is kept in it


@cache
def operations_per_second(device: str, dtype: torch.dtype) -> float:
    """Return the multiplications and additions per second of a matrix product on `device` ("cpu", "cuda:0", ...)."""
    side = SIDE.get(torch.device(device).type, SIDE_ELSEWHERE)
    a, b = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    timer = Timer("a @ b", globals={"a": a, "b": b}, num_threads=torch.get_num_threads())
    return 2 * side**3 / min(timer.blocked_autorange(min_run_time=0.05).times)


def fastest_dtype(device: str) -> torch.dtype:
    """Return bfloat16 where this machine multiplies it clearly faster than float32, float32 elsewhere."""
    float32, bfloat16 = (
        operations_per_second(device, dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    return torch.bfloat16 if bfloat16 > FASTER * float32 else torch.float32
