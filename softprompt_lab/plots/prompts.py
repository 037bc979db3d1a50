"""Figures of what a prompt is: its norms, its nearest tokens beside controls, its way through training."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colors, ticker
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

from .figure import (
    BLACK,
    BLUE,
    DPI,
    GREY,
    SERIES,
    SKY,
    VERMILLION,
    Animation,
    Figure,
    Numbers,
    array,
    drawable,
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
    edges = (np.geomspace if logarithmic else np.linspace)(positive.min(), positive.max() * 1.001, 70)
    fig = Figure(figsize=(7.5, 2.4 + 0.32 * len(rows)))
    top, below = fig.subplots(2, 1, sharex=True, height_ratios=(2, 0.3 + 0.35 * len(rows)))
    top.hist(vocabulary, bins=edges, color=SKY, edgecolor=GREY, linewidth=0.3)
    top.axvline(np.median(vocabulary), color=BLACK, linestyle=":", label=f"median {np.median(vocabulary):.2f}")
    top.set(ylabel="word embeddings", xscale="log" if logarithmic else "linear")
    top.legend()
    for y, (values, (colour, marker, _)) in enumerate(zip(rows.values(), SERIES * len(rows), strict=False)):
        below.plot(values, np.full(len(values), y), color=colour, marker=marker, linestyle="none", alpha=0.7)
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
            ax.add_patch(Rectangle((rank - 1, y), 1, 1, facecolor=shades(scale(nearer * row.score)), edgecolor="white"))
            ax.text(rank - 0.95, y + 0.5, drawable(str(row.token), 12), va="center", fontsize=8)
            ax.text(rank - 0.05, y + 0.5, f"{row.score:.2f}", va="center", ha="right", fontsize=7, color="#404040")
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
    scores = nearer * np.concatenate([frame["score"].to_numpy(dtype=float) for frame in frames.values()])
    scale = colors.Normalize(scores.min(), scores.max() + 1e-9)
    fig = Figure(figsize=(0.6 + 1.15 * k * len(frames), 1.1 + 0.24 * len(virtual_tokens)))
    axes = fig.subplots(1, len(frames), squeeze=False)[0]
    for ax, (title, frame) in zip(axes, frames.items(), strict=True):
        _score_grid(ax, frame, virtual_tokens, k, scale, nearer)
        best = frame.loc[frame["rank"] == 1, "score"].mean()
        ax.set_title(f"{drawable(title)}\nmean {metric} of rank 1: {best:.2f}")
        ax.set_yticks([])
    axes[0].set_yticks([y + 0.5 for y in range(len(virtual_tokens))], [str(v) for v in virtual_tokens])
    axes[0].set_ylabel("virtual token")
    nearest = {title: frame[frame["rank"] == 1].sort_values("virtual_token") for title, frame in frames.items()}
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
    for i, ((name, values), (colour, marker, _)) in enumerate(zip(scores.items(), SERIES, strict=False)):
        values = array(values)
        ax.plot(
            np.arange(len(values)) + 0.18 * (i - (len(scores) - 1) / 2),  # side by side where scores are equal
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


# --- the way through training -------------------------------------------------------------------------------


def _backdrop(ax: Axes, backdrop: pd.DataFrame, explained: Sequence[float] | None) -> None:
    """Draw the vocabulary as grey points and name the axes with their share of the prompt's movement."""
    ax.plot(backdrop["x"], backdrop["y"], color="#B0B0B0", marker=".", markersize=2, linestyle="none", zorder=0)
    shares = ["" if explained is None else f" ({share:.0%})" for share in (explained or (0, 0))]
    ax.set(xlabel=f"direction 1{shares[0]}", ylabel=f"direction 2{shares[1]}")


