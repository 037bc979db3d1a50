"""What an instrument says of a prompt, and the prompt that it is asked about."""

import base64
import inspect
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, wraps
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float

from .. import plots, reading
from ..errors import LabError
from ..runs import zoo
from ..runs.saved import SavedRun, saved_run

ROWS = 200  # of the test split that a probe measures each prompt on: the fewest that an accuracy is drawn of
DRAWS = 19  # of a cheap control: above all of them chance is one time in twenty
FEWEST = 4  # prompts of one shape that can be told apart from chance beside each other
TEXTS = Path(__file__).with_name("instruments.toml")
INSTRUMENTS: dict[str, dict[str, str]] = tomllib.loads(TEXTS.read_text(encoding="utf-8"))
Measured = tuple[
    plots.Figure, dict[str, Any]
]  # and numbers for the sentence, with "mark" where there is one
LINK = re.compile(r"\[([^]]+)\]\(([^)]+)\)")  # as in Markdown: words, address


class Mark(Enum):
    """What an instrument's own numbers say of its control, by the rule in `instruments.toml`."""

    BEATS = "✓ beats its control"
    SHORT = "✗ does not beat its control"
    DESCRIBES = "○ describes, no control to beat"
    FEW = "? too few rows for a mark"

    @classmethod
    def of(cls, beats: bool, rows: int = plots.FEWEST_ROWS) -> "Mark":
        """Return the mark of a comparison that was made on so many rows."""
        if rows < plots.FEWEST_ROWS:
            return cls.FEW
        return cls.BEATS if beats else cls.SHORT


@dataclass(frozen=True)
class Section:
    """One instrument's part of the page.

    Attributes:
        name: of the function that made it, with its module.
        question: what it asks.
        control: what stands beside the measurement.
        shows: what the figure shows of this prompt, with its numbers.
        caution: what it does not show.
        rule: how the mark is decided, in one sentence.
        says: a clause for the findings, where the control is beaten.
        source: where the instrument comes from.
        mark: of the numbers; in `instruments.toml` where they decide nothing.
        needs: what a subject must have for this instrument.
    """

    name: str
    question: str
    figure: plots.Figure
    title: str
    control: str
    shows: str
    caution: str
    rule: str = ""
    says: str = ""
    source: str = ""
    needs: str = "run"
    mark: Mark = Mark.DESCRIBES

    @property
    def picture(self) -> str:
        """The figure's PNG in base64, for a page in one file."""
        return base64.b64encode(self.figure.png()).decode()

    def _ipython_display_(self) -> None:
        """In a notebook: the figure, and the sentences as plain text."""
        from IPython.display import display

        display(self.figure)
        print(self)

    def __str__(self) -> str:
        text = (
            f"What it shows: {self.shows}\nControl: {self.control}\nMark: {self.mark.value}. {self.rule}\n"
            f"What it does not show: {self.caution}"
        )
        return LINK.sub(r"\1", text)


class Family(NamedTuple):
    """Prompts of one shape by name, with their starts and the names of their tasks."""

    prompts: dict[str, Float[torch.Tensor, "P D"]]
    starts: dict[str, Float[torch.Tensor, "P D"]]
    tasks: dict[str, str]


def vectors_of(run: SavedRun) -> Float[torch.Tensor, "P D"]:
    """Return the trained prompt of a run."""
    return run.model.prompt.detach().float().cpu()


