"""The neighbour explorer: move through training and see what stands nearest to each virtual token."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

import ipywidgets
import pandas as pd
import torch
from jaxtyping import Float
from transformers import PreTrainedTokenizerBase

from .. import plots, reading
from .frame import Content, Instrument, as_table, control, run_of, side_by_side

MOST_NEIGHBOURS = 10  # what the slider for k reaches
METRIC_NAMES = {"cosine": "cosine", "l2": "L2 distance", "dot": "dot product"}


class NeighbourExplorer(Instrument):
    """Nearest tokens at any snapshot of training, beside random vectors of the same norms.

    Controls: the step, the metric, centring, k.
    """

    def __init__(
        self,
        snapshots: Mapping[int, Float[torch.Tensor, "P D"]],
        word_embeddings: Float[torch.Tensor, "V D"],
        tokenizer: PreTrainedTokenizerBase,
        k: int = 5,
    ) -> None:
        if not snapshots:
            raise ValueError("there are no snapshots to explore: train with snapshot_every=10.")
        most = min(MOST_NEIGHBOURS, len(word_embeddings))
        if not 1 <= k <= most:
            raise ValueError(f"k is {k}; it must be from 1 to {most}.")
        self._snapshots = {step: snapshots[step].detach() for step in sorted(snapshots)}
        self._words, self._tokenizer, self._most = word_embeddings.detach(), tokenizer, most
        self._neighbours = cache(self._find)  # what was seen once comes back at once
        steps = list(self._snapshots)
        metrics = [(name, metric) for metric, name in METRIC_NAMES.items()]
        mean = "subtract the mean of the vocabulary"
        self.step = control(ipywidgets.SelectionSlider, "training step", steps[-1], options=steps)
        self.metric = control(ipywidgets.Dropdown, "metric", "cosine", options=metrics)
        ranks = list(range(1, most + 1))
        self.k = control(ipywidgets.SelectionSlider, "neighbours, k", k, options=ranks)
        self.centered = control(ipywidgets.Checkbox, mean, False)
        super().__init__([self.step, self.metric, self.k, self.centered])

    @classmethod
    def from_history(cls, history: Any, model: Any, k: int = 5) -> Self:
        """Make an explorer of a `TrainingHistory` and the `SoftPromptModel` that it trained."""
        return cls(history.snapshots, model.word_embeddings, model.tokenizer, k)

    @classmethod
    def from_folder(
        cls, folder: str | Path, k: int = 5, *, base_model: Any = None, tokenizer: Any = None
    ) -> Self:
        """Make an explorer of a saved run, or of `zoo:NAME`; errors of `runs.saved_run`."""
        run = run_of(folder, base_model, tokenizer)
        return cls(run.snapshots, run.model.word_embeddings, run.model.tokenizer, k)

    def _find(self, step: int, metric: str, centered: bool) -> dict[str, pd.DataFrame]:
        """Return the nearest tokens of the prompt at `step`, of the start, and of random vectors."""
        prompt, start = self._snapshots[step], next(iter(self._snapshots.values()))
        control = reading.random_control(
            prompt, around=self._words.float().mean(0) if centered else None
        )
        prompts = {f"prompt at step {step}": prompt, "its start": start, "random vectors": control}
        return {
            name: reading.nearest_tokens(
                vectors, self._words, self._tokenizer, self._most, metric, centered
            )
            for name, vectors in prompts.items()
        }

    def current(self) -> dict[str, pd.DataFrame]:
        """Return the tables that are shown, as `nearest_tokens` gives them: prompt, start, random vectors."""
        found = self._neighbours(self.step.value, self.metric.value, self.centered.value)
        return {name: frame[frame["rank"] <= self.k.value] for name, frame in found.items()}

    def content(self) -> Content:
        """Scores as a picture, words as tables: the prompt's and those of the random vectors."""
        frames = self.current()
        best = {name: frame.loc[frame["rank"] == 1, "score"] for name, frame in frames.items()}
        means = ", ".join(f"{name}: {scores.mean():.2f}" for name, scores in best.items())
        metric = METRIC_NAMES[self.metric.value] + (" (centred)" if self.centered.value else "")
        shown = [
            as_table(reading.neighbour_table(frame), name, "virtual token")
            for name, frame in frames.items()
            if name != "its start"
        ]
        status = f"Mean {metric} of the nearest token. {means}"
        return Content(status, plots.neighbour_scores(best, self.metric.value), side_by_side(shown))

    def static_figure(self) -> plots.Figure:
        """Return the same tables as a figure, at most three ranks wide, for a page where no widget lives."""
        return plots.neighbour_figure(self.current(), k=3, metric=self.metric.value)
