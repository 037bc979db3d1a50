"""A run of `softprompt-lab train`: its untrained model, and the folder that holds prompt, task and history.

The folder is PEFT's, with four files beside PEFT's three: `task.json` (template, labels, settings, results),
`history.csv`, `predictions.csv` and `snapshots.safetensors`.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
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

from ..bases.loading import dtype_name, load_base_model
from ..config import PromptTuningConfig
from ..data.loading import load_task
from ..embedding import class_label_start
from ..errors import AdapterError, LabError
from ..evaluation import Evaluation
from ..model import SoftPromptModel
from ..saving import atomic_write, load_adapter, plain_file, read_json_object
from ..tasks import Task
from ..training import TrainingHistory

TASK_FILE = "task.json"
SNAPSHOTS_FILE = "snapshots.safetensors"  # key: the step; value: the prompt (P, D) after it
HISTORY_FILE = "history.csv"
HISTORY_COLUMNS = ("step", "loss", "validation_loss", "validation_accuracy")
SHIPPED_DATA = ("complaints", "shop")  # rows that need no file and no network
STARTS = ("text", "sample-vocab", "random", "class-labels")
MAX_SNAPSHOTS_BYTES = 4_000_000_000
MAX_HISTORY_BYTES = 100_000_000


def new_model(
    base: str,
    task: Task,
    *,
    task_type: str = "CAUSAL_LM",
    virtual_tokens: int = 20,
    start: str = "text",
    start_text: str | None = None,
    seed: int = 0,
    dtype: str = "auto",
) -> SoftPromptModel:
    """A base model with an untrained prompt in front, for one task.

    `start` is one of STARTS; a "text" start without `start_text` is an instruction that names the labels.

    Raises:
        LabError: a base model that is not there, or a start text for another start.
        ValueError: an unknown start or task type, or a prompt length that cannot be.
    """
    config = _start_config(
        task, start, start_text, num_virtual_tokens=virtual_tokens, task_type=task_type
    )
    base_model, tokenizer = load_base_model(base, task_type=task_type, dtype=dtype)
    torch.manual_seed(seed)
    rows = None
    if start == "class-labels":
        words = base_model.get_input_embeddings()
        rows = class_label_start(task.labels, tokenizer, words, config.total_virtual_tokens)
    return SoftPromptModel(base_model, config, tokenizer=tokenizer, start=rows)


def model_of_vectors(
    base: str, vectors: Float[torch.Tensor, "P D"], task_type: str = "CAUSAL_LM"
) -> SoftPromptModel:
    """A base model behind vectors that were made elsewhere.

    Raises:
        LabError: a base model that is not there.
        ValueError: the vectors have another width than its word embeddings, or an unknown task type.
    """
    sizes = {"num_virtual_tokens": len(vectors), "token_dim": vectors.shape[1]}
    config = PromptTuningConfig(
        task_type=task_type, prompt_tuning_init="RANDOM", **sizes
    )  # PEFT has no word for it
    base_model, tokenizer = load_base_model(base, task_type=task_type)
    return SoftPromptModel(base_model, config, tokenizer=tokenizer, start=vectors)


def _start_config(
    task: Task, start: str, start_text: str | None, **sizes: Any
) -> PromptTuningConfig:
    """The configuration of a start; PEFT has no name for class labels, whose other rows are sampled."""
    if start not in STARTS:
        raise ValueError(f"start={start!r} is unknown; choose one of: {', '.join(STARTS)}.")
    if start == "text":
        return PromptTuningConfig(prompt_tuning_init_text=start_text or task.instruction, **sizes)
    if start_text is not None:
        raise LabError(f"A start text goes with the start 'text', not with {start!r}.")
    return PromptTuningConfig(
        prompt_tuning_init="RANDOM" if start == "random" else "SAMPLE_VOCAB", **sizes
    )


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation's measures as plain JSON values."""
    names = ("accuracy", "macro_f1", "exact_match", "loss", "n")
    return {name: getattr(evaluation, name) for name in names} | {
        "confidence_interval": list(evaluation.confidence_interval)
    }


# --------------------------------------------------------------------------------------------------- writing


