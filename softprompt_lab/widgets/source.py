"""What a widget is opened on: a folder, a prompt of the zoo, a run or a model; one base model in memory for all."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from jaxtyping import Float

from ..errors import LabError
from ..model import SoftPromptModel
from ..runs import zoo
from ..runs.saved import SavedRun, saved_run
from ..saving import load_adapter
from ..tasks import Task
from ..training import TrainingHistory

Prompt = str | Path | SavedRun | SoftPromptModel
_OPENED: WeakValueDictionary[tuple, SoftPromptModel] = WeakValueDictionary()  # by base and revision


def opened(prompt: Prompt, task: Task | None = None) -> SavedRun:
    """Return a prompt as a run; folders on one base model share it as long as one of them is in use.

    Args:
        prompt: a run's folder, "zoo:NAME", what `zoo.load` returned, or a model with its active prompt.
        task: in place of the run's own; a model has none.

    Raises:
        LabError, AdapterError: as `zoo.load`.
        ValueError: something else was given.
    """
    if isinstance(prompt, SoftPromptModel):
        run = SavedRun(prompt.active_prompt, prompt, task, {}, None, {})
    elif isinstance(prompt, SavedRun):
        run = prompt
    elif isinstance(prompt, str | Path):
        run = _read(zoo.located(str(prompt)))
    else:
        raise ValueError(
            f"a {type(prompt).__name__} was given; give a run's folder, 'zoo:NAME' or a SoftPromptModel."
        )
    return run if task is None else replace(run, task=task)


def _read(folder: Path) -> SavedRun:
    """Return a run on the base model that an open widget has in memory, or on a newly loaded one."""
    config, _ = load_adapter(folder)
    base = config.base_model_name_or_path, config.revision
    known = _OPENED.get(base)
    run = saved_run(folder, *((known.base_model, known.tokenizer) if known is not None else ()))
    _OPENED[base] = run.model
    return run


def with_rows(run: SavedRun, split: str) -> Task:
    """Return a run's task; LabError where it lacks the rows that a widget measures."""
    if run.task is None or not len(run.task.split(split)):
        raise LabError(
            f"the rows of {run.name} are not here; pass them: task=load_task('your.csv', ...)."
        )
    return run.task


def vectors(run: SavedRun) -> Float[torch.Tensor, "P D"]:
    """Return the trained prompt, in float32."""
    return run.model.prompt.detach().float().clone()


def snapshots_of(
    run: SavedRun, given: TrainingHistory | Mapping[int, torch.Tensor] | None
) -> dict[int, torch.Tensor]:
    """Return the prompt by training step: what was given, the run's, or the prompt as it is (step 0)."""
    kept = given.snapshots if isinstance(given, TrainingHistory) else given or run.snapshots
    return {step: kept[step].detach() for step in sorted(kept)} or {0: vectors(run)}
