"""Figures of what the vectors do: ablation, shuffling, interpolation and scaling, each beside its controls."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from . import figure
from .accuracies import drawn, level_lines, measured
from .charts import SLANTED, WIDEST, counted, dot_rows, dots, name_rows, panels
from .figure import BLACK, GREY, Figure, drawable, percent, styled

MEASURES = {"loss": "loss (nats a token)", "accuracy": "accuracy"}
NAMES = {
    "prompt": "prompt",
    "start": "its untrained start",
    "random": "random vectors",
    "no prompt": "no prompt",
}
LOOKS = dict(zip(NAMES, figure.LOOKS, strict=False))
NAMED = 24  # virtual tokens below a panel: of more, every second, or third, ...
HIGHEST = 3  # times the highest loss between two prompts: above it a barrier could not be seen
PARTS = {"without one": "the prompt without it", "one alone": "it alone"}


def _changes(rows: pd.DataFrame, measure: str) -> tuple[pd.Series, list[pd.Series]]:
    """Return the changes of a measure and the two ends of their intervals."""
    return rows[f"{measure}_change"], [rows[f"{measure}_{end}"] for end in ("low", "high")]


def _levels(rows: pd.DataFrame, measure: str) -> tuple[pd.Series, list[pd.Series]]:
    """Return a measure and the two ends of its interval: that of the change, moved to the measure."""
    changes, ends = _changes(rows, measure)
    return rows[measure], [rows[measure] - changes + end for end in ends]


def _kinds_beside(
    ax: Axes,
    rows: pd.DataFrame,
    at: pd.Series,
    measure: str,
    names: Mapping[str, str] = NAMES,
    upright: bool = False,
) -> None:
    """Draw the changes of a measure with their intervals at the places of their rows, kinds side by side."""
    kinds = [kind for kind in NAMES if kind in set(rows["kind"])]
    for number, kind in enumerate(kinds):
        own, aside = rows["kind"] == kind, 0.22 * (number - (len(kinds) - 1) / 2)
        look = LOOKS[kind] | {"label": names[kind]}
        dots(ax, *_changes(rows[own], measure), at[own] + aside, upright=upright, **look)


@styled
def ablation_figure(table: pd.DataFrame, words: Sequence[str]) -> Figure:
    """Draw what `reading.ablation` measured for each virtual token: the change of loss and accuracy.

    Lines are 95 % intervals; the dotted line is the bare base model. The start's changes are against the whole start,
    all others against the whole prompt. `words`: a name for each virtual token, such as its nearest word.
    """
    nothing = table.loc[table["part"] == "nothing"].iloc[0]
    parts = [part for part in PARTS if part in set(table["part"])]
    measures = drawn(table, MEASURES)
    size = (np.clip(1.5 + 0.31 * len(words) * len(parts), 8.0, WIDEST), 1.6 + 1.8 * len(measures))
    fig = Figure(figsize=size)
    axes = fig.subplots(len(measures), len(parts), sharex=True, squeeze=False)
    for row, (measure, name) in zip(axes, measures.items(), strict=True):
        for ax, part in zip(row, parts, strict=True):
            rows = table[table["part"] == part]
            _kinds_beside(ax, rows, rows["virtual_token"].astype(float), measure, upright=True)
            ax.axhline(0, color=GREY, linewidth=0.6)
        if (
            measure == "accuracy" or part == "one alone"
        ):  # elsewhere it would lie far above all else
            level, whole = nothing[measure], nothing[measure] - nothing[f"{measure}_change"]
            level_lines(row[-1], measure, table, {"no prompt": level}, less=whole)
        row[0].set_ylabel(f"change of {name}".replace(" (", "\n("))
    names = [f"{at} {drawable(word, 10)}" for at, word in enumerate(words)]
    for top, below, part in zip(axes[0], axes[-1], parts, strict=True):
        top.set_title(PARTS[part])
        every = -(-len(names) // NAMED)
        below.set_xticks(range(0, len(names), every), names[::every], fontsize=8, **SLANTED)
        below.set_xlabel("virtual token")
    percent(*(ax.yaxis for ax in axes[1:].flat))
    return measured(fig, table, _ablation_alt(table, nothing))


def _ablation_alt(table: pd.DataFrame, nothing: pd.Series) -> str:
    """Return what an ablation found, in words."""
    parts = table.set_index(["kind", "part"]).sort_index()
    own = parts.loc[[("prompt", "without one")]]
    random = parts.loc[[("random", "without one")], "loss_change"]
    most = own.sort_values("loss_change").iloc[-1]
    alone = ""
    if ("prompt", "one alone") in parts.index:
        best = parts.loc[[("prompt", "one alone")]].sort_values("loss_change").iloc[0]
        alone = f"The best alone is virtual token {best['virtual_token']:.0f}, {best['loss_change']:+.3f}; "
    clear = ((own["loss_low"] > 0) | (own["loss_high"] < 0)).sum()
    return (
        f"Effect of each of {counted(len(own), 'virtual token')}. Left out, virtual token "
        f"{most['virtual_token']:.0f} costs most: the loss changes by {most['loss_change']:+.3f}; "
        f"{clear} intervals of {len(own)} leave out zero. A random vector in place "
        f"of one changes it by {random.min():+.3f} to {random.max():+.3f}. {alone}"
        f"No prompt at all changes it by {nothing['loss_change']:+.3f}."
    )


@styled
def shuffling_figure(table: pd.DataFrame) -> Figure:
    """Draw the change of loss and accuracy in each order of `reading.shuffling`; lines are means over the orders."""
    moved = table[(table["kind"] != "no prompt") & (table["name"] != "as trained")]
    orders = moved["name"].unique().tolist()
    levels = table[table["name"] == "as trained"].groupby("kind", sort=False)["loss"].mean()
    names = {kind: f"{NAMES[kind]} (loss {level:.2f} in order)" for kind, level in levels.items()}
    measures = drawn(table, MEASURES)
    fig, axes = panels(len(measures), 8.5, 1.8 + 0.3 * len(orders), sharey=True)
    for ax, (measure, name) in zip(axes, measures.items(), strict=True):
        _kinds_beside(ax, moved, moved["name"].map(orders.index), measure, names)
        for kind, mean in moved.groupby("kind")[f"{measure}_change"].mean().items():
            look = LOOKS[kind]
            ax.axvline(mean, color=look["color"], linestyle=look["linestyle"])
        ax.axvline(0, color=BLACK, linewidth=0.6)
        ax.set_xlabel(f"change of {name}")
        ax.locator_params(axis="x", nbins=5)
        name_rows(ax, orders)
    percent(*(ax.xaxis for ax in axes[1:]))
    axes[0].set_ylabel("order")
    means = moved.groupby("kind", sort=False)["loss_change"].agg(["mean", "min", "max"])
    parts = [
        f"{NAMES[kind].capitalize()}: mean {row['mean']:+.3f}, from {row['min']:+.3f} to {row['max']:+.3f}."
        for kind, row in means.iterrows()
    ]
    alt = f"Change of the loss in {counted(len(orders), 'other order')} of the virtual tokens. {' '.join(parts)}"
    return measured(fig, table, alt, 3)


@styled
def interpolation_figure(
    table: pd.DataFrame, ends: Sequence[str], at: float | None = None
) -> Figure:
    """Draw loss and accuracy on the way between two prompts, as `reading.interpolation` measured them.

    The dashed line joins the two ends; what rises above it is a barrier. `at` marks a place on the way. Where a way to
    random vectors rises to more than `HIGHEST` times the prompt's losses it leaves the picture; the legend says where
    it ends.
    """
    random = table[table["kind"] == "random"].groupby("draw")["loss"].last()
    own = table[table["kind"] == "prompt"].set_index("at").sort_index()
    names = NAMES | {"random": f"to random vectors (mean loss there {random.mean():.2f})"}
    fig, axes = _along(table, "at", names, live=at is not None)
    top = min(axes[0].get_ylim()[1], HIGHEST * own["loss"].max())
    axes[0].set_ylim(0, top)
    for line in [*axes[0].lines]:  # a level out of sight has no place in the legend
        if line.get_label() == "no prompt" and line.get_ydata()[0] > top:
            line.remove()
    straight = figure.LOOKS[4] | {"marker": "", "label": "straight between the ends"}
    for ax, measure in zip(axes, MEASURES, strict=False):
        ax.plot([0, 1], own[measure].iloc[[0, -1]], **straight)
        if at is not None:
            ax.axvline(at, color=GREY, linewidth=3, alpha=0.6, label="here")
        first, last = (drawable(end, 24) for end in ends)
        ax.set_xlabel(f"way from {first} (0)\nto {last} (1)")
    top = own["loss_change"].idxmax()
    alt = (
        f"Measures at {len(own)} points between two prompts. Loss {own['loss'].iloc[0]:.3f} at the first, "
        f"{own['loss'].iloc[-1]:.3f} at the second; highest above the straight line by {own['loss_change'].max():.3f} "
        f"at {top:.2f}. Random ends of the same norms and distance: loss {random.min():.3f} to {random.max():.3f}."
    )
    return measured(fig, table, alt, live=at is not None)


@styled
def scaling_figure(table: pd.DataFrame) -> Figure:
    """Draw loss and accuracy of the prompt times each factor, as `reading.scaling` measured them."""
    fig, axes = _along(table, "factor", NAMES)
    for ax in axes:
        ax.axvline(1, color=BLACK, linewidth=0.6)
        ax.set_xlabel("factor (0: vectors of zeros)")
    own = table[table["kind"] == "prompt"].set_index("factor")["loss"]
    random = table[table["kind"] == "random"].groupby("factor")["loss"].mean()
    alt = (
        f"Measures of the prompt times {len(own)} factors. Lowest loss {own.min():.3f} at factor "
        f"{own.idxmin():g}; {own.loc[1.0]:.3f} at 1, {own.iloc[0]:.3f} at {own.index[0]:g}, {own.iloc[-1]:.3f} at "
        f"{own.index[-1]:g}. Random vectors of the same norms: {random.min():.3f} to {random.max():.3f}."
    )
    return measured(fig, table, alt)


def _along(
    table: pd.DataFrame, x: str, names: Mapping[str, str], live: bool = False
) -> tuple[Figure, list[Axes]]:
    """Draw loss and accuracy over a column: each random draw, the start and the prompt, these two with intervals."""
    measures = drawn(table, MEASURES, live)
    fig, axes = panels(len(measures), 8.5, 3.0)
    nothing = table[table["kind"] == "no prompt"].iloc[0]
    ways = (
        table[table["kind"] != "no prompt"].sort_values(x).groupby(["kind", "draw"], dropna=False)
    )
    for ax, (measure, name) in zip(axes, measures.items(), strict=True):
        for (kind, _), own in ways:
            values, ends = _levels(own, measure)
            if kind != "random":
                ax.vlines(own[x], *ends, color=LOOKS[kind]["color"], linewidth=1.4)
            ax.plot(own[x], values, label=names[kind], **LOOKS[kind])
        level_lines(ax, measure, table, {"no prompt": nothing[measure]})
        ax.set_ylabel(name)
        ax.locator_params(axis="x", nbins=6, steps=[1, 2, 5, 10])
    for ax in axes[1:]:
        ax.set_ylim(0, 1.03)
        percent(ax.yaxis)
    return fig, axes


@styled
def board_figure(table: pd.DataFrame) -> Figure:
    """Draw loss and accuracy of several prompts, one a line: what the ablation board shows.

    `table`: name, kind and the measures of `reading.probes`; the intervals are those of the change, which is against
    the first line.
    """
    fig, axes = panels(2, 8.5, 1.0 + 0.32 * len(table), sharey=True)
    for ax, (measure, name) in zip(axes, MEASURES.items(), strict=True):
        dot_rows(ax, table["name"], *_levels(table, measure), table["kind"].map(LOOKS))
        ax.axvline(table[measure].iloc[0], color=GREY, linewidth=0.8)
        ax.set_xlabel(name)
    level_lines(axes[1], "accuracy", table, {}, upright=True)
    percent(axes[1].xaxis)
    axes[0].set_xlim(left=0)
    axes[1].set_xlim(0, 1.03)
    values = "; ".join(
        f"{row.name}: {row.loss:.3f} and {row.accuracy:.1%}" for row in table.itertuples()
    )
    return measured(fig, table, f"Loss and accuracy of {values}.", live=True)
