"""One readable loop that moves nothing but the prompt."""

import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import torch
from jaxtyping import Float
from tqdm import tqdm
from transformers import Adafactor, get_constant_schedule, get_linear_schedule_with_warmup

from .errors import LabError
from .evaluation import evaluate
from .model import SoftPromptModel
from .packing import Example, Target
from .scoring import label_loss
from .tasks import LABEL_COLUMN, MAX_LENGTH, Task

if TYPE_CHECKING:
    from .plots import Figure

Row = TypeVar("Row")
LEARNING_RATES = {
    "adamw": 0.03,  # with linear decay; on smollm2 and complaints 0.01 had not left chance after 50 steps
    "adafactor": 0.3,  # constant, parameter scaling off: Lester et al. 2021, section 3
}


@dataclass
class TrainingHistory:
    """What happened during training.

    Attributes:
        losses: one a step, in nats per labelled token, before that step's update.
        evaluations: dicts of step, loss, accuracy on the validation split.
        snapshots: step -> prompt (P, D); 0 is the start, the highest step the end.
        seconds: wall time.
        best_step: the step whose prompt the model holds now.
        settings: every argument of the run.
    """

    losses: list[float] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    snapshots: dict[int, torch.Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    best_step: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def to_pandas(self) -> pd.DataFrame:
        """One line a step: loss, and the validation figures where there was an evaluation."""
        losses = pd.DataFrame({"step": range(1, len(self.losses) + 1), "loss": self.losses})
        columns = {"loss": "validation_loss", "accuracy": "validation_accuracy"}
        found = pd.DataFrame(self.evaluations, columns=["step", *columns]).rename(columns=columns)
        return losses.merge(found, on="step", how="outer").sort_values("step", ignore_index=True)

    def plot(self, majority: float | None = None) -> "Figure":
        """The training curve with the held-out figures beside it; `majority` draws that baseline."""
        from .plots import training_curve

        return training_curve(self.losses, self.evaluations, majority=majority)


def train(
    model: SoftPromptModel,
    task: Task,
    *,
    steps: int = 100,
    batch_size: int = 8,
    learning_rate: float | None = None,
    optimizer: str = "adamw",
    weight_decay: float = 0.0,
    max_grad_norm: float = 1.0,
    seed: int = 0,
    max_length: int = MAX_LENGTH,
    snapshot_every: int = 10,
    evaluate_every: int | None = None,
    patience: int | None = None,
    progress: bool = True,
    on_step: Callable[[TrainingHistory], bool | None] | None = None,
) -> TrainingHistory:
    """Train the active prompt of `model` on `task.train`, in place, from where it stands. Built in chapter 04.

    Args:
        learning_rate: the first one; AdamW's falls linearly to 0, Adafactor's stays. None: `LEARNING_RATES`.
        optimizer: "adamw" or "adafactor" (as in Lester et al. 2021).
        max_grad_norm: the gradient is scaled down to this norm where it is longer.
        seed: of the order of the rows. The prompt's start is chosen where the model is made.
        max_length: tokens of text, template and label; a longer text loses its end, and a warning says so.
        evaluate_every: steps between evaluations on the validation split.
        patience: stop after so many evaluations without a lower loss, and go back to the best prompt.
        on_step: called after each step with the history; training stops when it returns True.

    Raises:
        ValueError: an argument that cannot be meant.
        LabError: the loss is not finite; the prompt is left as it was before that step.
    """
    settings = {key: value for key, value in locals().items() if key not in ("model", "task", "on_step", "progress")}
    _check(settings, model)
    examples = encode_training_rows(task, model.tokenizer, max_length)
    order = batches(examples, batch_size, steps, seed)
    stepper, schedule = _optimizer(model, optimizer, learning_rate, weight_decay, steps)
    history = TrainingHistory(settings=settings)
    history.snapshots[0] = _copy(model)
    began = time.perf_counter()
    model.train()
    for step, batch in tqdm(
        enumerate(order, 1), total=steps, desc="training", disable=not progress, file=sys.stdout, mininterval=1
    ):
        history.losses.append(_step(model, batch, stepper, max_grad_norm, step))
        schedule.step()
        if step % snapshot_every == 0 or step == steps:
            history.snapshots[step] = _copy(model)
        if evaluate_every and (step % evaluate_every == 0 or step == steps):
            _evaluate(model, task, history, step)
        history.seconds = time.perf_counter() - began
        if (on_step and on_step(history)) or _out_of_patience(history, patience):
            break
    history.snapshots.setdefault(len(history.losses), _copy(model))
    model.eval()
    _finish(model, history, patience)
    return history


def encode_training_rows(task: Task, tokenizer, max_length: int = MAX_LENGTH) -> list[Example]:
    """The training rows as examples: the template's text as context, the label and the end token as target."""
    task.warn_of_cut_texts(tokenizer, task.train[task.text_column], max_length, stacklevel=3)
    rows = zip(task.train[task.text_column], task.train[LABEL_COLUMN], strict=True)
    encoded = (task.encode(tokenizer, text, label, max_length) for text, label in rows)
    return [Example(context, [Target.of(label)]) for context, label in encoded]


def batches(rows: Sequence[Row], batch_size: int, steps: int, seed: int) -> Iterator[list[Row]]:
    """`steps` batches; every row comes once before any comes again, in an order that depends on the seed alone."""
    shuffler = random.Random(seed)
    waiting: list[Row] = []
    for _ in range(steps):
        while len(waiting) < batch_size:
            waiting += shuffler.sample(rows, len(rows))
        batch, waiting = waiting[:batch_size], waiting[batch_size:]
        yield batch


def _step(
    model: SoftPromptModel, batch: list[Example], optimizer: torch.optim.Optimizer, max_grad_norm: float, step: int
) -> float:
    """Forward, backward, clip, update; returns the loss before the update."""
    optimizer.zero_grad()
    loss = label_loss(model.base_model, model.prompt, batch)
    loss.backward()
    parameters = [p for p in model.parameters() if p.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
        raise LabError(
            f"the loss is {loss.item()} and the gradient's norm {norm.item()} at step {step}. Lower learning_rate "
            "(a third of it), start from TEXT or SAMPLE_VOCAB, or keep the base model in float32. "
            "The prompt is as it was before this step."
        )
    optimizer.step()
    return loss.item()


def _optimizer(
    model: SoftPromptModel, name: str, learning_rate: float | None, weight_decay: float, steps: int
) -> tuple[torch.optim.Optimizer, Any]:
    """The optimiser over the prompt alone, and its learning-rate schedule."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rate = LEARNING_RATES[name] if learning_rate is None else learning_rate
    if name == "adamw":
        optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=weight_decay)
        return optimizer, get_linear_schedule_with_warmup(optimizer, 0, steps)
    optimizer = Adafactor(
        parameters, lr=rate, weight_decay=weight_decay, scale_parameter=False, relative_step=False
    )
    return optimizer, get_constant_schedule(optimizer)


def _check(settings: dict[str, Any], model: SoftPromptModel) -> None:
    """Refuse settings that cannot be meant, naming the value."""
    for name in ("steps", "batch_size", "snapshot_every", "evaluate_every", "patience"):
        value = settings[name]
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}; it must be at least 1.")
    if settings["optimizer"] not in LEARNING_RATES:
        raise ValueError(f"optimizer={settings['optimizer']!r}; choose one of: {', '.join(LEARNING_RATES)}.")
    if settings["learning_rate"] is not None and not settings["learning_rate"] > 0:
        raise ValueError(f"learning_rate={settings['learning_rate']}; it must be above 0.")
    if settings["patience"] and not settings["evaluate_every"]:
        raise ValueError(f"patience={settings['patience']} needs evaluate_every: it counts evaluations.")
    if model.tokenizer is None:
        raise ValueError("the model has no tokenizer; make it with SoftPromptModel(..., tokenizer=tokenizer).")


def _copy(model: SoftPromptModel) -> Float[torch.Tensor, "P D"]:
    """The prompt as it is now, on the CPU."""
    return model.prompt.detach().to("cpu", copy=True)


def _evaluate(model: SoftPromptModel, task: Task, history: TrainingHistory, step: int) -> None:
    """Measure the validation split and keep the prompt that was measured."""
    result = evaluate(model, task, "validation", max_length=history.settings["max_length"])
    history.evaluations.append({"step": step, "loss": result.loss, "accuracy": result.accuracy})
    history.snapshots[step] = _copy(model)


def _best(history: TrainingHistory) -> int:
    """The step with the lowest validation loss."""
    return int(min(history.evaluations, key=lambda entry: entry["loss"])["step"])


def _out_of_patience(history: TrainingHistory, patience: int | None) -> bool:
    """True when the last `patience` evaluations brought no lower loss."""
    if not patience or len(history.evaluations) <= patience:
        return False
    steps = [entry["step"] for entry in history.evaluations]
    return len(steps) - 1 - steps.index(_best(history)) >= patience


@torch.no_grad()
def _finish(model: SoftPromptModel, history: TrainingHistory, patience: int | None) -> None:
    """With early stopping go back to the best prompt; note which step the model holds."""
    history.best_step = len(history.losses)
    if patience and history.evaluations:
        history.best_step = _best(history)
        model.prompt.copy_(history.snapshots[history.best_step].to(model.device))
