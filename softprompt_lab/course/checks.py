"""Exercises as tables of wrong answers, the check that tells them apart, and hints.

An exercise is its right answer under `@exercise("NN-1", ...)` in `course/chapter_NN.py`, and its table in
`chapter_NN.toml`. A check calls the reader's answer on a few cases and compares with the right one. A table holds

passed    what a pass says; and of the exercise its `kind`, `minutes` and `difficulty`, 1 to 3
wrong     wrong answers as a reader would write them, with the names of the arguments: who returns the same as one
          hears its advice
faults    what is true of a result, `found`, that has the fault: asked in order, once the result has the right form,
          also where its numbers are right
tries     wrong answers that tests give, and how the advice begins that meets each

An expression may use whatever stands in chapter_NN.py; tests/test_course.py tries every one of them.
"""

import copy
import dis
import importlib.util
import inspect
import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..cards import Card
from ..errors import LabError
from .comparison import difference, form, holds_tensors, plain, show
from .record import record, show_progress
from .verdict import FAILED, NOT_ATTEMPTED, PASSED, Verdict

TITLES = {PASSED: "Passed", FAILED: "Not yet", NOT_ATTEMPTED: "Not attempted yet"}
# What the code of a function does that computes nothing, in Python 3.11 to 3.13: `...`, or a constant given a name.
IDLE = {"RESUME", "NOP", "LOAD_CONST", "STORE_FAST", "RETURN_VALUE", "RETURN_CONST"}


@dataclass(frozen=True)
class Exercise:
    """An exercise: what is right, on which cases, and how results are compared.

    Args:
        right: The right answer. The first paragraph of its docstring says what is asked, the rest is the hint.
        cases: The arguments of each call; a single empty case where the answer is a value and not a function.
        measure: Called with a result and the arguments, it gives what is compared instead of the result.
        use: Called with a reader's answer and the arguments, it gives the result, where the answer is a class.
        tolerance: How far floats may differ, relative or absolute.
    """

    right: Callable
    cases: Sequence[tuple] = ((),)
    measure: Callable = lambda result, *case: result
    use: Callable = lambda answer, *case: answer(*case)
    tolerance: float = 1e-4

    def evaluate(self, expression: str, arguments: tuple, **more: Any) -> Any:
        """Return the value of an expression of a table, which knows the arguments by their names."""
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


def strict() -> bool:
    """Whether SOFTPROMPT_LAB_STRICT=1 asks that a check that does not pass raises, for the solved notebooks."""
    return os.environ.get("SOFTPROMPT_LAB_STRICT") == "1"


@cache
def tables() -> dict[str, dict]:
    """Return the table of each exercise, by its id."""
    return {key: table for key, table in written().items() if "passed" in table}


@cache
def written() -> dict[str, dict]:
    """Return the tables of all chapters, those of exercises and those of votes, by their ids."""
    paths = sorted(Path(__file__).parent.glob("chapter_*.toml"))
    return {
        key: table
        for path in paths
        for key, table in tomllib.loads(path.read_text(encoding="utf-8")).items()
    }


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


def find_exercise(exercise_id: str) -> Exercise | None:
    """Return an exercise; where there is none of that id, show those of its chapter, or raise if checks are strict."""
    chapter = str(exercise_id).partition("-")[0].zfill(2)
    if exercise_id in tables():
        exercise_ids(chapter)
        return _REGISTRY[exercise_id]
    known = [key for key in tables() if key.startswith(f"{chapter}-")] or tables()
    text = f"There is no exercise {exercise_id!r}; choose one of: {', '.join(known)}."
    if strict():
        raise LabError(text)
    Card(text, NOT_ATTEMPTED.name, "No such exercise", text).show()
    return None


def check(exercise_id: str, answer: Any) -> Verdict:
    """Check the answer to an exercise, a function or a value; show what was found, and keep it for `progress`.

    A stub left alone is said to be not attempted. Nothing raises, unless SOFTPROMPT_LAB_STRICT=1 asks for an
    AssertionError at everything but a pass, which is how the solved notebooks are run; then nothing is kept.
    """
    if (entry := find_exercise(exercise_id)) is None:
        return NOT_ATTEMPTED
    verdict, message, called, cause = _judge(entry, tables()[exercise_id], answer)
    title = TITLES[verdict]
    hint_cell = f'For a hint run course.hint("{exercise_id}") in a cell of its own.'
    lines = [f"{exercise_id} {title.lower()}. {message}", called, hint_cell * (verdict is FAILED)]
    text = "\n".join(filter(None, lines))
    if strict():
        if not verdict:
            raise AssertionError(text) from cause
    elif verdict is not NOT_ATTEMPTED:
        record(exercise_id, verdict)
    folded = {} if verdict else hints(entry)
    Card(text, verdict.name, f"{title}: exercise {exercise_id}", message, called, folded).show()
    return verdict


