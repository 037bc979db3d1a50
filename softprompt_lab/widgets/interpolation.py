"""The way between two prompts: a slider along it, with the task's measures and the nearest words at each point."""

from collections.abc import Sequence
from functools import cache

import ipywidgets
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from .. import plots, reading
from ..model import SoftPromptModel
from ..tasks import Task
from .frame import Content, Instrument, control, neighbour_tables


class PromptInterpolation(Instrument):
    """Loss, accuracy and nearest words on the way from one prompt to another, beside a way to random vectors.

    Controls: the place on the way, at points that are measured; a box that turns each virtual token instead of going
    straight (`reading.between`). The whole way is measured when the widget opens.

    Args:
        first, second: (P, D), both of one shape.
        names: what they are called.
        points: places that are measured, the ends among them.
        limit: rows of the validation split that are measured.
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
        limit: int = 16,
    ) -> None:
        self._model, self._task, self._names = model, task, tuple(names)
        self._ends = [end.detach().float().to(model.device) for end in (first, second)]
        self._measured = {"points": points, "split": "validation", "limit": limit, "draws": 1}
        self.way = cache(self._way)  # what was measured once comes back at once
        places = [(f"{at:.2f}", at) for at in np.linspace(0, 1, points).tolist()]
        look = {"options": places, "layout": {"width": "36em"}}
        label = f"way from {names[0]} to {names[1]}"
        self.at = control(ipywidgets.SelectionSlider, label, 0.0, **look)
        label = "turn instead of going straight"
        self.spherical = control(ipywidgets.Checkbox, label, False)
        super().__init__([self.at, self.spherical])

    def _way(self, spherical: bool) -> pd.DataFrame:
        """What `reading.interpolation` finds on the whole way."""
        self.announce("Measuring the whole way …")
        given = (self._model, self._task, *self._ends)
        return reading.interpolation(*given, spherical=spherical, **self._measured)

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
            f"{highest['at']:.2f}. {own['n']} rows of validation."
        )
        figure = plots.interpolation_figure(table, self._names, self.at.value)
        return Content(status, figure, neighbour_tables(frames))
