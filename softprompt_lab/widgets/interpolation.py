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
from ..tasks import Task
from .frame import Content, Instrument, as_table, control, run_of, side_by_side, with_rows


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
        self._measured = {"points": points, "split": split, "limit": limit, "seed": seed}
        self.way = cache(self._way)  # what was measured once comes back at once
        places = [(f"{at:.2f}", at) for at in np.linspace(0, 1, points).tolist()]
        self.at = control(
            ipywidgets.SelectionSlider,
            f"way from {names[0]} to {names[1]}",
            0.0,
            options=places,
            layout={"width": "36em"},
        )
        label = "turn instead of going straight"
        self.spherical = control(ipywidgets.Checkbox, label, False)
        super().__init__([self.at, self.spherical])

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        other: str | Path | None = None,
        task: Task | None = None,
        *,
        base_model: Any = None,
        **more: Any,
    ) -> Self:
        """Make one of two saved runs, or of one and its untrained start.

        Args:
            task: where its rows do not come with the package.
            base_model: with `tokenizer`, in place of loading the base model.

        Raises:
            AdapterError: a folder is damaged or does not fit the base model.
            LabError: the base model is not there, the rows of the task are not, or the start was not kept.
        """
        run = run_of(folder, base_model, more.pop("tokenizer", None))
        task, prompt = task or with_rows(run), run.model.prompt.detach()
        if other is not None:
            end = run_of(other, run.model.base_model, run.model.tokenizer)
            ends, names = (prompt, end.model.prompt.detach()), (run.name, end.name)
        elif run.start is not None:
            ends, names = (run.start, prompt), ("its untrained start", run.name)
        else:
            raise LabError(f"{folder} does not hold its untrained start; give a second folder.")
        return cls(run.model, task, *ends, names, **more)

    def _way(self, spherical: bool) -> pd.DataFrame:
        """What `reading.interpolation` finds on the whole way."""
        self.announce("Measuring the whole way …")
        given = (self._model, self._task, *self._ends)
        return reading.interpolation(*given, spherical=spherical, draws=1, **self._measured)

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
