"""Prompts that do a task and look like a text, one for each weight of the likeness."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float

from ..model import SoftPromptModel
from ..tasks import Task
from ..training import train
from .projection import TowardsText

GAMMAS = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)  # on tiny the likeness is complete at 0.1


def train_wayward(
    model: SoftPromptModel, task: Task, text: str, gammas: Sequence[float] = GAMMAS, **options: Any
) -> dict[float, Float[torch.Tensor, "P D"]]:
    """Train a prompt for each gamma with `TowardsText(text, gamma)`, all from where the active prompt stands.

    The model is left as it was. `reading.wayward_table` measures what is returned.

    Args:
        options: of `train`.

    Returns:
        The prompts by gamma, on the CPU.

    Raises:
        ValueError: gammas that cannot be, a text without a token, and as `train`.
    """
    penalties = [TowardsText(text, float(gamma)) for gamma in gammas]
    start, prompts = model.prompt.detach().clone(), {}
    try:
        for penalty in penalties:
            model.prompt.data.copy_(start)
            train(model, task, penalty=penalty, **options)
            prompts[penalty.gamma] = model.prompt.detach().to("cpu", copy=True)
    finally:
        model.prompt.data.copy_(start)
    return prompts
