"""Figures of what stands near a prompt: norms, nearest tokens beside controls, and how far to trust them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colors, ticker
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .figure import (
    BLACK,
    GREY,
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


@styled
def norms_histogram(vocabulary_norms: Numbers, starts: Mapping[str, Numbers]) -> Figure:
    """Draw the norms of all word embeddings (V,) and below them, on one axis, those of each start (P,)."""
    vocabulary = array(vocabulary_norms)
    rows = {name: array(values) for name, values in starts.items()}
    everything = np.concatenate([vocabulary, *rows.values()])
    positive = everything[everything > 0]
    logarithmic = positive.max() > 8 * np.median(vocabulary)
    edges = (np.geomspace if logarithmic else np.linspace)(
        positive.min(), positive.max() * 1.001, 70
    )
    fig = Figure(figsize=(7.5, 2.4 + 0.32 * len(rows)))
    top, below = fig.subplots(2, 1, sharex=True, height_ratios=(2, 0.3 + 0.35 * len(rows)))
    top.hist(vocabulary, bins=edges, color=SKY, edgecolor=GREY, linewidth=0.3)
    top.axvline(
        np.median(vocabulary),
        color=BLACK,
        linestyle=":",
        label=f"median {np.median(vocabulary):.2f}",
    )
    top.set(ylabel="word embeddings", xscale="log" if logarithmic else "linear")
    top.legend()
    for y, (values, (colour, marker, _)) in enumerate(
        zip(rows.values(), SERIES * len(rows), strict=False)
    ):
        below.plot(
            values,
            np.full(len(values), y),
            color=colour,
            marker=marker,
            linestyle="none",
            alpha=0.7,
        )
    if logarithmic:
        below.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)))
        below.xaxis.set_major_formatter(ticker.ScalarFormatter())
        below.xaxis.set_minor_formatter(ticker.NullFormatter())
    below.axvline(np.median(vocabulary), color=BLACK, linestyle=":")
    below.set(
        yticks=range(len(rows)),
        yticklabels=[drawable(name) for name in rows],
        ylim=(len(rows) - 0.5, -0.5),
        xlabel="norm (length) of the vector" + (", logarithmic" if logarithmic else ""),
    )
    means = "; ".join(f"{name} {values.mean():.2f}" for name, values in rows.items())
    fig.alt = (
        f"Histogram of the norms of {len(vocabulary)} word embeddings, median {np.median(vocabulary):.2f}; "
        f"mean norms of the starts: {means}."
    )
    return fig


# --- nearest tokens -----------------------------------------------------------------------------------------


def _score_grid(
    ax: Axes,
    frame: pd.DataFrame,
    virtual_tokens: Sequence[int],
    k: int,
    scale: colors.Normalize,
    nearer: float,
) -> None:
    """Draw the k nearest tokens of each virtual token as words on a shade of their score."""
    shades = colors.LinearSegmentedColormap.from_list("shades", ["#FFFFFF", SKY])
    found = frame.set_index(["virtual_token", "rank"])
    for y, virtual_token in enumerate(virtual_tokens):
        for rank in range(1, k + 1):
            row = found.loc[(virtual_token, rank)]
            ax.add_patch(
                Rectangle(
                    (rank - 1, y),
                    1,
                    1,
                    facecolor=shades(scale(nearer * row.score)),
                    edgecolor="white",
                )
            )
            ax.text(rank - 0.95, y + 0.5, drawable(str(row.token), 12), va="center", fontsize=8)
            ax.text(
                rank - 0.05,
                y + 0.5,
                f"{row.score:.2f}",
                va="center",
                ha="right",
                fontsize=7,
                color="#404040",
            )
    ax.set(xlim=(0, k), ylim=(len(virtual_tokens), 0), xlabel="rank")
    ax.set_xticks([rank + 0.5 for rank in range(k)], [str(rank + 1) for rank in range(k)])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


@styled
def neighbour_figure(
    frames: Mapping[str, pd.DataFrame], k: int = 3, metric: str = "cosine", longest: int = 20
) -> Figure:
    """Draw tables of `nearest_tokens` side by side: the prompt, its start, random vectors.

    `frames`: title -> long table with `virtual_token`, `rank`, `token`, `score`. At most `longest` virtual
    tokens are drawn.
    """
    first = next(iter(frames.values()))
    virtual_tokens = sorted(first["virtual_token"].unique().tolist())[:longest]
    k = min(k, *(int(frame["rank"].max()) for frame in frames.values()))
    nearer = -1.0 if metric == "l2" else 1.0  # the sign that makes a nearer token's score larger
    scores = nearer * np.concatenate(
        [frame["score"].to_numpy(dtype=float) for frame in frames.values()]
    )
    scale = colors.Normalize(scores.min(), scores.max() + 1e-9)
    fig = Figure(figsize=(0.6 + 1.15 * k * len(frames), 1.1 + 0.24 * len(virtual_tokens)))
    axes = fig.subplots(1, len(frames), squeeze=False)[0]
    for ax, (title, frame) in zip(axes, frames.items(), strict=True):
        _score_grid(ax, frame, virtual_tokens, k, scale, nearer)
        best = frame.loc[frame["rank"] == 1, "score"].mean()
        ax.set_title(f"{drawable(title)}\nmean {metric} of rank 1: {best:.2f}")
        ax.set_yticks([])
    axes[0].set_yticks(
        [y + 0.5 for y in range(len(virtual_tokens))], [str(v) for v in virtual_tokens]
    )
    axes[0].set_ylabel("virtual token")
    nearest = {
        title: frame[frame["rank"] == 1].sort_values("virtual_token")
        for title, frame in frames.items()
    }
    fig.alt = f"Nearest tokens by {metric}, top {k}. " + " ".join(
        f"{title}: {' '.join(frame['token'].astype(str))} (mean score {frame['score'].mean():.2f})."
        for title, frame in nearest.items()
    )
    return fig


@styled
def neighbour_scores(scores: Mapping[str, Numbers], metric: str = "cosine") -> Figure:
    """Draw the score of the nearest token of every virtual token: one marker for the prompt, each control."""
    fig = Figure(figsize=(6.5, 2.8))
    ax = fig.subplots()
    for i, ((name, values), (colour, marker, _)) in enumerate(
        zip(scores.items(), SERIES, strict=False)
    ):
        values = array(values)
        ax.plot(
            np.arange(len(values))
            + 0.18 * (i - (len(scores) - 1) / 2),  # side by side where scores are equal
            values,
            color=colour,
            marker=marker,
            markersize=5,
            linestyle="none",
            label=f"{drawable(name)}, mean {values.mean():.2f}",
        )
    ax.set(
        xlabel="virtual token",
        ylabel={"l2": "distance", "dot": "dot product"}.get(metric, metric) + " of rank 1",
    )
    ax.axhline(0, color=GREY, linewidth=0.6)
    ax.xaxis.get_major_locator().set_params(integer=True)
    fig.legend(loc="outside lower center", ncols=2)
    means = "; ".join(f"{name} {array(values).mean():.2f}" for name, values in scores.items())
    fig.alt = f"Dots: {metric} score of the nearest token for each virtual token. Means: {means}."
    return fig


# --- how far to trust them ----------------------------------------------------------------------------------


def _one_a_row(ax: Axes, table: pd.DataFrame, column: str) -> None:
    """Draw the values of a column, one row of marks a kind, with a line at each kind's mean."""
    looks = looks_of(table["kind"])
    for y, (kind, (colour, marker, _)) in enumerate(looks.items()):
        values = table.loc[table["kind"] == kind, column].to_numpy(dtype=float)
        heights = y + np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else np.array([y])
        ax.plot(
            values, heights, color=colour, marker=marker, markersize=4, linestyle="none", alpha=0.8
        )
        ax.vlines(values.mean(), y - 0.4, y + 0.4, color=BLACK, linewidth=1.6)
    ax.set(
        yticks=range(len(looks)),
        yticklabels=[drawable(kind) for kind in looks],
        ylim=(len(looks) - 0.5, -0.5),
    )
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def _means(table: pd.DataFrame, column: str) -> str:
    """Return the mean of a column by kind, as words."""
    means = table.groupby("kind", sort=False)[column].mean()
    return ", ".join(f"{kind} {mean:.2f}" for kind, mean in means.items())


