"""Figures of prompts beside each other: similarity matrices, vectors against behaviour, learning from other starts."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from .figure import BLACK, Figure, drawable, looks_of, styled

SHADES = mpl.colormaps["cividis"]  # made for colour-blind readers, and even in grey
WEAK = 0.55  # of a shade's luminance: darker cells have white numbers


def _matrix(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return one kind's values as a symmetric matrix in the table's order."""
    rows = table[table["kind"] == kind]
    names = list(dict.fromkeys([*rows["first"], *rows["second"]]))
    half = rows.pivot(index="first", columns="second", values="value").reindex(
        index=names, columns=names
    )
    return half.where(half.notna(), half.T)


@styled
def similarity_matrices(
    table: pd.DataFrame, measure: str, kinds: Sequence[str] | None = None
) -> Figure:
    """Draw the pairs of prompts as a matrix with the numbers in its cells, one panel a kind, controls beside them.

    `table`: of `reading.vector_similarity`, `label_similarity` or `next_token_similarity`. `kinds`: those to draw, by
    default all that it holds.

    Raises:
        ValueError: nothing of that measure and those kinds is in the table.
    """
    chosen = table[table["measure"] == measure]
    kinds = [
        kind for kind in (kinds or dict.fromkeys(chosen["kind"])) if kind in set(chosen["kind"])
    ]
    if not kinds:
        raise ValueError(
            f"the table has no {measure!r}; it has: {', '.join(table['measure'].unique())}."
        )
    matrices = {kind: _matrix(chosen, kind) for kind in kinds}
    size = max(map(len, matrices.values()))
    columns = min(2, len(kinds))
    rows = -(-len(kinds) // columns)
    fig = Figure(
        figsize=(1.6 + columns * (0.46 * size + 0.4), 0.5 + rows * (0.36 * size + 1.1)), dpi=90
    )
    values = chosen[chosen["kind"].isin(kinds)]["value"]
    scale = mpl.colors.Normalize(min(0.0, values.min()), max(1.0, values.max()))
    panels = fig.subplots(
        rows, columns, squeeze=False, sharey=all(len(m) == size for m in matrices.values())
    )
    for ax in panels.flat[len(kinds) :]:
        ax.set_axis_off()
    for ax, (kind, matrix) in zip(panels.flat, matrices.items(), strict=False):
        _cells(ax, matrix, scale)
        ax.set_title(drawable(kind))
    fig.suptitle(drawable(measure), x=0.01, ha="left", fontsize=11)
    fig.alt = f"Matrices of {measure}, {size} prompts. Mean of the pairs: {_means(matrices)}."
    return fig


def _cells(ax: Any, matrix: pd.DataFrame, scale: Any) -> None:
    """Fill one panel: shade and number of each pair, once."""
    shown = matrix.to_numpy()
    upper = np.triu(np.ones_like(shown, dtype=bool), k=1)
    shown = np.ma.masked_array(shown, upper)
    ax.imshow(shown, cmap=SHADES, norm=scale, aspect="auto")
    for i, j in zip(*np.nonzero(~upper), strict=True):
        number = shown[i, j]
        red, green, blue, _ = SHADES(scale(number))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < WEAK
        text = "–" if np.isnan(number) else f"{number:.2f}".replace("-0.00", "0.00")
        ax.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else BLACK)
    names = [drawable(str(name), 24) for name in matrix.index]
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8.5)
    ax.set_yticks(range(len(names)), names, fontsize=8.5)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def _means(matrices: Mapping[str, pd.DataFrame]) -> str:
    """Say the mean over different prompts of each kind."""
    upper = {
        kind: matrix.to_numpy()[np.triu_indices(len(matrix), k=1)]
        for kind, matrix in matrices.items()
    }
    known = {kind: each[np.isfinite(each)] for kind, each in upper.items()}
    return ", ".join(
        f"{kind} {each.mean():.2f}" if len(each) else f"{kind} none" for kind, each in known.items()
    )


@styled
def relation_figure(relations: pd.DataFrame, measure: str) -> Figure:
    """Draw two seeds of one task beside two tasks: mean and range over the pairs, one line a kind.

    `relations`: of `reading.by_relation`.
    """
    chosen = relations[relations["measure"] == measure]
    if chosen.empty:
        raise ValueError(
            f"the table has no {measure!r}; it has: {', '.join(relations['measure'].unique())}."
        )
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
