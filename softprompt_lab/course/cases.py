"""What the exercises of several chapters share: random cases, and the numbers that a sentence names."""

import re
from typing import Any

import torch


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return random normal numbers of a shape, the same at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def numbers_in(sentence: Any) -> list[float]:
    """Return the numbers that stand in a sentence."""
    return [float(text) for text in re.findall(r"\d+(?:\.\d+)?", str(sentence))]


def says(found: dict[str, Any], value: float) -> bool:
    """Tell whether the sentence of an answer holds a share, as a fraction or in per cent, to within half a point."""
    numbers = numbers_in(found["sentence"])
    return any(abs(number / scale - value) < 0.0051 for number in numbers for scale in (1, 100))


def shares_in(sentence: Any) -> list[float]:
    """Return the numbers in a sentence as shares: 81 and 0.81 alike."""
    return [number / 100 if number > 1 else number for number in numbers_in(sentence)]