@styled
def norms_figure(table: pd.DataFrame) -> Figure:
    """Draw `norms_table`: where in the vocabulary's norms each virtual token falls, one row of marks a kind."""
    fig = Figure(figsize=(7.0, 1.0 + 0.42 * table["kind"].nunique()))
    ax = fig.subplots()
    _one_a_row(ax, table, "quantile")
    ax.set(
        xlabel="share of the word embeddings that are no longer (line: mean)", xlim=(-0.02, 1.02)
    )
    percent(ax.xaxis)
    fig.alt = (
        "Marks: the quantile of the vocabulary's norms in which each virtual token falls. Means: "
        f"{_means(table, 'quantile')}. Mean norms: {_means(table, 'norm')}."
    )
    return fig


@styled
def cluster_purity_figure(table: pd.DataFrame) -> Figure:
    """Draw `cluster_purity`: how alike the k nearest tokens of each virtual token are, one row of marks a kind."""
    k = table["tokens"].iloc[0].count(" ") + 1
    fig = Figure(figsize=(8.0, 1.2 + 0.42 * table["kind"].nunique()))
    left, right = fig.subplots(1, 2, sharey=True)
    _one_a_row(left, table, "cosine")
    left.set(xlabel="mean cosine between the nearest tokens", title=f"one place? ({k} nearest)")
    _one_a_row(right, table, "same_word")
    right.axvline(1 / k, color=GREY, linestyle=":", linewidth=1)
    right.set(
        xlabel="share that is one word (dotted: none twice)", title="one word?", xlim=(0, 1.04)
    )
    right.tick_params(labelleft=False)
    percent(right.xaxis)
    fig.alt = (
        f"Marks: how alike the {k} nearest tokens of each virtual token are. Mean cosine between them: "
        f"{_means(table, 'cosine')}. Share that is one word: {_means(table, 'same_word')}."
    )
    return fig


