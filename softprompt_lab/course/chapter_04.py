"""Exercises of chapter 04: cutting the text and not the label, positions from the mask, Wilson's interval."""

import torch

from ..evaluation import wilson_interval
from .cases import COUNTS, wald  # noqa: F401  the table uses wald
from .checks import exercise

SHORT, LONG = [50, 51], list(range(50, 70))


def room(before, after, label, max_length):
    """Return how many ids of the text there is room for."""
    return max_length - len(before) - len(after) - len(label)


@exercise(
    "04-1",
    cases=[
        ([1, 2], text, [3, 4], [8, 9], 6 + left)
        for text, left in ((SHORT, 6), (SHORT, 2), (LONG, 6), (LONG, 1), (LONG, 0))
    ],
)
def cut(before, text, after, label, max_length):
    """Return two lists, context and label, together at most max_length ids, where the text alone is cut, at its end.

    Count first what may not be lost: len(before) + len(after) + len(label). What is left of max_length is the
    room for the text: text[:room]. Mind a room of 0.
    """
    return before + text[: room(before, after, label, max_length)] + after, label


MASK = torch.tensor([[0, 0, 0, 1, 1], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])


def real_positions(result, mask, P):
    """Return positions with those at pads, which may be any number, set to 0."""
    return result * torch.cat([mask.new_ones(len(mask), P), mask], dim=1)


@exercise("04-2", cases=[(MASK, 3), (MASK, 1)], measure=real_positions)
def positions(mask, P):
    """Return the positions (B, P+T) of virtual tokens and text from a mask (B, T), pads not counted.

    Put P ones in front of the mask: the virtual tokens count as text. `mask.cumsum(dim=1) - 1` counts the
    ones up to each place.
    """
    return torch.cat([mask.new_ones(len(mask), P), mask], dim=1).cumsum(dim=1) - 1


@exercise("04-3", cases=COUNTS)
def wilson(correct, n):
    """Return the two solutions p of |correct/n - p| = z sqrt(p (1-p) / n), z = 1.96, the lower first.

    Square both sides: (share - p)^2 = z^2 p (1 - p) / n. Order by powers of p:
    (1 + z^2/n) p^2 - (2 share + z^2/n) p + share^2 = 0. Its two solutions are the ends of the interval.
    """
    return wilson_interval(correct, n)
