"""One readable loop that moves nothing but the prompt."""

import hashlib
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import torch
from jaxtyping import Float
from torch import nn
from tqdm import tqdm
from transformers import Adafactor, get_constant_schedule, get_linear_schedule_with_warmup

from . import distributed
from .engine.locks import lock
from .engine.packing import Example, examples_of
from .engine.recording import recorded_backward
from .engine.scoring import label_logits
from .errors import AdapterError, LabError
from .evaluation import evaluate
from .heads.classify import check_predicts_text
from .model import SoftPromptModel
from .runs.checkpoints import CHECKPOINT_NAME, State, below, flat, load_checkpoint, save_checkpoint
from .tasks import LABEL_COLUMN, MAX_LENGTH, Task

if TYPE_CHECKING:
    from .plots import Figure

Row = TypeVar("Row")
PromptTransform = Callable[
    [torch.Tensor, SoftPromptModel], torch.Tensor
]  # of a prompt (P, D): vectors as many, or a number
# Arguments of `train` that change nothing in the numbers.
NO_SETTINGS = ("model", "task", "on_step", "progress", "checkpoint", "checkpoint_every", "resume")
MOST_SNAPSHOTS = 128  # of a run, however long: 10 MB at 20 virtual tokens 1,024 wide
LEARNING_RATES = {
    "adamw": 0.03,  # with linear decay; on smollm2 and complaints 0.01 had not left chance after 50 steps
    "adafactor": 0.3,  # constant, parameter scaling off: Lester et al. 2021, section 3
}