@styled
def metric_agreement_figure(table: pd.DataFrame, columns: int = 3) -> Figure:
    """Draw `metric_agreement`: for each kind a triangle of the shares that each pair of readings has in common."""
    readings = list(dict.fromkeys([*table["one"], *table["other"]]))
    places = {reading: place for place, reading in enumerate(readings)}
    kinds = list(dict.fromkeys(table["kind"]))
    columns, n = min(columns, len(kinds)), len(readings)
    rows = -(-len(kinds) // columns)
    fig = Figure(figsize=(1.3 + (0.4 + 0.28 * n) * columns, 1.2 + (0.4 + 0.24 * n) * rows))
    axes = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    shades = colors.LinearSegmentedColormap.from_list("shades", ["#FFFFFF", SKY])
    for ax, kind in zip(axes.flat, kinds, strict=False):  # a place of the grid may stay empty
        own = table[table["kind"] == kind]
        for row in own.itertuples(index=False):
            x, y = places[row.one], places[row.other]
            ax.add_patch(
                Rectangle((x, y), 1, 1, facecolor=shades(row.agreement), edgecolor="white")
            )
            ax.text(
                x + 0.5, y + 0.5, f"{100 * row.agreement:.0f}", ha="center", va="center", fontsize=7
            )
        ax.set_title(f"{drawable(kind)}\nmean {own['agreement'].mean():.0%}")
    for ax in axes.flat:
        ax.set(xlim=(0, n - 1), ylim=(n, 1))
        ax.set_xticks(
            [place + 0.5 for place in range(n - 1)], readings[:-1], rotation=90, fontsize=7
        )
        ax.set_yticks([place + 0.5 for place in range(1, n)], readings[1:], fontsize=7)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    fig.supxlabel("% of the nearest tokens that two readings share", fontsize=9)
    least, most = table.loc[table["agreement"].idxmin()], table.loc[table["agreement"].idxmax()]
    fig.alt = (
        f"Triangles: the share of nearest tokens that two readings have in common, mean over all pairs: "
        f"{_means(table, 'agreement')}. Least: {least.one} and {least.other} on {least.kind}, {least.agreement:.2f}; "
        f"most: {most.one} and {most.other} on {most.kind}, {most.agreement:.2f}."
    )
    return fig
