"""Figures of training and evaluation: losses, accuracies with intervals, the spread over wordings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .figure import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SERIES,
    SKY,
    VERMILLION,
    YELLOW,
    Figure,
    Numbers,
    array,
    drawable,
    looks_of,
    percent,
    styled,
)


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of the last `window` values at each step (fewer at the beginning)."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


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
    losses, steps = array(losses), np.arange(1, len(losses) + 1)
    window = max(1, len(losses) // 10)
    fig = Figure(figsize=(8.5 if evaluations else 5.0, 3.0))
    axes = fig.subplots(1, 2 if evaluations else 1, squeeze=False)[0]
    axes[0].plot(steps, losses, color=SKY, linewidth=0.8, label="training, each step")
    axes[0].plot(
        steps, _smooth(losses, window), color=BLUE, label=f"training, mean of {window} steps"
    )
    axes[0].set(xlabel="step", ylabel="loss (nats a token)")
    fig.alt = f"Line chart over {len(losses)} steps. Training loss goes from {losses[0]:.2f} to {losses[-1]:.2f}"
    if len(penalties):
        axes[0].plot(
            steps, array(penalties), color=BLACK, linestyle=":", label="penalty, added to the loss"
        )
        fig.alt += f"; the penalty from {penalties[0]:.2f} to {penalties[-1]:.2f}"
    if evaluations:
        _held_out(axes, evaluations, majority)
        accuracies = [e["accuracy"] for e in evaluations]
        fig.alt += f"; held-out accuracy from {accuracies[0]:.0%} to {accuracies[-1]:.0%}"
        fig.alt += (
            "" if majority is None else f", where the majority class alone gives {majority:.0%}"
        )
    axes[0].legend()
    axes[0].set_ylim(bottom=0)
    fig.alt += "."
    return fig


def _held_out(
    axes: np.ndarray, evaluations: Sequence[Mapping[str, Any]], majority: float | None
) -> None:
    """Add the held-out loss to the first axes and the held-out accuracy to the second."""
    at = [e["step"] for e in evaluations]
    axes[0].plot(
        at,
        [e["loss"] for e in evaluations],
        color=VERMILLION,
        marker="s",
        linestyle="--",
        label="held out",
    )
    axes[1].plot(
        at,
        [e["accuracy"] for e in evaluations],
        color=VERMILLION,
        marker="s",
        linestyle="--",
        label="held out",
    )
    if majority is not None:
        axes[1].axhline(majority, color=BLACK, linestyle=":", label="majority class")
    axes[1].set(xlabel="step", ylabel="accuracy", ylim=(0, 1.03))
    percent(axes[1].yaxis)
    axes[1].legend(loc="lower right")


@styled
def accuracy_comparison(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]],
    majority: float | None = None,
    measured: str = "accuracy",
) -> Figure:
    """Draw one dot a row with its 95 % interval.

    `rows`: `label`, `accuracy`, and where known `low`, `high` (fractions) and `kind`, which gives the marker.
    `measured`: what the dots are, such as "test accuracy"; it names the axis.
    """
    table = pd.DataFrame(rows).reindex(columns=["label", "accuracy", "low", "high", "kind"])
    looks = looks_of(table["kind"].fillna("").astype(str))
    fig = Figure(figsize=(7.5, 0.9 + 0.32 * len(table)))
    ax = fig.subplots()
    for y, row in enumerate(table.itertuples(index=False)):
        colour, marker, _ = looks["" if pd.isna(row.kind) else str(row.kind)]
        if not pd.isna(row.low):
            ax.plot([row.low, row.high], [y, y], color=colour, solid_capstyle="butt")
        ax.plot(row.accuracy, y, color=colour, marker=marker, markersize=7, linestyle="none")
        ax.annotate(
            f"{row.accuracy:.1%}",
            (1.01, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
        )
    if majority is not None:
        ax.axvline(majority, color=BLACK, linestyle=":", linewidth=1.2, label="majority class")
    for kind, (colour, marker, _) in looks.items():
        if kind:
            ax.plot([], [], color=colour, marker=marker, linestyle="none", label=drawable(kind))
    ax.set(
        yticks=range(len(table)),
        yticklabels=[drawable(str(label)) for label in table["label"]],
        xlabel=f"{measured} (line: 95 % interval)",
        ylim=(len(table) - 0.5, -0.5),
    )
    percent(ax.xaxis)
    if ax.get_legend_handles_labels()[0]:
        fig.legend(loc="outside lower center", ncols=4)
    values = "; ".join(f"{row.label} {row.accuracy:.1%}" for row in table.itertuples(index=False))
    fig.alt = f"Dot chart of {measured}: {values}" + (
        "." if majority is None else f"; majority {majority:.1%}."
    )
    return fig


HATCHES = ("", "//", "..", "xx", "--", "\\\\")
SHADES = (SKY, ORANGE, "#D9D9D9", GREEN, PURPLE, YELLOW)


@styled
def answer_shares(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the labels' probabilities for one text as a bar for each prompt, one panel a task.

    `tables`: a task's name -> one line a prompt, one column a label, each line summing to 1.
    """
    heights = [len(table) for table in tables.values()]
    fig = Figure(figsize=(7.5, 0.35 + sum(0.75 + 0.34 * height for height in heights)))
    axes = fig.subplots(
        len(tables), 1, squeeze=False, height_ratios=[1.2 + height for height in heights]
    )[:, 0]
    told = []
    for ax, (task, table) in zip(axes, tables.items(), strict=True):
        left = np.zeros(len(table))
        for i, label in enumerate(table.columns):
            share = table[label].to_numpy()
            look = {
                "color": SHADES[i % len(SHADES)],
                "hatch": HATCHES[i % len(HATCHES)],
                "edgecolor": "#404040",
            }
            ax.barh(
                range(len(table)),
                share,
                left=left,
                height=0.7,
                linewidth=0.5,
                label=drawable(str(label)),
                **look,
            )
            for y, (start, width) in enumerate(zip(left, share, strict=True)):
                if width > 0.12:
                    patch = {
                        "facecolor": "white",
                        "edgecolor": "none",
                        "boxstyle": "round,pad=0.15",
                    }
                    ax.text(
                        start + width / 2,
                        y,
                        f"{width:.0%}",
                        ha="center",
                        va="center",
                        fontsize=8,
                        bbox=patch,
                    )
            left = left + share
        ax.set(
            yticks=range(len(table)), yticklabels=[drawable(str(name), 30) for name in table.index]
        )
        ax.set(xlim=(0, 1), ylim=(len(table) - 0.4, -0.6), title=drawable(task))
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        percent(ax.xaxis)
        best = table.idxmax(axis=1)
        told += [
            f"{task}, {name}: {label} {table.loc[name, label]:.0%}" for name, label in best.items()
        ]
    axes[-1].set_xlabel("probability among the labels")
    fig.alt = f"Bars: the likeliest label behind each prompt. {'; '.join(told)}."
    return fig


