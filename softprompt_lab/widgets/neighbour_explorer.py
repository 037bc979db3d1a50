"""The neighbour explorer: move through training and see what stands nearest to each virtual token."""

import base64
import html
from collections.abc import Mapping
from functools import cache
from typing import Any, Self

import ipywidgets
import pandas as pd
import torch
from jaxtyping import Float
from transformers import PreTrainedTokenizerBase

from .. import plots, reading

MOST_NEIGHBOURS = 10  # what the slider for k reaches
METRIC_NAMES = {"cosine": "cosine", "l2": "L2 distance", "dot": "dot product"}


class NeighbourExplorer(ipywidgets.VBox):
    """Nearest tokens at any snapshot of training, beside random vectors of the same norms.

    Controls: the step, the metric, centring, k; all work by keyboard. In a page without a kernel or a widget
    manager its output is a static figure of the same tables.
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
        self._make_controls(k)
        self.status = ipywidgets.HTML()
        self.tables = ipywidgets.HTML()
        self.picture = ipywidgets.HTML()
        super().__init__(children=[self._box, self.status, self.tables, self.picture])
        for control in self._controls:
            control.observe(self._refresh, names="value")
        self._refresh()

    @classmethod
    def from_history(cls, history: Any, model: Any, k: int = 5) -> Self:
        """Make an explorer of a `TrainingHistory` and the `SoftPromptModel` that it trained."""
        return cls(history.snapshots, model.word_embeddings, model.tokenizer, k)

    def _make_controls(self, k: int) -> None:
        """Make the four controls and the box that holds them."""
        wide = {"description_width": "initial"}
        steps = list(self._snapshots)
        self.step = ipywidgets.SelectionSlider(
            options=steps, value=steps[-1], description="training step", style=wide, continuous_update=False
        )
        self.metric = ipywidgets.Dropdown(
            options=[(name, metric) for metric, name in METRIC_NAMES.items()],
            description="metric",
            style=wide,
        )
        self.k = ipywidgets.IntSlider(
            k, 1, self._most, description="neighbours, k", style=wide, continuous_update=False
        )
        self.centered = ipywidgets.Checkbox(
            False, description="subtract the mean of the vocabulary", indent=False, style=wide
        )
        self._controls = [self.step, self.metric, self.k, self.centered]
        self._box = ipywidgets.HBox(self._controls, layout=ipywidgets.Layout(flex_flow="row wrap"))

    def _find(self, step: int, metric: str, centered: bool) -> dict[str, pd.DataFrame]:
        """Return the nearest tokens of the prompt at `step`, of the start, and of random vectors."""
        prompt, start = self._snapshots[step], next(iter(self._snapshots.values()))
        control = reading.random_control(prompt, around=self._words.float().mean(0) if centered else None)
        prompts = {f"prompt at step {step}": prompt, "its start": start, "random vectors": control}
        return {
            name: reading.nearest_tokens(vectors, self._words, self._tokenizer, self._most, metric, centered)
            for name, vectors in prompts.items()
        }

    def current(self) -> dict[str, pd.DataFrame]:
        """Return the tables that are shown, as `nearest_tokens` gives them: prompt, start, random vectors."""
        found = self._neighbours(self.step.value, self.metric.value, self.centered.value)
        return {name: frame[frame["rank"] <= self.k.value] for name, frame in found.items()}

    def static_figure(self) -> plots.Figure:
        """Return the same tables as a figure, at most three ranks wide, for a page where no widget lives."""
        return plots.neighbour_figure(self.current(), k=3, metric=self.metric.value)

    def _refresh(self, change: Any = None) -> None:
        """Show what the controls ask for; an error is shown in the widget, not raised into the front end."""
        try:
            frames = self.current()
            best = {name: frame.loc[frame["rank"] == 1, "score"] for name, frame in frames.items()}
            figure = plots.neighbour_scores(best, self.metric.value)
            tables, picture = _as_html(frames), _as_image(figure)
        except Exception as error:  # whatever goes wrong belongs on the reader's screen
            text = html.escape(f"{type(error).__name__}: {error}")
            self.status.value, self.tables.value, self.picture.value = f'<p role="alert">{text}</p>', "", ""
            return
        means = ", ".join(f"{html.escape(name)}: {scores.mean():.2f}" for name, scores in best.items())
        name = METRIC_NAMES[self.metric.value] + (" (centred)" if self.centered.value else "")
        self.status.value = f'<p aria-live="polite">Mean {name} of the nearest token. {means}</p>'
        self.tables.value, self.picture.value = tables, picture

    def close(self) -> None:
        """Stop listening to the controls and take everything off the page."""
        for control in getattr(self, "_controls", []):
            control.unobserve_all()
            control.close()
        for name in ("_box", "status", "tables", "picture"):
            if hasattr(self, name):
                getattr(self, name).close()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        """Return the widget for a page that can show one, and the static figure for one that cannot."""
        figure, metadata = self.static_figure()._repr_mimebundle_()
        return {**super()._repr_mimebundle_(**kwargs), **figure}, metadata


def _as_html(frames: Mapping[str, pd.DataFrame]) -> str:
    """Return the prompt's table and that of the random vectors, side by side where there is room."""
    shown = [name for name in frames if name != "its start"]
    parts = []
    for name in shown:
        table = reading.neighbour_table(frames[name]).rename_axis(index=None, columns="virtual token")
        table = table.to_html(border=0)
        caption = f"<caption>{html.escape(name)}</caption>"
        parts.append(f"<div>{table.replace('<thead>', caption + '<thead>', 1)}</div>")
    return '<div style="display:flex;flex-wrap:wrap;gap:2em;overflow-x:auto">' + "".join(parts) + "</div>"


def _as_image(figure: plots.Figure) -> str:
    """Return a figure as an image element with its alt text."""
    data = base64.b64encode(figure.png()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(figure.alt)}" style="max-width:100%">'
