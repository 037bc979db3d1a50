"""A run of `softprompt-lab train`: its untrained model, and the folder that holds prompt, task and history.

The folder is PEFT's, with four files beside PEFT's three: `task.json` (template, labels, settings, results),
`history.csv`, `predictions.csv` and `snapshots.safetensors`, whose copies of the prompt are in float16.
"""

import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import nn

from ..bases import fetching
from ..bases.loading import dtype_name, load_base_model
from ..config import PromptTuningConfig
from ..data.loading import RAFT, load_task, loaders
from ..embedding import class_label_start
from ..errors import AdapterError, LabError
from ..evaluation import MORE_TOKENS, Evaluation, write_answers
from ..model import SoftPromptModel
from ..saving import atomic_write, load_adapter, plain_file, read_json_object, user_path
from ..tasks import MAX_LENGTH, Task
from ..training import TrainingHistory

TASK_FILE = "task.json"
SNAPSHOTS_FILE = "snapshots.safetensors"  # key: the step; value: the prompt (P, D) after it
HISTORY_FILE = "history.csv"
HISTORY_KINDS = {"step": int, "loss": float, "validation_loss": float, "validation_accuracy": float}
TASK_FIELDS = {"name": str, "text_column": str, "template": str, "labels": list}
CLASS_LABELS = "class-labels"  # a start that PEFT has no name for; its other rows are sampled
NEW_TOKENS = 10  # of an answer, where a folder does not say how long its answers are
MAX_BYTES = 1_000_000_000  # of a history or of snapshots, which are read whole


def new_model(
    base: str,
    task: Task,
    *,
    task_type: str = "CAUSAL_LM",
    virtual_tokens: int = 8,
    start: str = "text",
    start_text: str | None = None,
    seed: int = 0,
    **loading: Any,
) -> SoftPromptModel:
    """Return a base model with an untrained prompt in front, for one task.

    `start` is "text" (`start_text`, by default an instruction that names the labels), "sample-vocab", "random" or
    "class-labels". `loading` is `load_base_model`'s, such as `dtype` and `revision`.

    Raises:
        LabError: a base model that is not there.
        ValueError: an unknown start or task type, or a prompt length that cannot be.
    """
    if start == CLASS_LABELS and not task.labels:
        raise ValueError(
            f"start={start!r}: {task.name} has free answers and no labels; choose text."
        )
    kind = "sample-vocab" if start == CLASS_LABELS else start
    config = PromptTuningConfig(
        num_virtual_tokens=virtual_tokens,
        task_type=task_type,
        prompt_tuning_init=kind.upper().replace("-", "_"),
        prompt_tuning_init_text=(start_text or task.instruction) if start == "text" else None,
    )
    base_model, tokenizer = load_base_model(base, task_type=task_type, **loading)
    torch.manual_seed(seed)
    rows = None
    if start == CLASS_LABELS:
        words = base_model.get_input_embeddings()
        rows = class_label_start(task.labels, tokenizer, words, config.total_virtual_tokens)
    return SoftPromptModel(base_model, config, tokenizer=tokenizer, start=rows)


# --------------------------------------------------------------------------------------------------- writing


def save_run(
    folder: Path,
    model: SoftPromptModel,
    task: Task,
    history: TrainingHistory,
    before: Evaluation,
    after: Evaluation,
    **record: Any,
) -> dict[str, Any]:
    """Write what the run did, then the adapter: a folder that holds an adapter is complete; return what task.json says.

    Args:
        before, after: measures of the untrained and of the trained prompt on the test split.
        record: plain values that `task.json` keeps too.
    """
    folder = user_path(folder)
    settings = {key: value for key, value in history.settings.items() if value is not None}
    described = {
        "name": task.name,
        "text_column": task.text_column,
        "labels": list(task.labels),
        "template": task.template,
        "longest_answer": max(map(len, task.label_ids(model.tokenizer, task.answers).values())),
        "dtype": dtype_name(model.base_model.dtype),
        **record,
        "settings": settings | {"seconds": round(history.seconds, 1)},
        "majority_baseline": after.majority_baseline,
        "untrained": _figures(before),
        "trained": _figures(after),
    }
    snapshots = {str(step): prompt.half() for step, prompt in history.snapshots.items()}
    atomic_write(folder / TASK_FILE, json.dumps(described, indent=2, ensure_ascii=False).encode())
    atomic_write(folder / HISTORY_FILE, history.to_pandas().to_csv(index=False).encode())
    atomic_write(folder / "predictions.csv", after.predictions.to_csv(index=False).encode())
    atomic_write(folder / SNAPSHOTS_FILE, save_tensors(snapshots))
    results = {
        "task": task.name,
        "type of the base model": described["dtype"],
        "test rows, untrained start": before,
        "test rows, trained prompt": after,
    }
    model.save_pretrained(folder, results=results)
    return described


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation's measures as plain JSON values."""
    elsewhere = ("predictions", "majority_baseline")
    return {name: value for name, value in vars(evaluation).items() if name not in elsewhere}


