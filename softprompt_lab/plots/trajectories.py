"""Figures of a prompt's way through training: its words, norm and distance by step, its path among the words."""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

from .figure import BLUE, DPI, SKY, VERMILLION, Animation, Figure, drawable, looks_of, styled

YELLOWISH = "#FBF3C0"  # behind a word that is not the one before


def _evenly(points: pd.DataFrame, pictures: int) -> list[int]:
    """Return the steps of at most `pictures` evenly spaced snapshots, the first and the last among them."""
    every = sorted(points["step"].unique().tolist())
    return [
        every[i] for i in np.unique(np.linspace(0, len(every) - 1, pictures).round().astype(int))
    ]


# --- words, norm, distance ----------------------------------------------------------------------------------


def _words_by_step(ax: Axes, frame: pd.DataFrame, virtual_tokens: Sequence[int]) -> int:
    """Draw a column of words for each step; return how many virtual tokens end at another word than their start's."""
    wide = frame.pivot(index="virtual_token", columns="step", values="token")
    for x, step in enumerate(wide.columns):
        for y, virtual_token in enumerate(virtual_tokens):
            word = wide.loc[virtual_token, step]
            changed = x > 0 and word != wide.loc[virtual_token, wide.columns[x - 1]]
            face = YELLOWISH if changed else "white"
            ax.add_patch(
                Rectangle((x, y), 1, 1, facecolor=face, edgecolor="#C8C8C8", linewidth=0.6)
            )
            weight = "bold" if changed else "normal"
            ax.text(
                x + 0.05,
                y + 0.5,
                drawable(str(word), 12),
                va="center",
                fontsize=8,
                fontweight=weight,
            )
    ax.set(xlim=(0, wide.shape[1]), ylim=(len(virtual_tokens), 0), xlabel="step")
    ax.set_xticks([x + 0.5 for x in range(wide.shape[1])], [str(step) for step in wide.columns])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return int((wide.iloc[:, 0] != wide.iloc[:, -1]).sum())


@styled
def trajectory_words_figure(table: pd.DataFrame, pictures: int = 4, longest: int = 20) -> Figure:
    """Draw the nearest token of every virtual token at evenly spaced snapshots, of the prompt and of its controls.

    `table`: that of `trajectories_of`. A word that differs from the one before it is bold on a shade. At most `longest`
    virtual tokens are drawn.
    """
    kinds = list(dict.fromkeys(table["kind"]))
    virtual_tokens = sorted(table["virtual_token"].unique().tolist())[:longest]
    frames = {kind: table[table["kind"] == kind] for kind in kinds}
    frames = {
        kind: frame[frame["step"].isin(_evenly(frame, pictures))] for kind, frame in frames.items()
    }
    columns = max(frame["step"].nunique() for frame in frames.values())
    fig = Figure(figsize=(0.6 + 0.95 * columns * len(kinds), 1.1 + 0.24 * len(virtual_tokens)))
    axes = fig.subplots(1, len(kinds), squeeze=False)[0]
    told = []
    for ax, (kind, frame) in zip(axes, frames.items(), strict=True):
        total = frame["virtual_token"].nunique()
        own = [
            virtual_token
            for virtual_token in virtual_tokens
            if virtual_token in set(frame["virtual_token"])
        ]
        changed = _words_by_step(ax, frame, own)
        ax.set_title(f"{drawable(kind)}\n{changed} of {total} end at another word")
        ax.set_yticks([])
        last = frame[frame["step"] == frame["step"].max()].sort_values("virtual_token")
        told.append(
            f"{kind}: {changed} of {total} end at another word than they start at: {' '.join(last['token'])}."
        )
    axes[0].set_yticks(
        [y + 0.5 for y in range(len(virtual_tokens))], [str(v) for v in virtual_tokens]
    )
    axes[0].set_ylabel("virtual token")
    fig.alt = "Tables: the nearest token of each virtual token by step. " + " ".join(told)
    return fig


