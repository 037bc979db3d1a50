"""Which base model a prompt belongs to: what the name and the revision in its folder stand for."""

import os
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from torch import nn

from ..config import PromptTuningConfig, revision_of
from . import fetching

ASSETS = Path(__file__).parents[1] / "assets"
SHIPPED = ("tiny", "tiny-seq2seq")
SNAPSHOT = re.compile(r".*/(models--[^/]+)/snapshots/([^/]+)")  # of a commit, in the hub's cache
MAIN = "main"  # the revision of a hub's repository that is loaded where none is named
SHOWN = 80  # characters of a name, the last ones, which tell more than the first


def folder_of(name: str) -> str | None:
    """Return the folder that a base model's name stands for, None for what is to be looked up on the hub."""
    if name in fetching.SOURCES:
        return str(fetching.cache_folder() / name)
    folder = str(ASSETS / name) if name in SHIPPED else os.path.expanduser(name)
    return folder if os.path.isdir(folder) else None


def check_base(
    configs: Sequence[PromptTuningConfig], base_model: nn.Module, source: str | Path | None = None
) -> None:
    """Warn where prompts were made for another base model than this one, and let their configurations forget it.

    `PromptTuningConfig.completed_for` then reads off this one what they forgot. Two names of one place are the same
    base: a folder by any of its paths, "smollm2" and its folder, a hub id and its snapshot in the cache. Nothing is
    said of a name or a revision that one side does not know.

    Args:
        source: the folder that the configurations come from, where no revision means the hub's default; None for a
            new one, which may leave the revision out. Each other base is named once.
    """
    unsaid, level = (None, 5) if source is None else (MAIN, 4)
    told = {
        "; ".join(_other_name(config, base_model, unsaid) + _other_sizes(config, base_model))
        for config in configs
    }
    for said in sorted(told - {""}):
        warnings.warn(
            f"{source or 'the configuration'} was made for another base model: {said}. A prompt is of use in "
            "front of its own base only; where both are the same model, save it again.",
            stacklevel=level,  # the caller's line
        )


def _other_name(config: PromptTuningConfig, base_model: nn.Module, unsaid: str | None) -> list[str]:
    """Return what to say of another name or revision, which the configuration loses; empty if it is the same base."""
    here, given = getattr(base_model, "name_or_path", ""), config.base_model_name_or_path
    if not here:
        return []
    ours = hasattr(base_model, "revision")  # of `load_base_model`, and None is main
    made_for, revision = given or here, config.revision or (unsaid if given else None)
    at = revision_of(base_model) or (MAIN if ours else None)
    (place, commit), (place_here, commit_here) = _origin(made_for, revision), _origin(here, at)
    unknown = None in (commit, commit_here) or (commit == MAIN and not ours)
    if place == place_here and (unknown or commit == commit_here):
        if folder_of(made_for):  # it has no revisions, also where main is named
            config.revision = None
        elif made_for != here and not config.revision and _origin(given, MAIN)[1] != commit_here:
            config.revision = commit_here  # of a snapshot's folder
        return []
    config.base_model_name_or_path = config.revision = None
    if config.tokenizer_name_or_path == given:
        config.tokenizer_name_or_path = None
    unshown = None if made_for == here and not folder_of(here) else MAIN
    return [f"{_shown(made_for, revision, unshown)}, not {_shown(here, at, unshown)}"]


def _other_sizes(config: PromptTuningConfig, base_model: nn.Module) -> list[str]:
    """Return what to say of other numbers of layers and heads, which the configuration loses."""
    shape, told = base_model.config.get_text_config(), []
    for field, name in (("num_layers", "num_hidden_layers"), ("num_attention_heads",) * 2):
        size = getattr(shape, name, None)  # Mamba has no heads
        if size is not None and getattr(config, field) not in (None, size):
            told.append(f"{field} is {getattr(config, field)}, not {size}")
            setattr(config, field, None)
    return told


def _origin(name: str, revision: str | None) -> tuple[str, str | None]:
    """Return the folder or the hub's repository that a base model comes from, and its commit as far as it is known."""
    folder = folder_of(name)
    found = os.path.realpath(folder) if folder else os.path.normpath(os.path.expanduser(name))
    place = Path(found).as_posix()
    if snapshot := SNAPSHOT.fullmatch(place):
        return snapshot[1], snapshot[2] if revision in (None, MAIN) else revision
    if folder is None:
        with suppress(OSError, ValueError):  # of a path on another machine
            cached = revision and try_to_load_from_cache(place, "config.json", revision=revision)
            if cached and isinstance(cached, str):
                revision = Path(cached).parent.name
        place = f"models--{place.replace('/', '--')}"
    return place, revision


def _shown(name: str, revision: str | None, unshown: str | None) -> str:
    """Return a base model's name as a message has it, with the revision unless it is `unshown`."""
    short = name if len(name) <= SHOWN else f"...{name[-SHOWN:]}"
    return repr(short) + (f" at revision {revision!r}" if revision not in (None, unshown) else "")
