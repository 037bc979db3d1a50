"""What the exercises of several chapters share: random cases, and Wald's interval beside Wilson's."""

import re
from typing import Any

import torch

Z = 1.959964  # 95 % of a normal distribution lies within so many standard deviations
COUNTS = [(0, 10), (72, 150), (120, 150), (400, 400), (43, 50), (10, 10)]  # right answers, rows


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return random normal numbers of a shape, the same at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def wald(k: int, n: int) -> tuple[float, float]:
    """Return the share k / n plus and minus z standard errors."""
    half = Z * (k / n * (1 - k / n) / n) ** 0.5
    return k / n - half, k / n + half


def says(found: dict[str, Any], value: float) -> bool:
    """Tell whether the sentence of an answer holds a share, as a fraction or in per cent, to within half a point."""
    numbers = [float(text) for text in re.findall(r"\d+(?:\.\d+)?", found["sentence"])]
    return any(abs(number / scale - value) < 0.0051 for number in numbers for scale in (1, 100))
