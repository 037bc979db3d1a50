"""Figures of prompts and words: what nearest words lack, words found by training, vectors that look like a text."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .figure import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    SERIES,
    SKY,
    Figure,
    Numbers,
    array,
    drawable,
    looks_of,
    percent,
    styled,
)
from .results import _smooth

MOST_WORDS = 8  # virtual tokens whose words a row of `search_figure` shows
CONTROLS = {  # kind of row: name in the legend, line style
    "text": ("the text itself", "--"),
    "random vectors": ("random vectors", "-."),
    "no prompt": ("no prompt", ":"),
}
PANELS = {  # column: title; with _low and _high its interval
    "accuracy": "accuracy",
    "gap": "accuracy lost",
    "loss_gap": "loss gained (nats a token)",
}


@styled
def gap_figure(table: pd.DataFrame) -> Figure:
    """Draw `reading.discretisation_gap`: accuracy, accuracy lost, loss gained, one line a row, its words beside it.

    Bars are 95 % intervals; of a gap that touches the line at 0 nothing is known to be lost.
    """
    rows = table.rename(columns={"low": "accuracy_low", "high": "accuracy_high"}).reset_index(
        drop=True
    )
    looks = looks_of(rows["kind"].str.removesuffix("'s words"))
    names = [f"{row.kind}, {row.metric}" if row.metric else row.kind for row in rows.itertuples()]
    fig = Figure(figsize=(9.5, 1.2 + 0.27 * len(rows)))
    axes = fig.subplots(1, len(PANELS), sharey=True)
    for ax, (column, title) in zip(axes, PANELS.items(), strict=True):
        for y, (kind, value, *ends) in enumerate(
            rows[["kind", column, f"{column}_low", f"{column}_high"]].to_numpy()
        ):
            colour, marker, _ = looks[kind.removesuffix("'s words")]
            face = "white" if kind.endswith("'s words") else colour
            ax.plot(ends, [y, y], color=colour, solid_capstyle="butt")
            ax.plot(value, y, color=colour, marker=marker, markerfacecolor=face, linestyle="none")
        if column != "accuracy":
            ax.axvline(0, color=BLACK, linestyle=":", linewidth=1.2)
        if column != "loss_gap":
            percent(ax.xaxis)
            ax.locator_params(axis="x", nbins=3)  # the panels are narrow
        ax.set(xlabel=title)
        ax.locator_params(axis="x", nbins=5)
    for y, text in enumerate(rows["text"]):
        axes[-1].annotate(
            drawable(text, 52),
            (1.03, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=7,
        )
    axes[0].set(
        yticks=range(len(rows)),
        yticklabels=[drawable(name) for name in names],
        ylim=(len(rows) - 0.5, -0.5),
    )
    lost = [
        f"{name} {row.accuracy:.1%}"
        + (f" ({row.gap:+.1%} lost against the {row.against})" if row.against else "")
        for name, row in zip(names, rows.itertuples(), strict=True)
    ]
    fig.alt = f"Dots with 95 % intervals: accuracy, accuracy lost, loss gained. {'; '.join(lost)}."
    return fig


# --- words found by training --------------------------------------------------------------------------------


def _words_grid(ax: Axes, way: pd.DataFrame, steps: Sequence[int]) -> None:
    """Write the words at each step, one line a step; a shaded cell has another word than the line above."""
    words = way.pivot(index="step", columns="virtual_token", values="token").iloc[:, :MOST_WORDS]
    for y, step in enumerate(steps):
        for x, word in enumerate(words.loc[step]):
            new = y > 0 and word != words.loc[steps[y - 1]].iloc[x]
            ax.add_patch(
                Rectangle(
                    (x, y), 1, 1, facecolor=SKY if new else "white", edgecolor=GREY, linewidth=0.4
                )
            )
            ax.text(x + 0.5, y + 0.5, drawable(str(word), 9), ha="center", va="center", fontsize=7)
    ax.set(xlim=(0, words.shape[1]), ylim=(len(steps), 0))
    ax.set(
        xlabel="virtual token", ylabel="step", title="words in front of the text; shaded: changed"
    )
    ax.set_xticks([x + 0.5 for x in range(words.shape[1])], [str(token) for token in words.columns])
    ax.set_yticks([y + 0.5 for y in range(len(steps))], [str(step) for step in steps])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


@styled
def search_figure(
    losses: Numbers, way: pd.DataFrame, others: Mapping[str, Numbers], pictures: int = 8
) -> Figure:
    """Draw a search for words (PEZ): its loss beside that of other trainings, and the words on the way.

    `way`: `reading.trajectory` of the snapshots, with the metric of the search. `others`: name -> losses, such as those
    of the same training without the projection. At most `MOST_WORDS` virtual tokens are shown.
    """
    every = sorted(way["step"].unique().tolist())
    steps = [
        every[i] for i in np.unique(np.linspace(0, len(every) - 1, pictures).round().astype(int))
    ]
    fig = Figure(figsize=(9.5, 1.2 + 0.27 * max(len(steps), 7)))
    left, right = fig.subplots(1, 2, width_ratios=(1, 1.6))
    lines = {"words": losses} | dict(others)
    ends = []
    for (name, values), (colour, _, style) in zip(lines.items(), SERIES, strict=False):
        smooth = _smooth(array(values), max(1, len(values) // 10))
        ends.append(f"{name} {smooth[0]:.2f} to {smooth[-1]:.2f}")
        left.plot(
            range(1, len(smooth) + 1), smooth, color=colour, linestyle=style, label=drawable(name)
        )
    left.set(xlabel="step", ylabel="training loss (nats a token)")
    left.set_ylim(bottom=0)
    left.legend()
    _words_grid(right, way, steps)
    words = " ".join(
        way[way["step"] == every[-1]].sort_values("virtual_token")["token"].astype(str)
    )
    fig.alt = f"Left, training loss: {'; '.join(ends)}. Right, the words on the way; the last ones are {words}."
    return fig


# --- vectors that look like a text --------------------------------------------------------------------------


@styled
def wayward_figure(table: pd.DataFrame, selected: float | None = None) -> Figure:
    """Draw `reading.wayward_table` over gamma: accuracy with the controls as lines, and the likeness to the text.

    `selected`: a gamma to mark.
    """
    rows = table[table["kind"] == "gamma"].sort_values("gamma").reset_index(drop=True)
    fig = Figure(figsize=(9.5, 3.0))
    top, share, distance = fig.subplots(1, 3)
    for low, high, x in zip(rows["low"], rows["high"], rows.index, strict=True):
        top.plot([x, x], [low, high], color=BLUE, solid_capstyle="butt")
    top.plot(rows.index, rows["accuracy"], color=BLUE, marker="o", linewidth=0.8, label="trained")
    share.plot(rows.index, rows["share"], color=BLUE, marker="o", linewidth=0.8)
    distance.plot(rows.index, rows["distance"], color=BLUE, marker="o", linewidth=0.8)
    for kind, (name, style) in CONTROLS.items():
        control = table[table["kind"] == kind]
        for row in control.itertuples():
            top.axhline(row.accuracy, color=BLACK, linestyle=style, linewidth=1.2, label=name)
            if kind == "random vectors":
                share.axhline(row.share, color=BLACK, linestyle=style, linewidth=1.2)
                distance.axhline(row.distance, color=BLACK, linestyle=style, linewidth=1.2)
    if rows["gamma"].iloc[0] == 0:
        top.axhline(
            rows["accuracy"].iloc[0], color=ORANGE, linestyle=(0, (5, 1)), zorder=0, label="gamma 0"
        )
    titles = ("accuracy", "nearest words that are the text's", "mean squared distance")
    for ax, title in zip((top, share, distance), titles, strict=True):
        ax.set_xticks(rows.index, [f"{gamma:g}" for gamma in rows["gamma"]], rotation=45)
        ax.set(title=title, xlabel="gamma")
        if selected is not None:
            for x in rows.index[rows["gamma"] == selected]:
                ax.axvspan(
                    x - 0.35,
                    x + 0.35,
                    facecolor=SKY,
                    alpha=0.5,
                    hatch="//",
                    edgecolor=GREY,
                    lw=0,
                    zorder=0,
                )
    for ax in (top, share):
        ax.set_ylim(-0.03, 1.03)
        percent(ax.yaxis)
    distance.set_ylim(bottom=0)
    fig.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    fig.alt = _wayward_words(rows, table)
    return fig


def _wayward_words(rows: pd.DataFrame, table: pd.DataFrame) -> str:
    """The figure's numbers."""
    points = [
        f"gamma {row.gamma:g}: accuracy {row.accuracy:.1%}, {row.share:.0%} of the words, distance {row.distance:.2g}"
        for row in rows.itertuples()
    ]
    others = table[table["kind"] != "gamma"]
    controls = [f"{row.kind} {row.accuracy:.1%}" for row in others.itertuples()]
    return f"Accuracy and likeness to the text over gamma. {'; '.join(points)}. Accuracy of {', '.join(controls)}."
