"""Figures of what stands near a prompt: norms, nearest tokens beside controls, and how far to trust them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import colors, ticker

from .charts import SHADES, cells, in_words, mark_rows, panels
from .figure import DOTTED, GREY, SKY, Figure, Numbers, array, drawable, first_of, styled

ROWS, RANKS = 20, 9  # rows of a table of neighbours, and columns of all of them


@styled
def norms_histogram(vocabulary_norms: Numbers, starts: Mapping[str, Numbers]) -> Figure:
    """Draw the norms of all word embeddings (V,) and below them, on one axis, those of each start (P,)."""
    rows = {name: array(values) for name, values in starts.items()}
    vocabulary, median = array(vocabulary_norms), np.median(array(vocabulary_norms))
    everything = np.concatenate([vocabulary, *rows.values()])
    edges = np.geomspace(everything[everything > 0].min(), everything.max() * 1.001, 70)
    fig = Figure(figsize=(7.5, 2.4 + 0.32 * len(rows)))
    top, below = fig.subplots(2, 1, sharex=True, height_ratios=(2, 0.3 + 0.35 * len(rows)))
    top.hist(vocabulary, bins=edges, color=SKY, edgecolor=GREY, linewidth=0.3)
    mark_rows(below, rows)
    for ax in (top, below):
        ax.axvline(median, label=f"median {median:.2f}", **DOTTED)
    top.set(ylabel="word embeddings", xscale="log")
    top.legend()
    below.set_xlabel("norm (length) of the vector, logarithmic; line: mean")
    subs = (1, 2, 3, 5) if edges[-1] < 30 * edges[0] else (1,)
    below.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
    below.xaxis.set_major_formatter(ticker.ScalarFormatter())
    below.xaxis.set_minor_formatter(ticker.NullFormatter())
    means = in_words({name: values.mean() for name, values in rows.items()})
    fig.alt = (
        f"Histogram of the norms of {len(vocabulary)} word embeddings, median {median:.2f}; "
        f"mean norms of the starts: {means}."
    )
    return fig


# --- nearest tokens -----------------------------------------------------------------------------------------


@styled
def neighbour_figure(
    frames: Mapping[str, pd.DataFrame], k: int = 3, metric: str = "cosine", tokens: int = ROWS
) -> Figure:
    """Draw tables of `nearest_tokens` side by side: the prompt, its start, random vectors.

    `frames`: title -> long table with `virtual_token`, `rank`, `token`, `score`. The first
    virtual tokens are drawn, at most `tokens`, each with its `k` nearest tokens, of which all panels together have room
    for `RANKS`; a nearer one is darker.
    """
    table = pd.concat(frames, names=["title"]).reset_index("title")
    table = table[table["rank"] <= min(k, max(1, RANKS // len(frames)))]
    k, every = table["rank"].max(), table["virtual_token"].nunique()
    rows = min(tokens, every)
    nearer = -1.0 if metric == "l2" else 1.0  # the sign that makes a nearer token's score larger
    scale = colors.Normalize(*sorted(nearer * table["score"].agg(["min", "max"])))
    fig, axes = panels(len(frames), 0.6 + 1.15 * k * len(frames), 1.1 + 0.19 * rows)
    best = table[table["rank"] == 1].groupby("title", sort=False)
    for ax, (title, mean) in zip(axes, best["score"].mean().items(), strict=True):
        own = table[table["title"] == title].set_index(["virtual_token", "rank"])
        score, words = (own[column].unstack()[:rows] for column in ("score", "token"))
        shades = SHADES(scale(nearer * score.to_numpy()))
        cells(ax, words, shades, notes=score.map("{:.2f}".format))
        ax.set(xlabel="rank", ylabel=first_of(rows, every))
        ax.set_title(f"{drawable(title)}\nmean {metric} of rank 1: {mean:.2f}")
        ax.label_outer()
    fig.alt = f"Nearest tokens by {metric}, top {k}. " + " ".join(
        f"{title}: {' '.join(own['token'])} (mean score {own['score'].mean():.2f})."
        for title, own in best
    )
    return fig


@styled
def neighbour_scores(scores: Mapping[str, Numbers], metric: str = "cosine") -> Figure:
    """Draw the score of the nearest token of every virtual token, one row for the prompt and for each control."""
    fig, (ax,) = panels(1, 6.5, 0.9 + 0.33 * len(scores))
    means = {name: array(values).mean() for name, values in scores.items()}
    mark_rows(ax, {f"{name}, mean {means[name]:.2f}": scores[name] for name in scores})
    ax.set_xlabel(f"{metric} of rank 1, one mark a virtual token")
    fig.alt = f"Marks: {metric} score of the nearest token for each virtual token. Means: {in_words(means)}."
    return fig


# --- how far to trust them ----------------------------------------------------------------------------------


@styled
def marks_figure(
    table: pd.DataFrame, columns: Mapping[str, str], unit: str = "virtual token"
) -> Figure:
    """Draw columns of a table as one mark for each virtual token, one row a kind, one panel a column; lines are means.

    `columns`: with what they are, for the axes. `unit`: what a mark is, where it is no virtual token.
    """
    groups = table.groupby("kind", sort=False)
    fig, axes = panels(len(columns), 3.0 + 2.8 * len(columns), 1.2 + 0.42 * groups.ngroups)
    said = []
    for ax, (column, name) in zip(axes, columns.items(), strict=True):
        mark_rows(ax, dict(iter(groups[column])))
        ax.set_xlabel(f"{name} (line: mean)")
        ax.label_outer()
        said.append(f"{name}: {in_words(groups[column].mean())}")
    fig.alt = f"Marks, one for each {unit}. Means of the {'; '.join(said)}."
    return fig
