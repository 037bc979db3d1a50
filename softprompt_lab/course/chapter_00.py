"""Exercises of chapter 00: one model, many jobs."""

import torch

from .cases import shares_in
from .checks import exercise


@exercise("00-1", measure=lambda letter: "ABC".find(str(letter).strip().upper()))
def reversed_prompt():
    """Return one letter as text, "A", "B" or "C".

    A prompt is read from left to right, like words. What becomes of an instruction read backwards?

    Training moved each vector at its own place. Nothing in it asked the four to work in another order.
    """
    return "C"


def commonest(labels):
    """Return the commonest of some labels."""
    return max(set(labels), key=labels.count)


@exercise(
    "00-2",
    cases=[
        (["no"] * 6 + ["yes"] * 4, ["no", "yes", "no", "no"]),
        (["yes"] * 6 + ["no"] * 4, ["no", "yes", "no", "no"]),
        (["a", "b", "b", "c"], ["c", "c", "c"]),
    ],
)
def majority_accuracy(train_labels, labels):
    """Return the accuracy, a share, of always answering the commonest training label.

    Find the one answer that is always given, then count how often it is right.

    `max(set(train_labels), key=train_labels.count)` is the commonest. Then `labels.count(answer)`, divided by their
    number.
    """
    return labels.count(commonest(train_labels)) / len(labels)


def wordings_of(answer):
    """Return the wordings that were measured, with their accuracies by rank."""
    shares = answer.get("accuracies", {}) if isinstance(answer, dict) else {}
    return {wording: share for wording, share in shares.items() if "{text}" in str(wording)}


def names_the_best(answer):
    """Tell whether the sentence names the best accuracy that was measured, to half a percentage point."""
    best = max(wordings_of(answer).values())
    named = shares_in(str(answer.get("sentence")).replace(",", "."))  # 81,5 % too
    return any(abs(number - best) < 0.0051 for number in named)


def enough_rows(answer, rows=200):
    """Tell whether every accuracy is a share of so many rows."""
    return all(
        abs(share * rows - round(share * rows)) < 1e-3 for share in wordings_of(answer).values()
    )


TRIED = {"Tweet: {text}\nSentiment: ": 0.875, "{text}\nI feel ": 0.72}  # for the tests of the check


def tried(sentence, accuracies=TRIED):
    """Return an answer to 00-3."""
    return {"accuracies": accuracies, "sentence": sentence}


@exercise(
    "00-3",
    measure=lambda answer: [
        len(wordings_of(answer)) >= 2 and enough_rows(answer),
        names_the_best(answer),
    ],
)
def own_wordings():
    """Return a dictionary: "accuracies", from each wording to its accuracy by rank, and "sentence".

    A wording ends where the model shall go on writing. Begin from the one of this chapter and change one thing: the
    question, the order, the last word.

    `accuracies = {wording: by_rank(wording) for wording in mine}`, and a sentence such as f"My best wording is right
    on {best:.1%} of 200 tweets, where the majority is ..."
    """
    return tried(
        "My best wording is right on 87.5 % of 200 tweets, and the majority baseline is 70 %."
    )


def survives(keep):
    """Tell whether what a function keeps of a prompt stays as it was when training moves the prompt in place."""
    prompt = torch.nn.Parameter(torch.arange(8.0).reshape(4, 2))
    kept = keep(prompt)
    with torch.no_grad():
        prompt.add_(1)
    return isinstance(kept, torch.Tensor) and torch.equal(
        kept.detach(), torch.arange(8.0).reshape(4, 2)
    )


def copied(prompt):
    """Return the numbers of a prompt as they are now."""
    return prompt.detach().clone()


@exercise(
    "00-4",
    measure=lambda answer: ["ABCD".find(str(answer[0]).strip().upper()), survives(answer[1])],
)
def not_a_copy():
    """Return two things: the letter of the fault, and the repaired function.

    After the run `start` equals the trained prompt in every number. When do two names hold the same numbers, whatever
    happens to one of them?

    `a.detach()` shares the numbers of `a`, and an optimizer moves them in place. `clone()` makes new ones.
    """
    return "B", copied