def save_run(
    folder: Path,
    model: SoftPromptModel,
    task: Task,
    history: TrainingHistory,
    before: Evaluation,
    after: Evaluation,
    *,
    compact: bool = False,
    **record: Any,
) -> None:
    """Write what the run did, then the adapter: a folder that holds an adapter is complete.

    `before` and `after` measure the untrained and the trained prompt on the test split; `record` holds plain
    values for `task.json`. `compact` keeps the snapshots in float16 and leaves the predictions out; the adapter
    stays as exact as it was trained.
    """
    settings = {key: value for key, value in history.settings.items() if value is not None}
    described = {
        "name": task.name,
        "text_column": task.text_column,
        "labels": list(task.labels),
        "template": task.template,
        "dtype": dtype_name(model.base_model.dtype),
        **record,
        "settings": settings | {"seconds": round(history.seconds, 1)},
        "majority_baseline": after.majority_baseline,
        "untrained": figures(before),
        "trained": figures(after),
    }
    kept_in = torch.float16 if compact else torch.float32
    snapshots = {
        str(step): prompt.to(kept_in).contiguous() for step, prompt in history.snapshots.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / TASK_FILE, json.dumps(described, indent=2, ensure_ascii=False).encode())
    atomic_write(folder / HISTORY_FILE, history.to_pandas().to_csv(index=False).encode())
    if not compact:
        atomic_write(folder / "predictions.csv", after.predictions.to_csv(index=False).encode())
    atomic_write(folder / SNAPSHOTS_FILE, save_tensors(snapshots))
    model.save_pretrained(folder, results=_card(model, task, before, after))


def _card(
    model: SoftPromptModel, task: Task, before: Evaluation, after: Evaluation
) -> dict[str, str]:
    """The measured figures on the adapter's card, each beside its baselines, and the type of the base model."""
    low, high = after.confidence_interval
    return {
        "task": task.name,
        "type of the base model": dtype_name(model.base_model.dtype),
        "test accuracy": f"{after.accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}, n = {after.n})",
        "test macro-F1": f"{after.macro_f1:.3f}",
        "test accuracy of the untrained start": f"{before.accuracy:.3f}",
        "test accuracy of the majority class": f"{after.majority_baseline:.3f}",
    }


# --------------------------------------------------------------------------------------------------- reading


def saved_model(folder: Path, base: str | None = None) -> SoftPromptModel:
    """A saved prompt in front of its base model, or of `base`.

    Raises:
        AdapterError: the folder is damaged or does not fit the base model.
        LabError: no base model is named, or it is not there.
    """
    config, _ = load_adapter(folder)
    name = base or config.base_model_name_or_path
    if not name:
        raise LabError(f"{folder} names no base model; give one with --base.")
    base_model, tokenizer = load_base_model(name, task_type=config.task_type.value)
    return SoftPromptModel.from_pretrained(base_model, folder, tokenizer=tokenizer, prompt_names=[])


def saved_task(folder: Path, template: str | None = None) -> Task:
    """The task that a prompt was trained on, without its rows; a folder that PEFT wrote has no labels.

    Raises:
        AdapterError: task.json is damaged.
        LabError: there is none and no `template` either.
    """
    saved = _read_task_file(folder / TASK_FILE)
    if template is None and not saved:
        raise LabError(
            f"{folder} has no {TASK_FILE}; say how a text is shown: --template 'Text : {{text}} Label : '."
        )
    rows = Dataset.from_dict({})
    labels = tuple(saved.get("labels", ()))
    name, column = saved.get("name", folder.name), saved.get("text_column", "text")
    return Task(name, rows, rows, rows, column, labels, template or saved["template"])


def _read_task_file(path: Path) -> dict[str, Any]:
    """What `save_run` wrote about the task, its types checked; empty where there is no such file."""
    if not os.path.lexists(path):
        return {}
    saved = read_json_object(path)
    kinds = {"name": str, "text_column": str, "template": str, "labels": list}
    usable = all(isinstance(saved.get(key), kind) for key, kind in kinds.items())
    if not usable or not all(isinstance(label, str) for label in saved["labels"]):
        raise AdapterError(f"{path} lacks a usable {', '.join(kinds)}. Train again, or delete it.")
    return saved


