"""Exercises of chapter 01: the score of a label, luck, a wording of one's own, a report that flatters."""

import re
from types import SimpleNamespace

import torch

from .cases import normal, numbers_in, says  # noqa: F401  the table uses some
from .checks import exercise


def at_the_label(scores, context_length, label_ids):
    """Return the scores of the label's tokens, each read one position before it."""
    return scores[torch.arange(len(label_ids)) + context_length - 1, label_ids]


CASES = [(2 * normal(2 * n + 1, 8, seed=n), n + 1, [4, 0, 6][:n]) for n in (1, 2, 3)]


@exercise("01-1", cases=CASES)
def label_score(logits, context_length, label_ids):
    """Return a float, the sum of the label tokens' log-probabilities.

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


def wording_measured(mine=15, best=23, n=250, **parts):
    """Return an answer to 01-3: two wordings, and on how many rows only one of them is right."""
    rows = torch.arange(n)
    right = {"evaluation": rows < 0.84 * n, "best": (rows >= mine) & (rows < 0.84 * n + best)}
    run = {k: SimpleNamespace(accuracy=0.84, n=n, predictions={"correct": right[k]}) for k in right}
    said = f"84 % of {n} tweets; on {mine} only mine is right, on {best} only the best of the ten."
    return {"wording": "{text} Mood: ", "sentence": said} | run | parts


def only(found):
    """Return on how many rows only the reader's wording is right, and on how many only the best of the ten."""
    mine, best = (found[key].predictions["correct"] for key in ("evaluation", "best"))
    return int((mine > best).sum()), int((mine < best).sum())


def too_bold(sentence, mine, best):
    """Tell whether a sentence says "better" or "worse" where the counts do not, "no better" and the like aside."""
    claims = re.sub(r"\b(no|not|nor|or|neither) (better|worse)", "", sentence.lower())
    lead = (mine - best) / (mine + best or 1) ** 0.5
    return ("better" in claims and lead <= 2) or ("worse" in claims and lead >= -2)


MEASURED = wording_measured()


@exercise("01-3", measure=lambda result: 0)
def own_wording():
    """Return a dict: "wording", the "evaluation" of it, that of the "best" of the ten, and a "sentence".

    The two best of the ten end in `Sentiment: ` and `Mood: `.

    `found = evaluate(base_model, task.with_template(wording), "validation", tokenizer=tokenizer)`, and `best` likewise
    with `"Tweet: {text}\\nSentiment: "`. With `x, y = found.predictions["correct"], best.predictions["correct"]`, only
    yours is right on `(x & ~y).sum()`.
    """
    return MEASURED


LUCKY = (normal(4, 8, seed=89) > 0).float()  # three winners: of three rows, of the rest, of all


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
