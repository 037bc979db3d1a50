"""One readable loop that moves nothing but the prompt, and what stands around it."""

import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import nn
from tqdm import tqdm
from transformers import Adafactor

from . import room
from .batch import IGNORE, pad_rows
from .errors import LabError
from .evaluation import evaluate, tokenizer_of
from .model import SoftPromptModel
from .tasks import LABEL_COLUMN, MAX_LENGTH, Task

if TYPE_CHECKING:
    from .plots import Figure

Row = TypeVar("Row")
State = tuple[dict[str, torch.Tensor], dict[str, Any]]  # tensors and plain values, by name
# Of a prompt (P, D): a function that returns (P, D) vectors, or one number.
PromptTransform = Callable[[torch.Tensor, SoftPromptModel], torch.Tensor]
# Settings that `training_steps` does not take.
AROUND = ("snapshot_every", "evaluate_every", "patience")
# Arguments of `train` that change nothing in the numbers.
NO_SETTINGS = ("model", "task", "on_step", "progress", "checkpoint", "checkpoint_every", "resume")
LEARNING_RATES = {
    "adamw": 0.03,  # with linear decay; on smollm2 and complaints 0.01 had not left chance after 50 steps
    "adafactor": 0.3,  # constant, parameter scaling off: Lester et al. 2021, section 3
}


class Step(NamedTuple):
    """A training step that is done: its number (the first is 1), its loss and penalty before the update, in nats.

    `state()` returns what the next steps depend on, tensors and plain values, for `training_steps(..., state=)`. Call
    it before the next step, since its tensors are the run's own.
    """

    number: int
    loss: float
    penalty: float | None
    state: Callable[[], State]

    def __repr__(self) -> str:
        return f"Step {self.number}: loss {self.loss:.3f}"


def training_steps(
    model: SoftPromptModel,
    task: Task,
    *,
    state: State | None = None,
    steps: int = 100,
    batch_size: int = 8,
    learning_rate: float | None = None,
    optimizer: str = "adamw",
    weight_decay: float = 0.0,
    max_grad_norm: float = 1.0,
    project: PromptTransform | None = None,
    penalty: PromptTransform | None = None,
    seed: int = 0,
    max_length: int = MAX_LENGTH,
) -> Iterator[Step]:
    """Move the active prompt by one optimizer step after the other, and yield after each; built in chapter 04.

    Arguments are those of `train`, which checks them and wraps this loop; `state` is that of a step to go on from.
    """
    prompt = model.prompts[model.active_prompt].embedding.weight
    rows = encode_training_rows(task, tokenizer_of(model), max_length)
    rate = LEARNING_RATES.get(optimizer) if learning_rate is None else learning_rate
    optimizer, falls = make_optimizer(optimizer, prompt, rate, weight_decay)
    done = restore(prompt, optimizer, state) if state else 0
    for step, batch in enumerate(batches(rows, batch_size, steps, seed)):
        if step < done:
            continue
        optimizer.param_groups[0]["lr"] = rate * ((steps - step) / steps) if falls else rate
        with advice_when_memory_runs_out(step + 1, batch_size, max_length):
            loss = model.loss(*as_tensors(batch, model), prompts=[projected(model, project)])
            extra = None if penalty is None else penalty(model.prompt, model)
            optimizer.zero_grad()
            (loss if extra is None else loss + extra).backward()
        norm = nn.utils.clip_grad_norm_([prompt], max_grad_norm)
        check_finite(loss, norm, step + 1)
        optimizer.step()
        penalty_value = None if extra is None else extra.item()
        yield Step(
            step + 1, loss.item(), penalty_value, partial(state_of, step + 1, prompt, optimizer)
        )


# -------------------------------------------------------------------------------------------- around the loop


