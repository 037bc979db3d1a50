"""Exercises of chapter 03: fitting a text to P rows, the scale of a random start, the gradient of a lookup."""

import torch
from torch.nn.functional import embedding

from .checks import exercise, normal

# --- 03-1 ---


def repeated(ids, rows):
    """Row r holds token r modulo n: that repeats, as PEFT does; the text is to be stretched."""
    return [ids[row % len(ids)] for row in range(rows)]


def trimmed(ids, rows):
    """That trims the end off; a text that is too long is to be thinned out evenly."""
    return ids[:rows]


def last_token_repeated(ids, rows):
    """That repeats the last token; row r must hold token r * n // rows."""
    return [ids[min(row, len(ids) - 1)] for row in range(rows)]


@exercise(
    "03-1",
    cases=[
        (list(range(50, 50 + length)), rows)
        for length, rows in ((3, 7), (11, 20), (5, 5), (9, 4), (1, 6))
    ],
    wrong=[repeated, trimmed, last_token_repeated],
    returns="a list of ids",
    passed="Each token keeps its place in the text and no row holds half a repetition.",
)
def stretch(ids, rows):
    """Return the ids spread evenly over the rows.

    A list comprehension over the rows: `[ids[...] for r in range(rows)]`. The index grows from 0 to
    len(ids) - 1 while r grows from 0 to rows - 1: r * len(ids) // rows, with whole-number division.
    """
    return [ids[row * len(ids) // rows] for row in range(rows)]


# --- 03-2 ---


def mean_squared_length(vectors, *case):
    """Return the mean squared length of vectors."""
    return vectors.square().sum(dim=1).mean().item()


def unscaled(word_embeddings, rows, generator):
    """Their mean squared length is D: your rows are N(0, 1), without the scale."""
    return torch.randn(rows, word_embeddings.shape[1], generator=generator)


def not_divided_by_the_width(word_embeddings, rows, generator):
    """That is D times too long: divide the mean squared length by D before the root."""
    length = mean_squared_length(word_embeddings) ** 0.5
    return length * unscaled(word_embeddings, rows, generator)


def without_the_root(word_embeddings, rows, generator):
    """You multiplied by s squared: the numbers need the root."""
    variance = mean_squared_length(word_embeddings) / word_embeddings.shape[1]
    return variance * unscaled(word_embeddings, rows, generator)


def standard_deviation(word_embeddings, rows, generator):
    """You took the standard deviation of all numbers: it leaves the words' mean out."""
    return word_embeddings.std() * unscaled(word_embeddings, rows, generator)


def mean_length(word_embeddings, rows, generator):
    """You took the mean length and squared it: average the squared lengths."""
    length = word_embeddings.norm(dim=1).mean() / word_embeddings.shape[1] ** 0.5
    return length * unscaled(word_embeddings, rows, generator)


def rows_repeat(found, word_embeddings, rows, generator):
    """Your rows repeat, or the numbers in a row do: draw rows x D numbers, each of its own."""
    return min(found[:50].std(dim=0).min(), found[:50].std(dim=1).min()) < 0.1 * found.std()


@exercise(
    "03-2",
    cases=[
        (
            0.2 * normal(300, 64) * (1 + torch.arange(300)[:, None] / 100) + 0.1,
            2000,
            torch.Generator().manual_seed(1),
        )
    ],
    wrong=[unscaled, not_divided_by_the_width, without_the_root, standard_deviation, mean_length],
    faults=[rows_repeat],
    measure=mean_squared_length,
    tolerance=0.02,
    returns="a tensor (rows, D)",
    passed="s = sqrt(mean squared length / D): 0.56 here, where RANDOM has 1.",
)
def scaled_random_start(word_embeddings, rows, generator):
    """Return (rows, D) random vectors whose mean squared length is that of the words, (V, D).

    `word_embeddings.square().sum(dim=1)` are the squared lengths, (V,). Their mean shall equal D * s ** 2, so
    s = (mean / D) ** 0.5. Multiply N(0, 1) by s, not by s ** 2.
    """
    variance = mean_squared_length(word_embeddings) / word_embeddings.shape[1]
    return variance**0.5 * unscaled(word_embeddings, rows, generator)


# --- 03-3 ---


def mean_of_lookups(indices, g, rows):
    """You take the mean of the lookups of a row; gradients add up."""
    counts = torch.bincount(indices.flatten(), minlength=rows).clamp(min=1)
    return lookup_gradient(indices, g, rows) / counts[:, None]


def last_lookup_alone(indices, g, rows):
    """A row is looked up several times and your gradient holds one of them: an indexed assignment writes the
    same row again and again, the last one stays. Use index_add."""
    gradient = torch.zeros(rows, g.shape[-1])
    gradient[indices] = g
    return gradient


@exercise(
    "03-3",
    cases=[
        (torch.arange(4).expand(3, -1), normal(3, 4, 5), 6),
        (torch.tensor([[0, 2, 2, 0], [5, 2, 0, 2]]), normal(2, 4, 5), 6),
    ],
    wrong=[mean_of_lookups, last_lookup_alone],
    returns="a tensor (rows, D), where a row that is never looked up is zero",
    passed="Each virtual token collects the gradient of every place that looked it up.",
)
def lookup_gradient(indices, g, rows):
    """Return the gradient at the table, (rows, D), from the one at the looked-up vectors, (B, P, D).

    `torch.zeros(rows, D).index_add(0, indices.flatten(), g.flatten(0, 1))` adds row i of the flattened g to
    the row that index i names, as often as it is named.
    """
    table = torch.zeros(rows, g.shape[-1], requires_grad=True)
    return torch.autograd.grad(embedding(indices, table), table, g)[0]