# --------------------------------------------------------------------------------------------------- reading


def saved_model(
    folder: Path, base: str | nn.Module | None = None, tokenizer: Any = None
) -> SoftPromptModel:
    """Return a saved prompt in front of `base`, a name or a loaded model, or of the base model that the folder names.

    The base that the folder names is loaded at the revision that it names.

    Raises:
        AdapterError: the folder is damaged or does not fit the base model.
        LabError: no base model is named, or it is not there.
    """
    if not isinstance(base, nn.Module):
        config, _ = load_adapter(folder)
        name = base or config.base_model_name_or_path
        if not name:
            raise LabError(f"{folder} names no base model; give one with --base.")
        revision = config.revision if name == config.base_model_name_or_path else None
        base, tokenizer = load_base_model(
            name, task_type=config.task_type.value, revision=revision or None
        )
    return SoftPromptModel.from_pretrained(base, folder, tokenizer=tokenizer, prompt_names=[])


def saved_task(folder: Path, template: str | None = None) -> Task:
    """Return the task that a prompt was trained on, without its rows; a folder that PEFT wrote has no labels.

    Raises:
        AdapterError: task.json is damaged.
        LabError: there is none and no `template` either.
    """
    saved = _read_task_file(folder)
    if template is None and not saved:
        raise LabError(
            f"{folder} has no {TASK_FILE}; say how a text is shown: --template 'Text : {{text}} Label : '."
        )
    rows = Dataset.from_dict({})
    labels = tuple(saved.get("labels", ()))
    name, column = saved.get("name", folder.name), saved.get("text_column", "text")
    return Task(name, rows, rows, rows, column, labels, template or saved["template"])


def answer_length(folder: Path) -> int:
    """Return how many tokens an answer of a saved prompt may have: a few more than the longest of its task."""
    longest = _read_task_file(folder).get("longest_answer")
    return longest + MORE_TOKENS if isinstance(longest, int) and longest > 0 else NEW_TOKENS


def _read_task_file(folder: Path) -> dict[str, Any]:
    """Return what `save_run` wrote about the task, its types checked; empty where there is no such file."""
    path = user_path(folder) / TASK_FILE
    if not os.path.lexists(path):
        return {}
    saved = read_json_object(path)
    usable = all(isinstance(saved.get(field), kind) for field, kind in TASK_FIELDS.items())
    if not usable or not all(isinstance(label, str) for label in saved["labels"]):
        raise AdapterError(
            f"{path} lacks a usable {', '.join(TASK_FIELDS)}. Train again, or delete it."
        )
    return saved


def saved_snapshots(folder: Path, shape: Sequence[int]) -> dict[int, Float[torch.Tensor, "P D"]]:
    """Return the prompt after each recorded step, in float32; empty where the run recorded none.

    Raises:
        AdapterError: the snapshots are damaged, not called by their steps, or of another shape than the prompt.
    """
    path = user_path(folder) / SNAPSHOTS_FILE
    snapshots = _read_beside(path, load_file) or {}
    for name, prompt in snapshots.items():
        if not name.isdecimal() or prompt.shape != tuple(shape) or not prompt.is_floating_point():
            kind = f"{dtype_name(prompt.dtype)} {tuple(prompt.shape)}"
            raise AdapterError(f"{path}: snapshot {name} is {kind}, the prompt {tuple(shape)}.")
    return {int(name): snapshots[name].float() for name in sorted(snapshots, key=int)}


