"""Exercises as tables of wrong answers, the check that tells them apart, and hints.

An exercise is its right answer under `@exercise("NN-1", ...)` in `course/chapter_NN.py`. A check calls the reader's
answer on a few cases and compares with the right one. What a reader hears where they differ is a table of small
functions, each with its advice as docstring: a *wrong answer* is a function that errs as readers do, and a *fault* is
a test of what came back.
"""

import copy
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import LabError
from .comparison import difference, equal, form, holds_tensors, plain, show
from .settings import settings
from .verdict import FAILED, NOT_ATTEMPTED, PASSED, Verdict


class Wrong(Exception):
    """An answer is wrong: the message tells the reader how it shows."""


class NotAttempted(Exception):
    """The stub stands as it was."""


@dataclass(frozen=True)
class Exercise:
    """An exercise: what is right, what is asked, and what to say about which wrong answer.

    Args:
        exercise_id: Such as "02-1".
        right: The right answer. Its docstring says what is asked and, in the paragraphs after, the hint.
        cases: The arguments of each call; a single empty case where the answer is a value and not a function.
        returns: What is to be returned, for an answer of another shape or kind.
        wrong: Functions with the arguments of `right` that give typical wrong results.
        faults: Functions of the result and the arguments, true where the result has this fault. They are asked
            when the result has the right form, in order, also where its numbers are right.
        measure: Called with a result and the arguments, it gives what is compared instead of the result.
        tolerance: How far floats may differ, relative or absolute.
        passed: What the right answer shows, printed with a pass.
    """

    exercise_id: str
    right: Callable
    passed: str
    cases: Sequence[tuple] = ((),)
    returns: str = "a value of this kind"
    wrong: Sequence[Callable] = ()
    faults: Sequence[Callable] = ()
    measure: Callable = lambda result, *case: result
    tolerance: float = 1e-4


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return random normal numbers of a shape, the same at each call: for the cases of exercises."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


_REGISTRY: dict[str, Exercise] = {}


def exercise(exercise_id: str, **table: Any) -> Callable[[Callable], Callable]:
    """Register the decorated function as the right answer of an exercise such as "02-1".

    Args:
        exercise_id: The chapter and the number in it.
        **table: The other fields of `Exercise`.
    """

    def register(right: Callable) -> Callable:
        known = _REGISTRY.get(exercise_id)
        if known and known.right.__qualname__ != right.__qualname__:  # a reload is no clash
            raise ValueError(f"exercise {exercise_id!r} is {known.right.__name__} already.")
        _REGISTRY[exercise_id] = Exercise(exercise_id, right, **table)
        return right

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


def find_exercise(exercise_id: str) -> Exercise:
    """Return an exercise, or raise LabError with the ids that its chapter has."""
    known = exercise_ids(exercise_id.partition("-")[0])
    if exercise_id not in known:
        raise LabError(
            f"there is no exercise {exercise_id!r}; this chapter has {', '.join(known) or 'none'}."
        )
    return _REGISTRY[exercise_id]


def check(exercise_id: str, answer: Any) -> Verdict:
    """Check the answer to an exercise, a function or a value, and print what was found.

    A stub left alone prints that it was not attempted. Nothing raises, unless SOFTPROMPT_LAB_STRICT=1 asks
    for an AssertionError at everything but a pass, which is how the solved notebooks are run.
    """
    entry, cause = find_exercise(exercise_id), None
    try:
        for case in entry.cases:
            _check_case(entry, answer, case)
        verdict, message = PASSED, f"passed. {entry.passed}"
    except (NotAttempted, NotImplementedError) as error:
        verdict, cause = NOT_ATTEMPTED, error
        message = "not attempted yet: write your answer above, then run this cell."
    except Exception as error:  # the reader's code runs here: whatever it raises is explained
        stopped = f"Your answer stopped with {type(error).__name__}: "
        message = f"not yet. {'' if isinstance(error, Wrong) else stopped}{error}"
        message += f'\nFor a hint run course.hint("{exercise_id}") in a cell of its own.'
        verdict, cause = FAILED, error
    if settings().strict and not verdict:
        raise AssertionError(f"{exercise_id} {message}") from cause
    print(f"{exercise_id} {message}")
    return verdict


def hint(exercise_id: str) -> None:
    """Print the hint of an exercise: what stands below the first paragraph of its docstring."""
    paragraphs = inspect.getdoc(find_exercise(exercise_id).right).partition("\n\n")
    print(f"Hint for {exercise_id}: {paragraphs[2]}")


def _is_blank(value: Any) -> bool:
    """Tell whether a value is what a stub leaves: `...`, None, or a tuple or list that holds one."""
    if isinstance(value, tuple | list):
        return any(_is_blank(item) for item in value)
    return value is ... or value is None


def _call(answer: Any, given: tuple) -> Any:
    """Return what an answer gives, and raise NotAttempted where it is a stub or returns as a stub does."""
    result = answer(*given) if callable(answer) else answer
    if _is_blank(result):
        raise NotAttempted
    return result


def _check_case(entry: Exercise, answer: Any, case: tuple) -> None:
    """Raise Wrong, with what was given, what came back and advice, where an answer errs on a case."""
    given = copy.deepcopy(case)
    found = _call(answer, given)
    advice = _advice(entry, found, given, case)
    if not advice and not equal(found, _call(answer, copy.deepcopy(case)), 0):
        advice = "Called again, your function returns something else: use `generator=generator`."
    if advice:
        names = inspect.signature(entry.right).parameters
        pairs = zip(names, case, strict=True)
        arguments = ", ".join(f"{name}={show(value)}" for name, value in pairs)
        where = f"For {arguments} you return" if case else "Your answer is"
        raise Wrong(f"{where} {show(found)}. {advice}")


def _advice(entry: Exercise, found: Any, given: tuple, case: tuple) -> str:
    """Return what is wrong with a result, or nothing."""
    wanted = entry.right(*copy.deepcopy(case))
    if not holds_tensors(wanted):
        found = plain(found)

    def same(ours: Any, theirs: Any) -> bool:
        if form(ours) != form(theirs):
            return False
        measured = (entry.measure(result, *given) for result in (ours, theirs))
        return equal(*measured, entry.tolerance)

    for wrong in entry.wrong:
        mistaken = wrong(*copy.deepcopy(case))
        if same(found, mistaken) and not same(mistaken, wanted):
            return _text(wrong)
    if form(found) != form(wanted):
        what = f"That is {form(found)}, not {form(wanted)}"
        return f"{what}: your function must return {entry.returns}."
    if isinstance(wanted, list | tuple) and len(found) != len(wanted):
        return difference(found, wanted)
    for fault in entry.faults:
        if fault(found, *given):
            return _text(fault)
    return "" if same(found, wanted) else difference(found, wanted)


def _text(function: Callable) -> str:
    """Return a function's docstring in one line."""
    return " ".join(function.__doc__.split())
