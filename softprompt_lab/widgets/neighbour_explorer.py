"""The neighbour explorer: move through training and see what stands nearest to each virtual token."""

from collections.abc import Mapping
from functools import cache

import ipywidgets
import pandas as pd
import torch
from jaxtyping import Float

from .. import plots, reading
from ..training import TrainingHistory
from .frame import Content, Instrument, control, neighbour_tables
from .slider import Slider
from .source import Prompt, opened, vectors

MOST_NEIGHBOURS = 10  # what the slider for k reaches
METRICS = {"cosine": "cosine", "L2 distance": "l2", "dot product": "dot"}  # as a reader sees them


class NeighbourExplorer(Instrument):
    """Nearest tokens at any snapshot of training, beside the start and random vectors of the same norms.

    Controls: the step, the metric, centring, k.

    Args:
        prompt: a run's folder, "zoo:NAME", a run or a model.
        snapshots: of a model, what `train` returned, or prompts by step; by default those that a run kept, and
            without any the prompt as it is.

    Example:
        >>> from softprompt_lab.widgets import NeighbourExplorer
        >>> NeighbourExplorer("zoo:tweets-seed0")  # doctest: +SKIP
    """

    def __init__(
        self,
        prompt: Prompt,
        snapshots: TrainingHistory | Mapping[int, Float[torch.Tensor, "P D"]] | None = None,
        k: int = 5,
    ) -> None:
        run = opened(prompt)
        kept = snapshots.snapshots if isinstance(snapshots, TrainingHistory) else snapshots
        kept = kept or run.snapshots or {0: vectors(run)}
        self._model = run.model
        self._snapshots = {step: kept[step].detach() for step in sorted(kept)}
        self._most = min(MOST_NEIGHBOURS, len(run.model.word_embeddings))
        self._neighbours = cache(self._find)  # what was seen once comes back at once
        steps = list(self._snapshots)
        mean = "subtract the mean of the vocabulary"
        self.step = Slider("training step", steps[-1], [(str(step), step) for step in steps])
        self.metric = control(ipywidgets.Dropdown, "metric", "cosine", options=[*METRICS.items()])
        ranks = range(1, self._most + 1)
        self.k = Slider("neighbours, k", k, [(str(rank), rank) for rank in ranks])
        self.centered = control(ipywidgets.Checkbox, mean, False)
        super().__init__([self.step, self.metric, self.k, self.centered])

    def _find(self, step: int, metric: str, centered: bool) -> dict[str, pd.DataFrame]:
        """Return the nearest tokens of the prompt at `step`, of the start, and of random vectors."""
        start = next(iter(self._snapshots.values()))
        prompts = {f"prompt at step {step}": self._snapshots[step], "its start": start}
        words = self._model.word_embeddings.detach()
        given = (words, self._model.tokenizer, self._most, metric, centered)
        table = reading.nearest_tokens_of(prompts, *given)
        return dict(iter(table.groupby("kind", sort=False)))

    def current(self) -> dict[str, pd.DataFrame]:
        """Return the tables that are shown, as `nearest_tokens` gives them: prompt, start, random vectors."""
        found = self._neighbours(self.step.value, self.metric.value, self.centered.value)
        return {name: frame[frame["rank"] <= self.k.value] for name, frame in found.items()}

    def content(self) -> Content:
        """Return scores as a picture, words as tables: of the prompt, its start and random vectors."""
        frames = self.current()
        best = {name: frame.loc[frame["rank"] == 1, "score"] for name, frame in frames.items()}
        means = ", ".join(f"{name}: {scores.mean():.2f}" for name, scores in best.items())
        metric = self.metric.label + (" (centred)" if self.centered.value else "")
        status = f"Mean {metric} of the nearest token. {means}"
        figure = plots.neighbour_scores(best, self.metric.label)
        return Content(status, figure, neighbour_tables(frames))
