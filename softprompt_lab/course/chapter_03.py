"""Exercises of chapter 03: fitting a text to P rows, the scale of a random start, the gradient of a lookup."""

import torch
from torch.nn.functional import embedding

from .cases import normal
from .checks import exercise

LENGTHS = ((3, 7), (11, 20), (5, 5), (9, 4), (1, 6))  # of a text and of a prompt


@exercise("03-1", cases=[(list(range(50, 50 + length)), rows) for length, rows in LENGTHS])
def stretch(ids, rows):
    """Return a list, the ids spread evenly over the rows.

    A list comprehension over the rows: `[ids[...] for r in range(rows)]`. The index grows from 0 to
    len(ids) - 1 while r grows from 0 to rows - 1: r * len(ids) // rows, with whole-number division.
    """
    return [ids[row * len(ids) // rows] for row in range(rows)]


def mean_squared_length(vectors, *case):
    """Return the mean squared length of vectors."""
    return vectors.square().sum(dim=1).mean().item()


def unscaled(word_embeddings, rows, generator):
    """Return rows x D numbers of N(0, 1)."""
    return torch.randn(rows, word_embeddings.shape[1], generator=generator)


WORDS = 0.2 * normal(300, 64) * (1 + torch.arange(300)[:, None] / 100) + 0.1  # (V, D)


@exercise(
    "03-2",
    cases=[(WORDS, 2000, torch.Generator().manual_seed(1))],
    measure=mean_squared_length,
    tolerance=0.02,
)
def scaled_random_start(word_embeddings, rows, generator):
    """Return (rows, D) random vectors whose mean squared length is that of the words, (V, D).

    `word_embeddings.square().sum(dim=1)` are the squared lengths, (V,). Their mean shall equal D * s ** 2, so
    s = (mean / D) ** 0.5. Multiply N(0, 1) by s, not by s ** 2.
    """
    return word_embeddings.square().mean() ** 0.5 * unscaled(word_embeddings, rows, generator)


@exercise(
    "03-3",
    cases=[
        (torch.arange(4).expand(3, -1), normal(3, 4, 5), 6),
        (torch.tensor([[0, 2, 2, 0], [5, 2, 0, 2]]), normal(2, 4, 5), 6),
    ],
)
def lookup_gradient(indices, g, rows):
    """Return the gradient at the table, (rows, D), from the one at the looked-up vectors, (B, P, D).

    `torch.zeros(rows, D).index_add(0, indices.flatten(), g.flatten(0, 1))` adds row i of the flattened g to
    the row that index i names, as often as it is named. A row that is never looked up stays zero.
    """
    table = torch.zeros(rows, g.shape[-1], requires_grad=True)
    return torch.autograd.grad(embedding(indices, table), table, g)[0]
