"""Exercises of chapter 02: concatenation by hand."""

import re

import torch
from torch.nn.functional import cross_entropy

from ..embedding import concatenate_prompt
from .cases import normal
from .checks import exercise

RAGGED = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])


def expanded(x, prompt):
    """Return the prompt in the type of x, once for each row of x."""
    return prompt.to(x.dtype).expand(len(x), -1, -1)


def has_gradient(found, x, prompt):
    """Tell whether the prompt's gradient is the sum over the rows."""
    if not found.requires_grad:
        return False
    gradient = torch.autograd.grad(found.sum(), prompt, allow_unused=True, materialize_grads=True)
    return torch.equal(gradient[0], torch.full_like(prompt, len(x)))


@exercise(
    "02-1",
    cases=[
        (normal(3, 4, 5), normal(2, 5, seed=1).requires_grad_()),
        (normal(3, 4, 5).bfloat16(), normal(2, 5, seed=1).requires_grad_()),
    ],
)
def prepend(x, prompt):
    """Return one tensor (B, P+T, D) from (B, T, D) and (P, D), the prompt in front of each row.

    The prompt has no batch dimension. `expand` gives it one: all B rows read the same P vectors.

    `prompt.expand(B, -1, -1)` is (B, P, D) and copies nothing; `torch.cat` puts one sequence behind another along
    dimension 1.

    A bfloat16 model wants a bfloat16 input: cast the prompt by `prompt.to(input_embeddings.dtype)` before you
    concatenate.
    """
    return concatenate_prompt(x, prompt)


@exercise(
    "02-2",
    cases=[(RAGGED, 2), (RAGGED.flip(1), 3)],
    measure=lambda result, *case: [float(ord(result[0].upper())), *result[1].flatten().tolist()],
)
def extended_mask(mask, P):
    """Return the letter of the fault, and the right mask, (B, P+T), from the text's mask, (B, T).

    A loss that is the loss without a prompt says that no position looks at the prompt.

    A 1 in the mask says "look here", a 0 says "a pad, skip it". What do the P new columns hold?

    `torch.cat([mask.new_ones(len(mask), P), mask], dim=1)` says that the prompt is to be read.
    """
    return "B", torch.cat([mask.new_ones(len(mask), P), mask], dim=1)


def supervised(logits, labels):
    """Return the number of labels that a position predicts: without a prompt, none predicts the first."""
    predicted = labels if logits.shape[1] > labels.shape[1] else labels[:, 1:]
    return (predicted != -100).sum().item()


@exercise(
    "02-3",
    cases=[
        (3 * normal(2, P + 5, 7), torch.tensor([[-100, -100, 4, 1, -100], [2, -100, -100, 6, 0]]))
        for P in (3, 1, 0)
    ],
)
def label_loss(logits, labels):
    """Return one number, the mean loss of the labels, (B, T), from the logits, (B, P+T, V).

    P is `logits.shape[1] - labels.shape[1]`. Position i predicts token i + 1, so the last virtual token predicts the
    first word.

    `logits[:, P - 1 : -1]` are the T positions that predict the T labels. For P = 0 drop the first label and begin at
    position 0.

    `functional.cross_entropy(..., ignore_index=-100)` wants (N, V) and (N,): flatten the first two dimensions of the
    logits, and the labels.
    """
    labels = labels[:, max(labels.shape[1] - logits.shape[1] + 1, 0) :]
    positions = logits[:, -labels.shape[1] - 1 : -1]
    return cross_entropy(positions.flatten(0, 1), labels.flatten()).item()


@exercise("02-4", cases=[(normal(4, 7, 3), 2)])
def prompt_gradient(g, P):
    """Return the gradient at the prompt, (P, D), from the one at the concatenated input, (B, P+T, D).

    Only the first P positions of z hold the prompt; the rest is text.

    `prompt[p]` enters the loss B times, once through each row: z[0, p], z[1, p], ... By the chain rule the B
    contributions add up.
    """
    return g[:, :P].sum(dim=0)


def named(sentence):
    """Return the numbers that stand in a sentence."""
    return [float(number) for number in re.findall(r"\d+\.?\d*", sentence)]


def supported(answer):
    """Tell whether a loss that was measured stands in the sentence, to one digit behind the point or more."""
    numbers = [n for n in named(answer["sentence"]) if n > 0]
    return any(abs(loss - n) <= 0.051 for loss in answer["losses"].values() for n in numbers)


MEASURED = {0: 3.87, 0.5: 3.9, 2: 3.9, 8: 5.0}  # what a run may look like
SENTENCE = "Two units in a random direction leave the loss at 3.9."


@exercise("02-5", measure=lambda result: [])
def stray():
    """Return {"losses": {distance: loss, ...}, "sentence": "..."} from what you ran.

    Run `losses_at` for 0, for 2 and for at least one distance more: it returns what `losses` is to be.

    The sentence compares two of your losses: that at 2, which is as far as ten steps downhill go, with that at 0. Write
    the number in it as it was printed, to one digit behind the point or more.
    """
    return {"losses": MEASURED, "sentence": SENTENCE}


def moved(found):
    """Return the letters of an answer, in capitals."""
    return set(found.upper()) & set("ABCDEF")


@exercise("02-6", measure=lambda result: [float(letter in moved(result)) for letter in "ABCDEF"])
def moving():
    """Return the letters of the cells that move, such as "AF".

    Without a prompt the pads shift the whole text by some positions. Who would notice: a model that knows a token's
    number, or one that knows only how far two tokens are apart?

    With a prompt the pads stand between prompt and text. Who would not notice: a model that does not count pads.
    """
    return "ABD"