def saved_snapshots(folder: Path, shape: Sequence[int]) -> dict[int, Float[torch.Tensor, "P D"]]:
    """The prompt as it was along the way, in float32, by step; empty where the run recorded none.

    Raises:
        AdapterError: the snapshots are damaged, not called by their steps, or of another shape than the prompt.
    """
    path = folder / SNAPSHOTS_FILE
    if not os.path.lexists(path):
        return {}
    try:
        found = load_file(plain_file(path, MAX_SNAPSHOTS_BYTES))
    except SafetensorError as error:
        raise AdapterError(
            f"{path} is damaged ({error}); delete it to go on without it."
        ) from error
    for step, prompt in found.items():
        if not (step.isascii() and step.isdigit() and prompt.is_floating_point()):
            raise AdapterError(
                f"{path} holds {step!r} of {prompt.dtype}; a snapshot is called by its step."
            )
        if tuple(prompt.shape) != tuple(shape):
            raise AdapterError(
                f"{path}: snapshot {step} is {tuple(prompt.shape)}, the prompt {tuple(shape)}."
            )
    return {int(step): found[step].float() for step in sorted(found, key=int)}


def saved_start(folder: Path, shape: Sequence[int]) -> Float[torch.Tensor, "P D"] | None:
    """The prompt before training where the run recorded it; raises what `saved_snapshots` does."""
    return saved_snapshots(folder, shape).get(0)


def saved_history(folder: Path) -> pd.DataFrame | None:
    """`TrainingHistory.to_pandas` of the run, or None where it was not kept.

    Raises:
        AdapterError: history.csv is damaged.
    """
    path = folder / HISTORY_FILE
    if not os.path.lexists(path):
        return None
    try:
        table = pd.read_csv(plain_file(path, MAX_HISTORY_BYTES))[list(HISTORY_COLUMNS)]
        return table.astype({"step": int} | dict.fromkeys(HISTORY_COLUMNS[1:], float))
    except (
        ValueError,
        KeyError,
    ) as error:  # what pandas says of a damaged table, of a text and of a missing column
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
        start: the prompt before training, None where it was not kept.
        snapshots: the prompt by step; the first may be the start, the last the end.
        history: one line a step, None where it was not kept.
        record: all of task.json: settings and measured figures, as they were written.
    """

    name: str
    model: SoftPromptModel
    task: Task
    start: Float[torch.Tensor, "P D"] | None
    snapshots: dict[int, Float[torch.Tensor, "P D"]]
    history: pd.DataFrame | None
    record: dict[str, Any]

    @property
    def free(self) -> bool:
        """True if it was trained for the task alone, not as words and not towards a text."""
        return not {"words", "towards"} & set(self.record)


def saved_run(folder: Path, base_model: nn.Module | None = None, tokenizer: Any = None) -> SavedRun:
    """All of a run's folder, in front of `base_model`, or of the base model that it names.

    Raises:
        AdapterError: a file is damaged or does not fit.
        LabError: the base model, or what says how a text is shown, is not there.
    """
    if base_model is None:
        model = saved_model(folder)
    else:
        model = SoftPromptModel.from_pretrained(
            base_model, folder, tokenizer=tokenizer, prompt_names=[]
        )
    task, record = saved_task(folder), _read_task_file(folder / TASK_FILE)
    snapshots = saved_snapshots(folder, model.prompt.shape)
    rows = _shipped_rows(task, record)
    return SavedRun(
        folder.name, model, rows, snapshots.get(0), snapshots, saved_history(folder), record
    )


def _shipped_rows(task: Task, record: dict[str, Any]) -> Task:
    """The saved task with its rows where they come with this package; a folder cannot name a file to be opened."""
    column = record.get("label_column")
    if record.get("data") not in SHIPPED_DATA or not isinstance(column, str | None):
        return task
    found = load_task(record["data"], label_column=column)
    return replace(found, template=task.template) if found.labels == task.labels else task


def answer(model: SoftPromptModel, task: Task, text: str, max_new_tokens: int = 10) -> str:
    """What the model writes behind a text in its template, greedily, until its end token."""
    tokenizer = model.tokenizer
    context, _ = task.encode(tokenizer, text)
    ids = torch.tensor([context], device=model.device)
    end = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    tokens = model.generate(ids, max_new_tokens=max_new_tokens, do_sample=False, **end)[0]
    new = tokens if model.base_model.config.is_encoder_decoder else tokens[len(context) :]
    return tokenizer.decode(new, skip_special_tokens=True).strip()
