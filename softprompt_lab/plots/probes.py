"""Figures of what the vectors do: ablation, shuffling, interpolation and scaling, each beside its controls."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .charts import dot_rows, dots, name_rows, panels
from .figure import BLACK, BLUE, DOTTED, GREY, ORANGE, VERMILLION, Figure, drawable, percent, styled

MEASURES = {"loss": "loss (nats a token)", "accuracy": "accuracy"}
LOOKS = {
    "prompt": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "start": {"color": VERMILLION, "marker": "s", "linestyle": "--"},
    "random": {"color": GREY, "marker": "x", "linestyle": ":"},
    "no prompt": {"color": BLACK, "marker": "D", "linestyle": (0, (1, 1))},
}
NAMES = {"prompt": "prompt", "start": "its untrained start", "random": "random vectors"}
HIGHEST = 3  # times the highest loss between two prompts: above it a barrier could not be seen
PARTS = {"without one": "the prompt without it", "one alone": "it alone"}


def _changes(rows: pd.DataFrame, measure: str) -> tuple[pd.Series, list[pd.Series]]:
    """Return the changes of a measure and the two ends of their intervals."""
    return rows[f"{measure}_change"], [rows[f"{measure}_{end}"] for end in ("low", "high")]


def _levels(rows: pd.DataFrame, measure: str) -> tuple[pd.Series, list[pd.Series]]:
    """Return a measure and the two ends of its interval: that of the change, moved to the measure."""
    changes, ends = _changes(rows, measure)
    return rows[measure], [rows[measure] - changes + end for end in ends]


@styled
def ablation_figure(table: pd.DataFrame, words: Sequence[str] | None = None) -> Figure:
    """Draw what `reading.ablation` measured for each virtual token: the change of loss and accuracy.

    Lines are 95 % intervals, hatched boxes the range of the random vectors' draws; the dotted line is the bare base
    model. The start's changes are against the whole start, all others against the whole prompt.
    `words`: a name for each virtual token, such as its nearest word.
    """
    places = sorted(table["virtual_token"].dropna().unique().tolist())
    nothing = table.loc[table["part"] == "nothing"].iloc[0]
    fig = Figure(figsize=(max(8.0, 1.5 + 0.62 * len(places)), 5.2))
    axes = fig.subplots(2, 2, sharex=True)
    for row, (measure, name) in zip(axes, MEASURES.items(), strict=True):
        for ax, part in zip(row, PARTS, strict=True):
            _ablated(ax, table[table["part"] == part], measure)
            ax.axhline(0, color=GREY, linewidth=0.6)
        level = nothing[f"{measure}_change"]
        row[1].axhline(level, label="no prompt", **DOTTED)
        row[0].set_ylabel(f"change of {name}".replace(" (", "\n("))
    for top, below, title in zip(*axes, PARTS.values(), strict=True):
        top.set_title(title)
        below.set_xlabel("virtual token")
        percent(below.yaxis)
        below.set_xticks(places)
        if words is not None:
            names = [f"{at} {drawable(word, 10)}" for at, word in zip(places, words, strict=True)]
            below.set_xticks(places, names, rotation=60, fontsize=8)
    fig.legend_below()
    fig.alt = _ablation_alt(table, nothing)
    return fig


def _ablated(ax: Axes, rows: pd.DataFrame, measure: str) -> None:
    """Draw one part of an ablation: the random vectors' range, the start, the prompt."""
    rows = rows.astype({"virtual_token": float})
    random = rows[rows["kind"] == "random"]
    spread = random.groupby("virtual_token")[f"{measure}_change"].agg(["min", "max"])
    label = f"random vector instead, range of {random['draw'].nunique()}"
    look = {"facecolor": "#ECECEC", "edgecolor": GREY, "hatch": "////", "label": label}
    ax.bar(spread.index, spread["max"] - spread["min"], bottom=spread["min"], **look)
    labels = {"start": "untrained start, against itself", "prompt": "prompt"}
    kinds = [kind for kind in labels if kind in set(rows["kind"])]
    for kind, aside in zip(kinds, (0.16, -0.16) if len(kinds) == 2 else (0,), strict=True):
        own = rows[rows["kind"] == kind]
        changes, ends = _changes(own, measure)
        look = LOOKS[kind] | {"label": labels[kind]}
        dots(ax, changes, own["virtual_token"] + aside, ends, upright=True, **look)


