"""Checks of exercises that teach when they fail, hints, and the comparison of two tensors.

A chapter's checks stand in `course/chapter_NN.py`, one function each under `@exercise("NN-1", hint=...)`. A
check gets what the reader hands to `check`, raises `Wrong` with a sentence that says what is wrong and how it
shows, and returns a sentence that says what the right answer shows.
"""

import functools
import importlib
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import LabError
from .settings import settings


class Wrong(Exception):
    """An answer is wrong: the message tells the reader how it shows."""


class NotAttempted(Exception):
    """The stub stands as it was."""


@dataclass(frozen=True)
class Verdict:
    """The result of a check: true where it passed; at the end of a cell it shows nothing."""

    name: str

    def __bool__(self) -> bool:
        return self == PASSED

    def _ipython_display_(self) -> None:
        """Show nothing: what there is to say has been printed."""


PASSED, FAILED, NOT_ATTEMPTED = map(Verdict, ("passed", "failed", "not attempted"))


@dataclass(frozen=True)
class Exercise:
    """A registered exercise."""

    exercise_id: str
    check: Callable[..., str]
    hint: str


_REGISTRY: dict[str, Exercise] = {}


def exercise(exercise_id: str, *, hint: str) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Register the decorated function as the check of an exercise such as "02-1"."""

    def register(function: Callable[..., str]) -> Callable[..., str]:
        known = _REGISTRY.get(exercise_id)
        if (
            known and known.check.__qualname__ != function.__qualname__
        ):  # a reload of the module is no clash
            raise ValueError(
                f"exercise {exercise_id!r} is checked by {known.check.__name__} already."
            )
        _REGISTRY[exercise_id] = Exercise(exercise_id, function, inspect.cleandoc(hint))
        return function

    return register


def exercise_ids(chapter: str) -> list[str]:
    """Return the ids of a chapter's exercises, ["02-1", "02-2"] for "02"; empty where there are none."""
    module = f"{__package__}.chapter_{chapter}"
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
    return sorted(key for key in _REGISTRY if key.startswith(f"{chapter}-"))


def _find(exercise_id: str) -> Exercise:
    """Return an exercise, or raise LabError with the ids that its chapter has."""
    known = exercise_ids(exercise_id.partition("-")[0])
    if exercise_id not in known:
        raise LabError(
            f"there is no exercise {exercise_id!r}; this chapter has {', '.join(known) or 'none'}."
        )
    return _REGISTRY[exercise_id]


def _is_blank(value: Any) -> bool:
    """Tell whether a value is what a stub leaves: `...`, None, or a tuple or list that holds one."""
    if isinstance(value, tuple | list):
        return any(_is_blank(item) for item in value)
    return value is ... or value is None


def _watched(answer: Any) -> Any:
    """Return an answer; a function becomes one that raises NotAttempted where it returns as a stub does."""
    if _is_blank(answer):
        raise NotAttempted
    if not isinstance(answer, types.FunctionType):
        return answer

    @functools.wraps(answer)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = answer(*args, **kwargs)
        if _is_blank(result):
            raise NotAttempted
        return result

    return call


def check(exercise_id: str, *answers: Any) -> Verdict:
    """Check the answers to an exercise and print what was found.

    A stub left alone prints that it was not attempted. Nothing raises, unless SOFTPROMPT_LAB_STRICT=1 asks
    for an AssertionError at everything but a pass, which is how the solved notebooks are run.
    """
    entry, cause = _find(exercise_id), None
    try:
        message = f"passed. {entry.check(*map(_watched, answers))}"
        verdict = PASSED
    except (NotAttempted, NotImplementedError) as error:
        message, verdict, cause = (
            "not attempted yet: write your answer above, then run this cell.",
            None,
            error,
        )
        verdict = NOT_ATTEMPTED
    except Wrong as error:
        message, verdict, cause = f"not yet. {error}", FAILED, error
    except (
        Exception
    ) as error:  # the reader's code runs here: whatever it raises is an answer to explain
        message = f"not yet. Your answer stopped with {type(error).__name__}: {error}"
        verdict, cause = FAILED, error
    if verdict is FAILED:
        message += f'\nFor a hint run course.hint("{exercise_id}") in a cell of its own.'
    if settings().strict and not verdict:
        raise AssertionError(f"{exercise_id} {message}") from cause
    print(f"{exercise_id} {message}")
    return verdict


def hint(exercise_id: str) -> None:
    """Print the hint of an exercise."""
    print(f"Hint for {exercise_id}: {_find(exercise_id).hint}")


def compare(name: str, ours: Any, theirs: Any, tolerance: float = 1e-5) -> Verdict:
    """Print whether two tensors are equal exactly, equal up to `tolerance`, and their largest difference.

    Source: the `cmp` of Karpathy's "Neural Networks: Zero to Hero", lecture 5.
    """
    ours, theirs = (torch.as_tensor(value).detach().cpu() for value in (ours, theirs))
    if ours.shape != theirs.shape:
        print(f"{name}: shapes differ, ours {tuple(ours.shape)}, theirs {tuple(theirs.shape)}")
        return FAILED
    difference = (ours.double() - theirs.double()).abs().max().item() if ours.numel() else 0.0
    exact, close = torch.equal(ours, theirs), difference <= tolerance  # a NaN is neither
    yes = {True: "yes", False: "no"}
    near = f"within {tolerance:g} {yes[close]}"
    print(f"{name}: exact {yes[exact]} | {near} | largest difference {difference:.3g}")
    return PASSED if close else FAILED
