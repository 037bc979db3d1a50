"""Figures of training and evaluation: losses, accuracies with intervals, the spread over wordings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .charts import SHADES, cells, counted, dot_rows, in_words, panels, running_mean, words_beside
from .figure import (
    BLUE,
    DOTTED,
    LEVELS,
    LOOKS,
    SKY,
    Figure,
    Numbers,
    array,
    drawable,
    looks_of,
    percent,
    styled,
)

HELD_OUT = LOOKS[1] | {"label": "held out"}
PENALTY = LOOKS[2] | {"marker": "", "label": "penalty, added to the loss"}
LETTERS = 90  # below a row of cells as wide as a figure
MAJORITY = DOTTED | {"label": "majority class"}


@styled
def training_curve(
    losses: Numbers,
    evaluations: Sequence[Mapping[str, Any]] = (),
    majority: float | None = None,
    penalties: Numbers = (),
) -> Figure:
    """Draw the loss of every step and, where there are evaluations, the held-out loss and accuracy.

    `evaluations`: mappings with `step`, `loss`, `accuracy`. `majority`: accuracy of the most frequent class.
    `penalties`: what was added to the loss of every step.
    """
    if not len(losses):
        raise ValueError("no losses to draw: train for at least one step")
    window = max(1, len(losses) // 10)
    fig, (ax, *right) = panels(2, 8.5, 3.0) if evaluations else panels(1, 5.0, 2.9)
    each, mean = running_mean(losses, 1), running_mean(losses, window)
    name = "training"
    if window > 1:
        ax.plot(each.index, each, color=SKY, linewidth=0.8, label="training, each step")
        name = f"training, mean of {window} steps"
    ax.plot(mean.index, mean, color=BLUE, label=name, marker="." * (len(mean) == 1))
    ax.set(xlabel="step", ylabel="loss (nats a token)")
    steps = counted(len(losses), "step")
    fig.alt = f"Line chart over {steps}. Training loss goes from {each.iloc[0]:.2f} to {each.iloc[-1]:.2f}"
    if len(penalties):
        ax.plot(mean.index, penalties, **PENALTY)
        fig.alt += f"; the penalty from {penalties[0]:.2f} to {penalties[-1]:.2f}"
    if evaluations:
        fig.alt += _held_out(ax, *right, pd.DataFrame(evaluations), majority)
    ax.set_ylim(bottom=0)
    fig.legend_below(4 if evaluations else 2)
    fig.alt += "."
    return fig


def _held_out(left: Axes, right: Axes, found: pd.DataFrame, majority: float | None) -> str:
    """Add the held-out loss to one panel, draw the held-out accuracy in another, and return it in words."""
    left.plot(found["step"], found["loss"], **HELD_OUT)
    right.plot(found["step"], found["accuracy"], **HELD_OUT)
    first, last = found["accuracy"].iloc[[0, -1]]
    words = f"; held-out accuracy from {first:.0%} to {last:.0%}"
    if majority is not None:
        right.axhline(majority, **MAJORITY)
        words += f", where the majority class alone gives {majority:.0%}"
    right.set(xlabel="step", ylabel="accuracy", ylim=(0, 1.03))
    percent(right.yaxis)
    return words


@styled
def accuracy_comparison(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]],
    majority: float | None = None,
    measured: str = "accuracy",
    ceiling: float | None = None,
) -> Figure:
    """Draw one dot a row with its 95 % interval; a row whose accuracy is not known yet has a question mark.

    `rows`: `label`, `accuracy`, and where known `low`, `high` (fractions) and `kind`, which gives the marker.
    `measured`: what the dots are, such as "test accuracy"; it names the axis. `ceiling`: what a human rater reaches.
    """
    table = pd.DataFrame(rows).reindex(columns=["label", "accuracy", "low", "high", "kind"])
    kinds = table["kind"].fillna("").astype(str)
    looks = looks_of(kinds)
    fig, (ax,) = panels(1, 7.5, 0.9 + 0.32 * len(table))
    if majority is not None:
        ax.axvline(majority, **MAJORITY)
    if ceiling is not None:
        ax.axvline(ceiling, label="human rater", **LEVELS["human rater"])
    labelled = [looks[kind] | {"label": drawable(kind), "markersize": 7} for kind in kinds]
    dot_rows(ax, table["label"], table["accuracy"], (table["low"], table["high"]), labelled)
    words_beside(ax, table["accuracy"].map("{:.1%}".format).replace("nan%", "?"))
    ax.set_xlabel(f"{measured} (line: 95 % interval)")
    percent(ax.xaxis)
    fig.legend_below()
    values = in_words(dict(zip(table["label"], table["accuracy"], strict=True)), ".1%")
    baseline = "" if majority is None else f"; majority {majority:.1%}"
    baseline += "" if ceiling is None else f"; human rater {ceiling:.1%}"
    fig.alt = f"Dot chart of {measured}: {values.replace('nan%', 'not known yet')}{baseline}."
    return fig


@styled
def answer_shares(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the labels' probabilities for one text as shaded cells, one panel a task, in two columns from three on.

    `tables`: a task's name -> one line a prompt, one column a label, each line summing to 1.
    """
    columns = 1 + (len(tables) > 2)
    lines = [len(table) for table in tables.values()]
    lines = [max(lines[at : at + columns]) for at in range(0, len(lines), columns)]
    room = LETTERS // columns // max(table.shape[1] for table in tables.values())
    level = max(len(str(label)) for table in tables.values() for label in table) < room
    fig = Figure(figsize=(8.0, 0.3 + sum((0.5 if level else 1.3) + 0.18 * n for n in lines)))
    axes = fig.subplots(len(lines), columns, squeeze=False, height_ratios=lines).flat
    words = []
    for ax, (task, table) in zip(axes, tables.items(), strict=False):
        cells(ax, table.map("{:.0%}".format), SHADES(table.to_numpy()))
        ax.tick_params(labelsize=8)
        ax.set_title(drawable(task, 36))
        if level:
            labels = [drawable(str(label)) for label in table]
            ax.set_xticks(ax.get_xticks(), labels, rotation=0, ha="center", va="top")
        best = table.idxmax(axis=1)
        words += [f"{task}, {at}: {label} {table.loc[at, label]:.0%}" for at, label in best.items()]
    for ax in axes[len(tables) :]:
        ax.set_axis_off()
    for ax in axes[: len(tables)][-columns:]:
        ax.set_xlabel("probability among the labels", fontsize=9)
    fig.alt = f"Table: the likeliest label behind each prompt. {'; '.join(words)}."
    return fig