def _ablation_alt(table: pd.DataFrame, nothing: pd.Series) -> str:
    """Return what an ablation found, in words."""
    own = table[(table["kind"] == "prompt") & (table["part"] == "without one")]
    alone = table[(table["kind"] == "prompt") & (table["part"] == "one alone")]
    random = table[(table["kind"] == "random") & (table["part"] == "without one")]["loss_change"]
    most, best = own.loc[own["loss_change"].idxmax()], alone.loc[alone["loss_change"].idxmin()]
    clear = ((own["loss_low"] > 0) | (own["loss_high"] < 0)).sum()
    return (
        f"Effect of each of {len(own)} virtual tokens. Left out, virtual token {most['virtual_token']} costs most: the "
        f"loss changes by {most['loss_change']:+.3f}; {clear} intervals of {len(own)} leave out zero. A random vector "
        f"in place of one changes it by {random.min():+.3f} to {random.max():+.3f}. The best alone is virtual token "
        f"{best['virtual_token']}, {best['loss_change']:+.3f}; no prompt at all {nothing['loss_change']:+.3f}."
    )


@styled
def shuffling_figure(table: pd.DataFrame) -> Figure:
    """Draw the change of loss and accuracy in each order of `reading.shuffling`; lines are means over the orders."""
    moved = table[(table["kind"] != "no prompt") & (table["name"] != "as trained")]
    orders = moved["name"].unique().tolist()
    levels = table[table["name"] == "as trained"].groupby("kind", sort=False)["loss"].mean()
    fig, axes = panels(2, 8.5, 1.6 + 0.3 * len(orders), sharey=True)
    for ax, (measure, name) in zip(axes, MEASURES.items(), strict=True):
        for number, (kind, level) in enumerate(levels.items()):
            own, look = moved[moved["kind"] == kind], LOOKS[kind]
            changes, ends = _changes(own, measure)
            at = own["name"].map(orders.index) + 0.22 * (number - (len(levels) - 1) / 2)
            dots(ax, changes, at, ends, **look)
            ax.axvline(changes.mean(), color=look["color"], linestyle=look["linestyle"])
            ax.plot([], [], label=f"{NAMES[kind]} (loss {level:.2f} in order)", **look)
        ax.axvline(0, color=BLACK, linewidth=0.6)
        ax.set_xlabel(f"change of {name}")
        ax.locator_params(axis="x", nbins=5)
        name_rows(ax, orders)
    percent(axes[1].xaxis)
    axes[0].set_ylabel("order")
    fig.legend_below(3)
    means = moved.groupby("kind", sort=False)["loss_change"].agg(["mean", "min", "max"])
    parts = [
        f"{NAMES[kind].capitalize()}: mean {row['mean']:+.3f}, from {row['min']:+.3f} to {row['max']:+.3f}."
        for kind, row in means.iterrows()
    ]
    fig.alt = (
        f"Change of the loss in {len(orders)} other orders of the virtual tokens. {' '.join(parts)}"
    )
    return fig


@styled
def interpolation_figure(
    table: pd.DataFrame, ends: Sequence[str] = ("first", "second"), at: float | None = None
) -> Figure:
    """Draw loss and accuracy on the way between two prompts, as `reading.interpolation` measured them.

    The dashed line joins the two ends; what rises above it is a barrier. `at` marks a place on the way. Where a way to
    random vectors rises to more than `HIGHEST` times the prompt's losses it leaves the picture; the legend says where
    it ends.
    """
    random = table[table["kind"] == "random"].groupby("draw")["loss"].last()
    own = table[table["kind"] == "prompt"].set_index("at").sort_index()
    names = NAMES | {"random": f"to random vectors (mean loss there {random.mean():.2f})"}
    fig, axes = _along(table, "at", names)
    axes[0].set_ylim(0, min(axes[0].get_ylim()[1], HIGHEST * own["loss"].max()))
    straight = {"color": ORANGE, "linestyle": "--", "label": "straight between the ends"}
    here = {
        "color": VERMILLION,
        "marker": "D",
        "markersize": 9,
        "linestyle": "none",
        "label": "here",
    }
    for ax, measure in zip(axes, MEASURES, strict=True):
        ax.plot([0, 1], own[measure].iloc[[0, -1]], **straight)
        if at is not None:
            ax.plot(at, np.interp(at, own.index, own[measure]), **here)
        ax.set_xlabel(f"way from {drawable(ends[0], 24)} (0) to {drawable(ends[1], 24)} (1)")
    fig.legend_below()
    top = own["loss_change"].idxmax()
    fig.alt = (
        f"Loss and accuracy at {len(own)} points between two prompts. Loss {own['loss'].iloc[0]:.3f} at the first, "
        f"{own['loss'].iloc[-1]:.3f} at the second; highest above the straight line by {own['loss_change'].max():.3f} "
        f"at {top:.2f}. Random ends of the same norms and distance: loss {random.min():.3f} to {random.max():.3f}."
    )
    return fig


