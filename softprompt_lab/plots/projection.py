"""Figures of prompts and words: what nearest words lack, words found by training, vectors that look like a text."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from .charts import changing_words, dot_rows, dots, evenly, panels, running_mean, words_beside
from .figure import DOTTED, LOOKS, SKY, Figure, Numbers, drawable, looks_of, percent, styled

MOST_WORDS, MOST_STEPS = 8, 8  # virtual tokens and snapshots whose words `search_figure` shows
GAPS = {  # column: title; with _low and _high its interval
    "accuracy": "accuracy",
    "gap": "accuracy lost",
    "loss_gap": "loss gained (nats a token)",
}
LIKENESS = {  # column: title
    "accuracy": "accuracy",
    "share": "nearest words that are the text's",
    "distance": "mean squared distance",
}


@styled
def gap_figure(table: pd.DataFrame) -> Figure:
    """Draw `reading.discretisation_gap`: accuracy, accuracy lost, loss gained, one line a row, its words beside it.

    Bars are 95 % intervals; of a gap that touches the line at 0 nothing is known to be lost.
    """
    rows = table.rename(columns={"low": "accuracy_low", "high": "accuracy_high"})
    names = [f"{row.kind}, {row.metric}" if row.metric else row.kind for row in rows.itertuples()]
    looks = rows["kind"].map(looks_of(rows["kind"]))
    fig, axes = panels(len(GAPS), 9.5, 1.2 + 0.27 * len(rows), sharey=True)
    for ax, (column, title) in zip(axes, GAPS.items(), strict=True):
        dot_rows(ax, names, rows[column], (rows[f"{column}_low"], rows[f"{column}_high"]), looks)
        ax.set_xlabel(title)
        ax.locator_params(axis="x", nbins=4)  # the panels are narrow
    for ax in axes[1:]:
        ax.axvline(0, **DOTTED)
    percent(axes[0].xaxis, axes[1].xaxis)
    words_beside(axes[-1], rows["text"])
    lost = [
        f"{name} {row.accuracy:.1%}"
        + (f" ({row.gap:+.1%} lost against the {row.against})" if row.against else "")
        for name, row in zip(names, rows.itertuples(), strict=True)
    ]
    fig.alt = f"Dots with 95 % intervals: accuracy, accuracy lost, loss gained. {'; '.join(lost)}."
    return fig


@styled
def search_figure(losses: Numbers, way: pd.DataFrame, others: Mapping[str, Numbers]) -> Figure:
    """Draw a search for words (PEZ): its loss beside that of other trainings, and the words on the way.

    `way`: `reading.trajectory` of the snapshots, with the metric of the search. `others`: name -> losses, such as those
    of the same training without the projection. At most `MOST_WORDS` virtual tokens are shown.
    """
    steps = evenly(way["step"], MOST_STEPS)
    fig, (left, right) = panels(2, 9.5, 1.2 + 0.27 * max(len(steps), 7), width_ratios=(1, 1.6))
    lines, ends = {"words": losses} | dict(others), []
    for name, look in looks_of(lines).items():
        mean = running_mean(lines[name], max(1, len(lines[name]) // 10))
        ends.append(f"{name} {mean.iloc[0]:.2f} to {mean.iloc[-1]:.2f}")
        left.plot(mean.index, mean, label=drawable(name), **(look | {"marker": ""}))
    left.set(xlabel="step", ylabel="training loss (nats a token)")
    left.set_ylim(bottom=0)
    left.legend()
    words = way.pivot(index="step", columns="virtual_token", values="token").loc[steps]
    changing_words(right, words.iloc[:, :MOST_WORDS], axis=0)
    right.set(xlabel="virtual token", ylabel="step")
    right.set_title("words in front of the text; shaded: changed")
    fig.alt = (
        f"Left, training loss: {'; '.join(ends)}. Right, the words on the way; the last ones are "
        f"{' '.join(words.iloc[-1])}."
    )
    return fig


@styled
def wayward_figure(table: pd.DataFrame, selected: float | None = None) -> Figure:
    """Draw `reading.wayward_table` over gamma: accuracy with the controls as lines, and the likeness to the text.

    `selected`: a gamma to mark.
    """
    rows = table[table["kind"] == "gamma"].sort_values("gamma").reset_index(drop=True)
    fig, axes = panels(len(LIKENESS), 9.5, 3.0)
    look = LOOKS[0]
    dots(axes[0], rows["accuracy"], (rows["low"], rows["high"]), rows.index, upright=True, **look)
    for ax, (column, title) in zip(axes, LIKENESS.items(), strict=True):
        ax.plot(rows.index, rows[column], linewidth=0.8, label="trained", **look)
        _controls(ax, table, column)
        ax.set_xticks(rows.index, [f"{gamma:g}" for gamma in rows["gamma"]], rotation=45)
        ax.set(title=title, xlabel="gamma")
        for x in rows.index[rows["gamma"] == selected]:
            ax.axvspan(x - 0.35, x + 0.35, color=SKY, alpha=0.4, zorder=0)
        ax.set_ylim((0, None) if column == "distance" else (-0.03, 1.03))
    percent(axes[0].yaxis, axes[1].yaxis)
    fig.legend_below(5)
    points = [
        f"gamma {row.gamma:g}: accuracy {row.accuracy:.1%}, {row.share:.0%} of the words, distance {row.distance:.2g}"
        for row in rows.itertuples()
    ]
    others = table[table["kind"] != "gamma"].itertuples()
    reached = ", ".join(f"{row.kind} {row.accuracy:.1%}" for row in others)
    fig.alt = (
        f"Accuracy and likeness to the text over gamma. {'; '.join(points)}. Accuracy of {reached}."
    )
    return fig


def _controls(ax: Axes, table: pd.DataFrame, column: str) -> None:
    """Draw what the controls reach in a column as lines, the free prompt (gamma 0) among them."""
    names = table["kind"].replace({"gamma": "gamma 0", "text": "the text itself"})
    controls = table[(table["kind"] != "gamma") | (table["gamma"] == 0)].groupby(names, sort=False)
    levels = controls[column].first().dropna()
    for (name, level), look in zip(levels.items(), LOOKS[1:], strict=False):
        ax.axhline(level, label=name, color=look["color"], linestyle=look["linestyle"])
