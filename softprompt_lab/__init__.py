"""Soft prompts, from the concatenation of two tensors to a saved adapter that PEFT loads."""

import sys
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that defines it, in teaching order. Imported at first use, so that
# `softprompt-lab --help` does not wait for torch.
_HOMES = {
    "load_base_model": "bases.loading",
    "load_task": "data.loading",
    "Task": "tasks",
    "concatenate_prompt": "embedding",
    "PromptTuningConfig": "config",
    "PromptTuningInit": "config",
    "TaskType": "config",
    "PromptEmbedding": "embedding",
    "SoftPromptModel": "model",
    "get_soft_prompt_model": "model",
    "train": "training",
    "TrainingHistory": "training",
    "evaluate": "evaluation",
    "Evaluation": "evaluation",
    "save_adapter": "saving",
    "load_adapter": "saving",
    "nearest_tokens": "reading",
    "LabError": "errors",
    "AdapterError": "errors",
}

__all__ = list(_HOMES)


def room(target: str, default: Any = None) -> Any:
    """Return a name of a room, one of the package's folders, imported at first use: `room("heads.classify:Head")`.

    No file of the core imports a folder in another way, so the files work alone: `default` stands in for a room that
    is not there.
    """
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if default is None or error.name != f"{__name__}.{module.split('.')[0]}":
            raise
        return default


def __getattr__(name: str) -> object:
    """The public name, imported from its module at first use and kept (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names and the version, for completion."""
    return [*__all__, "__version__"]


if "ipykernel" in sys.modules:  # a notebook: our errors are shown as cards
    room("cards:install", default=lambda: None)()
