"""Exercises of chapter 05: three patients, each a letter and a repaired function; seeds; a contaminated test set."""

import re
from types import SimpleNamespace
from typing import Any

from .checks import exercise
from .comparison import plain

SHORT, LONG = [50, 51], list(range(50, 70))
ROWS = [
    ([1, 2], text, [3, 4], [8, 9], 6 + left)
    for text, left in ((SHORT, 6), (SHORT, 2), (LONG, 6), (LONG, 1), (LONG, 0))
]
TEMPLATES = [
    ("{text} -> ", "walk", "walked"),
    ("Q: {text}\nA:\n", "2?", "3"),
    ("<{text}>", "a", "b"),
]


class Vocabulary(SimpleNamespace):
    """A tokenizer of letters."""

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [100 + ord(letter) for letter in text]}


TOKENIZERS = [
    (Vocabulary(eos_token_id=end, pad_token_id=pad), "yes") for end, pad in ((2, 3), (0, 1))
]


def judged(found: Any) -> bool:
    """Return True: the faults of the table judge the answer."""
    return True


def room(before, after, label, max_length):
    """Return how many ids of the text there is room for."""
    return max(0, max_length - len(before) - len(after) - len(label))


def cut(before, text, after, label, max_length):
    """Return context and label, at most max_length ids, of which the text alone is cut."""
    return before + text[: room(before, after, label, max_length)] + after, label


def cut_the_end(before, text, after, label, max_length):
    """Return the row cut at its end, as patient 6 has it."""
    context = before + text + after
    return context[:max_length], label[: max(0, max_length - len(context))]


def split(template, text, answer):
    """Return the question without white space at its end, and the answer behind it."""
    stripped = template.rstrip()
    return stripped.replace("{text}", text), template[len(stripped) :] + answer


def target(tokenizer, label):
    """Return the ids of the label with the end token, and the end token."""
    return [*tokenizer(label)["input_ids"], tokenizer.eos_token_id], tokenizer.eos_token_id


def results(found: Any, cases: list[tuple]) -> list:
    """Return what the function of an answer, a letter and a function, gives on each case."""
    return plain([found[1](*case) for case in cases])


@exercise("05-1", measure=judged)
def patient_6():
    """Return a letter and a function that cuts the text and not the label.

    Which row of the first bad batch is the longest, and what is left of its label at 40 tokens? See `cut_batches`.

    Count first what may not be lost: the template and the label.

    room = max(0, max_length - len(before) - len(after) - len(label)), and the text keeps its first ids: text[:room].
    """
    return "b", cut


@exercise("05-2", measure=judged)
def patient_7():
    """Return a letter and a function that gives two strings, the question and the answer.

    Put the two templates below each other and count their characters.

    In training the answer's first token was " walked", with its space.

    stripped = template.rstrip(); what it took away, template[len(stripped):], stands in front of the answer.
    """
    return "c", split


@exercise("05-3", measure=judged)
def patient_8():
    """Return a letter and a function that gives the target's ids and the id at which generation stops.

    Which token did the training targets of these prompts end with, and which does `write` wait for?

    Every tokenizer knows its own: tokenizer.eos_token_id. It stands behind the label's ids, and it is the
    second result.
    """
    return "a", target


def numbers(sentence: str) -> list[float]:
    """Return the numbers of a sentence as fractions, those with a per cent sign divided by 100."""
    found = re.findall(r"(\d+(?:\.\d+)?)\s*(%|per ?cent)?", sentence)
    return [float(number) / (100 if sign else 1) for number, sign in found]


def says(sentence: str, value: float) -> bool:
    """Tell whether a sentence names a fraction, to the nearest per cent."""
    return any(abs(number - value) <= 0.0051 for number in numbers(sentence))


RUNS = {0: 0.995, 1: 0.51, 2: 0.98, 3: 0.505}


@exercise("05-4", measure=judged)
def lottery():
    """Return a dictionary: "accuracies", one by seed, and "sentence", which names the lowest and the highest.

    `accuracy(seed, steps)` trains and measures one run; a dictionary comprehension over range(4) gives four.

    The sentence needs min(accuracies.values()) and max(accuracies.values()), as 51 % or 0.51.
    """
    return {
        "accuracies": RUNS,
        "sentence": "Of four seeds two stay at 50.5 % or little more, one reaches 99.5 %.",
    }


@exercise("05-5", tolerance=0.001)
def contaminated():
    """Return a number, the accuracy on 50 rows that are known to 80 % and 150 that are known to 56 %.

    Count right rows, not percentages: how many of the 50, how many of the 150?

    40 and 84 are right, of 200 rows.
    """
    return (50 * 0.80 + 150 * 0.56) / 200