@dataclass
class TrainingHistory:
    """What happened during training.

    Attributes:
        losses: one a step, in nats per labelled token, before that step's update.
        penalties: one a step where there is a `penalty`: what it added to that loss.
        evaluations: dicts of step, loss, accuracy on the validation split.
        snapshots: step -> prompt (P, D), at most `MOST_SNAPSHOTS`; 0 is the start, the highest step the end. With
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

    def to_pandas(self) -> pd.DataFrame:
        """One line a step: loss, penalty where there is one, and the validation figures of an evaluation."""
        losses = pd.DataFrame({"step": range(1, len(self.losses) + 1), "loss": self.losses})
        losses = losses.assign(penalty=self.penalties) if self.penalties else losses
        columns = {"loss": "validation_loss", "accuracy": "validation_accuracy"}
        found = pd.DataFrame(self.evaluations, columns=["step", *columns]).rename(columns=columns)
        return losses.merge(found, on="step", how="outer").sort_values("step", ignore_index=True)

    def plot(self, majority: float | None = None) -> "Figure":
        """The training curve with the held-out figures beside it; `majority` draws that baseline."""
        from .plots import training_curve

        return training_curve(
            self.losses, self.evaluations, majority=majority, penalties=self.penalties
        )


def train(
    model: SoftPromptModel,
    task: Task | Mapping[str, Task],
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
    snapshot_every: int = 10,
    evaluate_every: int | None = None,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 50,
    resume: bool = False,
    progress: bool = True,
    on_step: Callable[..., bool | None] | None = None,
) -> TrainingHistory | dict[str, TrainingHistory]:
    """Train the active prompt of `model` on `task.train`, in place, from where it stands. Built in chapter 04.

    A batch is computed packed row by packed row, so memory stops growing with its size where one row is full. Under
    `accelerate launch` each process computes a share of it; all begin and end with the main process's prompt.

    Args:
        task: or a task for each of several prompts by name: they are trained in the same batches, each as if alone.
        batch_size: rows in a step, of each task.
        learning_rate: the first one; AdamW's falls linearly to 0, Adafactor's stays. None: `LEARNING_RATES`.
        optimizer: "adamw" or "adafactor" (as in Lester et al. 2021).
        max_grad_norm: the gradient is scaled down to this norm where it is longer.
        project: what stands in front of the text in place of the prompt, such as `reading.OntoWords()`: the gradient
            found there moves the prompt (straight through). Evaluations are of it, and the model holds it at the end.
        penalty: what is added to the loss of each prompt, such as `reading.TowardsText("some text", gamma=0.1)`.
        seed: of the order of the rows. The prompt's start is chosen where the model is made.
        max_length: tokens of text, template and label; a longer text loses its end, and a warning says so.
        snapshot_every: steps between copies of the prompt; an evaluation keeps one too. When there are `MOST_SNAPSHOTS`
            of them every second is dropped and the rest come half as often, so memory does not grow with the steps.
            The start, the end and the prompt of the best evaluation stay.
        evaluate_every: steps between evaluations on the validation split.
        patience: stop after so many evaluations without a lower loss, and go back to the best prompt.
        checkpoint: a folder that takes the state of the run after each `checkpoint_every` steps and at the end.
        resume: go on from the checkpoint there, if there is one: the run ends as one that was never stopped.
        on_step: called after each step with what `train` will return; training stops when it returns True.

    Returns:
        The history; for several tasks one by each prompt's name.

    Raises:
        ValueError: an argument that cannot be meant.
        LabError: the loss is not finite, or memory ran out; the prompts are left as they were before that step.
        AdapterError: the checkpoint is damaged, is another run's, or cannot be written.
    """
    settings = {key: value for key, value in locals().items() if key not in NO_SETTINGS}
    _check(settings, model)
    tasks = {model.active_prompt: task} if isinstance(task, Task) else dict(task)
    if not tasks:
        raise ValueError("there is no task; give one, or one for each prompt by name.")
    runs = [_Run(model, name, each, settings) for name, each in tasks.items()]
    path = Path(checkpoint) / CHECKPOINT_NAME if checkpoint is not None else None
    done = _begin(path, resume, runs, model)
    histories = {run.name: run.history for run in runs}
    result = histories if isinstance(task, Mapping) else runs[0].history
    began = time.perf_counter() - max(run.history.seconds for run in runs)
    model.train()
    quiet = not (progress and distributed.is_main())
    try:
        bar = {
            "desc": "training",
            "initial": done,
            "total": steps,
            "file": sys.stdout,
            "mininterval": 1,
        }
        for step in tqdm(range(done + 1, steps + 1), disable=quiet, **bar):
            running = [run for run in runs if not run.finished]
            _step(model, running, max_grad_norm, step)
            for run in running:
                run.record(model, step)
                run.history.seconds = time.perf_counter() - began
            ended = all(run.finished for run in runs)
            if (
                path is not None
                and distributed.is_main()
                and (ended or step % checkpoint_every == 0)
            ):
                save_checkpoint(path, _state(runs, step))
            stop = bool(on_step and on_step(result))
            if distributed.from_main(stop) or ended:
                break
    finally:
        model.eval()
        for run in runs:
            run.finish(model)
    return result


def _begin(path: Path | None, resume: bool, runs: Sequence["_Run"], model: SoftPromptModel) -> int:
    """The step after which the runs go on: that of their checkpoint, or 0."""
    found = path is not None and distributed.from_main(path.exists())
    if path is None and resume:
        raise ValueError("resume=True needs checkpoint=, the folder of the run that is to go on.")
    if found and not resume:
        raise AdapterError(
            f"{path} is there already; pass resume=True to go on from it, or delete it."
        )
    if not found:
        return 0
    tensors, values = distributed.from_main(
        load_checkpoint(path) if distributed.is_main() else None
    )
    for run in runs:
        run.restore(model, below(tensors, run.name), values.get(run.name), path)
    return values["step"]


def _state(runs: Sequence["_Run"], step: int) -> State:
    """All runs after a step."""
    states = {run.name: run.state() for run in runs}
    tensors = {
        f"{name}/{key}": value for name, (own, _) in states.items() for key, value in own.items()
    }
    return tensors, {"step": step} | {name: values for name, (_, values) in states.items()}


class _Run:
    """One prompt in training: its rows, its optimizer, its history."""

    def __init__(
        self, model: SoftPromptModel, name: str, task: Task, settings: dict[str, Any]
    ) -> None:
        self.name, self.task = name, task
        objects = {
            key: settings[key] for key in ("project", "penalty") if settings[key] is not None
        }
        self.project, self.penalty = objects.get("project"), objects.get("penalty")
        self.settings = settings | {key: repr(each) for key, each in objects.items()}
        examples = encode_training_rows(task, model.tokenizer, settings["max_length"])
        self.digest = hashlib.sha256(
            repr((len(model.word_embeddings), examples)).encode()
        ).hexdigest()
        self.order = batches(examples, settings["batch_size"], settings["steps"], settings["seed"])
        start = distributed.from_main(self.prompt(model))
        self.weight = model.prompts[name].embedding.weight.requires_grad_()
        with torch.no_grad():
            model.prompt_by_name(name).copy_(start)
        self.optimizer, self.schedule = _optimizer(self.weight, settings)
        self.history = TrainingHistory(settings=self.settings)
        self.history.snapshots[0] = self.prompt(model)
        self.thinning = 1  # of so many snapshots one is kept
        self.finished = False

    def state(self) -> State:
        """Everything that the next step depends on, and what the run has to tell."""
        (memory,) = self.optimizer.state_dict()["state"].values()
        tensors, numbers = flat(memory, "optimizer")
        tensors |= {
            f"snapshot/{step}": snapshot for step, snapshot in self.history.snapshots.items()
        }
        told = {
            key: getattr(self.history, key)
            for key in ("losses", "penalties", "evaluations", "seconds")
        }
        values = {
            "settings": self.settings,
            "rows": self.digest,
            "finished": self.finished,
            "history": told,
        }
        values |= {
            "optimizer": numbers,
            "schedule": self.schedule.state_dict(),
            "thinning": self.thinning,
        }
        return tensors | {"prompt": self.weight}, values

    @torch.no_grad()
    def restore(
        self, model: SoftPromptModel, tensors: dict[str, torch.Tensor], values: Any, path: Path
    ) -> None:
        """Take over a saved state.

        Raises:
            AdapterError: it is that of another run; the message names what differs.
        """
        try:
            settings, history = values["settings"], values["history"]
            other = [key for key in self.settings if settings[key] != self.settings[key]]
            if (
                other
                or values["rows"] != self.digest
                or tensors["prompt"].shape != self.weight.shape
            ):
                now = ", ".join(
                    f"{key}={settings[key]!r}, now {self.settings[key]!r}" for key in other
                )
                raise AdapterError(
                    f"{path} is of another run: {now or 'other rows, another prompt or base model'}."
                )
            group = self.optimizer.state_dict()["param_groups"]
            memory = {**below(tensors, "optimizer"), **values["optimizer"]}
            self.optimizer.load_state_dict({"state": {0: memory}, "param_groups": group})
            self.schedule.load_state_dict(values["schedule"])
            for each, rate in zip(
                self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True
            ):
                each["lr"] = rate
            self.weight.copy_(tensors["prompt"])
            self.history.losses = [float(loss) for loss in history["losses"]]
            self.history.penalties = [float(penalty) for penalty in history["penalties"]]
            figures = ("step", "loss", "accuracy")
            self.history.evaluations = [
                {name: each[name] for name in figures} for each in history["evaluations"]
            ]
            self.history.seconds, self.finished = (
                float(history["seconds"]),
                bool(values["finished"]),
            )
            self.history.snapshots = {
                int(step): kept for step, kept in below(tensors, "snapshot").items()
            }
            self.thinning = int(
                values.get("thinning", 1)
            )  # written since snapshots are thinned out
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise AdapterError(
                f"{path} lacks what a run needs, or is damaged: {error!r}"
            ) from error
        for _ in self.history.losses:
            next(self.order, None)

    def prompt(self, model: SoftPromptModel) -> Float[torch.Tensor, "P D"]:
        """The prompt as it is now, on the CPU."""
        return model.prompt_by_name(self.name).detach().to("cpu", copy=True)

    def placed(self, model: SoftPromptModel) -> Float[torch.Tensor, "P D"]:
        """What stands in front of the text: the prompt, or its projection with the prompt's gradient path."""
        prompt = model.prompt_by_name(self.name)
        if self.project is None:
            return prompt
        return self.project(prompt.detach(), model) + (
            prompt - prompt.detach()
        )  # plus zeros: the words, to the bit

    def penalise(self, model: SoftPromptModel) -> list[float]:
        """Add the penalty's gradient to that of all processes' losses; what it was, in a list of one, or of none."""
        if self.penalty is None:
            return []
        value = self.penalty(model.prompt_by_name(self.name), model)
        value.backward()
        return [value.item()]

    def record(self, model: SoftPromptModel, step: int) -> None:
        """Snapshot, evaluation, patience, where the step asks for them; then too many snapshots are thinned out."""
        every, last = self.settings["evaluate_every"], step == self.settings["steps"]
        measured = bool(every) and (step % every == 0 or last)
        if measured or last or step % (self.thinning * self.settings["snapshot_every"]) == 0:
            self.history.snapshots[step] = self.prompt(model)
        if measured:
            now, longest = {self.name: self.placed(model)}, self.settings["max_length"]
            result = evaluate(model, self.task, "validation", prompts=now, max_length=longest)[
                self.name
            ]
            figures = {"step": step, "loss": result.loss, "accuracy": result.accuracy}
            self.history.evaluations.append(distributed.from_main(figures))
        if step in self.history.snapshots:
            self._thin_out(step)
        self.finished = last or self._out_of_patience()

    def _thin_out(self, step: int) -> None:
        """Double the distance between snapshots until there is room for one more; what is kept follows from the steps.

        The start, this step and the best evaluation stay: early stopping goes back to the last of them.
        """
        kept = self.history.snapshots
        stay = {0, step} | ({self._best()} if self.history.evaluations else set())
        intervals = [
            self.settings[name]
            for name in ("snapshot_every", "evaluate_every")
            if self.settings[name]
        ]
        while True:
            for old in set(kept) - stay:
                if all(old % (self.thinning * interval) for interval in intervals):
                    del kept[old]
            if len(kept) < MOST_SNAPSHOTS:  # `finish` may add the last one
                return
            self.thinning *= 2

    def _best(self) -> int:
        """The step with the lowest validation loss."""
        return int(min(self.history.evaluations, key=lambda entry: entry["loss"])["step"])

    def _out_of_patience(self) -> bool:
        """True when the last `patience` evaluations brought no lower loss."""
        patience, evaluations = self.settings["patience"], self.history.evaluations
        if not patience or len(evaluations) <= patience:
            return False
        steps = [entry["step"] for entry in evaluations]
        return len(steps) - 1 - steps.index(self._best()) >= patience

    @torch.no_grad()
    def finish(self, model: SoftPromptModel) -> None:
        """With early stopping go back to the best prompt, leave its projection; note which step the model holds."""
        history = self.history
        history.best_step = len(history.losses)
        history.snapshots.setdefault(history.best_step, self.prompt(model))
        if self.settings["patience"] and history.evaluations:
            history.best_step = self._best()
            model.prompt_by_name(self.name).copy_(
                history.snapshots[history.best_step].to(model.device)
            )
        model.prompt_by_name(self.name).copy_(self.placed(model))
        self.weight.requires_grad_(self.name == model.active_prompt)