@dataclass
class TrainingHistory:
    """What happened during training.

    Attributes:
        losses: one a step, in nats per labelled token, before that step's update.
        penalties: one a step where there is a `penalty`: what it added to that loss.
        evaluations: dicts of step, loss, accuracy on the validation split.
        snapshots: step -> prompt (P, D); 0 is the start, the highest step the end. With
            `project` the vectors that move, not the words in front of the text.
        seconds: wall time.
        best_step: the step whose prompt the model holds now.
        settings: every argument of the run, as plain values.
    """

    losses: list[float] = field(default_factory=list)
    penalties: list[float] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    snapshots: dict[int, torch.Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    best_step: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Its main figures in two lines."""
        ends = f", loss {self.losses[0]:.3f} to {self.losses[-1]:.3f}" if self.losses else ""
        held = [f", validation accuracy {found['accuracy']:.3f}" for found in self.evaluations[-1:]]
        said = f"{len(self.losses)} steps in {self.seconds:.1f} s{ends}{''.join(held)}"
        return f"TrainingHistory: {said}\n  .plot() draws it, .to_pandas() has a line for each step"

    def to_pandas(self) -> pd.DataFrame:
        """One line a step: loss, penalty where there is one, and the validation figures of an evaluation."""
        losses = pd.DataFrame({"step": range(1, len(self.losses) + 1), "loss": self.losses})
        losses = losses.assign(penalty=self.penalties) if self.penalties else losses
        columns = {"loss": "validation_loss", "accuracy": "validation_accuracy"}
        found = pd.DataFrame(self.evaluations, columns=["step", *columns]).rename(columns=columns)
        return losses.merge(found, on="step", how="outer").sort_values("step", ignore_index=True)

    def plot(self, majority: float | None = None) -> "Figure":
        """The training curve with the held-out figures beside it; `majority` draws that baseline."""
        curve = room("plots:training_curve")
        return curve(self.losses, self.evaluations, majority=majority, penalties=self.penalties)


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
    project: PromptTransform | None = None,
    penalty: PromptTransform | None = None,
    seed: int = 0,
    max_length: int = MAX_LENGTH,
    snapshot_every: int | None = None,
    evaluate_every: int | None = None,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 50,
    resume: bool = False,
    progress: bool = True,
    on_step: Callable[..., bool | None] | None = None,
) -> TrainingHistory:
    """Train the active prompt of `model` on `task.train`, in place, from where it stands. Built in chapter 04.

    Memory stops growing with the batch where one packed row of the fast engine is full: rows are computed in turn.

    Args:
        batch_size: rows in a step.
        learning_rate: the first one; AdamW's falls linearly to 0, Adafactor's stays. None: `LEARNING_RATES`.
        optimizer: "adamw" or "adafactor" (as in Lester et al. 2021).
        max_grad_norm: the gradient is scaled down to this norm where it is longer.
        project: what stands in front of the text in place of the prompt, such as `reading.OntoWords()`: the gradient
            found there moves the prompt (straight through). Evaluations are of it, and the model holds it at the end.
        penalty: what is added to the loss, such as `reading.TowardsText("some text", gamma=0.1)`.
        seed: of the order of the rows. The prompt's start is chosen where the model is made.
        max_length: tokens of text, template and label; a longer text loses its end, and a warning says so.
        snapshot_every: steps between copies of the prompt; an evaluation keeps one too. None: every 10th, in a long run
            every hundredth part.
        evaluate_every: steps between evaluations on the validation split.
        patience: stop after so many evaluations without a lower loss, and go back to the best prompt.
        checkpoint: a folder that takes the state of the run after each `checkpoint_every` steps and at the end.
        resume: go on from the checkpoint there, if there is one: the run ends as one that was never stopped.
        on_step: called after each step with what `train` will return; training stops when it returns True.

    Returns:
        The history.

    Raises:
        ValueError: an argument that cannot be meant.
        LabError: the loss is not finite, or memory ran out (the prompt is left as it was before that step), or this is
            one of several processes.
        AdapterError: the checkpoint is damaged, is another run's, or cannot be written.

    Example:
        >>> from softprompt_lab import PromptTuningConfig, SoftPromptModel, load_base_model, load_task, train
        >>> base_model, tokenizer = load_base_model("tiny")
        >>> model = SoftPromptModel(base_model, PromptTuningConfig(8), tokenizer=tokenizer)
        >>> history = train(model, load_task("shop"), steps=3, progress=False)
        >>> len(history.losses)
        3
    """
    settings = {key: value for key, value in locals().items() if key not in NO_SETTINGS}
    _check_settings(settings | {"checkpoint_every": checkpoint_every})
    _check_model(model)
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the folder of the run that is to go on.")
    shown = {key: repr(value) if callable(value) else value for key, value in settings.items()}
    history = TrainingHistory(settings=shown)
    checkpoints = room("runs.checkpoints:Checkpoint") if checkpoint is not None else None
    keeper = checkpoints and checkpoints(Path(checkpoint), model, task, history)
    state = keeper and keeper.begin(resume)
    history.snapshots.setdefault(0, _copy_of(model.prompt))
    began = time.perf_counter() - history.seconds
    loop = {key: value for key, value in settings.items() if key not in AROUND}
    todo = [] if _out_of_patience(history) else training_steps(model, task, state=state, **loop)
    bar = {"desc": "training", "initial": len(history.losses), "total": steps, "file": sys.stdout}
    try:
        model.train()
        for step in tqdm(todo, disable=not progress, mininterval=1, **bar):
            _record(model, task, history, step, project)
            history.seconds = time.perf_counter() - began
            ended = bool(on_step and on_step(history)) or _out_of_patience(history)
            last = ended or step.number == steps
            if keeper and (last or step.number % checkpoint_every == 0):
                keeper.save(step.state())
            if ended:
                break
        _finish(model, history, project)
    finally:
        model.eval()
    return history


def _record(
    model: SoftPromptModel,
    task: Task,
    history: TrainingHistory,
    done: Step,
    project: PromptTransform | None,
) -> None:
    """Write down a step; measure and copy its prompt where that is due."""
    history.losses.append(done.loss)
    history.penalties += [] if done.penalty is None else [done.penalty]
    settings, step = history.settings, done.number
    every, last = settings["evaluate_every"], step == settings["steps"]
    measured = bool(every) and (step % every == 0 or last)
    if measured:
        vectors, length = {"now": projected(model, project)}, settings["max_length"]
        found = evaluate(model, task, "validation", prompts=vectors, max_length=length)["now"]
        history.evaluations.append({"step": step, "loss": found.loss, "accuracy": found.accuracy})
    if measured or last or step % _snapshot_interval(settings) == 0:
        history.snapshots[step] = _copy_of(model.prompt)


def _snapshot_interval(settings: dict[str, Any]) -> int:
    """Return the steps between snapshots: what was asked for, else 10, in a long run a hundredth of it."""
    return settings["snapshot_every"] or max(10, settings["steps"] // 100)


def _best(history: TrainingHistory) -> int:
    """Return the step with the lowest validation loss."""
    return int(min(history.evaluations, key=lambda entry: entry["loss"])["step"])


def _out_of_patience(history: TrainingHistory) -> bool:
    """Return whether the last `patience` evaluations brought no lower loss."""
    patience, losses = history.settings["patience"], [e["loss"] for e in history.evaluations]
    return bool(patience and losses) and len(losses) - 1 - losses.index(min(losses)) >= patience


@torch.no_grad()
def _finish(
    model: SoftPromptModel, history: TrainingHistory, project: PromptTransform | None
) -> None:
    """Go back to the best prompt where `patience` is set, replace the prompt by its projection if it has one."""
    history.best_step = len(history.losses)
    history.snapshots.setdefault(history.best_step, _copy_of(model.prompt))
    if history.settings["patience"] and history.evaluations:
        history.best_step = _best(history)
        model.prompt.copy_(history.snapshots[history.best_step])
    model.prompt.copy_(projected(model, project))


def _copy_of(prompt: Float[torch.Tensor, "P D"]) -> Float[torch.Tensor, "P D"]:
    """Return the prompt as it is now, on the CPU."""
    return prompt.detach().to("cpu", copy=True)


# ----------------------------------------------------------------------------------------- the parts of a step


def encode_training_rows(
    task: Task, tokenizer, max_length: int = MAX_LENGTH
) -> list[tuple[list[int], list[int]]]:
    """Return (context, label) ids of each training row: the template's text, and the label with the end token."""
    if not len(task.train):
        raise ValueError(f"the training split of {task.name!r} has no rows.")
    texts = task.cut(tokenizer, task.train[task.text_column], max_length, stacklevel=4)
    return task.encode_whole(tokenizer, texts, task.train[LABEL_COLUMN])


def batches(rows: Sequence[Row], batch_size: int, steps: int, seed: int) -> Iterator[list[Row]]:
    """Yield `steps` batches; every row comes once before any comes again, in an order that the seed decides."""
    shuffler = random.Random(seed)
    waiting: list[Row] = []
    for _ in range(steps):
        while len(waiting) < batch_size:
            waiting += shuffler.sample(rows, len(rows))
        batch, waiting = waiting[:batch_size], waiting[batch_size:]
        yield batch


def as_tensors(
    rows: Sequence[tuple[list[int], list[int]]], model: SoftPromptModel
) -> tuple[Int[torch.Tensor, "B T"], torch.Tensor, Int[torch.Tensor, "B S"]]:
    """Return input_ids, attention_mask and labels of (context, label) ids; a decoder reads both in one row."""
    if model.config.is_encoder_decoder:
        texts, labels = zip(*rows, strict=True)
    else:
        texts = [[*context, *label] for context, label in rows]
        labels = [[IGNORE] * len(context) + [*label] for context, label in rows]
    input_ids, text = pad_rows(texts, model.device)
    return input_ids, text.long(), pad_rows(labels, model.device, IGNORE)[0]


def projected(
    model: SoftPromptModel, project: PromptTransform | None
) -> Float[torch.Tensor, "P D"]:
    """Return what stands in front of the text: the prompt, or its projection with the prompt's gradient path."""
    prompt = model.get_prompt(1)[0]
    if project is None:
        return prompt
    return project(prompt.detach(), model) + (prompt - prompt.detach())  # plus zeros


def make_optimizer(
    name: str, prompt: nn.Parameter, rate: float | None, weight_decay: float
) -> tuple[torch.optim.Optimizer, bool]:
    """Return the optimizer of a prompt, and whether its learning rate falls; ValueError for an unknown name."""
    if name not in LEARNING_RATES:
        raise ValueError(f"optimizer={name!r}; choose one of: {', '.join(LEARNING_RATES)}.")
    if name == "adamw":
        return torch.optim.AdamW([prompt], lr=rate, weight_decay=weight_decay), True
    fixed = {"scale_parameter": False, "relative_step": False}
    return Adafactor([prompt], lr=rate, weight_decay=weight_decay, **fixed), False


def state_of(step: int, prompt: nn.Parameter, optimizer: torch.optim.Optimizer) -> State:
    """Return what the steps after this one depend on; the order of the rows follows from the seed."""
    (memory,) = optimizer.state_dict()["state"].values()
    tensors = {key: value for key, value in memory.items() if isinstance(value, torch.Tensor)}
    numbers = {key: value for key, value in memory.items() if key not in tensors}
    named = {f"optimizer/{key}": value for key, value in tensors.items()}
    return {"prompt": prompt, **named}, {"step": step, "optimizer": numbers}


@torch.no_grad()
def restore(prompt: nn.Parameter, optimizer: torch.optim.Optimizer, state: State) -> int:
    """Put back what `state_of` returned; return the number of steps that are done."""
    tensors, values = state
    memory = {
        key.removeprefix("optimizer/"): value
        for key, value in tensors.items()
        if key.startswith("optimizer/")
    }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": {0: memory | values["optimizer"]}, "param_groups": groups})
    prompt.copy_(tensors["prompt"])
    return values["step"]


@contextmanager
def advice_when_memory_runs_out(step: int, batch_size: int, max_length: int) -> Iterator[None]:
    """Turn an error about memory into one that says which number to lower."""
    try:
        yield
    except RuntimeError as error:  # torch's own class for accelerators, a plain one for the CPU
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        raise LabError(
            f"memory ran out at step {step}: {error}. Lower batch_size ({batch_size} now), max_length ({max_length}) "
            "or num_virtual_tokens, or load the base model in bfloat16."
        ) from error


def check_finite(loss: torch.Tensor, norm: torch.Tensor, step: int) -> None:
    """Raise LabError where loss or gradient are no numbers, before they move the prompt."""
    if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
        raise LabError(
            f"the loss is {loss.item()} and the gradient's norm {norm.item()} at step {step}. Lower learning_rate "
            "(a third of it), start from TEXT or SAMPLE_VOCAB, or keep the base model in float32. "
            "The prompt is as it was before this step."
        )


def _check_model(model: SoftPromptModel) -> None:
    """Refuse a model, or a launch, that cannot be trained here."""
    tokenizer_of(model)
    processes = os.environ.get("WORLD_SIZE", "1")
    if int(processes) > 1:
        raise LabError(
            f"WORLD_SIZE={processes}: train works in one process. For more pass the model to transformers' Trainer, "
            "under `accelerate launch` or `torchrun`."
        )


def _check_settings(settings: dict[str, Any]) -> None:
    """Refuse settings that cannot be meant, naming the value."""
    counts = ("snapshot_every", "evaluate_every", "checkpoint_every", "patience")
    for name in ("steps", "batch_size", *counts):
        value = settings[name]
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}; it must be at least 1.")
    for name in ("learning_rate", "max_grad_norm"):
        if settings[name] is not None and not settings[name] > 0:
            raise ValueError(f"{name}={settings[name]}; it must be above 0.")
    patience = settings["patience"]
    if patience and not settings["evaluate_every"]:
        raise ValueError(f"patience={patience} needs evaluate_every: it counts evaluations.")
    for name in ("project", "penalty"):
        if not (settings[name] is None or callable(settings[name])):
            raise ValueError(
                f"{name}={settings[name]!r}; pass an object of softprompt_lab.reading or a function."
            )