def _limits(points: pd.DataFrame, backdrop: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return axis limits that hold the prompt at every step and nearly all of the vocabulary."""
    limits = {}
    for axis in ("x", "y"):
        low, high = (np.quantile(backdrop[axis], q) for q in (0.005, 0.995)) if len(backdrop) else (np.inf, -np.inf)
        low, high = min(low, points[axis].min()), max(high, points[axis].max())
        margin = 0.05 * (high - low) or 1.0
        limits[f"{axis}lim"] = (low - margin, high + margin)
    return limits


def _frame(ax: Axes, points: pd.DataFrame, step: int) -> None:
    """Draw each virtual token at `step` with the path that led there."""
    until = points[points["step"] <= step].sort_values("step")
    for _, path in until.groupby("virtual_token"):
        ax.plot(path["x"], path["y"], color=BLUE, linewidth=0.8)
    for at, marker, face, name in (
        (points["step"].min(), "o", "white", "start"),
        (step, "s", VERMILLION, "now"),
    ):
        here = points[points["step"] == at]
        ax.plot(
            here["x"],
            here["y"],
            color=VERMILLION if name == "now" else BLUE,
            marker=marker,
            markersize=5,
            markerfacecolor=face,
            linestyle="none",
            label=name,
        )


@styled
def trajectory_figure(
    points: pd.DataFrame,
    backdrop: pd.DataFrame,
    similarity: pd.DataFrame,
    explained: Sequence[float] | None = None,
) -> Figure:
    """Draw the path of every virtual token in two directions, and its cosine with its own start at each step.

    `points`: step, virtual_token, x, y. `backdrop`: x, y of sampled words. `similarity`: step, virtual_token,
    cosine.
    """
    fig = Figure(figsize=(8.5, 3.6))
    left, right = fig.subplots(1, 2, width_ratios=(1.2, 1))
    _backdrop(left, backdrop, explained)
    _frame(left, points, int(points["step"].max()))
    left.plot([], [], color="#B0B0B0", marker=".", linestyle="none", label="word embeddings")
    left.set(title="paths of the virtual tokens", **_limits(points, backdrop))
    left.locator_params(nbins=5)
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    for _, path in similarity.groupby("virtual_token"):
        right.plot(path["step"], path["cosine"], color=SKY, linewidth=0.8)
    median = similarity.groupby("step")["cosine"].median()
    right.plot(median.index, median, color=BLUE, marker="o", markersize=4, label="median")
    right.set(
        title="does it stay near its start?",
        xlabel="step",
        ylabel="cosine with the start",
        ylim=(min(0.0, similarity["cosine"].min()), 1.03),
    )
    right.legend()
    fig.alt = (
        f"Left: paths of {points['virtual_token'].nunique()} virtual tokens from step {points['step'].min()} "
        f"to {points['step'].max()} among word embeddings. Right: the median cosine with the start ends at "
        f"{median.iloc[-1]:.2f}."
    )
    return fig


def _evenly(points: pd.DataFrame, pictures: int) -> list[int]:
    """Return the steps of at most `pictures` evenly spaced snapshots, the first and the last among them."""
    every = sorted(points["step"].unique().tolist())
    return [every[i] for i in np.unique(np.linspace(0, len(every) - 1, pictures).round().astype(int))]


@styled
def trajectory_strip(points: pd.DataFrame, backdrop: pd.DataFrame, pictures: int = 4) -> Figure:
    """Draw the prompt among the word embeddings at evenly spaced snapshots, side by side."""
    steps = _evenly(points, pictures)
    fig = Figure(figsize=(2.4 * len(steps), 2.5))
    axes = fig.subplots(1, len(steps), squeeze=False, sharex=True, sharey=True)[0]
    for ax, step in zip(axes, steps, strict=True):
        _backdrop(ax, backdrop, None)
        _frame(ax, points, step)
        ax.set(title=f"step {step}", **_limits(points, backdrop))
        ax.label_outer()
    fig.alt = (
        f"The prompt's {points['virtual_token'].nunique()} virtual tokens among word embeddings at steps "
        f"{', '.join(map(str, steps))}, each with its path from the start."
    )
    return fig


def _shared_palette(frames: Sequence[Image.Image], colours: int = 24) -> list[Image.Image]:
    """Reduce pictures of one size to the same few colours, so that only what moves is stored again."""
    width, height = frames[0].size
    tower = Image.new("RGB", (width, height * len(frames)))
    for i, frame in enumerate(frames):
        tower.paste(frame, (0, i * height))
    tower = tower.quantize(colours, dither=Image.Dither.NONE)
    return [tower.crop((0, i * height, width, (i + 1) * height)) for i in range(len(frames))]


@styled
def animate_trajectory(
    points: pd.DataFrame, backdrop: pd.DataFrame, pictures: int = 12, seconds: float = 4.0
) -> Animation:
    """Return an animated PNG of the prompt's way, played twice; it rests on the last snapshot.

    It shows in a page without a kernel; where animations are not played, the last snapshot is seen.
    """
    steps = _evenly(points, pictures)
    frames = []
    for step in steps:
        fig = Figure(figsize=(5.0, 3.8), dpi=min(DPI, 80))
        ax = fig.subplots()
        _backdrop(ax, backdrop, None)
        _frame(ax, points, step)
        ax.set(title=f"step {step}", **_limits(points, backdrop))
        fig.legend(loc="outside lower center", ncols=2)
        frames.append(Image.open(io.BytesIO(fig.png())).convert("RGB"))
    frames = _shared_palette(frames)
    buffer = io.BytesIO()
    durations = [round(1000 * seconds / len(frames))] * (len(frames) - 1) + [2000]
    frames[-1].save(
        buffer,
        format="PNG",
        save_all=True,
        default_image=True,
        append_images=frames,
        loop=2,
        duration=durations,
    )
    return Animation(
        buffer.getvalue(),
        f"Animation over {len(steps)} snapshots, from step {steps[0]} to {steps[-1]}, of "
        f"{points['virtual_token'].nunique()} virtual tokens on their way among word embeddings.",
    )
