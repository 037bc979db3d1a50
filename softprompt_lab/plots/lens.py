"""Figures of what happens inside the base model: the lens, the attention on a prompt, its bias, what is read back."""

import numpy as np
import pandas as pd
from matplotlib import cm
from matplotlib.axes import Axes

from .charts import (
    SHADES,
    cells,
    counted,
    curves_figure,
    dot_rows,
    evenly,
    in_words,
    kind_lines,
    panels,
    words_beside,
)
from .figure import BLACK, GREY, SKY, Figure, drawable, looks_of, percent, styled

LAYERS_DRAWN = 9  # of a lens: the first, the last and as many between as one can read
PLACES_DRAWN = 3  # of a lens: the last virtual tokens and the last of the text
KINDS_DRAWN = ("prompt", "random")


# --- the logit lens -------------------------------------------------------------------------------------------


@styled
def lens_figure(frame: pd.DataFrame) -> Figure:
    """Draw the first choice of each layer (rows, deep ones on top) at each place (columns), by kind.

    `frame`: of `reading.logit_lens`. The shade is the choice's probability; a bold word is the last layer's choice.
    Drawn are the last virtual tokens and the last text tokens, the right-most of which predicts the label.
    """
    first = frame[frame["kind"].isin(KINDS_DRAWN)]
    layers = evenly(first["layer"], LAYERS_DRAWN)
    last = first.groupby(["kind", "place"])["position"].transform("max")
    drawn = first[(last - first["position"] < PLACES_DRAWN) & first["layer"].isin(layers)]
    grids = dict(iter(drawn.groupby("kind", sort=False)))
    widths = [len(grid) // len(layers) for grid in grids.values()]
    size = (0.9 + 0.88 * sum(widths), 1.7 + 0.26 * len(layers))
    fig, axes = panels(len(grids), *size, width_ratios=widths)
    for ax, (kind, grid) in zip(axes, grids.items(), strict=True):
        _lens_grid(ax, grid)
        ax.set(title=drawable(kind), ylabel="layer read by the lens")
        ax.label_outer()
    bar = fig.colorbar(cm.ScalarMappable(cmap=SHADES), ax=axes, shrink=0.6, pad=0.01)
    bar.set_label("probability of the word")
    percent(bar.ax.yaxis)
    settled = [f"{kind}: {_settling(own)}" for kind, own in first.groupby("kind", sort=False)]
    fig.alt = f"Logit lens, layers 0 to {layers[-1]}. {'; '.join(settled)}."
    return fig


def _lens_grid(ax: Axes, own: pd.DataFrame) -> None:
    """Draw words on the shade of their probability, one column a place, one row a layer."""
    places = set(zip(own["place"], own["position"], strict=True))
    virtual, text = (sorted(at for at in places if at[0] == name) for name in ("virtual", "text"))
    wide = own.set_index(["layer", "place", "position"]).unstack(["place", "position"])[::-1]
    names = [f"p{at}" for _, at in virtual] + wide["token"][text].iloc[0].tolist()
    words, bold = (wide[column][virtual + text] for column in ("predicted", "agrees"))
    sure = np.exp(wide["log_probability"][virtual + text].to_numpy())
    cells(ax, words.set_axis(names, axis=1), SHADES(sure), bold=bold)
    ax.axvline(len(virtual), color=BLACK, linewidth=1.2)
    ax.set_xlabel("virtual token | token of the text")


def _settling(own: pd.DataFrame) -> str:
    """Return what the predicting place says last, and from which layer on, in words."""
    text = own[own["place"] == "text"]
    end = text[text["position"] == text["position"].max()].sort_values("layer")
    other = end.loc[~end["agrees"], "layer"].max()
    since, final = end.loc[~(end["layer"] <= other), "layer"].min(), end.iloc[-1]
    sure = f"{final['predicted']} ({np.exp(final['log_probability']):.0%})"
    return f"the last place ends at {sure}, its first choice from layer {since} on"


# --- attention ------------------------------------------------------------------------------------------------


@styled
def attention_mass_figure(frame: pd.DataFrame) -> Figure:
    """Draw the predicting token's attention on the prompt by layer and head, beside a control, and each kind's mean.

    `frame`: of `reading.attention_mass`.
    """
    grids = dict(iter(frame[frame["kind"].isin(KINDS_DRAWN)].groupby("kind", sort=False)))
    most = max(grid["mass"].max() for grid in grids.values())
    widths = [1] * len(grids) + [2]
    fig, (*axes, right) = panels(len(widths), 4.3 + 1.7 * len(grids), 4.0, width_ratios=widths)
    for ax, (kind, grid) in zip(axes, grids.items(), strict=True):
        values = grid.pivot(index="layer", columns="head", values="mass")
        shown = ax.imshow(values, aspect="auto", cmap="Blues", vmin=0, vmax=most, origin="lower")
        ax.set_title(f"{drawable(kind)}\nmean {grid['mass'].mean():.1%}")
        ax.set(xlabel="head", ylabel="layer")
        ax.label_outer()
    bar = fig.colorbar(shown, ax=axes, shrink=0.7, pad=0.02, location="bottom")
    bar.set_label("attention on the vectors in front")
    percent(bar.ax.xaxis)
    _mass_lines(right, frame)
    fig.legend_below()
    layers, heads = (counted(*pair) for pair in zip(values.shape, ("layer", "head"), strict=True))
    texts = counted(frame["n"].iloc[0], "text")
    means = frame.groupby("kind", sort=False)[["mass", "first"]].mean()
    parts = [
        f"{row.Index} {row.mass:.1%} (first place alone {row.first:.1%})"
        for row in means.drop("no prompt").itertuples()
    ]
    fig.alt = (
        f"Share of attention that the predicting token pays to the vectors in front, {layers} of {heads}, "
        f"n = {texts}. Means: {'; '.join(parts)}; all places alike would be "
        f"{frame['uniform'].max():.1%}. Without a prompt the text's own first token gets "
        f"{means.loc['no prompt', 'first']:.1%}."
    )
    return fig


def _mass_lines(ax: Axes, frame: pd.DataFrame) -> None:
    """Draw the mean over heads by layer, for each kind, and what all places alike would give."""
    prompted = frame[frame["kind"] != "no prompt"]
    kind_lines({"mass": ax}, prompted, "layer")
    own = frame[frame["kind"] == "prompt"].groupby("layer")[["mass", "mass_sd"]].mean()
    low, high = own["mass"] - own["mass_sd"], own["mass"] + own["mass_sd"]
    ax.fill_between(own.index, low, high, color=SKY, alpha=0.35, linewidth=0)
    sink = frame[frame["kind"] == "no prompt"].groupby("layer")["first"].mean()
    ax.plot(sink.index, sink, color=GREY, linewidth=1, label="no prompt: first token")
    ax.axhline(frame["uniform"].max(), color=BLACK, linestyle=(0, (1, 3)), label="all places alike")
    texts = counted(frame["n"].iloc[0], "text")
    ax.set_title(f"mean over heads, n = {texts}\nband: prompt ± 1 sd over texts")
    ax.set(ylabel="attention", ylim=(0, None))
    percent(ax.yaxis)


@styled
def attention_bias_figure(frame: pd.DataFrame) -> Figure:
    """Draw by layer what the prompt adds to a head's output, and how far the text's own part has moved.

    `frame`: of `reading.attention_as_bias`. Left: |bias| / (|bias| + |rest|), mean over heads; right: `moved`.
    """
    table = frame.assign(share=frame["bias"] / (frame["bias"] + frame["rest"]))
    columns = {"share": "bias / (bias + rest), norms", "moved": "distance / norm"}
    titles = ("what the prompt adds to a head's output", "how far the text's own part has moved")
    fig = curves_figure(table, "layer", columns)
    for ax, title in zip(fig.axes, titles, strict=True):
        ax.set(title=title, ylim=(0, None))
        percent(ax.yaxis)
    exact = f"output = bias + rest holds to {table['error'].max():.0e}"
    fig.legends[0].set_title(exact)
    fig.alt += f" Attention to the vectors in front is a bias: {exact}."
    return fig


# --- reading back ---------------------------------------------------------------------------------------------


@styled
def read_back_figure(frame: pd.DataFrame) -> Figure:
    """Draw what the model said to each prompt and control, one line a template, and the share of task words in it.

    `frame`: of `reading.read_back`. Of several random draws each is a line.
    """
    fig, (ax,) = panels(1, 9.0, 1.0 + 0.235 * len(frame))
    looks, share = frame["kind"].map(looks_of(frame["kind"])), frame["task_words"].fillna(0)
    dot_rows(ax, frame["kind"] + ", " + frame["template"], share, (0 * share, share), looks)
    ax.set(xlim=(-0.02, 1.02), xlabel="task's words in it", title="what the frozen model says")
    words_beside(ax, frame["output"])
    percent(ax.xaxis)
    shares = frame.groupby("kind", sort=False)["task_words"].mean()
    said = [
        f"{row.kind} ({row.template}): {row.output!s:.60}."
        for row in frame.drop_duplicates("kind").itertuples()
    ]
    fig.alt = (
        "What the model says when vectors stand in the slot of a text. Share of the task's words: "
        f"{in_words(shares.dropna(), '.0%')}. {' '.join(said)}"
    )
    return fig
