"""Exercises of chapter 04: the loop, the loss of the form alone, early stopping, a learning rate of one's own."""

from math import log
from statistics import mean  # noqa: F401  the table uses it

import torch
from torch import nn

from .cases import normal, says  # noqa: F401  the table uses some
from .checks import exercise


class Toy(nn.Module):
    """A frozen matrix behind a prompt of 2 vectors, with a loss: all that a loop needs, small enough to check one."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Parameter(normal(3, 3), requires_grad=False)
        self.prompt = nn.Parameter(2 * normal(2, 3, seed=1))

    def loss(self, wanted: torch.Tensor) -> torch.Tensor:
        """Return how far the matrix takes the prompt from what is wanted."""
        return (self.prompt @ self.base - wanted).square().mean()


MODEL, BATCHES = Toy(), [(normal(2, 3, seed=seed),) for seed in range(2, 8)]


def fitted(model, dealt, learning_rate, *, last=0, clear=True, update=True, decay=0.0):
    """Return the losses of the loop with one of its beats changed."""
    optimizer = torch.optim.AdamW([model.prompt], lr=learning_rate, weight_decay=decay)
    losses = []
    for step, batch in enumerate(dealt):
        falls = 1 - (step + last) / len(dealt) if last >= 0 else 1
        optimizer.param_groups[0]["lr"] = falls * learning_rate
        loss = model.loss(*batch)
        if clear:
            optimizer.zero_grad()
        loss.backward()
        if update:
            optimizer.step()
        losses.append(loss.item())
    return losses


@exercise("04-1", cases=[(MODEL, BATCHES, 0.5)])
def fit(model, dealt, learning_rate):
    """Return a list of numbers, the loss of each step, and move the prompt by one AdamW step a batch.

    Before the loop: the prompt is the only weight of `model.parameters()` with `requires_grad`, and the optimizer is
    `torch.optim.AdamW([prompt], lr=learning_rate, weight_decay=0.0)`.

    In `for step, batch in enumerate(dealt):` the rate goes to `optimizer.param_groups[0]["lr"]`; it is whole at step 0.

    Clear with `optimizer.zero_grad()`, then `loss.backward()`, then `optimizer.step()`; keep `loss.item()`.
    """
    return fitted(model, dealt, learning_rate)


@exercise("04-2", tolerance=0.01)
def form_alone():
    """Return a number, in nats a token: the mean loss of a prompt that knows the form of an answer and its shares.

    The end token costs nothing. What has probability p costs -log p, with the natural logarithm (`math.log`).

    Seven rows of ten cost -log 0.7 and three cost -log 0.3. Take the mean row, and divide by the tokens of a target.
    """
    return -(0.7 * log(0.7) + 0.3 * log(0.3)) / 2


def stopped(losses, patience, *, beside_last=False, keep_last=False):
    """Return the evaluation whose prompt is kept, with one of two faults."""
    best = waited = 0
    for now in range(1, len(losses)):
        better = losses[now] < losses[now - 1 if beside_last else best]
        waited = 0 if better else waited + 1
        best = now if losses[now] < losses[best] else best
        if waited == patience:
            return now if keep_last else best
    return len(losses) - 1 if keep_last else best


ZIGZAG = [0.62, 0.30, 0.24, 0.31, 0.28, 0.36, 0.33, 0.41, 0.23, 0.50, 0.60, 0.70, 0.10]


@exercise(
    "04-3",
    cases=[(ZIGZAG, 3), ([0.5, 0.4, 0.3], 2), ([0.5, 0.6, 0.7, 0.1], 2), ([0.4], 1)],
    measure=lambda result, losses, patience: result[1],
)
def kept(losses, patience):
    """Return two things: the letter of the fault, and the place in `losses` of the evaluation whose prompt is kept.

    Follow the function through the losses by hand, with patience 3. Where does it set `waited` back to 0, and was the
    loss there the lowest so far?

    "No improvement" has to mean: not lower than `losses[best]`.
    """
    return "A", stopped(losses, patience)


RATES = {0.001: [0.47, 0.55, 0.49], 0.03: [1.0, 1.0, 0.5], 0.3: [1.0, 1.0, 1.0]}


@exercise("04-4", measure=lambda result: 0)
def rates_tried():
    """Return a dict: "accuracies", a list with one accuracy for each seed by learning rate, and "sentence".

    Choose rates that are far apart, such as 0.001, 0.03 and 0.3: ten steps are few, and `tiny` is another model.

    `{rate: [accuracy(rate, seed) for seed in (0, 1, 2)] for rate in rates}` is the table; the sentence holds the
    mean of its best line, such as "83 %".
    """
    sentence = "Rate 0.3 is best: a mean of 100 % over three seeds, beside 83 % at 0.03."
    return {"accuracies": RATES, "sentence": sentence}
