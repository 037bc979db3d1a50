"""Figures of prompts beside each other: similarity matrices, vectors against behaviour, learning from other starts."""

import pandas as pd
from matplotlib import colors

from .charts import counted, in_words, matrices
from .figure import Figure, drawable, styled


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
    fig.alt = f"Matrices of {measure}, {counted(size, 'prompt')}. Mean of the pairs: {means}."
    return fig