def saved_history(folder: Path) -> pd.DataFrame | None:
    """Return `TrainingHistory.to_pandas` of the run, or None where it was not kept.

    Raises:
        AdapterError: history.csv is damaged.
    """
    read = partial(pd.read_csv, usecols=list(HISTORY_KINDS), dtype=HISTORY_KINDS)
    return _read_beside(user_path(folder) / HISTORY_FILE, read)


def _read_beside(path: Path, read: Callable[[Path], Any]) -> Any:
    """Return what is in a file beside the adapter, which does not need it; None where there is no such file."""
    if not os.path.lexists(path):
        return None
    try:
        return read(plain_file(path, MAX_BYTES))
    except (
        SafetensorError,
        ValueError,
        KeyError,
    ) as error:  # also of pandas, for a column or a text
        raise AdapterError(
            f"{path} is damaged ({error}); delete it to go on without it."
        ) from error


@dataclass(frozen=True)
class SavedRun:
    """A run read back.

    Attributes:
        name: the folder's.
        model: the trained prompt in front of its base model.
        task: with its rows where they come with this package, else without.
        snapshots: the prompt by step; the first may be the start, the last the end.
        history: one line a step, None where it was not kept.
        record: all of task.json: settings and measured figures, as they were written.
    """

    name: str
    model: SoftPromptModel
    task: Task
    snapshots: dict[int, Float[torch.Tensor, "P D"]]
    history: pd.DataFrame | None
    record: dict[str, Any]

    def __repr__(self) -> str:
        """What it is and how good, in two lines."""
        size, trained = " x ".join(map(str, self.model.prompt.shape)), self.record.get("trained")
        accuracy = trained.get("accuracy") if isinstance(trained, dict) else None
        figure = f", test accuracy {accuracy:.3f}" if isinstance(accuracy, float) else ""
        said = f"a prompt of {size} numbers for {self.task.name!r}{figure}"
        return f"SavedRun {self.name!r}: {said}\n  .model, .task, .snapshots ({len(self.snapshots)}), .history, .record"

    @property
    def start(self) -> Float[torch.Tensor, "P D"] | None:
        """The prompt before training, None where it was not kept."""
        return self.snapshots.get(0)

    @property
    def free(self) -> bool:
        """True if it was trained for the task alone, not as words and not towards a text."""
        return not {"words", "towards"} & set(self.record)


def saved_run(folder: Path, base: str | nn.Module | None = None, tokenizer: Any = None) -> SavedRun:
    """Return all of a run's folder; arguments and errors are those of `saved_model` and `saved_task`."""
    folder = user_path(folder)
    model, record = saved_model(folder, base, tokenizer), _read_task_file(folder)
    task = _with_shipped_rows(saved_task(folder), record)
    snapshots = saved_snapshots(folder, model.prompt.shape)
    return SavedRun(folder.name, model, task, snapshots, saved_history(folder), record)


def _with_shipped_rows(task: Task, record: dict[str, Any]) -> Task:
    """Return the saved task with its rows where they are on this machine; a folder cannot name a file to open.

    Nothing is fetched because a folder says so: there is a warning where texts would have to be.
    """
    name, column, seed = str(record.get("data")), record.get("label_column"), record.get("seed", 0)
    usable = isinstance(column, str | None) and isinstance(seed, int) and 0 <= seed < 2**32
    if name not in loaders().keys() - {RAFT} or not usable:
        return task
    if name in fetching.TEXTS and not fetching.is_fetched(name):
        warnings.warn(
            f"the rows of {name} are not on this machine: type `softprompt-lab fetch {name}`.",
            stacklevel=3,
        )
        return task
    found = load_task(name, label_column=column, seed=seed)
    return replace(found, template=task.template) if found.labels == task.labels else task


def answers(
    model: SoftPromptModel,
    task: Task,
    texts: Sequence[str],
    max_new_tokens: int = NEW_TOKENS,
    max_length: int = MAX_LENGTH,
) -> list[str]:
    """Return what the model writes after each text in its template, greedily, until its end token."""
    tokenizer = model.tokenizer
    short = task.cut(tokenizer, texts, max_length, stacklevel=2)
    asked = [(0, ids) for ids, _ in task.encode_whole(tokenizer, short, [None] * len(short))]
    prompts = model.prompts_of_rows(None, len(texts))
    return write_answers(model, prompts, asked, tokenizer, max_new_tokens)
