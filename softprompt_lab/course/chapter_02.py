"""Exercises of chapter 02: concatenation by hand."""

import torch
from torch.nn.functional import cross_entropy

from ..embedding import concatenate_prompt
from .cases import normal
from .checks import exercise


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

    The prompt is (P, D) and has no batch dimension. `prompt.expand(B, -1, -1)` shows the same P vectors to
    all B rows without copying them; `torch.cat` along dimension 1 puts one sequence behind another. A
    bfloat16 model wants a bfloat16 input: `prompt.to(x.dtype)`.
    """
    return concatenate_prompt(x, prompt)


def texts(ids, mask):
    """Return the ids of each row's text."""
    return [row[seen.bool()].tolist() for row, seen in zip(ids, mask, strict=True)]


def beginnings(found, mask):
    """Return as many ids from the beginning of each row of a result as its text has."""
    return [row[: int(seen.sum())].tolist() for row, seen in zip(found[0], mask, strict=True)]


@exercise(
    "02-2",
    cases=[
        (
            torch.tensor([[9, 9, 3, 5, 4], [7, 6, 9, 9, 9], [1, 9, 2, 9, 8], [20, 21, 22, 23, 24]]),
            torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]]),
        ),
        (torch.arange(400)[None], (torch.arange(400)[None] % 3 > 0).long()),
    ],
    measure=lambda result, ids, mask: result[1],  # the ids that stand at pads do not matter
)
def text_first(ids, mask):
    """Return two tensors, ids and mask, with each row's text in order, then its pads.

    Sort each row by its mask, largest first: `order = mask.argsort(dim=1, descending=True, stable=True)`.
    `stable` keeps the order of equals, so the text stays readable. Then `ids.gather(1, order)`, and the same
    for the mask.
    """
    order = mask.argsort(dim=1, descending=True, stable=True)
    return ids.gather(1, order), mask.gather(1, order)


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

    P is logits.shape[1] - labels.shape[1]. `logits[:, P - 1 : -1]` are the T positions that predict the T
    labels. `functional.cross_entropy(..., ignore_index=-100)` wants (N, V) and (N,): flatten the first two
    dimensions. For P = 0 drop the first label and begin at position 0.
    """
    labels = labels[:, max(labels.shape[1] - logits.shape[1] + 1, 0) :]
    positions = logits[:, -labels.shape[1] - 1 : -1]
    return cross_entropy(positions.flatten(0, 1), labels.flatten()).item()


@exercise("02-4", cases=[(normal(4, 7, 3), 2)])
def prompt_gradient(g, P):
    """Return the gradient at the prompt, (P, D), from the one at the concatenated input, (B, P+T, D).

    prompt[p] enters the loss B times, once through each row. By the chain rule the B contributions add up:
    the gradient at prompt[p] is the sum over b of g[b, p].
    """
    return g[:, :P].sum(dim=0)
