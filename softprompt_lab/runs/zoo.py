"""Prompts that are trained already: every instrument opens on them at once. README.md of the folder has their figures.

A prompt of the zoo is a run's folder like any other (`runs.py`), made by `tools/build_zoo.py` on smollm2.
"""

from pathlib import Path
from typing import Any

from torch import nn

from ..errors import LabError
from ..saving import read_json_object, user_path
from .saved import TASK_FILE, SavedRun, saved_run

PREFIX = "zoo:"  # what a name has in front where a folder could be meant
FOLDER = Path(__file__).parents[1] / "assets" / "zoo"


def names() -> list[str]:
    """The prompts that there are, in the order of the alphabet."""
    return sorted(path.parent.name for path in FOLDER.glob("*/adapter_config.json"))


def folder(name: str) -> Path:
    """Where a prompt lies, for `model.load_prompt(zoo.folder(name), name)`, PEFT and the command line.

    Raises:
        LabError: there is none of that name.
    """
    if name not in names():
        raise LabError(f"the zoo has no prompt {name!r}; choose one of: {', '.join(names())}.")
    return FOLDER / name


def records(task: str) -> dict[str, dict[str, Any]]:
    """What task.json says of each prompt that was trained on a task, by the prompt's name; no model is loaded."""
    found = {name: read_json_object(FOLDER / name / TASK_FILE) for name in names()}
    return {name: record for name, record in found.items() if record["name"] == task}


def located(given: str) -> Path:
    """A path as it is given, or for `zoo:NAME` where that prompt lies.

    Raises:
        LabError: there is none of that name.
    """
    return folder(given.removeprefix(PREFIX)) if given.startswith(PREFIX) else user_path(given)


def load(name: str, base_model: nn.Module | None = None, tokenizer: Any = None) -> SavedRun:
    """A prompt with its base model, task, start, snapshots and measured figures.

    Args:
        base_model, tokenizer: those of a run loaded earlier, for several prompts on one base; by default smollm2 is
            loaded, and fetched on first use.

    Raises:
        LabError: there is none of that name, or smollm2 is not there and cannot be fetched.
        AdapterError: the folder is damaged.
    """
    return saved_run(folder(name), base_model, tokenizer)
