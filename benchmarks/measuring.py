"""What a step is measured on and beside: random rows, the least work that it can be, its peak of memory."""

import gc
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from softprompt_lab.bases import machine
from softprompt_lab.batch import Example, Target
from softprompt_lab.cli.speed import Pair
from softprompt_lab.engine.packing import unique_tokens

FLOOR = "matrix products alone"


def random_pairs(
    vocabulary: int, rows: int, length: int, seed: int = 0, label_length: int = 2
) -> list[Pair]:
    """Return contexts of `length` tokens on average, from half of it to one and a half, with labels of a few tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.linspace(0.5 * length, 1.5 * length, max(rows, 2)).round().int()[:rows].tolist()
    lengths = [length] if rows == 1 else lengths
    ids = [
        torch.randint(3, vocabulary, (n + label_length,), generator=generator).tolist()
        for n in lengths
    ]
    return [(row[:-label_length], row[-label_length:]) for row in ids]


def floor_operations(base_model: nn.Module, virtual_tokens: int, pairs: Sequence[Pair]) -> float:
    """Return the least work of a step: every weight of the layers times every unique token, forward and backward.

    The label's projection and attention come on top.
    """
    words, head = base_model.get_input_embeddings(), base_model.get_output_embeddings()
    outside = {id(part.weight): part.weight.numel() for part in (words, head) if part is not None}
    weights = sum(weight.numel() for weight in base_model.parameters()) - sum(outside.values())
    examples = [Example(context, [Target.of(label)]) for context, label in pairs]
    return 2 * 2 * weights * (virtual_tokens + unique_tokens(examples))


def matrix_products(base_model: nn.Module, operations: float) -> Callable[[], float]:
    """Return a function that does so much work as plain matrix products in the base model's type, on its device."""
    words = base_model.get_input_embeddings().weight
    side = machine.SIDE.get(words.device.type, machine.SIDE_ELSEWHERE)
    a, b = (torch.ones(side, side, dtype=words.dtype, device=words.device) for _ in range(2))
    times = max(1, round(operations / (2 * side**3)))

    def multiply() -> float:
        for _ in range(times):
            product = a @ b
        return product[0, 0].item()

    return multiply


def peak_memory(function: Callable[[], object], device: str = "cpu") -> int:
    """Return the bytes that a call needs above what is there before it. On a CPU: resident memory (Linux)."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _resident("VmRSS")
    function()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    """Return a line of this process's status, in bytes."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", text)[1])
