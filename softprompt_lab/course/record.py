"""What the reader has passed and tried, kept in one file of theirs over restarts, and the card that shows it."""

import json
import os
import warnings
from datetime import date
from functools import cache
from pathlib import Path

import pandas as pd
import platformdirs
from filelock import FileLock

from ..cards import Card, show
from ..errors import AdapterError, LabError
from ..saving import atomic_write, read_json_object
from .verdict import NOT_ATTEMPTED, PASSED, Verdict

TRIED = "tried"  # beside "passed": the keys of an exercise in the file, each with the day
PATIENCE = 5  # seconds that a check waits for another notebook's
Done = dict[str, dict[str, str]]


def progress_file() -> Path:
    """Return the file of progress: in SOFTPROMPT_LAB_DATA, or the system's data folder for this user."""
    chosen = os.environ.get("SOFTPROMPT_LAB_DATA") or platformdirs.user_data_dir("softprompt-lab")
    return Path(chosen).expanduser() / "progress.json"


def record(exercise_id: str, verdict: Verdict) -> None:
    """Write down a try. A pass stays whatever follows; where the disk takes nothing, a warning says so once."""
    path = progress_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=PATIENCE):  # two notebooks at once
            done = _read(path)
            days = done.setdefault(exercise_id, {})
            days[TRIED] = today = date.today().isoformat()
            if verdict:
                days.setdefault(PASSED.name, today)
            atomic_write(path, json.dumps(done, indent=1, sort_keys=True).encode())
    except OSError as error:
        _warn_once(f"Your progress is not kept, because {path} cannot be written: {error}")


def recorded() -> Done:
    """Return the days of what is kept: exercise -> "passed" or "tried" -> day."""
    try:
        return _read(progress_file())
    except OSError as error:
        _warn_once(f"Your progress cannot be read: {error}")
        return {}


def _read(path: Path) -> Done:
    """Return what a file of progress holds; one that is none is put aside with a warning."""
    if not path.exists():
        return {}
    try:
        done = read_json_object(path)
        for exercise_id, days in done.items():
            if not isinstance(days, dict) or not all(isinstance(day, str) for day in days.values()):
                raise AdapterError(
                    f"{path} says {days!r} of {exercise_id!r}, which is no progress."
                )
    except AdapterError as error:
        aside = path.with_suffix(".damaged.json")
        os.replace(path, aside)
        warnings.warn(
            f"{error} It is kept as {aside.name}; your progress starts anew.", stacklevel=2
        )
        return {}
    return done


@cache
def _warn_once(text: str) -> None:
    """Say something once, however often it is found."""
    warnings.warn(text, stacklevel=2)


def show_progress(exercises: list[str], reset: bool) -> None:
    """Show which of the exercises are passed, tried and not attempted, as a card or a table of text.

    Raises:
        LabError: with `reset`, the file cannot be deleted.
    """
    path = progress_file()
    if reset:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise LabError(f"{path} cannot be deleted: {error}. Delete it yourself.") from error
    done = recorded()
    cells = {tuple(key.split("-")): _state(done.get(key, {})) for key in exercises}
    table = pd.Series(cells).rename_axis(["chapter", "exercise"]).unstack(fill_value="")
    passed = sum(PASSED.name in done.get(key, {}) for key in exercises)
    title = f"{passed} of {len(exercises)} exercises passed"
    message = f"Kept in {path}. course.progress(reset=True) starts anew."
    show(Card(f"{title}. {message}\n{table.to_string()}", "note", title, message, table=table))


def _state(days: dict[str, str]) -> str:
    """Return what is kept of an exercise in words."""
    state = PASSED.name if PASSED.name in days else TRIED
    return f"{state} {days[state]}" if state in days else NOT_ATTEMPTED.name
