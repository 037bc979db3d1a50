"""Exercises of chapter 01: hard prompts."""

import math

import torch

from ..evaluation import wilson_interval
from .cases import COUNTS, Z, normal, wald  # noqa: F401  the table uses wald
from .checks import exercise


def at_the_label(scores, context_length, label_ids):
    """Return the scores of the label's tokens, each read one position before it."""
    return scores[torch.arange(len(label_ids)) + context_length - 1, label_ids]


@exercise(
    "01-1",
    cases=[
        (2 * normal(4, 8), 3, [4]),
        (2 * normal(4, 8, seed=1), 2, [1, 5]),
        (2 * normal(7, 8, seed=2), 4, [0, 2, 6]),
    ],
)
def label_score(logits, context_length, label_ids):
    """Return a number, the sum of the label tokens' log-probabilities.

    Turn logits into log-probabilities with `logits.log_softmax(-1)`. The scores that predict the token at
    place i stand at place i - 1, so the first label token, at place `context_length`, is predicted at
    `context_length - 1`. Add up, do not average.
    """
    return at_the_label(logits.log_softmax(-1), context_length, label_ids).sum().item()


@exercise("01-2", cases=COUNTS)
def interval(k, n):
    """Return two numbers, the 95 % Wilson interval of k successes in n trials, the lower end first.

    Work out p = k / n first, then the middle (p + z*z / (2*n)) / (1 + z*z / n), then the half width. Try
    k = 0: the interval must reach above 0, because ten failures in ten trials do not prove that success is
    impossible.
    """
    return wilson_interval(k, n)


SCORES = torch.tensor([[-2.0, -5.0], [-3.0, -4.0], [-2.5, -6.5], [-6.0, -9.0]])  # (N, K)
EMPTY = torch.tensor([-2.0, -4.5])  # the empty message prefers label 0 by 2.5


@exercise("01-3", cases=[(SCORES, EMPTY), (SCORES - 7, EMPTY)])
def calibrated_answers(scores, empty):
    """Return (N,), the index of each message's label after the empty message's scores are taken away.

    `scores - empty` takes the empty message's score of each label from every row: (N, K) minus (K,) works row
    by row. The answer of a row is the place of its largest number, `argmax` along dimension 1.
    """
    return (scores - empty).argmax(1).tolist()


@exercise("01-4", cases=[(0.1,), (0.05,), (0.02,)])
def rows_needed(h):
    """Return the fewest rows at which Wilson's half width at p = 1/2 is at most h.

    Put p = 1/2 into the half width: z/(1 + z*z/n) * sqrt(1/(4n) + z*z/(4n*n)). Take 1/(4n*n) out of the root:
    what remains is z / (2*sqrt(n + z*z)). Set that equal to h and solve for n, then round up.
    """
    return math.ceil(Z**2 / (4 * h**2) - Z**2)