def encode_training_rows(task: Task, tokenizer, max_length: int = MAX_LENGTH) -> list[Example]:
    """The training rows as examples: the template's text as context, the label and the end token as target."""
    task.warn_of_cut_texts(tokenizer, task.train[task.text_column], max_length, stacklevel=3)
    rows = zip(task.train[task.text_column], task.train[LABEL_COLUMN], strict=True)
    encoded = (task.encode(tokenizer, text, label, max_length) for text, label in rows)
    return examples_of(encoded)


def batches(rows: Sequence[Row], batch_size: int, steps: int, seed: int) -> Iterator[list[Row]]:
    """`steps` batches; every row comes once before any comes again, in an order that depends on the seed alone."""
    shuffler = random.Random(seed)
    waiting: list[Row] = []
    for _ in range(steps):
        while len(waiting) < batch_size:
            waiting += shuffler.sample(rows, len(rows))
        batch, waiting = waiting[:batch_size], waiting[batch_size:]
        yield batch


def _step(model: SoftPromptModel, runs: Sequence[_Run], max_grad_norm: float, step: int) -> None:
    """Forward, backward, clip, update; the loss before the update goes into each history."""
    rows = [
        replace(row, prompt=number) for number, run in enumerate(runs) for row in next(run.order)
    ]
    prompts = [run.placed(model) for run in runs]
    for run in runs:
        run.weight.grad = torch.zeros_like(run.weight)
    try:
        with lock(model.base_model):
            losses = backward(model.base_model, prompts, rows)
    except RuntimeError as error:  # torch's own class for accelerators, a plain one for the CPU
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        now = runs[0].settings
        raise LabError(
            f"memory ran out at step {step}: {error}. Lower batch_size ({now['batch_size']} now), max_length "
            f"({now['max_length']}) or num_virtual_tokens, or load the base model in bfloat16."
        ) from error
    losses, *gradients = distributed.sum_over_processes(
        [losses, *(run.weight.grad for run in runs)]
    )
    for run, gradient in zip(runs, gradients, strict=True):
        run.weight.grad = gradient
    penalties = [run.penalise(model) for run in runs]
    norms = [torch.nn.utils.clip_grad_norm_([run.weight], max_grad_norm) for run in runs]
    for loss, norm in zip(losses.tolist(), norms, strict=True):
        if not (math.isfinite(loss) and math.isfinite(norm.item())):
            raise LabError(
                f"the loss is {loss} and the gradient's norm {norm.item()} at step {step}. Lower learning_rate "
                "(a third of it), start from TEXT or SAMPLE_VOCAB, or keep the base model in float32. "
                "The prompt is as it was before this step."
            )
    for run, loss, penalty in zip(runs, losses.tolist(), penalties, strict=True):
        run.optimizer.step()
        run.schedule.step()
        run.history.losses.append(loss)
        run.history.penalties += penalty


