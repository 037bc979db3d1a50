"""Figures of prompts beside each other: similarity matrices, vectors against behaviour, learning from other starts."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colors

from ..reading import Association
from .charts import curves_figure, in_words, matrices, panels
from .figure import Figure, drawable, looks_of, styled


@styled
def similarity_matrices(table: pd.DataFrame, measure: str) -> Figure:
    """Draw the pairs of prompts as a matrix with the numbers in its cells, one panel a kind, controls beside them.

    `table`: of `reading.vector_similarity` or `next_token_similarity`.
    """
    rows = table[table["measure"] == measure]
    tables = {}
    for kind, own in rows.groupby("kind", sort=False):
        names, half = own["first"].unique(), own.pivot(index="second", columns="first")["value"]
        tables[drawable(kind)] = half.reindex(index=names, columns=names)
    scale = colors.Normalize(min(0.0, rows["value"].min()), max(1.0, rows["value"].max()))
    fig = matrices(tables, ".2f", scale)
    fig.suptitle(drawable(measure), x=0.01, ha="left", fontsize=11)
    different = rows[rows["first"] != rows["second"]].groupby("kind", sort=False)
    means = in_words(different["value"].mean().dropna())
    size = max(map(len, tables.values()))
    fig.alt = f"Matrices of {measure}, {size} prompts. Mean of the pairs: {means}."
    return fig


@styled
def association_figure(
    found: Association, task_of: Mapping[str, str], labels: tuple[str, str]
) -> Figure:
    """Draw one measure of each pair of prompts against another, such as vectors against behaviour.

    `labels`: what the two measures are.
    """
    fig, (ax,) = panels(1, 5.6, 3.8)
    pairs, prompts = found.pairs, found.pairs["kind"] == "prompt"
    same = pairs["first"].map(task_of) == pairs["second"].map(task_of)
    seeds = np.where(same, "two seeds of a task", "two tasks")
    relation = np.where(prompts, seeds, pairs["kind"] + ", any pair")
    for name, look in looks_of(relation).items():
        own = pairs[relation == name]
        look = look | {"linestyle": "none", "label": f"{name} ({len(own)})"}
        ax.plot(own["one"], own["other"], alpha=0.85, **look)
    ax.set(xlabel=drawable(labels[0]), ylabel=drawable(labels[1]))
    said = f"rank correlation {found.spearman:.2f}, p = {found.p:.3f} by relabelling the prompts"
    ax.set_title(said)
    fig.legend_below(2)
    fig.alt = f"Scatter of {prompts.sum()} pairs beside their controls: {labels[1]} against {labels[0]}; {said}."
    return fig


def transfer_curves(curves: pd.DataFrame, measures: Sequence[str]) -> Figure:
    """Draw trainings from several starts: the mean over the runs, the range between them shaded, one panel a measure.

    `curves`: of `reading.learning_curves`.
    """
    wide = curves.pivot(index=["kind", "run", "step"], columns="measure", values="value")
    table = wide.reindex(curves["kind"].unique(), level="kind").reset_index()
    units = {"loss": "loss (nats a token)", "validation_loss": "validation loss (nats a token)"}
    columns = {name: units.get(name, name.replace("_", " ")) for name in measures}
    return curves_figure(table, "step", columns, band=0.0)
