"""The way between two prompts: a slider along it, with the task's measures and the nearest words at each point."""

import ipywidgets
import numpy as np
import pandas as pd

from .. import plots, reading
from ..tasks import Task
from .frame import Content, Instrument, control, neighbour_tables
from .slider import Slider
from .source import Prompt, opened_together, vectors, with_rows

# Points that are measured, the ends first: each stage halves the way once more.
STAGES = (2, 3, 5, 9)


class PromptInterpolation(Instrument):
    """Loss, accuracy and nearest words on the way from one prompt to another, beside a way to random vectors.

    Controls: the place on the way; a box that turns each virtual token instead of going straight (`reading.between`).
    The way is measured in the background, and the curve grows meanwhile.

    Args:
        first, second: each a run's folder, "zoo:NAME", a run or a model; both of one shape and on one base model.
        task: of a model; a run has its own, and the first one's counts.
        limit: rows of the validation split that are measured.

    Example:
        >>> from softprompt_lab.widgets import PromptInterpolation
        >>> PromptInterpolation("zoo:tweets-seed0", "zoo:tweets-seed1")  # doctest: +SKIP
    """

    def __init__(
        self, first: Prompt, second: Prompt, task: Task | None = None, *, limit: int = 16
    ) -> None:
        runs = opened_together([first, second], task)
        self._model, self._task = runs[0].model, with_rows(runs[0], "validation")
        self._ends = [vectors(run).to(self._model.device) for run in runs]
        shapes = [tuple(end.shape) for end in self._ends]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the prompts have shapes {shapes[0]} and {shapes[1]}; they must be one."
            )
        names = [run.name for run in runs]
        self._names = (
            names if names[0] != names[1] else [f"{name} ({n})" for n, name in enumerate(names, 1)]
        )
        self._measured = {"split": "validation", "limit": limit, "draws": 1}
        self._ways: dict[bool, pd.DataFrame] = {}  # by `spherical`
        self._evaluations: dict = {}
        places = [(f"{at:.3g}", at) for at in np.linspace(0, 1, STAGES[-1]).tolist()]
        label = f"way from {self._names[0]} to {self._names[1]}"
        self.at = Slider(label, 0.0, places)
        self.spherical = control(ipywidgets.Checkbox, "turn instead of going straight", False)
        super().__init__([self.at, self.spherical])

    def _measure(self, spherical: bool) -> None:
        """Measure the way, each time at more points, and show it each time."""
        for points in STAGES:
            if self.comm is None:  # closed
                return
            with reading.keeping(self._evaluations):
                self._ways[spherical] = reading.interpolation(
                    self._model,
                    self._task,
                    *self._ends,
                    points,
                    spherical=spherical,
                    **self._measured,
                )
            self.post()

    def words(self) -> dict[str, pd.DataFrame]:
        """Return the nearest token of every virtual token at the ends, here, and as far on the way to random."""
        at, spherical, random = self.at.value, self.spherical.value, reading.random_end(*self._ends)
        prompts = {
            self._names[0]: self._ends[0],
            "here": reading.between(*self._ends, at, spherical),
            self._names[1]: self._ends[1],
            "random way": reading.between(self._ends[0], random, at, spherical),
        }
        words, tokenizer = self._model.word_embeddings, self._model.tokenizer
        return {
            name: reading.nearest_tokens(prompt, words, tokenizer, 1)
            for name, prompt in prompts.items()
        }

    def content(self) -> Content:
        """Return the curves with a marker, the measures here in words, and the nearest words."""
        spherical = self.spherical.value
        table = self._ways.get(spherical)
        if (table is None or points_of(table) < STAGES[-1]) and not self.busy:
            self.in_background(lambda: self._measure(spherical))
            table = self._ways.get(spherical)  # where no event loop runs it is measured now
        words = neighbour_tables(self.words())
        if table is None:
            return Content("Measuring both ends …", None, words)
        figure = plots.interpolation_figure(table, self._names, self.at.value)
        return Content(self._said(table), figure, words)

    def _said(self, table: pd.DataFrame) -> str:
        """Return in words what was measured here."""
        points = points_of(table)
        more = f" Measured at {points} of {STAGES[-1]} points so far." * (points < STAGES[-1])
        lines = table[(table["kind"] != "no prompt") & np.isclose(table["at"], self.at.value)]
        here = {row["kind"]: row for row in lines.to_dict("records")}
        if not here:
            return f"At {self.at.value:.3g} of the way nothing is measured yet.{more}"
        own, highest = here["prompt"], reading.barrier(table).iloc[0]
        return (
            f"At {own['at']:.3g} of the way: loss {own['loss']:.3f}, {own['loss_change']:+.3f} from the straight line "
            f"between the ends (95 % interval {own['loss_low']:+.3f} to {own['loss_high']:+.3f}), accuracy "
            f"{own['accuracy']:.1%}. As far on the way to random vectors: loss {here['random']['loss']:.3f}, accuracy "
            f"{here['random']['accuracy']:.1%}. Highest above the line: {highest['barrier']:.3f} at "
            f"{highest['at']:.3g}. {own['n']} rows of validation.{more}"
        )


def points_of(table: pd.DataFrame) -> int:
    """Return at how many points a way is measured."""
    return table.loc[table["kind"] == "prompt", "at"].nunique()
