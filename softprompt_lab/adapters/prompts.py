"""A model's prompts in one folder, laid out as PEFT does: the one called "default" in it, each other in `<name>/`."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import PROMPT_NAME, PromptTuningConfig
from ..errors import AdapterError
from ..heads.classify import Head
from ..model import DEFAULT_NAME, SoftPromptModel
from .folder import READ_FILES, adapters_below, load_adapter_with_head, save_adapter
from .hub import local_folder, push

Saved = tuple[
    PromptTuningConfig, torch.Tensor, dict[str, torch.Tensor]
]  # what `load_adapter_with_head` gives
CHECKPOINT = re.compile(r"checkpoint-\d+")


def place_of(folder: Path, name: str) -> Path:
    """Where the prompt called `name` lies."""
    return folder if name == DEFAULT_NAME else folder / name


def save_prompts(
    model: SoftPromptModel, folder: str | Path, safe_serialization: bool, card: Mapping
) -> Path:
    """Write every prompt with its head, the default one last; each folder is written whole or not at all.

    A sub-folder of an earlier save stays, as whatever else lies there.
    """
    folder = Path(folder)
    for name in reversed(list(model.prompts)):
        save_adapter(
            place_of(folder, name),
            model.configs[name],
            model.prompts[name].embedding.weight,
            head=model.heads[name].weights(),
            safe_serialization=safe_serialization,
            **(card if name == model.active_prompt else {}),
        )
    return folder


def load_prompts(
    model_class: type[SoftPromptModel],
    base_model: nn.Module,
    source: str | Path,
    *,
    tokenizer,
    task_id: int | None,
    revision: str | None,
    prompt_names: Sequence[str] | None,
) -> SoftPromptModel:
    """`SoftPromptModel.from_pretrained`: everything is read and checked before the base model is touched."""
    if prompt_names is None and task_id is not None:  # the number of a task is of one prompt
        prompt_names = []
    with local_folder(
        source, revision, READ_FILES, sub_folders=prompt_names is None or any(prompt_names)
    ) as folder:
        if prompt_names is None:
            prompt_names = [name for name in adapters_below(folder) if _is_a_prompts(name)]
        names = [DEFAULT_NAME, *prompt_names]
        saved = {
            name: load_adapter_with_head(place_of(folder, name), task_id=task_id) for name in names
        }
    config, tensor, head = saved.pop(DEFAULT_NAME)
    with _fitting(source):
        model = model_class(base_model, config, tokenizer=tokenizer, start=tensor)
        _load_head(model.base_model, model.heads[DEFAULT_NAME], head)
    for name, each in saved.items():
        place = place_of(Path(source), name)
        with _fitting(place):  # a name that no prompt can have is the folder's fault here
            _put(model, name, each, place)
    return model


def load_prompt(
    model: SoftPromptModel,
    source: str | Path,
    name: str,
    *,
    task_id: int | None,
    revision: str | None,
) -> None:
    """`SoftPromptModel.load_prompt`: the folder's own prompt; the model is as it was where it does not fit."""
    with local_folder(source, revision, READ_FILES) as folder:
        saved = load_adapter_with_head(folder, task_id=task_id)
    _put(model, name, saved, source)


def _put(model: SoftPromptModel, name: str, saved: Saved, source: str | Path) -> None:
    """Put what was read beside a model's prompts."""
    config, tensor, weights = saved
    with _fitting(source):
        prompt, head, config = model.new_prompt(config, tensor)
        _load_head(model.base_model, head, weights)
    model.put_prompt(name, prompt, head, config)


@contextmanager
def _fitting(source: str | Path) -> Iterator[None]:
    """Name the folder whose prompt does not fit."""
    try:
        yield
    except ValueError as error:
        raise AdapterError(f"{source} does not fit this base model: {error}") from error


def _is_a_prompts(name: str) -> bool:
    """True for a sub-folder that `save_prompts` may have made; Trainer's `checkpoint-10` beside it is another thing."""
    return (
        PROMPT_NAME.fullmatch(name) is not None
        and name != DEFAULT_NAME
        and not CHECKPOINT.fullmatch(name)
    )


def _load_head(base_model: nn.Module, head: Head, weights: dict[str, torch.Tensor]) -> None:
    """Fill a head; ValueError for a saved weight that is no head's and differs from the base model's own."""
    head.load(weights)
    weights = {name: weight for name, weight in weights.items() if name not in head.names}
    own = base_model.state_dict()
    for name, weight in sorted(weights.items()):
        there = own.get(name)
        if (
            there is None
            or there.shape != weight.shape
            or not torch.equal(there.cpu(), weight.to(there.dtype))
        ):
            raise ValueError(
                f"another {name} of shape {tuple(weight.shape)} is saved with it (PEFT saves resized word embeddings); "
                "give it to the base model first: base_model.load_state_dict({...}, strict=False)."
            )


def push_prompts(
    model: SoftPromptModel, repo_id: str, results: Mapping[str, Any] | None, **options: Any
) -> str:
    """Save every prompt and send the folder to the hub (`hub.push`)."""
    with tempfile.TemporaryDirectory(prefix="softprompt-lab-") as folder:
        return push(save_prompts(model, folder, True, {"results": results}), repo_id, **options)
