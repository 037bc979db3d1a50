"""The way between two prompts: a slider along it, with the task's measures and the nearest words at each point."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import ipywidgets
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from .. import plots, reading
from ..errors import LabError
from ..model import SoftPromptModel
from ..runs import saved as runs
from ..tasks import Task
from .frame import WIDE, Content, Instrument, as_table, run_of, side_by_side, with_rows


class PromptInterpolation(Instrument):
    """Loss, accuracy and nearest words on the way from one prompt to another, beside a way to random vectors.

    Controls: the place on the way, at points that are measured; a box that turns each virtual token instead of going
    straight (`reading.between`). The whole way is measured when the widget opens.

    Args:
        first, second: (P, D), both of one shape.
        names: what they are called.
        points: places that are measured, the ends among them.
        split, limit: the rows that are measured, the first `limit` of the split.
        seed: of the random end.

    Raises:
        ValueError: two shapes, fewer than two points, or a model without a tokenizer.
    """

    def __init__(
        self,
        model: SoftPromptModel,
        task: Task,
        first: Float[torch.Tensor, "_ D"],
        second: Float[torch.Tensor, "_ D"],
        names: Sequence[str] = ("first", "second"),
        *,
        points: int = 6,
        split: str = "validation",
        limit: int = 16,
        seed: int = 0,
    ) -> None:
        if first.shape != second.shape or points < 2:
            raise ValueError(
                f"the way from shape {tuple(first.shape)} to {tuple(second.shape)} in {points} points cannot be gone; "
                "give two prompts of one shape and at least 2 points."
            )
        self._model, self._task, self._names = model, task, tuple(names)
        self._ends = [end.detach().float().to(model.device) for end in (first, second)]
        self._random = reading.random_end(*self._ends, seed)
        self._measured = {
            "points": points,
            "split": split,
            "limit": limit,
            "draws": 1,
            "seed": seed,
        }
        self.way = cache(self._way)  # what was measured once comes back at once
        self.at = ipywidgets.SelectionSlider(
            options=[(f"{at:.2f}", at) for at in np.linspace(0, 1, points).tolist()],
            description=f"way from {names[0]} to {names[1]}",
            style=WIDE,
            layout={"width": "36em"},
            continuous_update=False,
        )
        self.spherical = ipywidgets.Checkbox(
            False, description="turn instead of going straight", indent=False
        )
        super().__init__([self.at, self.spherical])

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        other: str | Path | None = None,
        task: Task | None = None,
        *,
        base_model: Any = None,
        tokenizer: Any = None,
        **more: Any,
    ) -> Self:
        """Make one of two saved runs, or of one and its untrained start.

        Args:
            task: where its rows do not come with the package.
            base_model, tokenizer: as in `runs.saved_run`.

        Raises:
            AdapterError: a folder is damaged or does not fit the base model.
            LabError: the base model is not there, the rows of the task are not, or the start was not kept.
        """
        run = run_of(folder, base_model, tokenizer)
        task, prompt = task or with_rows(run), run.model.prompt.detach()
        if other is None and run.start is None:
            raise LabError(f"{folder} does not hold its untrained start; give a second folder.")
        if other is None:
            return cls(
                run.model, task, run.start, prompt, ("its untrained start", run.name), **more
            )
        end = runs.saved_run(Path(other), run.model.base_model, run.model.tokenizer)
        return cls(run.model, task, prompt, end.model.prompt.detach(), (run.name, end.name), **more)

    def _way(self, spherical: bool) -> pd.DataFrame:
        """What `reading.interpolation` finds on the whole way."""
        self.status.value = '<p aria-live="polite">Measuring the whole way …</p>'
        return reading.interpolation(
            self._model, self._task, *self._ends, spherical=spherical, **self._measured
        )

    def words(self) -> dict[str, pd.DataFrame]:
        """Return the nearest token of every virtual token at the ends, here, and as far on the way to random."""
        at, spherical = self.at.value, self.spherical.value
        prompts = {
            self._names[0]: self._ends[0],
            "here": reading.between(*self._ends, at, spherical),
            self._names[1]: self._ends[1],
            "random way": reading.between(self._ends[0], self._random, at, spherical),
        }
        words, tokenizer = self._model.word_embeddings, self._model.tokenizer
        return {
            name: reading.nearest_tokens(prompt, words, tokenizer, 1)
            for name, prompt in prompts.items()
        }

    def content(self) -> Content:
        """The curves with a marker, the measures here in words, and the nearest words."""
        table, frames = self.way(self.spherical.value), self.words()
        here = {
            row["kind"]: row
            for row in table.to_dict("records")
            if row["kind"] != "no prompt" and np.isclose(row["at"], self.at.value)
        }
        own, highest = here["prompt"], reading.barrier(table).iloc[0]
        status = (
            f"At {own['at']:.2f} of the way: loss {own['loss']:.3f}, {own['loss_change']:+.3f} from the straight line "
            f"between the ends (95 % interval {own['loss_low']:+.3f} to {own['loss_high']:+.3f}), accuracy "
            f"{own['accuracy']:.1%}. As far on the way to random vectors: loss {here['random']['loss']:.3f}, accuracy "
            f"{here['random']['accuracy']:.1%}. Highest above the line: {highest['barrier']:.3f} at "
            f"{highest['at']:.2f}. {own['n']} rows of {self._measured['split']}."
        )
        tables = [
            as_table(reading.neighbour_table(frame), name, "virtual token")
            for name, frame in frames.items()
        ]
        return Content(
            status,
            plots.interpolation_figure(table, self._names, self.at.value),
            side_by_side(tables),
        )
