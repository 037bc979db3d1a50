"""Figures of what happens inside the base model: the lens, the attention on a prompt, its bias, what is read back."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import cm, colors
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .figure import (
    BLACK,
    BLUE,
    GREY,
    SERIES,
    SKY,
    VERMILLION,
    Figure,
    drawable,
    looks_of,
    percent,
    styled,
)

SHADES = colors.LinearSegmentedColormap.from_list("shades", ["#FFFFFF", SKY])
DEEP = colors.LinearSegmentedColormap.from_list("deep", ["#FFFFFF", SKY, "#08306B"])
LAYERS_DRAWN = 9  # of a lens: the first, the last and as many between as one can read


# --- the logit lens -------------------------------------------------------------------------------------------


@styled
def lens_figure(
    frame: pd.DataFrame,
    kinds: Sequence[str] = ("prompt", "random"),
    last: int = 4,
    virtual: int = 4,
) -> Figure:
    """Draw the first choice of each layer (rows, deep ones on top) at each place (columns), by kind.

    `frame`: of `reading.logit_lens`. The shade is the choice's probability; a bold word is the last layer's choice.
    Drawn are the last `virtual` virtual tokens and the `last` text tokens, the right-most of which predicts the label.
    """
    kinds = [kind for kind in kinds if kind in set(frame["kind"])]
    first = frame[(frame["rank"] == 1) & frame["kind"].isin(kinds)]
    depth = int(first["layer"].max())
    read = sorted(first["layer"].unique().tolist())
    layers = sorted(
        {read[round((len(read) - 1) * part / (LAYERS_DRAWN - 1))] for part in range(LAYERS_DRAWN)}
    )
    places = {kind: _places(first[first["kind"] == kind], virtual, last) for kind in kinds}
    widths = [len(columns) for columns in places.values()]
    fig = Figure(figsize=(0.9 + 0.78 * sum(widths), 1.7 + 0.26 * len(layers)))
    axes = fig.subplots(1, len(kinds), squeeze=False, width_ratios=widths)[0]
    for ax, (kind, columns) in zip(axes, places.items(), strict=True):
        _lens_grid(ax, first[first["kind"] == kind], layers, columns)
        ax.set_title(drawable(kind))
        ax.set_yticks([])
    axes[0].set_yticks([y + 0.5 for y in range(len(layers))], [str(layer) for layer in layers])
    axes[0].set_ylabel("layer read by the lens")
    bar = fig.colorbar(
        cm.ScalarMappable(colors.Normalize(0, 1), SHADES), ax=axes, shrink=0.6, pad=0.01
    )
    bar.set_label("probability of the word")
    percent(bar.ax.yaxis)
    fig.alt = _lens_in_words(first, depth)
    return fig


def _places(own: pd.DataFrame, virtual: int, last: int) -> list[tuple[str, int]]:
    """The last virtual and the last text places."""
    counts = own.groupby("place")["position"].max() + 1
    parts = (("virtual", virtual), ("text", last))
    return [
        (place, number)
        for place, most in parts
        for number in range(max(0, counts.get(place, 0) - most), counts.get(place, 0))
    ]


def _lens_grid(
    ax: Axes, own: pd.DataFrame, layers: Sequence[int], columns: Sequence[tuple[str, int]]
) -> None:
    """Words on the shade of their probability, one column a place, one row a layer."""
    found = own.set_index(["layer", "place", "position"])
    for y, layer in enumerate(layers):
        for x, (place, position) in enumerate(columns):
            row = found.loc[(layer, place, position)]
            shade = SHADES(float(np.exp(row.log_probability)))
            ax.add_patch(Rectangle((x, y), 1, 1, facecolor=shade, edgecolor="white"))
            looks = {
                "ha": "center",
                "va": "center",
                "size": 7.5,
                "weight": "bold" if row.agrees else "normal",
            }
            ax.text(x + 0.5, y + 0.5, drawable(str(row.predicted), 9), **looks)
    ax.set(xlim=(0, len(columns)), ylim=(0, len(layers)))
    names = [
        f"p{at}" if place == "virtual" else str(found.loc[(layers[0], place, at)].token)
        for place, at in columns
    ]
    ax.set_xticks(
        [x + 0.5 for x in range(len(columns))], [drawable(name, 10) for name in names], rotation=35
    )
    edge = sum(place == "virtual" for place, _ in columns)
    if 0 < edge < len(columns):
        ax.axvline(edge, color=BLACK, linewidth=1.2)
    ax.set_xlabel("token" if not edge else "virtual token | token of the text")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _lens_in_words(first: pd.DataFrame, depth: int) -> str:
    """What the predicting place says last, and from which layer on, for each kind."""
    parts = []
    for kind, own in first.groupby("kind", sort=False):
        text = own[own["place"] == "text"]
        end = text[text["position"] == text["position"].max()].sort_values("layer")
        settled = end.loc[~end["agrees"], "layer"].max()
        since = end.loc[~(end["layer"] <= settled), "layer"].min()
        final = end[end["layer"] == depth].iloc[0]
        ends = f"{final.predicted} ({np.exp(final.log_probability):.0%})"
        parts.append(
            f"{kind}: the last place ends at {ends}, its first choice from layer {since} on"
        )
    return f"Logit lens, layers 0 to {depth}. " + "; ".join(parts) + "."


# --- attention ------------------------------------------------------------------------------------------------


@styled
def attention_mass_figure(
    frame: pd.DataFrame, kinds: Sequence[str] = ("prompt", "random"), place: str = "last"
) -> Figure:
    """Draw the share of attention on the prompt by layer and head, beside a control, and the mean of every kind.

    `frame`: of `reading.attention_mass`. `place`: "last" (the predicting token) or "text" (the mean of all).
    """
    drawn = frame[frame["place"] == place]
    kinds = [kind for kind in kinds if kind in set(drawn["kind"])]
    heads, layers = int(drawn["head"].max()) + 1, int(drawn["layer"].max()) + 1
    most = drawn.loc[drawn["kind"].isin(kinds), "mass"].max()
    fig = Figure(figsize=(4.3 + 1.7 * len(kinds), 4.0))
    *grids, right = fig.subplots(1, len(kinds) + 1, width_ratios=[*[1] * len(kinds), 2])
    for ax, kind in zip(grids, kinds, strict=True):
        values = drawn[drawn["kind"] == kind].pivot(index="layer", columns="head", values="mass")
        shown = ax.imshow(values, aspect="auto", cmap=DEEP, vmin=0, vmax=most, origin="lower")
        ax.set(
            title=f"{drawable(kind)}\nmean {values.to_numpy().mean():.1%}", xlabel="head", yticks=[]
        )
        ax.xaxis.get_major_locator().set_params(integer=True)
    grids[0].yaxis.set_ticks(sorted({round((layers - 1) * part / 4) for part in range(5)}))
    grids[0].set_ylabel("layer")
    bar = fig.colorbar(shown, ax=grids, shrink=0.7, pad=0.02, location="bottom")
    percent(bar.ax.xaxis)
    bar.set_label("attention on the vectors in front")
    _mass_lines(right, drawn)
    text = "the predicting token" if place == "last" else "all text tokens"
    right.set_title(f"mean over heads, {text}")
    fig.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    means = drawn[drawn["kind"] != "no prompt"].groupby("kind", sort=False)["mass"].mean()
    sink = drawn.groupby("kind", sort=False)["first"].mean()
    fig.alt = (
        f"Share of attention that {text} pay{'s' * (place == 'last')} to the vectors in front, {layers} layers of "
        f"{heads} heads, n = {drawn['n'].iloc[0]} texts. Means: "
        + "; ".join(
            f"{kind} {value:.1%} (first place alone {sink[kind]:.1%})"
            for kind, value in means.items()
        )
        + f"; all places alike would be {drawn['uniform'].max():.1%}."
        + (
            f" Without a prompt the text's own first token gets {sink['no prompt']:.1%}."
            if "no prompt" in sink
            else ""
        )
    )
    return fig


def _mass_lines(ax: Axes, drawn: pd.DataFrame) -> None:
    """The mean over heads by layer, for each kind, and what all places alike would give."""
    kinds = [kind for kind in dict.fromkeys(drawn["kind"]) if kind != "no prompt"]
    for kind, (colour, marker, style) in looks_of(kinds).items():
        line, spread = (
            drawn[drawn["kind"] == kind].groupby("layer")[name].mean()
            for name in ("mass", "mass_sd")
        )
        if kind == "prompt" and spread.max() > 0:
            label = "prompt: ± 1 sd of a head over texts"
            ax.fill_between(
                line.index,
                line - spread,
                line + spread,
                color=SKY,
                alpha=0.35,
                linewidth=0,
                label=label,
            )
        options = {
            "color": colour,
            "marker": marker,
            "linestyle": style,
            "markersize": 4,
            "markevery": 3,
        }
        ax.plot(line.index, line, label=drawable(kind), **options)
    if "no prompt" in set(drawn["kind"]):
        sink = drawn[drawn["kind"] == "no prompt"].groupby("layer")["first"].mean()
        ax.plot(sink.index, sink, color=GREY, linewidth=1, label="no prompt: first token")
    ax.axhline(drawn["uniform"].max(), color=BLACK, linestyle=(0, (1, 3)), label="all places alike")
    ax.set(xlabel="layer", ylabel="attention", ylim=(0, None))
    percent(ax.yaxis)
    ax.xaxis.get_major_locator().set_params(integer=True)


@styled
def attention_bias_figure(frame: pd.DataFrame) -> Figure:
    """Draw by layer what the prompt adds to a head's output, and how far the text's own part has moved.

    `frame`: of `reading.attention_as_bias`. Left: |bias| / (|bias| + |rest|), mean over heads; right: `moved`.
    """
    table = frame.assign(share=frame["bias"] / (frame["bias"] + frame["rest"]))
    fig = Figure(figsize=(8.0, 3.2))
    left, right = fig.subplots(1, 2)
    for kind, (colour, marker, style) in looks_of(table["kind"]).items():
        means = table[table["kind"] == kind].groupby("layer")[["share", "moved"]].mean()
        options = {
            "color": colour,
            "marker": marker,
            "linestyle": style,
            "markersize": 4,
            "markevery": 3,
        }
        left.plot(means.index, means["share"], label=drawable(kind), **options)
        right.plot(means.index, means["moved"], **options)
    left.set(
        title="what the prompt adds to a head's output",
        ylabel="bias / (bias + rest), norms",
        ylim=(0, None),
    )
    right.set(
        title="how far the text's own part has moved",
        ylabel="distance / norm without a prompt",
        ylim=(0, None),
    )
    percent(left.yaxis)
    percent(right.yaxis)
    for ax in (left, right):
        ax.set_xlabel("layer")
        ax.xaxis.get_major_locator().set_params(integer=True)
    error = table["error"].max()
    fig.legend(
        loc="outside lower center", ncols=5, title=f"output = bias + rest holds to {error:.0e}"
    )
    means = table.groupby("kind", sort=False)[["share", "moved"]].mean()
    fig.alt = (
        f"Lines by layer: attention to the vectors in front as a bias. output = bias + rest holds to {error:.0e}. "
        + "; ".join(
            f"{kind}: the bias is {row.share:.0%} of both norms, the text's own part moved by {row.moved:.0%}"
            for kind, row in means.iterrows()
        )
        + "."
    )
    return fig


# --- reading back ---------------------------------------------------------------------------------------------


@styled
def read_back_figure(frame: pd.DataFrame, longest: int = 84) -> Figure:
    """Draw what the model said to each prompt and control, one line a template, and the share of task words in it.

    `frame`: of `reading.read_back`. Of several random draws each is a line; the bars are their shares.
    """
    rows = list(frame.itertuples(index=False))
    fig = Figure(figsize=(9.0, 1.0 + 0.235 * len(rows)))
    words, bars = fig.subplots(1, 2, width_ratios=(4.2, 1), sharey=True)
    looks = {
        kind: (BLUE, "") if kind == "prompt" else (VERMILLION, "///")
        for kind in dict.fromkeys(frame["kind"])
    }
    looks |= {"task text": (SERIES[2][0], "...")} if "task text" in looks else {}
    for y, row in enumerate(rows):
        new = y == 0 or (row.kind, row.draw) != (rows[y - 1].kind, rows[y - 1].draw)
        if new:
            words.axhline(y - 0.5, color=GREY, linewidth=0.5)
            bars.axhline(y - 0.5, color=GREY, linewidth=0.5)
            words.text(0, y, drawable(row.kind), va="center", fontsize=8, weight="bold")
        words.text(0.13, y, drawable(row.template), va="center", fontsize=8, color="#404040")
        words.text(0.22, y, drawable(str(row.output), longest), va="center", fontsize=8)
        colour, hatch = looks[row.kind]
        share = 0.0 if pd.isna(row.task_words) else row.task_words
        bars.barh(y, share, color=colour, hatch=hatch, height=0.7, edgecolor="white", linewidth=0)
    words.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), title="what the frozen model says")
    words.set_axis_off()
    bars.set(xlim=(0, 1), title="task's words in it", yticks=[])
    percent(bars.xaxis)
    shares = frame.groupby("kind", sort=False)["task_words"].mean()
    first = frame.drop_duplicates("kind")
    fig.alt = (
        "What the model says when vectors stand in the slot of a text. Share of the task's words: "
        + "; ".join(f"{kind} {value:.0%}" for kind, value in shares.items())
        + ". "
        + " ".join(
            f"{row.kind} ({row.template}): {row.output!s:.60}." for row in first.itertuples()
        )
    )
    return fig
