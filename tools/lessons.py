"""How long a chapter is, what it holds, and whether it keeps the rules of the course."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from softprompt_lab.course import checks

EXERCISES = "## Exercises"
LONG = ("05", "08")  # chapters that may have more cells
CELLS, CELLS_LONG, WORDS, WORDS_APART = 45, 60, 1_500, 900
FIGURES, EXERCISES_LEAST, VOTES = 4, 4, 4
WORDS_A_MINUTE, LINE_SECONDS, FIGURE_SECONDS = 200, 20, 30
LINK = re.compile(r"(!?\[[^\]]*\])\([^)]*\)")


@dataclass(frozen=True)
class Built:
    """What only a run of a chapter tells, kept beside the sources in `built.json`.

    Attributes:
        minutes: of running, rounded up.
        figures: shown in the learner's notebook.
        numbers: the expressions in the prose and what they gave, in their order.
    """

    minutes: int = 0
    figures: int = 0
    numbers: list[list[str]] = field(default_factory=list)


def built_path(source: Path) -> Path:
    """Return the file of what the runs of all chapters told."""
    return source.with_name("built.json")


def read_built(source: Path) -> Built:
    """Return what the last build of a chapter told."""
    path = built_path(source)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return Built(**known.get(source.stem[:2], {}))


def write_built(source: Path, built: Built) -> None:
    """Keep what a build of a chapter told."""
    path = built_path(source)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known[source.stem[:2]] = vars(built)
    text = json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def tables(chapter: str) -> dict[str, dict]:
    """Return the tables of a chapter's exercises and votes, by their ids."""
    written = checks.written().items()
    return {key: table for key, table in written if key.startswith(f"{chapter}-")}


def hints(exercises: Iterable[str]) -> str:
    """Return all hints of some exercises."""
    return " ".join(" ".join(checks.hints(checks.find_exercise(key)).values()) for key in exercises)


def split(cells: Iterable[NotebookNode]) -> tuple[list[NotebookNode], list[NotebookNode]]:
    """Return the cells of the text, and those of the exercises: tagged, or between their heading and the next."""
    text, exercises, inside = [], [], False
    for cell in cells:
        if cell.cell_type == "markdown":
            headings = [line for line in cell.source.splitlines() if line.startswith("## ")]
            inside = headings[-1] == EXERCISES if headings else inside
        apart = inside or "exercise" in cell.metadata.get("tags", [])
        (exercises if apart else text).append(cell)
    return text, exercises


def words(cells: Iterable[NotebookNode]) -> int:
    """Count the words of the prose, not those of addresses and comments."""
    prose = " ".join(cell.source for cell in cells if cell.cell_type == "markdown")
    prose = re.sub(r"<!--.*?-->", "", LINK.sub(r"\1", prose), flags=re.DOTALL)
    return sum(any(map(str.isalnum, word)) for word in prose.split())


def code_lines(cells: Iterable[NotebookNode]) -> int:
    """Count the lines of code that are read: no blanks, no comments."""
    lines = (line.strip() for c in cells if c.cell_type == "code" for line in c.source.splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


@dataclass(frozen=True)
class Lesson:
    """A chapter in numbers.

    Attributes:
        apart: words of votes, hints and exercises.
        reading, running, exercising: minutes.
    """

    chapter: str
    cells: int
    words: int
    apart: int
    lines: int
    figures: int
    exercises: int
    votes: int
    reading: int
    running: int
    exercising: int

    def times(self) -> str:
        """Return the line of times that stands in the chapter."""
        return (
            f"*Reading {self.reading} minutes, running {self.running} on two cores without a GPU, exercises "
            f"{self.exercising}.*"
        )

    def broken(self) -> list[str]:
        """Return the rules of the course that the chapter breaks."""
        cells = CELLS_LONG if self.chapter in LONG else CELLS
        most = {"cells": cells, "words": WORDS, "apart": WORDS_APART, "votes": VOTES, "running": 5}
        least = {"figures": FIGURES, "exercises": EXERCISES_LEAST}
        found = [(name, getattr(self, name), "at most", bound) for name, bound in most.items()]
        found = [line for line in found if line[1] > line[3]]
        few = [(name, getattr(self, name), "at least", bound) for name, bound in least.items()]
        found += [line for line in few if line[1] < line[3]]
        return [f"{name} {value}, {word} {bound}" for name, value, word, bound in found]


def lesson(source: Path, cells: list[NotebookNode]) -> Lesson:
    """Return a chapter in numbers, from its cells as a learner gets them."""
    chapter, built, known = source.stem[:2], read_built(source), tables(source.stem[:2])
    exercises = {key: table for key, table in known.items() if "passed" in table}
    votes = [table for table in known.values() if "question" in table]
    text, apart = split(cells)
    asked = " ".join(
        " ".join([v["question"], *v["options"], *v["options"].values()]) for v in votes
    )
    prose, lines = words(text), code_lines(text)
    seconds = prose * 60 / WORDS_A_MINUTE + lines * LINE_SECONDS + built.figures * FIGURE_SECONDS
    return Lesson(
        chapter,
        len(text),
        prose,
        words(apart) + len(f"{asked} {hints(exercises)}".split()),
        lines,
        built.figures,
        len(exercises),
        len(votes),
        math.ceil(seconds / 60),
        built.minutes,
        sum(table.get("minutes", 0) for table in exercises.values()),
    )
