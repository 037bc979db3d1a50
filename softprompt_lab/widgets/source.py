"""What a widget is opened on: a folder, a prompt of the zoo, a run or a model; one base model in memory for all."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from jaxtyping import Float
from torch import nn

from ..errors import LabError
from ..model import SoftPromptModel
from ..runs import zoo
from ..runs.saved import TASK_FILE, SavedRun, saved_model, saved_run, saved_snapshots
from ..saving import load_adapter
from ..tasks import Task

Prompt = str | Path | SavedRun | SoftPromptModel
_BASES: WeakValueDictionary[tuple, nn.Module] = WeakValueDictionary()  # by name and revision
_TOKENIZERS: WeakKeyDictionary[nn.Module, object] = WeakKeyDictionary()  # of these


def opened(prompt: Prompt, task: Task | None = None) -> SavedRun:
    """Return a prompt as a run; folders on one base model share it as long as one of them is in use.

    Args:
        prompt: a run's folder or one that PEFT wrote, "zoo:NAME", what `zoo.load` returned, or a model with its active
            prompt.
        task: in place of the run's own; a model and PEFT's folders have none.

    Raises:
        LabError, AdapterError: as `zoo.load`.
        ValueError: something else was given.
    """
    if isinstance(prompt, SoftPromptModel):
        run = SavedRun(prompt.active_prompt, prompt, task, {}, None, {})
    elif isinstance(prompt, SavedRun):
        run = prompt
    elif isinstance(prompt, str | Path):
        if str(prompt) in zoo.names() and not Path(prompt).exists():
            raise LabError(
                f"there is no folder {str(prompt)!r}; the zoo's is '{zoo.PREFIX}{prompt}'."
            )
        run = _read(zoo.located(str(prompt)))
    else:
        raise ValueError(
            f"a {type(prompt).__name__} was given; give a run's folder, 'zoo:NAME' or a SoftPromptModel."
        )
    return run if task is None else replace(run, task=task)


def _read(folder: Path) -> SavedRun:
    """Return a run on the base model that an open widget has in memory, or on a newly loaded one."""
    config, _ = load_adapter(folder)
    name = config.base_model_name_or_path, config.revision, config.task_type
    base = _BASES.get(name)
    given = (base, _TOKENIZERS[base]) if base is not None else ()
    if (folder / TASK_FILE).exists():
        run = saved_run(folder, *given)
    else:
        model = saved_model(folder, *given)
        snapshots = saved_snapshots(folder, model.prompt.shape)
        run = SavedRun(folder.name, model, None, snapshots, None, {})
    _BASES[name] = run.model.base_model
    _TOKENIZERS[run.model.base_model] = run.model.tokenizer
    return run


def opened_together(prompts: Sequence[Prompt], task: Task | None = None) -> list[SavedRun]:
    """Return several prompts as runs.

    Raises:
        ValueError: there is none, or they are prompts for several base models.
    """
    runs = [opened(each, task) for each in prompts]
    names = {run.model.base_model.name_or_path: None for run in runs}
    if len(names) != 1:
        raise ValueError(f"{len(runs)} prompts, for {len(names)} base models: {', '.join(names)}.")
    return runs


def with_rows(run: SavedRun, split: str) -> Task:
    """Return a run's task; LabError where it lacks the rows that a widget needs."""
    if run.task is None or not len(run.task.split(split)):
        raise LabError(
            f"the {split} rows of {run.name} are not here; pass them: task=load_task('your.csv', ...)."
        )
    return run.task


def vectors(run: SavedRun) -> Float[torch.Tensor, "P D"]:
    """Return the trained prompt, in float32."""
    return run.model.prompt.detach().float().clone()


def is_of_zoo(run: SavedRun) -> bool:
    """Return whether a run is the zoo's prompt of its name."""
    if run.name not in zoo.names():
        return False
    return torch.equal(load_adapter(zoo.folder(run.name))[1], vectors(run).cpu())