@styled
def wording_spread(
    accuracies: Mapping[str, float],
    majority: float | None = None,
    others: Mapping[str, float] | None = None,
) -> Figure:
    """Draw the accuracy of each wording (text -> accuracy), best first, with the spread; lines for others."""
    ranked = pd.Series(accuracies).sort_values(ascending=False, kind="stable")
    least, most, mean = ranked.min(), ranked.max(), ranked.mean()
    fig, (ax,) = panels(1, 8.0, 1.2 + 0.28 * len(ranked))
    ax.axvspan(least, most, color=SKY, alpha=0.25, label="spread of the wordings", linewidth=0)
    looks = [LOOKS[0] | {"label": "one wording"}] * len(ranked)
    dot_rows(ax, ranked.index, ranked, ([least] * len(ranked), ranked), looks)
    ax.axvline(mean, color=BLUE, linewidth=1.2, label=f"mean, {mean:.1%}")
    lines = ({} if majority is None else {"majority class": majority}) | dict(others or {})
    for (name, value), look in zip(lines.items(), [DOTTED, *LOOKS[1:]], strict=False):
        look = {"color": look["color"], "linestyle": look["linestyle"]}
        ax.axvline(value, label=f"{drawable(name)}, {value:.1%}", **look)
    ax.set_xlabel("accuracy")
    percent(ax.xaxis)
    fig.legend_below(3)
    values = in_words({"mean": mean} | lines, ".1%")
    wordings = counted(len(ranked), "wording")
    fig.alt = f"Dot chart of {wordings}: from {least:.1%} to {most:.1%}, {values}."
    return fig


@styled
def margins_figure(
    margins: Mapping[str, Numbers], borders: Mapping[str, float], axis: str
) -> Figure:
    """Draw how far a model leans to the second of two labels: a histogram for the rows of each true label.

    `margins`: label -> of each row the score of the second label less that of the first. `borders`: name -> the margin
    above which the answer is the second label. `axis`: what the margins are.
    """
    fig, (ax,) = panels(1, 7.5, 3.2)
    bins = np.histogram_bin_edges(np.concatenate([array(part) for part in margins.values()]), 40)
    looks = ({"color": SKY}, {"color": BLUE, "histtype": "step", "linewidth": 1.8})
    for (label, values), look in zip(margins.items(), looks, strict=True):
        ax.hist(array(values), bins, label=f"{drawable(label)} (n = {len(values)})", **look)
    for (name, border), look in zip(borders.items(), (DOTTED, *LOOKS[1:]), strict=False):
        look = {"color": look["color"], "linestyle": look["linestyle"]}
        ax.axvline(border, label=drawable(name), **look)
    ax.set(xlabel=axis, ylabel="rows")
    fig.legend_below(2)
    means = {label: array(values).mean() for label, values in margins.items()}
    fig.alt = f"Histograms of {axis}; means: {in_words(means)}; borders: {in_words(borders)}."
    return fig
