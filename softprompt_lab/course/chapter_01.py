"""Exercises of chapter 01: the score of a label, luck, a wording of one's own, a report that flatters."""

from types import SimpleNamespace

import torch

from .cases import normal, numbers_in
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

    Turn logits into log-probabilities with `logits.log_softmax(-1)`. Add up, do not average.

    The scores that predict the token at position i stand at position i - 1. So the first label token, at position
    `context_length`, is predicted at `context_length - 1`.

    With `log_p = logits.log_softmax(-1)`, the first token's share of the sum is `log_p[context_length - 1,
    label_ids[0]].item()`, the second's `log_p[context_length, label_ids[1]].item()`, and so on.
    """
    return at_the_label(logits.log_softmax(-1), context_length, label_ids).sum().item()


@exercise("01-2", tolerance=0.02)
def best_of_ten():
    """Return a number, the share of 20 tweets that the best of ten coins gets right on average.

    One coin gets 10 of 20 right on average, but it often gets 12 or 13. You take the highest of ten such counts.

    `np.random.default_rng(0).binomial(20, 0.5, size=(2000, 10))` is the count of ten coins, 2,000 times. Take the
    maximum along axis 1, the mean, and divide by 20.
    """
    return 0.67


BEST_OF_TEN = 0.872  # of the validation tweets: notebooks/tables/tweets.csv


def wording_measured(accuracy=0.84, n=250, low=0.79, high=0.88, **parts):
    """Return an answer to 01-3, with some of its parts exchanged."""
    found = SimpleNamespace(accuracy=accuracy, n=n, confidence_interval=(low, high))
    sentence = f"My wording gets {accuracy:.1%} of {n} tweets right."
    return {"wording": "{text} Mood: ", "evaluation": found, "sentence": sentence} | parts


def says(found, *values):
    """Tell whether a sentence holds a number that is nearly one of some values."""
    numbers = numbers_in(found["sentence"])
    return any(abs(number - value) <= 0.51 for number in numbers for value in values)


@exercise("01-3", measure=lambda result: 0)
def own_wording():
    """Return a dict: "wording", the "evaluation" that `evaluate` returned, and a "sentence".

    A short form that ends where the label would stand did better in this chapter than a long explanation.

    `found = evaluate(base_model, task.with_template(wording), "validation", tokenizer=tokenizer)`, then
    `{"wording": wording, "evaluation": found, "sentence": "..."}`; `found.accuracy`, `found.n` and
    `found.confidence_interval` are the numbers for the sentence.
    """
    return wording_measured()


LUCKY = torch.tensor(
    [[1, 1, 1, 0, 0, 1, 0, 0], [1, 0, 1, 1, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1, 0.0]]
)


@exercise(
    "01-4", cases=[(LUCKY, 3), (LUCKY.flip(0), 3)], measure=lambda result, right, few: result[1]
)
def report(right, few):
    """Return two things: the letter of the fault, and the accuracy of the winner on the rows from `few` on.

    Say for each line which rows it looks at. The rows that are reported may have no part in the choice.

    Choose on `right[:, :few]`, report on `right[winner, few:]`.
    """
    winner = right[:, :few].mean(dim=1).argmax()
    return "B", right[winner, few:].mean().item()
