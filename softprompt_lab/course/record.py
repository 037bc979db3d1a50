"""What the reader has passed, tried and voted for, kept in a file of theirs over restarts; the card that shows it."""

import json
import os
import warnings
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import platformdirs
from filelock import FileLock

from ..cards import Card
from ..errors import AdapterError
from ..saving import atomic_write, read_json_object
from .verdict import NOT_ATTEMPTED, PASSED, Verdict

warn_once = cache(warnings.warn)


def progress_file() -> Path:
    """Return the file of progress: in SOFTPROMPT_LAB_DATA, or the system's data folder for this user."""
    chosen = os.environ.get("SOFTPROMPT_LAB_DATA") or platformdirs.user_data_dir("softprompt-lab")
    return Path(chosen).expanduser() / "progress.json"


def record(exercise_id: str, verdict: Verdict) -> None:
    """Write down a try, and a pass, which stays whatever follows."""
    today = date.today().isoformat()
    keep(exercise_id, {"tried": today}, {PASSED.name: today} if verdict else {})


def keep(key: str, days: dict[str, str], first: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write down what was done on which day, and `first` unless it is there; who cannot write is warned once."""
    path = progress_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=5):  # of two notebooks one waits
            done = recorded()
            done[key] = {**first, **done.get(key, {}), **days}
            atomic_write(path, json.dumps(done, indent=1, sort_keys=True).encode())
    except OSError as error:
        warn_once(f"Your progress is not kept, because {path} cannot be written: {error}")


def recorded() -> dict[str, dict[str, str]]:
    """Return exercise -> "passed", "tried" -> day, vote -> option -> day; what is no record is put aside, and said."""
    path = progress_file()
    try:
        done = read_json_object(path) if path.exists() else {}
        for day in [day for days in done.values() for day in days.values()]:
            date.fromisoformat(day)
    except (AdapterError, AttributeError, TypeError, ValueError) as error:
        aside = path.with_suffix(".damaged.json")
        os.replace(path, aside)
        warnings.warn(
            f"{path} is no record of progress ({error}); it is kept as {aside.name}, and your progress starts anew.",
            stacklevel=2,
        )
        return {}
    return done


def show_progress(exercises: list[str], reset: bool) -> None:
    """Show which of the exercises are passed, tried and not attempted, as a card or a table of text."""
    path = progress_file()
    if reset:
        path.unlink(missing_ok=True)
    done = recorded()
    cells = {tuple(key.split("-")): _state(done.get(key, {})) for key in exercises}
    table = pd.Series(cells).unstack(fill_value="").rename_axis(columns="chapter")
    table = table.add_prefix("exercise ")
    passed = sum(PASSED.name in done.get(key, {}) for key in exercises)
    title = f"{passed} of {len(exercises)} exercises passed"
    message = f"Kept in {path}. `course.progress(reset=True)` starts anew."
    Card(f"{title}. {message}\n{table.to_string()}", "note", title, message, table=table).show()


def _state(days: dict[str, str]) -> str:
    """Return what is kept of an exercise in words."""
    state = PASSED.name if PASSED.name in days else "tried"
    return f"{state} {days[state]}" if state in days else NOT_ATTEMPTED.name