def backward(
    base_model: nn.Module, prompts: Sequence[Float[torch.Tensor, "_ D"]], rows: Sequence[Example]
) -> Float[torch.Tensor, " K"]:
    """Add to each of K prompts' gradients that of its rows' mean loss; return the losses, in nats a labelled token.

    One call of the base model at a time, each backward before the next forward. Of several processes each computes its
    share: the sums over all of them are the whole batch's.

    Raises:
        ValueError: a prompt none of whose rows has a label.
    """
    counts = [0] * len(prompts)
    for row in rows:
        counts[row.prompt] += sum(len(target.supervised) for target in row.targets)
    if 0 in counts:
        raise ValueError(
            "no token of this batch has a label (all are -100); nothing can be learned from it."
        )
    own = distributed.share(rows)
    recorded = recorded_backward(base_model, prompts, own, [1 / count for count in counts])
    if recorded is not None:
        return recorded
    losses = torch.zeros(len(prompts), device=prompts[0].device)
    for part in label_logits(base_model, prompts, own):
        numbers = torch.tensor(
            [own[example].prompt for example, _ in part.owners], device=losses.device
        )
        shares = torch.tensor(
            [1 / counts[number] for number in numbers.tolist()], device=part.logits.device
        )
        each = shares * nn.functional.cross_entropy(
            part.logits, part.label_ids, reduction="none"
        )  # (M,)
        each.sum().backward()
        losses.index_add_(0, numbers, each.detach().to(losses.device))
    return losses