def hint(exercise_id: str, step: int = 1) -> None:
    """Show the hint of an exercise; the further ones unfold below it, or are asked for by `step`."""
    if entry := find_exercise(exercise_id):
        steps = hints(entry)
        name, text = list(steps.items())[min(step, len(steps)) - 1]
        more = f' The next: course.hint("{exercise_id}", {step + 1}).' * (step < len(steps))
        later = dict(list(steps.items())[step:])
        title = f"{name} for {exercise_id}"
        Card(f"{title}: {text}{more}", "note", title, text, folded=later).show()


def progress(*, reset: bool = False) -> None:
    """Show which exercises you have passed and tried, and on which day; `reset` forgets all of it first."""
    show_progress(sorted(tables()), reset)


def hints(entry: Exercise) -> dict[str, str]:
    """Return the paragraphs below the first of the right answer's docstring, each with a name."""
    _, *paragraphs = inspect.getdoc(entry.right).split("\n\n")
    names = [f"Hint {number} of {len(paragraphs)}" for number in range(1, len(paragraphs) + 1)]
    return dict(zip(names, (" ".join(each.split()) for each in paragraphs), strict=True))


def _judge(entry: Exercise, table: dict, answer: Any) -> tuple[Verdict, str, str, Exception | None]:
    """Return a verdict, what is to say, what was called and came back, and what the answer raised."""
    try:
        complaints = (_complaint(entry, table, answer, case) for case in entry.cases)
        advice, called = next(filter(any, complaints), ("", ""))
    except Exception as error:  # the reader's code runs here: whatever it raises is explained
        if isinstance(error, NotImplementedError) and _is_stub(answer):
            return NOT_ATTEMPTED, "Write your answer above, then run this cell.", "", None
        return FAILED, f"Your answer stopped with {type(error).__name__}: {error}", "", error
    return (FAILED, advice, called, None) if advice else (PASSED, table["passed"], "", None)


def _is_stub(answer: Any) -> bool:
    """Tell whether a function without a result is as it was shipped: its code moves constants, or refuses by itself."""
    asked = getattr(answer, "forward", answer)  # of a class of torch's
    code = getattr(inspect.unwrap(asked), "__code__", None)
    if code is None:
        return not callable(answer)
    operations = {instruction.opname for instruction in dis.get_instructions(code)}
    return "NotImplementedError" in code.co_names or operations <= IDLE


def _call(entry: Exercise, answer: Any, arguments: tuple) -> Any:
    """Return what an answer gives; NotImplementedError where it is a stub: `...`, None, or a tuple that holds one."""
    result = entry.use(answer, *arguments) if callable(answer) else answer
    items = result if isinstance(result, tuple | list) else [result]
    if any(item is ... or item is None for item in items) and _is_stub(answer):
        raise NotImplementedError
    return result


def _complaint(entry: Exercise, table: dict, answer: Any, case: tuple) -> tuple[str, str]:
    """Return advice, and what was given and came back, where an answer errs on a case; else nothing twice."""
    given = copy.deepcopy(case)
    found = _call(entry, answer, given)
    advice = _advice(entry, table, found, given, case)
    if not advice and plain(found) != plain(_call(entry, answer, copy.deepcopy(case))):
        advice = "Called again, your function returns something else: use `generator=generator`."
    names = inspect.signature(entry.right).parameters
    arguments = ", ".join(f"{name}={show(x)}" for name, x in zip(names, case, strict=True))
    where = f"For {arguments} you return" if case else "Your answer is"
    return (advice, f"{where} {show(found)}.") if advice else ("", "")


def _advice(entry: Exercise, table: dict, found: Any, given: tuple, case: tuple) -> str:
    """Return what is wrong with a result, or nothing."""
    if found is None:
        return "Your function returns None: is there a `return`?"
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
