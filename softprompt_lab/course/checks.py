"""Exercises as tables of wrong answers, the check that tells them apart, and hints.

An exercise is its right answer under `@exercise("NN-1", ...)` in `course/chapter_NN.py`, and its table in
`course/exercises.toml`: what a pass says, typical wrong answers and faults of a result, each with its advice. A check
calls the reader's answer on a few cases and compares with the right one.
"""

import copy
import importlib.util
import inspect
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import LabError
from .comparison import difference, form, holds_tensors, plain, show
from .settings import settings
from .verdict import FAILED, NOT_ATTEMPTED, PASSED, Verdict


@dataclass(frozen=True)
class Exercise:
    """An exercise: what is right, on which cases, and how results are compared.

    Args:
        right: The right answer. The first paragraph of its docstring says what is asked, the rest is the hint.
        cases: The arguments of each call; a single empty case where the answer is a value and not a function.
        measure: Called with a result and the arguments, it gives what is compared instead of the result.
        tolerance: How far floats may differ, relative or absolute.
    """

    right: Callable
    cases: Sequence[tuple] = ((),)
    measure: Callable = lambda result, *case: result
    tolerance: float = 1e-4

    def evaluate(self, expression: str, arguments: tuple, **more: Any) -> Any:
        """Return the value of an expression of `exercises.toml`, which knows the arguments by their names."""
        names = dict(zip(inspect.signature(self.right).parameters, arguments, strict=True))
        return eval(expression, self.right.__globals__ | names | more)

    def differ(self, found: Any, wanted: Any, arguments: tuple) -> str:
        """Return in words how two results for the same arguments differ, or nothing."""
        if form(found) != form(wanted):
            asked = inspect.getdoc(self.right).partition("\n\n")[0]
            return f"That is {form(found)}, not {form(wanted)}. What is asked: {asked}"
        measured = (self.measure(result, *arguments) for result in (found, wanted))
        return difference(*measured, self.tolerance)


_REGISTRY: dict[str, Exercise] = {}


@cache
def tables() -> dict[str, dict]:
    """Return what `exercises.toml` says of each exercise, by its id."""
    return tomllib.loads(Path(__file__).with_name("exercises.toml").read_text(encoding="utf-8"))


def exercise(exercise_id: str, **fields: Any) -> Callable[[Callable], Callable]:
    """Register the decorated function as the right answer of an exercise such as "02-1".

    Args:
        exercise_id: The chapter and the number in it.
        **fields: The other fields of `Exercise`.
    """

    def register(right: Callable) -> Callable:
        _REGISTRY[exercise_id] = Exercise(right, **fields)
        return right

    return register


def exercise_ids(chapter: str) -> list[str]:
    """Return the ids of a chapter's exercises, ["02-1", "02-2"] for "02"; empty where there are none."""
    module = f"{__package__}.chapter_{chapter}"
    if importlib.util.find_spec(module):
        importlib.import_module(module)
    return sorted(key for key in _REGISTRY if key.startswith(f"{chapter}-"))


def find_exercise(exercise_id: str) -> Exercise:
    """Return an exercise, or raise LabError with the ids that its chapter has."""
    known = exercise_ids(exercise_id.partition("-")[0])
    if exercise_id not in known:
        listed = ", ".join(known) or "none"
        raise LabError(f"there is no exercise {exercise_id!r}; this chapter has {listed}.")
    return _REGISTRY[exercise_id]


def check(exercise_id: str, answer: Any) -> Verdict:
    """Check the answer to an exercise, a function or a value, and print what was found.

    A stub left alone prints that it was not attempted. Nothing raises, unless SOFTPROMPT_LAB_STRICT=1 asks
    for an AssertionError at everything but a pass, which is how the solved notebooks are run.
    """
    entry, table, cause = find_exercise(exercise_id), tables()[exercise_id], None
    verdict, message = PASSED, f"passed. {table['passed']}"
    try:
        complaints = (_complaint(entry, table, answer, case) for case in entry.cases)
        complaint = next(filter(None, complaints), "")
    except NotImplementedError:
        verdict, complaint = NOT_ATTEMPTED, ""
        message = "not attempted yet: write your answer above, then run this cell."
    except Exception as error:  # the reader's code runs here: whatever it raises is explained
        complaint, cause = f"Your answer stopped with {type(error).__name__}: {error}", error
    if complaint:
        hint_cell = f'For a hint run course.hint("{exercise_id}") in a cell of its own.'
        verdict, message = FAILED, f"not yet. {complaint}\n{hint_cell}"
    if settings().strict and not verdict:
        raise AssertionError(f"{exercise_id} {message}") from cause
    print(f"{exercise_id} {message}")
    return verdict


def hint(exercise_id: str) -> None:
    """Print the hint of an exercise: what stands below the first paragraph of its docstring."""
    paragraphs = inspect.getdoc(find_exercise(exercise_id).right).partition("\n\n")
    print(f"Hint for {exercise_id}: {paragraphs[2]}")


def _call(answer: Any, arguments: tuple) -> Any:
    """Return what an answer gives; NotImplementedError where it is a stub: `...`, None, or a tuple that holds one."""
    result = answer(*arguments) if callable(answer) else answer
    items = result if isinstance(result, tuple | list) else [result]
    if any(item is ... or item is None for item in items):
        raise NotImplementedError
    return result


def _complaint(entry: Exercise, table: dict, answer: Any, case: tuple) -> str:
    """Return what was given, what came back and advice, where an answer errs on a case; or nothing."""
    given = copy.deepcopy(case)
    found = _call(answer, given)
    advice = _advice(entry, table, found, given, case)
    if not advice and plain(found) != plain(_call(answer, copy.deepcopy(case))):
        advice = "Called again, your function returns something else: use `generator=generator`."
    names = inspect.signature(entry.right).parameters
    arguments = ", ".join(f"{name}={show(x)}" for name, x in zip(names, case, strict=True))
    where = f"For {arguments} you return" if case else "Your answer is"
    return f"{where} {show(found)}. {advice}" if advice else ""


def _advice(entry: Exercise, table: dict, found: Any, given: tuple, case: tuple) -> str:
    """Return what is wrong with a result, or nothing."""
    right = entry.right(*copy.deepcopy(case))
    if not holds_tensors(right):
        found = plain(found)

    for wrong, advice in table.get("wrong", {}).items():
        mistaken = entry.evaluate(wrong, copy.deepcopy(case))
        if not entry.differ(found, mistaken, given) and entry.differ(mistaken, right, given):
            return advice
    if form(found) == form(right):
        for fault, advice in table.get("faults", {}).items():
            if entry.evaluate(fault, given, found=found):
                return advice
    return entry.differ(found, right, given)
