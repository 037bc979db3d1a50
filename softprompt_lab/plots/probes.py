"""Figures of what the vectors do: ablation, shuffling, interpolation and scaling, each beside its controls."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .figure import BLACK, BLUE, GREY, ORANGE, VERMILLION, Figure, drawable, percent, styled

MEASURES = {"loss": "loss (nats a token)", "accuracy": "accuracy"}
LOOKS = {"prompt": (BLUE, "o", "-"), "start": (VERMILLION, "s", "--"), "random": (GREY, "x", ":")}
NAMES = {
    "prompt": "prompt",
    "start": "its untrained start",
    "random": "random vectors",
    "no prompt": "no prompt",
}
HIGHEST = 3  # times the highest loss between two prompts: above it a barrier could not be seen
PARTS = {"without one": "the prompt without it", "one alone": "it alone"}


def _bars(
    ax: Axes, along: np.ndarray, rows: pd.DataFrame, measure: str, kind: str, label: str
) -> None:
    """Draw the changes of some rows as markers with their intervals."""
    colour, marker, _ = LOOKS[kind]
    middle = rows[f"{measure}_change"]
    ax.vlines(along, rows[f"{measure}_low"], rows[f"{measure}_high"], color=colour, linewidth=1.2)
    ax.plot(
        along, middle, color=colour, marker=marker, markersize=4.5, linestyle="none", label=label
    )


def _scale(ax: Axes, measure: str) -> None:
    """Show accuracies as percentages."""
    if measure == "accuracy":
        percent(ax.yaxis)


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
    for row, measure in zip(axes, MEASURES, strict=True):
        for ax, part in zip(row, PARTS, strict=True):
            _ablated(ax, table[table["part"] == part], measure)
            ax.axhline(0, color=GREY, linewidth=0.6)
            _scale(ax, measure)
        row[1].axhline(
            nothing[f"{measure}_change"],
            color=BLACK,
            linestyle=":",
            linewidth=1.2,
            label="no prompt",
        )
        row[0].set_ylabel(
            {"loss": "change of loss\n(nats a token)", "accuracy": "change of accuracy"}[measure]
        )
    for ax, title in zip(axes[0], PARTS.values(), strict=True):
        ax.set_title(title)
    names = [str(place) for place in places]
    if words is not None:
        names = [f"{place} {drawable(word, 10)}" for place, word in zip(places, words, strict=True)]
    for ax in axes[1]:
        ax.set_xlabel("virtual token")
        ax.set_xticks(places, names, rotation=0 if words is None else 60, fontsize=8)
    fig.legend(*axes[0][1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    fig.alt = _ablation_alt(table, nothing)
    return fig


def _ablated(ax: Axes, rows: pd.DataFrame, measure: str) -> None:
    """Draw one part of an ablation: the random vectors' range, the start, the prompt."""
    change = f"{measure}_change"
    spread = rows[rows["kind"] == "random"].groupby("virtual_token")[change].agg(["min", "max"])
    look = {"facecolor": "#ECECEC", "edgecolor": GREY, "hatch": "////", "linewidth": 0.8}
    ax.bar(
        spread.index.to_numpy(dtype=float),
        (spread["max"] - spread["min"]).to_numpy(),
        bottom=spread["min"].to_numpy(),
        width=0.8,
        label=f"random vector instead, range of {rows['draw'].nunique()}",
        **look,
    )
    kinds = [kind for kind in ("start", "prompt") if (rows["kind"] == kind).any()]
    for kind in kinds:
        own = rows[rows["kind"] == kind]
        aside = 0.0 if len(kinds) == 1 else {"prompt": -0.16, "start": 0.16}[kind]
        label = {"prompt": "prompt", "start": "untrained start, against itself"}[kind]
        _bars(ax, own["virtual_token"].to_numpy(dtype=float) + aside, own, measure, kind, label)


