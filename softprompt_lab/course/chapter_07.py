"""Exercises of chapter 07: nearest tokens."""

import math

import torch
from torch.nn.functional import normalize

from .cases import normal
from .checks import exercise


@exercise(
    "07-1", cases=[(normal(5, 6, seed=1), normal(40, 6) * torch.linspace(0.2, 8, 40)[:, None], 3)]
)
def nearest_ids(prompt, words, k):
    """Return the ids (P, k) of the words with the greatest cosines.

    Make both sides length 1 with `functional.normalize(x, dim=-1)`; then `prompt @ words.T` is (P, V) and
    holds every cosine. `.topk(k, dim=-1).indices` are the ids, greatest first.
    """
    return (normalize(prompt, dim=-1) @ normalize(words, dim=-1).T).topk(k).indices


def random_directions(start, generator):
    """Return random vectors of length 1 in the shape of `start`."""
    return normalize(torch.randn(start.shape, generator=generator), dim=-1)


START = normal(6, 300)
END = START + normal(6, 300, seed=1) * torch.linspace(0.01, 2, 6)[:, None]


@exercise(
    "07-2",
    cases=[(START, END, torch.Generator().manual_seed(2))],
    measure=lambda result, start, end, generator: (result - start).norm(dim=-1),
)
def random_step_control(start, end, generator):
    """Return a tensor of the start's shape: the start after a random step, row by row as long as the real one.

    Draw (P, D) normal numbers, divide each row by its own length (`functional.normalize(x, dim=-1)`), then
    multiply it by `(end - start).norm(dim=-1, keepdim=True)`, and add the start.
    """
    return start + random_directions(start, generator) * (end - start).norm(dim=-1, keepdim=True)


@exercise("07-3", cases=[(3.0, 2.5, 0.2), (0.8, 0.9, -0.3), (12.0, 10.0, 0.7)])
def distance_from_cosine(a, b, c):
    """Return the measured distance of two vectors of lengths a and b whose cosine is c.

    The squared distance is the dot product of (p - w) with itself. Multiply it out: p.p - 2 p.w + w.w. Here
    p.p is a squared, w.w is b squared, and p.w is a b c.
    """
    return math.dist((a, 0), (b * c, b * math.sqrt(1 - c**2)))


@exercise("07-4", cases=[(3.0, 4.0), (1.0, 1.0), (3.0, 0.5)])
def cosine_after_step(word_length, step_length):
    """Return the cosine of a word and itself after a step at right angles: |w| / sqrt(|w|^2 + s^2).

    The new place is w + s. Its dot product with w is w.w + s.w, and s.w is 0 at right angles. Its length
    follows from Pythagoras. The cosine is the dot product divided by both lengths.
    """
    return word_length / math.hypot(word_length, step_length)
