"""Figures of a prompt's way through training: its words, norm and distance by step, its path among the words."""

import io
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from PIL import Image

from .charts import changing_words, counted, curves_figure, evenly, kind_lines, panels
from .figure import BLUE, GREY, VERMILLION, Figure, drawable, first_of, styled

STEPS_DRAWN, TOKENS_DRAWN = 4, 20  # snapshots and virtual tokens in a table of words
PICTURES, SECONDS = 12, 4.0  # of an animation
ENLARGED = 3.0  # times as far as the words reach: from there on they are drawn apart too
MEASURES = {"norm": "norm", "distance": "distance to the start", "cosine": "cosine with the start"}


# --- words, norm, distance ----------------------------------------------------------------------------------


@styled
def trajectory_words_figure(table: pd.DataFrame) -> Figure:
    """Draw the nearest token of every virtual token at evenly spaced snapshots, of the prompt and of its controls.

    `table`: that of `trajectories_of`. A word that differs from the one before it is bold on a shade. At most
    `TOKENS_DRAWN` virtual tokens are drawn.
    """
    frames = {
        kind: own.pivot(index="virtual_token", columns="step", values="token")
        for kind, own in table.groupby("kind", sort=False)
    }
    rows = max(map(len, frames.values()))
    fig, axes = panels(len(frames), 0.6 + 3.8 * len(frames), 1.1 + 0.2 * min(rows, TOKENS_DRAWN))
    said = []
    for ax, (kind, words) in zip(axes, frames.items(), strict=True):
        first, last = words.iloc[:, 0], words.iloc[:, -1]
        changed = f"{(first != last).sum()} of {len(words)} end at another word"
        drawn = words[evenly(words.columns, STEPS_DRAWN)].head(TOKENS_DRAWN)
        changing_words(ax, drawn, axis=1)
        ax.set(title=f"{drawable(kind)}\n{changed}", xlabel="step")
        ax.set_ylabel(first_of(len(drawn), len(words)))
        ax.label_outer()
        said.append(f"{kind}: {changed} than they start at: {' '.join(last)}.")
    fig.alt = f"Tables: the nearest token of each virtual token by step. {' '.join(said)}"
    return fig


def movement_figure(table: pd.DataFrame, title: str = "") -> Figure:
    """Draw norm, distance to the start and cosine with it by step, of the prompt and of its controls.

    `table`: that of `trajectories_of`. Lines are medians over virtual tokens, bands hold the middle eight tenths.
    """
    return curves_figure(table, "step", MEASURES, middle="median", band=0.1, title=title)


# --- in two dimensions --------------------------------------------------------------------------------------


def _paths(ax: Axes, points: pd.DataFrame, backdrop: pd.DataFrame, step: int) -> None:
    """Draw each virtual token at `step`, with the path that led there, among grey points of the vocabulary.

    The prompt's later points are there too, without colour, so that the limits are those of every step.
    """
    look = {"color": GREY, "marker": ".", "markersize": 3, "linestyle": "none", "zorder": 0}
    ax.plot(backdrop["x"], backdrop["y"], label="words of the vocabulary", **look)
    for _, path in points[points["step"] <= step].sort_values("step").groupby("virtual_token"):
        ax.plot(path["x"], path["y"], color=BLUE, linewidth=0.8)
    start, now = (points[points["step"] == at] for at in (points["step"].min(), step))
    ax.plot(start["x"], start["y"], "o", color=BLUE, markerfacecolor="white", label="start")
    ax.plot(now["x"], now["y"], "s", color=VERMILLION, label="now")
    ax.plot(points["x"], points["y"], alpha=0)
    ax.set(xlabel="direction 1", ylabel="direction 2")
    ax.locator_params(nbins=5)


@styled
def trajectory_figure(
    points: pd.DataFrame,
    backdrop: pd.DataFrame,
    similarity: pd.DataFrame,
    explained: Sequence[float],
) -> Figure:
    """Draw the path of every virtual token in two directions, and the cosines with their starts by step.

    `points`: step, virtual_token, x, y. `backdrop`: x, y of sampled words. `similarity`: step, virtual_token, cosine.
    `explained`: each direction's share of the movement. The plane was chosen for the prompt: another way would look
    still in it.
    """
    fig, (left, right) = panels(2, 8.5, 3.6, width_ratios=(1.2, 1))
    _paths(left, points, backdrop, int(points["step"].max()))
    left.set_title("paths of the virtual tokens")
    first, second = (f"direction {k} ({share:.0%})" for k, share in enumerate(explained, 1))
    left.set(xlabel=first, ylabel=second)
    kind_lines({"cosine": right}, similarity.assign(kind="median"), "step", "median", band=0.0)
    median = similarity.groupby("step")["cosine"].median()
    right.set(title="does it stay near its start?", xlabel="step", ylabel="cosine with the start")
    right.set_ylim(min(0.0, similarity["cosine"].min()), 1.03)
    fig.legend_below()
    fig.alt = (
        f"Left: paths of the virtual tokens ({points['virtual_token'].nunique()}) from step {points['step'].min()} "
        f"to {points['step'].max()} among word embeddings. Right: the median cosine with the start ends at "
        f"{median.iloc[-1]:.2f}."
    )
    return fig


@styled
def animate_trajectory(points: pd.DataFrame, backdrop: pd.DataFrame) -> Figure:
    """Return the last snapshot of the prompt's way, animated: the way is played twice and rests there.

    It shows in a page without a kernel; where animations are not played, the last snapshot is seen. Where the prompt
    goes so far that the words are one point, they are drawn apart too.
    """
    steps, frames, places = evenly(points["step"], PICTURES), [], ["x", "y"]
    near = 1.2 * backdrop[places].agg(["min", "max"])
    apart = bool((points[places].abs().max() > ENLARGED * near.abs().max()).all())
    for step in steps:
        fig, axes = panels(1 + apart, 5.0 + 3.2 * apart, 3.8)
        fig.set_dpi(80)
        for ax, title in zip(axes, (f"step {step}", "where the words are"), strict=False):
            _paths(ax, points, backdrop, step)
            ax.set_title(title)
        if apart:
            axes[1].set(xlim=near[places[0]], ylim=near[places[1]])
        fig.legend_below(3)
        frames.append(Image.open(io.BytesIO(fig.png())).convert("RGB"))
    # one palette for all: only what moves is stored again
    palette, buffer = frames[-1].quantize(24, Image.Quantize.MAXCOVERAGE), io.BytesIO()
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [round(1000 * SECONDS / len(frames))] * (len(frames) - 1) + [2000]
    settings = {"default_image": True, "append_images": frames, "loop": 2, "duration": durations}
    frames[-1].save(buffer, "PNG", save_all=True, **settings)
    fig.animated = buffer.getvalue()
    fig.alt = (
        f"Animation over {counted(len(steps), 'snapshot')}, from step {steps[0]} to {steps[-1]}, of "
        f"the virtual tokens ({points['virtual_token'].nunique()}) on their way among word embeddings."
    )
    return fig