@styled
def movement_figure(table: pd.DataFrame) -> Figure:
    """Draw norm, distance to the start and cosine with it by step, of the prompt and of its controls.

    `table`: that of `trajectories_of`. Lines are medians over virtual tokens, bands hold the middle eight tenths.
    """
    measures = {
        "norm": "norm",
        "distance": "distance to the start",
        "cosine": "cosine with the start",
    }
    fig = Figure(figsize=(9.0, 3.0))
    axes = fig.subplots(1, 3)
    ends = []
    for kind, (colour, marker, style) in looks_of(table["kind"]).items():
        by_step = table[table["kind"] == kind].groupby("step")[list(measures)]
        low, median, high = (by_step.quantile(q) for q in (0.1, 0.5, 0.9))
        for ax, column in zip(axes, measures, strict=True):
            ax.fill_between(
                median.index, low[column], high[column], color=colour, alpha=0.15, linewidth=0
            )
            look = {
                "color": colour,
                "marker": marker,
                "linestyle": style,
                "markersize": 4,
                "label": drawable(kind),
            }
            ax.plot(median.index, median[column], markevery=max(1, len(median) // 8), **look)
        ended = ", ".join(
            f"{name} {median[column].iloc[-1]:.2f}" for column, name in measures.items()
        )
        ends.append(f"{kind} {ended}")
    for ax, name in zip(axes, measures.values(), strict=True):
        ax.set(xlabel="step", ylabel=name)
        ax.locator_params(axis="x", nbins=5)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    fig.alt = "Lines by step, medians over virtual tokens; they end at: " + "; ".join(ends) + "."
    return fig


# --- in two dimensions --------------------------------------------------------------------------------------


def _backdrop(ax: Axes, backdrop: pd.DataFrame, explained: Sequence[float] | None) -> None:
    """Draw the vocabulary as grey points and name the axes with their share of the prompt's movement."""
    ax.plot(
        backdrop["x"],
        backdrop["y"],
        color="#B0B0B0",
        marker=".",
        markersize=2,
        linestyle="none",
        zorder=0,
    )
    shares = ["" if explained is None else f" ({share:.0%})" for share in (explained or (0, 0))]
    ax.set(xlabel=f"direction 1{shares[0]}", ylabel=f"direction 2{shares[1]}")


def _limits(points: pd.DataFrame, backdrop: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return axis limits that hold the prompt at every step and nearly all of the vocabulary."""
    limits = {}
    for axis in ("x", "y"):
        low, high = (
            (np.quantile(backdrop[axis], q) for q in (0.005, 0.995))
            if len(backdrop)
            else (np.inf, -np.inf)
        )
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
    control: pd.DataFrame | None = None,
) -> Figure:
    """Draw the path of every virtual token in two directions, and its cosine with its own start at each step.

    `points`: step, virtual_token, x, y. `backdrop`: x, y of sampled words. `similarity` and `control`, that of a random
    walk: step, virtual_token, cosine. The plane was chosen for the prompt, so no walk is drawn in it: any other would
    look still there.
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
    lowest = similarity["cosine"].min()
    if control is not None:
        walk, lowest = (
            control.groupby("step")["cosine"].median(),
            min(lowest, control["cosine"].min()),
        )
        right.plot(
            walk.index,
            walk,
            color=VERMILLION,
            marker="s",
            markersize=4,
            linestyle="--",
            label="random walk",
        )
    right.set(
        title="does it stay near its start?",
        xlabel="step",
        ylabel="cosine with the start",
        ylim=(min(0.0, lowest), 1.03),
    )
    right.legend()
    fig.alt = (
        f"Left: paths of {points['virtual_token'].nunique()} virtual tokens from step {points['step'].min()} "
        f"to {points['step'].max()} among word embeddings. Right: the median cosine with the start ends at "
        f"{median.iloc[-1]:.2f}"
        + ("." if control is None else f", that of a random walk at {walk.iloc[-1]:.2f}.")
    )
    return fig


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