def _optimizer(weight: torch.Tensor, settings: dict[str, Any]) -> tuple[torch.optim.Optimizer, Any]:
    """The optimiser over one prompt, and its learning-rate schedule."""
    name, decay = settings["optimizer"], settings["weight_decay"]
    rate = LEARNING_RATES[name] if settings["learning_rate"] is None else settings["learning_rate"]
    if name == "adamw":
        optimizer = torch.optim.AdamW([weight], lr=rate, weight_decay=decay)
        return optimizer, get_linear_schedule_with_warmup(optimizer, 0, settings["steps"])
    optimizer = Adafactor(
        [weight], lr=rate, weight_decay=decay, scale_parameter=False, relative_step=False
    )
    return optimizer, get_constant_schedule(optimizer)


def _check(settings: dict[str, Any], model: SoftPromptModel) -> None:
    """Refuse settings that cannot be meant, naming the value."""
    check_predicts_text(model.prompt_config.task_type)
    for name in ("steps", "batch_size", "snapshot_every", "evaluate_every", "patience"):
        value = settings[name]
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}; it must be at least 1.")
    if settings["optimizer"] not in LEARNING_RATES:
        raise ValueError(
            f"optimizer={settings['optimizer']!r}; choose one of: {', '.join(LEARNING_RATES)}."
        )
    if settings["learning_rate"] is not None and not settings["learning_rate"] > 0:
        raise ValueError(f"learning_rate={settings['learning_rate']}; it must be above 0.")
    for name in ("project", "penalty"):
        if not (settings[name] is None or callable(settings[name])):
            raise ValueError(
                f"{name}={settings[name]!r}; pass an object of softprompt_lab.reading or a function."
            )
    if settings["patience"] and not settings["evaluate_every"]:
        raise ValueError(
            f"patience={settings['patience']} needs evaluate_every: it counts evaluations."
        )
    if model.tokenizer is None:
        raise ValueError(
            "the model has no tokenizer; make it with SoftPromptModel(..., tokenizer=tokenizer)."
        )