@dataclass(frozen=True, eq=False)
class Subject:
    """A saved prompt, others on the same base model beside it, and how many rows a probe measures.

    Attributes:
        others: of the same shape, by name; those of the same task are its other seeds.
        limit: rows of the test split for each measured prompt.
        given: how the prompt was asked for, a folder or zoo:NAME.
        kept: what was measured: instruments measure the same prompts.
    """

    run: SavedRun
    others: Mapping[str, SavedRun] = field(default_factory=dict)
    limit: int = ROWS
    given: str = ""
    kept: dict = field(default_factory=dict)

    @cached_property
    def prompt(self) -> Float[torch.Tensor, "P D"]:
        """The trained prompt."""
        return vectors_of(self.run)

    @cached_property
    def words(self) -> Float[torch.Tensor, "V D"]:
        """The base model's word embeddings."""
        return self.run.model.word_embeddings.detach().float().cpu()

    @cached_property
    def start(self) -> Float[torch.Tensor, "P D"]:
        """The prompt before training."""
        return self.run.start.float()

    @cached_property
    def of_words(self) -> SavedRun | None:
        """Of the others the first that was trained on the same task as words (`project=OntoWords()`)."""
        return next((run for run in self._same_task() if run.record.get("words")), None)

    @cached_property
    def wayward(self) -> dict[float, SavedRun]:
        """Of the others those that were drawn towards one text while they learned the same task, by gamma."""
        drawn = [run for run in self._same_task() if "towards" in run.record]
        return {
            run.record["gamma"]: run
            for run in drawn
            if run.record["towards"] == drawn[0].record["towards"]
        }

    def _same_task(self) -> list[SavedRun]:
        """Of the others those that were trained on the subject's task."""
        return [run for run in self.others.values() if run.task.name == self.run.task.name]

    @cached_property
    def other_seed(self) -> SavedRun | None:
        """The first of the others that was trained on the same task from the same start."""
        runs = [run for run in self._same_task() if run.free and run.start is not None]
        same = (run for run in runs if torch.allclose(run.start.float(), self.start, atol=1e-3))
        return next(same, None)

    @cached_property
    def kinds(self) -> dict[str, Float[torch.Tensor, "P D"]]:
        """The prompt, its start, and the other seed's prompt where there is one."""
        found = {"prompt": self.prompt, "start": self.start}
        if self.other_seed is not None:
            found["other seed"] = vectors_of(self.other_seed)
        return found

    @cached_property
    def family(self) -> Family:
        """The prompt and the others that began alike and were trained for a task alone, not towards words or a text."""
        runs, kind = {self.run.name: self.run}, self.run.record.get("start")
        others = self.others.items()
        runs |= {name: run for name, run in others if run.free and run.record.get("start") == kind}
        prompts = {name: vectors_of(run) for name, run in runs.items()}
        starts = {name: run.start.float() for name, run in runs.items() if run.start is not None}
        return Family(prompts, starts, {name: run.task.name for name, run in runs.items()})

    @property
    def large_family(self) -> bool:
        """Whether there are enough prompts of this shape to compare, of several tasks, one with several seeds."""
        prompts, tasks = len(self.family.prompts), len({*self.family.tasks.values()})
        return prompts >= FEWEST and 1 < tasks < prompts

    def measure(self, probe: Callable, *arguments: Any, **more: Any) -> Any:
        """Return what a probe finds with the subject's model on the first rows of its test split."""
        run = self.run
        with reading.keeping(self.kept):
            return probe(run.model, run.task, *arguments, split="test", limit=self.limit, **more)

    @property
    def rows(self) -> int:
        """How many rows each prompt is measured on."""
        return min(self.limit, len(self.run.task.test))

    @property
    def enough(self) -> bool:
        """Whether an accuracy of so many rows is a result."""
        return self.rows >= plots.FEWEST_ROWS

    @property
    def levels(self) -> str:
        """What an accuracy on these rows is to be read beside, in words."""
        beside = reading.levels(self.run.task, "test", self.limit)
        human = "" if isnan(beside["ceiling"]) else f", one human rater {beside['ceiling']:.0%}"
        return f"always the commonest answer {beside['majority']:.0%}{human}"


def instrument(measure: Callable[[Subject], Measured]) -> Callable[[Subject], Section]:
    """Make an instrument of a function that measures: its texts are those of its name in `instruments.toml`."""
    name = f"{measure.__module__.rpartition('.')[2]}.{measure.__name__}"

    @wraps(measure)
    def section(subject: Subject) -> Section:
        figure, numbers = measure(subject)
        numbers |= {"P": len(subject.prompt), "rows": subject.rows}
        numbers |= {"draws": DRAWS, "fewest": plots.FEWEST_ROWS}
        texts = {part: text.format(**numbers) for part, text in INSTRUMENTS[name].items()}
        mark = numbers.get("mark") or Mark[texts["mark"]]
        return Section(name, inspect.getdoc(measure), figure, **texts | {"mark": mark})

    return section


def subject_of(given: str, beside: Sequence[str] = (), limit: int = ROWS) -> Subject:
    """A saved prompt to read: a run's folder, or `zoo:NAME`, beside which the rest of the zoo stands.

    Args:
        beside: folders of other prompts for the same base model; those of another shape are left out.

    Raises:
        LabError: there is no such prompt, or it came without what a run keeps: rows, start and figures.
        AdapterError: a folder is damaged.
    """
    folder = zoo.located(given)
    run = saved_run(folder)
    if run.start is None or "trained" not in run.record or not len(run.task.test):
        raise LabError(
            f"{given} lacks its start, its measured figures or its rows, which `softprompt-lab train` keeps for a task "
            "that comes with the package; `softprompt-lab read` reads any prompt."
        )
    others = [zoo.located(other) for other in beside]
    if folder.parent == zoo.FOLDER:
        others += [zoo.folder(name) for name in zoo.names() if name != folder.name]
    base_model, tokenizer = run.model.base_model, run.model.tokenizer
    runs = [saved_run(other, base_model, tokenizer) for other in others]
    same = [other for other in runs if other.model.prompt.shape == run.model.prompt.shape]
    return Subject(run, {other.name: other for other in same}, limit, given)
