"""Exercises of chapter 01: hard prompts."""

import math

import torch

from ..evaluation import wilson_interval
from .checks import exercise, normal
from .intervals import WILSON, Z

# --- 01-1 ---


def at_the_label(scores, context_length, label_ids, shift=1):
    """Return the scores of the label's tokens, read `shift` positions before each of them."""
    positions = torch.arange(len(label_ids)) + context_length - shift
    return scores[positions, label_ids]


def logits_added(logits, context_length, label_ids):
    """That is a sum of logits; logits of two places have different zero points, take log_softmax first."""
    return at_the_label(logits, context_length, label_ids).sum().item()


def read_at_the_label(logits, context_length, label_ids):
    """You read the scores at the label's own place, which predict the token behind it; go one back."""
    return at_the_label(logits.log_softmax(-1), context_length, label_ids, shift=0).sum().item()


def mean_of_the_label(logits, context_length, label_ids):
    """That is the mean over the label's tokens; a label's probability is a product, so logs add up."""
    return at_the_label(logits.log_softmax(-1), context_length, label_ids).mean().item()


def first_token_alone(logits, context_length, label_ids):
    """That is the first token alone; a label of several tokens needs all of them."""
    return label_score(logits, context_length, label_ids[:1])


def probabilities_added(logits, context_length, label_ids):
    """That adds probabilities; a label's probability is their product, so add their logarithms."""
    return at_the_label(logits.softmax(-1), context_length, label_ids).sum().item()


def loss_of_the_label(logits, context_length, label_ids):
    """The sign is turned round: that is a loss. The higher a score, the likelier the label."""
    return -label_score(logits, context_length, label_ids)


@exercise(
    "01-1",
    cases=[
        (2 * normal(4, 8), 3, [4]),
        (2 * normal(4, 8, seed=1), 2, [1, 5]),
        (2 * normal(7, 8, seed=2), 4, [0, 2, 6]),
    ],
    wrong=[
        logits_added,
        read_at_the_label,
        mean_of_the_label,
        first_token_alone,
        probabilities_added,
        loss_of_the_label,
    ],
    returns="a number",
    passed="The score is the logarithm of p(first token) times p(second token, given the first), "
    "and so on.",
)
def label_score(logits, context_length, label_ids):
    """Return the sum of the label tokens' log-probabilities.

    Turn logits into log-probabilities with `logits.log_softmax(-1)`. The scores that predict the token at
    place i stand at place i - 1, so the first label token, at place `context_length`, is predicted at
    `context_length - 1`. Add up, do not average.
    """
    return at_the_label(logits.log_softmax(-1), context_length, label_ids).sum().item()


# --- 01-2 ---


@exercise(
    "01-2",
    passed="Even 0 right answers in 10 leave room for a true share of up to 0.28.",
    **WILSON,
)
def interval(k, n):
    """Return the 95 % Wilson interval of k successes in n trials.

    Work out p = k / n first, then the middle (p + z*z / (2*n)) / (1 + z*z / n), then the half width. Try
    k = 0: the interval must reach above 0, because ten failures in ten trials do not prove that success is
    impossible.
    """
    return wilson_interval(k, n)


# --- 01-3 ---


def uncalibrated(scores, empty):
    """That is what wins without calibration; the empty scores must be subtracted."""
    return scores.argmax(1).tolist()


def losing_label(scores, empty):
    """That is what loses; take the largest difference."""
    return (scores - empty).argmin(1).tolist()


def divided(scores, empty):
    """That is what dividing gives; scores are logarithms, so subtract."""
    return (scores / empty).argmax(1).tolist()


SCORES = torch.tensor([[-2.0, -5.0], [-3.0, -4.0], [-2.5, -6.5], [-6.0, -9.0]])  # (N, K)
EMPTY = torch.tensor([-2.0, -4.5])  # the empty message prefers label 0 by 2.5


@exercise(
    "01-3",
    cases=[(SCORES, EMPTY), (SCORES - 7, EMPTY)],
    wrong=[uncalibrated, losing_label, divided],
    returns="one index for each message, (4,)",
    passed="What the model says when it has nothing to go by is taken away from what it says of a "
    "message.",
)
def calibrated_answers(scores, empty):
    """Return the index of each message's label after the empty message's scores are taken away.

    `scores - empty` takes the empty message's score of each label from every row: (N, K) minus (K,) works row
    by row. The answer of a row is the place of its largest number, `argmax` along dimension 1.
    """
    return (scores - empty).argmax(1).tolist()


# --- 01-4 ---


def rows_of_the_simple_interval(h):
    """That solves the simple interval; the one of 01-2 is a little narrower."""
    return math.ceil(Z**2 / (4 * h**2))


def rounded_down(h):
    """Rounded down, the interval is a little wider than h."""
    return rows_needed(h) - 1


def h_as_the_whole_width(h):
    """You took h for the whole width; it is the half on either side."""
    return rows_needed(2 * h)


def part_of_a_row(found, h):
    """Rows are whole. Round up."""
    return found % 1 != 0


@exercise(
    "01-4",
    cases=[(0.1,), (0.05,), (0.02,)],
    wrong=[rows_of_the_simple_interval, rounded_down, h_as_the_whole_width],
    faults=[part_of_a_row],
    returns="a number of rows",
    passed="Half the width needs four times the rows: 93 for 0.1, 381 for 0.05.",
)
def rows_needed(h):
    """Return the fewest rows at which Wilson's half width at p = 1/2 is at most h.

    Put p = 1/2 into the half width: z/(1 + z*z/n) * sqrt(1/(4n) + z*z/(4n*n)). Take 1/(4n*n) out of the root:
    what remains is z / (2*sqrt(n + z*z)). Set that equal to h and solve for n, then round up.
    """
    return math.ceil(Z**2 / (4 * h**2) - Z**2)