@styled
def wording_spread(
    accuracies: Mapping[str, float],
    majority: float | None = None,
    others: Mapping[str, float] | None = None,
) -> Figure:
    """Draw the accuracy of each wording (text -> accuracy), best first, with the spread; lines for others."""
    ranked = sorted(accuracies.items(), key=lambda item: -item[1])
    values = np.array([value for _, value in ranked])
    fig = Figure(figsize=(8.0, 1.2 + 0.28 * len(ranked)))
    ax = fig.subplots()
    ax.axvspan(
        values.min(),
        values.max(),
        color=SKY,
        alpha=0.25,
        label="spread of the wordings",
        linewidth=0,
    )
    ax.hlines(range(len(ranked)), values.min(), values, color=BLUE, linewidth=0.8)
    ax.plot(
        values, range(len(ranked)), color=BLUE, marker="o", linestyle="none", label="one wording"
    )
    ax.axvline(
        values.mean(), color=BLUE, linestyle="-", linewidth=1.2, label=f"mean, {values.mean():.1%}"
    )
    lines = ({} if majority is None else {"majority class": majority}) | dict(others or {})
    for (name, value), (colour, _, style) in zip(
        lines.items(), [(BLACK, "", ":"), *SERIES[1:]], strict=False
    ):
        ax.axvline(value, color=colour, linestyle=style, label=f"{drawable(name)}, {value:.1%}")
    ax.set(
        yticks=range(len(ranked)),
        yticklabels=[drawable(text, 48) for text, _ in ranked],
        xlabel="accuracy",
        ylim=(len(ranked) - 0.5, -0.5),
    )
    percent(ax.xaxis)
    fig.legend(loc="outside lower center", ncols=3)
    fig.alt = (
        f"Dot chart of {len(ranked)} wordings: from {values.min():.1%} to {values.max():.1%}, mean "
        f"{values.mean():.1%}"
        + "".join(f"; {name} {value:.1%}" for name, value in lines.items())
        + "."
    )
    return fig


@styled
def engine_ratios(
    table: pd.DataFrame, against: str = "ratio, PEFT, padded to the longest"
) -> Figure:
    """Draw how many times as long PEFT takes, by the length of the prompt, one line a batch size, one panel a model.

    `table`: model, P, batch, rows and the column `against`; only rows of random text are drawn.
    """
    drawn = table[table["rows"].isin(["short", "long"])]
    models = list(dict.fromkeys(drawn["model"]))
    kinds = sorted(
        drawn.groupby(["batch", "rows"]).groups, key=lambda kind: (kind[0], kind[1] == "long")
    )
    styles = dict(zip(kinds, SERIES, strict=False))  # the same in every panel
    fig = Figure(figsize=(3.2 * len(models), 3.2))
    axes = fig.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for ax, name in zip(axes, models, strict=True):
        own = drawn[drawn["model"] == name]
        for (batch, rows), (colour, marker, style) in styles.items():
            line = own[(own["batch"] == batch) & (own["rows"] == rows)].sort_values("P")
            label = f"{batch} {rows} row{'s' * (batch > 1)}"
            ax.plot(
                line["P"], line[against], color=colour, marker=marker, linestyle=style, label=label
            )
        ax.axhline(1, color=BLACK, linewidth=0.8)
        ax.set(title=drawable(name), xlabel="virtual tokens, P", xscale="log", yscale="log")
        for axis, ticks in ((ax.xaxis, sorted(drawn["P"].unique())), (ax.yaxis, (0.5, 1, 2, 3, 5))):
            axis.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
            axis.set_ticks([], minor=True)
    axes[0].set_ylabel("PEFT's seconds / ours")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    least = drawn.loc[drawn[against].idxmin()]
    most = drawn.loc[drawn[against].idxmax()]
    fig.alt = (
        f"Lines: seconds of a step in PEFT over ours, from {least[against]:.2f} ({least['model']}, P = {least['P']}, "
        f"{least['batch']} {least['rows']} rows) to {most[against]:.2f} ({most['model']}, P = {most['P']}, "
        f"{most['batch']} {most['rows']} rows)."
    )
    return fig
