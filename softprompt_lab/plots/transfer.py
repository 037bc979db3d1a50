"""Figures of prompts beside each other: similarity matrices, vectors against behaviour, learning from other starts."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd

from .charts import in_words, matrices
from .figure import Figure, drawable, looks_of, styled

SHADES = mpl.colormaps["cividis"].with_extremes(bad="white")  # made for colour-blind readers


def _matrix(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return one kind's values as a symmetric matrix in the table's order."""
    rows = table[table["kind"] == kind]
    names = list(dict.fromkeys([*rows["first"], *rows["second"]]))
    half = rows.pivot(index="first", columns="second", values="value")
    half = half.reindex(index=names, columns=names)
    return half.where(half.notna(), half.T)


def _of_measure(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return the rows of one measure, or say which measures there are."""
    rows = table[table["measure"] == measure]
    if rows.empty:
        known = ", ".join(table["measure"].unique())
        raise ValueError(f"the table has no {measure!r}; it has: {known}.")
    return rows


@styled
def similarity_matrices(table: pd.DataFrame, measure: str) -> Figure:
    """Draw the pairs of prompts as a matrix with the numbers in its cells, one panel a kind, controls beside them.

    `table`: of `reading.vector_similarity`, `label_similarity` or `next_token_similarity`.

    Raises:
        ValueError: nothing of that measure is in the table.
    """
    rows = _of_measure(table, measure)
    tables = {drawable(kind): _matrix(rows, kind) for kind in rows["kind"].unique()}
    scale = mpl.colors.Normalize(min(0.0, rows["value"].min()), max(1.0, rows["value"].max()))
    fig = matrices(tables, 2, ".2f", SHADES, scale)
    fig.suptitle(drawable(measure), x=0.01, ha="left", fontsize=11)
    different = rows[rows["first"] != rows["second"]]
    means = different.groupby("kind", sort=False)["value"].mean()
    size = max(map(len, tables.values()))
    fig.alt = f"Matrices of {measure}, {size} prompts. Mean of the pairs: {in_words(means.dropna())}."
    return fig


@styled
def relation_figure(relations: pd.DataFrame, measure: str) -> Figure:
    """Draw two seeds of one task beside two tasks: mean and range over the pairs, one line a kind.

    `relations`: of `reading.by_relation`.
    """
    chosen = _of_measure(relations, measure)
    kinds = list(dict.fromkeys(chosen["kind"]))
    looks = looks_of(chosen["relation"])
    fig = Figure(figsize=(6.5, 1.2 + 0.55 * len(kinds)))
    ax = fig.subplots()
    for number, (relation, (colour, marker, style)) in enumerate(looks.items()):
        offset = 0.24 * (number / max(1, len(looks) - 1) - 0.5)
        rows = chosen[chosen["relation"] == relation]
        at = [kinds.index(kind) + offset for kind in rows["kind"]]
        ax.hlines(at, rows["lowest"], rows["highest"], color=colour, linestyle=style, linewidth=1.6)
        ax.plot(rows["mean"], at, color=colour, marker=marker, linestyle="none", label=relation)
    ax.set(
        yticks=range(len(kinds)),
        ylim=(len(kinds) - 0.5, -0.5),
        xlabel=f"{measure} (mark: mean, line: range)",
    )
    ax.set_yticklabels([drawable(kind) for kind in kinds])
    fig.legend(loc="outside lower center", ncols=2)
    said = (
        f"{row.kind}, {row.relation} {row.mean:.2f} ({row.pairs} pairs)"
        for row in chosen.itertuples()
    )
    fig.alt = f"Dot chart of {measure}, mean over pairs of prompts: {'; '.join(said)}."
    return fig


@styled
def association_figure(
    pairs: pd.DataFrame,
    task_of: Mapping[str, str],
    labels: tuple[str, str],
    spearman: float,
    p: float,
) -> Figure:
    """Draw one measure of each pair of prompts against another, such as vectors against behaviour.

    `pairs`, `spearman`, `p`: of `reading.association`. `labels`: what the two measures are.
    """
    fig = Figure(figsize=(5.6, 3.8))
    ax = fig.subplots()
    same = pairs["first"].map(task_of) == pairs["second"].map(task_of)
    seeds = np.where(same, "two seeds of a task", "two tasks")
    relation = np.where(pairs["kind"] == "prompt", seeds, pairs["kind"] + ", any pair")
    looks = looks_of(["two seeds of a task", "two tasks", *np.unique(relation)])
    for name in [name for name in looks if name in set(relation)]:
        rows, (colour, marker, _) = pairs[relation == name], looks[name]
        look = {"color": colour, "marker": marker, "linestyle": "none", "alpha": 0.85}
        ax.plot(rows["one"], rows["other"], **look, label=f"{name} ({len(rows)})")
    ax.set(xlabel=drawable(labels[0]), ylabel=drawable(labels[1]))
    ax.set_title(f"rank correlation {spearman:.2f}, p = {p:.3f} by relabelling the prompts")
    fig.legend(loc="outside lower center", ncols=2)
    fig.alt = (
        f"Scatter of {int((pairs['kind'] == 'prompt').sum())} pairs of prompts, beside their controls: {labels[1]} "
        f"against {labels[0]}; Spearman's rank correlation of the prompts {spearman:.2f}, p {p:.3f}."
    )
    return fig


@styled
def transfer_curves(curves: pd.DataFrame, measures: Sequence[str] | None = None) -> Figure:
    """Draw trainings from several starts: the mean over the runs, the range between them shaded, one panel a measure.

    `curves`: of `reading.learning_curves`.
    """
    measures = list(measures or dict.fromkeys(curves["measure"]))
    looks = looks_of(curves["kind"])
    fig = Figure(figsize=(3.9 * len(measures) + 0.6, 3.4))
    axes = fig.subplots(1, len(measures), squeeze=False)[0]
    for ax, measure in zip(axes, measures, strict=True):
        for kind, (colour, marker, style) in looks.items():
            rows = curves[(curves["measure"] == measure) & (curves["kind"] == kind)].groupby(
                "step"
            )["value"]
            low, mean, high = rows.min(), rows.mean(), rows.max()
            ax.fill_between(mean.index, low, high, color=colour, alpha=0.18, linewidth=0)
            every = max(1, len(mean) // 6)
            look = {
                "color": colour,
                "marker": marker,
                "linestyle": style,
                "markersize": 5,
                "markevery": every,
            }
            ax.plot(mean.index, mean, label=drawable(kind), **look)
        ax.set(
            xlabel="step",
            ylabel=measure.replace("_", " ") + (" (nats a token)" if "loss" in measure else ""),
        )
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    runs = curves.groupby("kind")["run"].nunique()
    last = (
        curves[curves["measure"] == measures[0]]
        .sort_values("step")
        .groupby(["kind", "run"])["value"]
        .last()
    )
    means = last.groupby("kind").mean()
    said = "; ".join(f"{kind} {means[kind]:.2f} ({runs[kind]} runs)" for kind in looks)
    fig.alt = f"Line chart of training from several starts. {measures[0].replace('_', ' ')} at the end: {said}."
    return fig
