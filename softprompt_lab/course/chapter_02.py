"""Exercises of chapter 02: concatenation by hand."""

import torch

from ..embedding import concatenate_prompt
from .cases import normal, numbers_in
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

    The prompt has no batch dimension; `expand` gives it one.

    `prompt.expand(B, -1, -1)` is (B, P, D); `torch.cat(..., dim=1)` joins sequences.

    Cast the prompt first: `prompt.to(input_embeddings.dtype)`.
    """
    return concatenate_prompt(x, prompt)


@exercise(
    "02-2",
    cases=[(RAGGED, 2), (RAGGED.flip(1), 3)],
    measure=lambda result, *case: [float(ord(result[0].upper())), *result[1].flatten().tolist()],
)
def extended_mask(mask, P):
    """Return the letter of the fault, and the right mask, (B, P+T), from the text's mask, (B, T).

    The loss is that without a prompt, so nothing looks at the prompt.

    In a mask 1 says "read this" and 0 says "a pad". What do the P new columns say?
    """
    return "B", torch.cat([mask.new_ones(len(mask), P), mask], dim=1)


def supported(answer):
    """Tell whether a loss that was measured stands in the sentence, to one digit behind the point or more."""
    numbers = [n for n in numbers_in(answer["sentence"]) if n > 0]
    return any(abs(loss - n) <= 0.051 for loss in answer["losses"].values() for n in numbers)


MEASURED = {0: 3.87, 0.5: 3.9, 1: 3.9, 8: 5.0}  # what a run may look like
SENTENCE = "One unit in a random direction leaves the loss at 3.9."


@exercise("02-3", measure=lambda result: [])
def stray():
    """Return {"losses": {distance: loss, ...}, "sentence": "..."} from what you ran.

    `losses = losses_at([0, 1, 8])` is what "losses" is to be.

    Compare the loss at 1 with that at 0, and write one of them with a digit behind the point.
    """
    return {"losses": MEASURED, "sentence": SENTENCE}


@exercise("02-4", cases=[(normal(4, 7, 3), 2)])
def prompt_gradient(g, P):
    """Return the gradient at the prompt, (P, D), from the one at the concatenated input, (B, P+T, D).

    Only the first P positions of z hold the prompt.

    `prompt[p]` enters the loss B times, through z[0, p], z[1, p], ...: by the chain rule the contributions add up.
    """
    return g[:, :P].sum(dim=0)


def moved(found):
    """Return the letters of an answer, in capitals."""
    return set(found.upper()) & set("ABCDEF")


@exercise("02-5", measure=lambda result: [float(letter in moved(result)) for letter in "ABCDEF"])
def moving():
    """Return the letters of the cells that move, such as "AF".

    Without a prompt the whole text shifts. Who notices: a model that knows numbers, or one that knows distances?

    With a prompt the distance to it grows, unless pads are not counted.
    """
    return "ABD"