def _ablation_alt(table: pd.DataFrame, nothing: pd.Series) -> str:
    """What an ablation found, in words."""
    own = table[(table["kind"] == "prompt") & (table["part"] == "without one")]
    alone = table[(table["kind"] == "prompt") & (table["part"] == "one alone")]
    random = table[(table["kind"] == "random") & (table["part"] == "without one")]["loss_change"]
    most, best = own.loc[own["loss_change"].idxmax()], alone.loc[alone["loss_change"].idxmin()]
    clear = int(((own["loss_low"] > 0) | (own["loss_high"] < 0)).sum())
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
    fig = Figure(figsize=(8.5, 1.6 + 0.3 * len(orders)))
    axes = fig.subplots(1, 2, sharey=True)
    for ax, measure in zip(axes, MEASURES, strict=True):
        for number, (kind, level) in enumerate(levels.items()):
            own = moved[moved["kind"] == kind]
            colour, marker, style = LOOKS[kind]
            along = own["name"].map(orders.index).to_numpy(dtype=float) + 0.22 * (
                number - (len(levels) - 1) / 2
            )
            ax.hlines(
                along, own[f"{measure}_low"], own[f"{measure}_high"], color=colour, linewidth=1.0
            )
            ax.plot(
                own[f"{measure}_change"],
                along,
                color=colour,
                marker=marker,
                markersize=4.5,
                linestyle="none",
            )
            ax.axvline(
                own[f"{measure}_change"].mean(), color=colour, linestyle=style, linewidth=1.2
            )
            label = f"{NAMES[kind]} (loss {level:.2f} in order)"
            ax.plot([], [], color=colour, marker=marker, linestyle=style, label=label)
        ax.axvline(0, color=BLACK, linewidth=0.6)
        ax.set(xlabel=f"change of {MEASURES[measure]}", ylim=(len(orders) - 0.5, -0.5))
        ax.set_yticks(range(len(orders)), [drawable(name) for name in orders])
    percent(axes[1].xaxis)
    axes[1].locator_params(axis="x", nbins=5)
    axes[0].set_ylabel("order")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    means = moved.groupby("kind", sort=False)["loss_change"].agg(["mean", "min", "max"])
    fig.alt = (
        f"Change of the loss in {len(orders)} other orders of the virtual tokens. "
        + " ".join(
            f"{NAMES[kind].capitalize()}: mean {row['mean']:+.3f}, from {row['min']:+.3f} to {row['max']:+.3f}."
            for kind, row in means.iterrows()
        )
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
    fig, axes = _along(table, "at", f"to random vectors (mean loss there {random.mean():.2f})")
    own = table[table["kind"] == "prompt"].sort_values("at")
    axes[0].set_ylim(0, min(axes[0].get_ylim()[1], HIGHEST * own["loss"].max()))
    for ax, measure in zip(axes, MEASURES, strict=True):
        ax.plot(
            [0, 1],
            own[measure].iloc[[0, -1]],
            color=ORANGE,
            linestyle="--",
            label="straight between the ends",
        )
        if at is not None:
            here = np.interp(
                at, own["at"].to_numpy(dtype=float), own[measure].to_numpy(dtype=float)
            )
            ax.plot(
                [at],
                [here],
                color=VERMILLION,
                marker="D",
                markersize=9,
                linestyle="none",
                label="here",
            )
        ax.set_xlabel(f"way from {drawable(ends[0], 24)} (0) to {drawable(ends[1], 24)} (1)")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    top = own.loc[own["loss_change"].idxmax()]
    fig.alt = (
        f"Loss and accuracy at {len(own)} points between two prompts. Loss {own['loss'].iloc[0]:.3f} at the first, "
        f"{own['loss'].iloc[-1]:.3f} at the second; highest above the straight line by {top['loss_change']:.3f} at "
        f"{top['at']:.2f}. Random ends of the same norms and distance: loss {random.min():.3f} to {random.max():.3f}."
    )
    return fig


@styled
def scaling_figure(table: pd.DataFrame) -> Figure:
    """Draw loss and accuracy of the prompt times each factor, as `reading.scaling` measured them."""
    fig, axes = _along(table, "factor", NAMES["random"])
    nothing = table.loc[table["kind"] == "no prompt"].iloc[0]
    for ax, measure in zip(axes, MEASURES, strict=True):
        ax.axhline(
            nothing[measure], color=BLACK, linestyle=(0, (1, 1)), linewidth=1.2, label="no prompt"
        )
        ax.axvline(1, color=BLACK, linewidth=0.6)
        ax.set_xlabel("factor (0: vectors of zeros)")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    own = table[table["kind"] == "prompt"].set_index("factor")["loss"]
    random = table[table["kind"] == "random"].groupby("factor")["loss"].mean()
    fig.alt = (
        f"Loss and accuracy of the prompt times {len(own)} factors. Lowest loss {own.min():.3f} at factor "
        f"{own.idxmin():g}; {own.loc[1.0]:.3f} at 1, {own.iloc[0]:.3f} at {own.index[0]:g}, {own.iloc[-1]:.3f} at "
        f"{own.index[-1]:g}. Random vectors of the same norms: {random.min():.3f} to {random.max():.3f}."
    )
    return fig


def _along(table: pd.DataFrame, column: str, random: str) -> tuple[Figure, list[Axes]]:
    """Loss and accuracy along a column: the prompt with intervals, its start, and each random draw under one name."""
    fig = Figure(figsize=(8.5, 3.4))
    axes = list(fig.subplots(1, 2))
    for ax, measure in zip(axes, MEASURES, strict=True):
        for draw, own in table[table["kind"] == "random"].groupby("draw"):
            _curve(
                ax, own.sort_values(column), column, measure, "random", random if draw == 0 else ""
            )
        for kind in ("start", "prompt"):
            own = table[table["kind"] == kind].sort_values(column)
            if len(own):
                reference = own[measure] - own[f"{measure}_change"]
                low, high = (reference + own[f"{measure}_{bound}"] for bound in ("low", "high"))
                ax.vlines(own[column], low, high, color=LOOKS[kind][0], linewidth=1.2)
                _curve(ax, own, column, measure, kind, NAMES[kind])
        ax.set_ylabel(MEASURES[measure])
        _scale(ax, measure)
        ax.set_ylim((0, 1.03) if measure == "accuracy" else None)
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    return fig, axes


def _curve(ax: Axes, own: pd.DataFrame, column: str, measure: str, kind: str, label: str) -> None:
    """One line with markers."""
    colour, marker, style = LOOKS[kind]
    thin = {"linewidth": 0.9, "markersize": 3.5} if kind == "random" else {"markersize": 4.5}
    look = {"color": colour, "marker": marker, "linestyle": style} | thin
    ax.plot(
        own[column].to_numpy(dtype=float),
        own[measure].to_numpy(dtype=float),
        label=label or "_",
        **look,
    )


@styled
def board_figure(table: pd.DataFrame) -> Figure:
    """Draw loss and accuracy of several prompts, one a line: what the ablation board shows.

    `table`: name, kind and the measures of `reading.probes`; the intervals are those of the change, which is against
    the first line.
    """
    fig = Figure(figsize=(8.5, 1.1 + 0.42 * len(table)))
    axes = fig.subplots(1, 2, sharey=True)
    for ax, measure in zip(axes, MEASURES, strict=True):
        for y, row in enumerate(table.to_dict("records")):
            colour, marker, _ = LOOKS.get(row["kind"], (BLACK, "D", ":"))
            reference = row[measure] - row[f"{measure}_change"]
            bounds = [reference + row[f"{measure}_low"], reference + row[f"{measure}_high"]]
            ax.plot(bounds, [y, y], color=colour, solid_capstyle="butt")
            ax.plot(row[measure], y, color=colour, marker=marker, markersize=7, linestyle="none")
        ax.axvline(table[measure].iloc[0], color=BLUE, linestyle=":", linewidth=1.2)
        ax.set(xlabel=MEASURES[measure], ylim=(len(table) - 0.5, -0.5))
        ax.set_yticks(range(len(table)), [drawable(name, 40) for name in table["name"]])
    percent(axes[1].xaxis)
    axes[0].set_xlim(left=0)
    axes[1].set_xlim(0, 1.03)
    lines = zip(table["name"], table["loss"], table["accuracy"], strict=True)
    values = "; ".join(f"{name}: {loss:.3f} and {accuracy:.1%}" for name, loss, accuracy in lines)
    fig.alt = (
        f"Dots with 95 % intervals on {table['n'].iloc[0]} rows. Loss and accuracy of {values}."
    )
    return fig