@styled
def scaling_figure(table: pd.DataFrame) -> Figure:
    """Draw loss and accuracy of the prompt times each factor, as `reading.scaling` measured them."""
    fig, axes = _along(table, "factor", NAMES)
    nothing = table.loc[table["kind"] == "no prompt"].iloc[0]
    for ax, measure in zip(axes, MEASURES, strict=True):
        ax.axhline(nothing[measure], label="no prompt", **DOTTED)
        ax.axvline(1, color=BLACK, linewidth=0.6)
        ax.set_xlabel("factor (0: vectors of zeros)")
    fig.legend_below()
    own = table[table["kind"] == "prompt"].set_index("factor")["loss"]
    random = table[table["kind"] == "random"].groupby("factor")["loss"].mean()
    fig.alt = (
        f"Loss and accuracy of the prompt times {len(own)} factors. Lowest loss {own.min():.3f} at factor "
        f"{own.idxmin():g}; {own.loc[1.0]:.3f} at 1, {own.iloc[0]:.3f} at {own.index[0]:g}, {own.iloc[-1]:.3f} at "
        f"{own.index[-1]:g}. Random vectors of the same norms: {random.min():.3f} to {random.max():.3f}."
    )
    return fig


def _along(table: pd.DataFrame, x: str, names: Mapping[str, str]) -> tuple[Figure, list[Axes]]:
    """Draw loss and accuracy over a column: each random draw, the start and the prompt, these two with intervals."""
    fig, axes = panels(2, 8.5, 3.4)
    table = table.sort_values(x)
    for ax, (measure, name) in zip(axes, MEASURES.items(), strict=True):
        for _, own in table[table["kind"] == "random"].groupby("draw"):
            ax.plot(own[x], own[measure], label=names["random"], linewidth=0.9, **LOOKS["random"])
        for kind in ("start", "prompt"):
            own = table[table["kind"] == kind]
            if len(own):
                values, ends = _levels(own, measure)
                ax.vlines(own[x], *ends, color=LOOKS[kind]["color"], linewidth=1.4)
                ax.plot(own[x], values, label=names[kind], **LOOKS[kind])
        ax.set_ylabel(name)
        ax.locator_params(axis="x", nbins=6, steps=[1, 2, 5, 10])
    axes[1].set_ylim(0, 1.03)
    percent(axes[1].yaxis)
    return fig, axes


@styled
def board_figure(table: pd.DataFrame) -> Figure:
    """Draw loss and accuracy of several prompts, one a line: what the ablation board shows.

    `table`: name, kind and the measures of `reading.probes`; the intervals are those of the change, which is against
    the first line.
    """
    fig, axes = panels(2, 8.5, 1.1 + 0.42 * len(table), sharey=True)
    looks = [LOOKS.get(kind, LOOKS["no prompt"]) for kind in table["kind"]]
    for ax, (measure, name) in zip(axes, MEASURES.items(), strict=True):
        dot_rows(ax, table["name"], *_levels(table, measure), looks)
        ax.axvline(table[measure].iloc[0], color=BLUE, linestyle=":", linewidth=1.2)
        ax.set_xlabel(name)
    percent(axes[1].xaxis)
    axes[0].set_xlim(left=0)
    axes[1].set_xlim(0, 1.03)
    values = "; ".join(
        f"{row.name}: {row.loss:.3f} and {row.accuracy:.1%}" for row in table.itertuples()
    )
    fig.alt = (
        f"Dots with 95 % intervals on {table['n'].iloc[0]} rows. Loss and accuracy of {values}."
    )
    return fig
