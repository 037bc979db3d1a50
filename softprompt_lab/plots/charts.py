"""The parts that figures are made of: panels, cells with words, dots with intervals, rows of marks, lines by kind."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .figure import BLACK, SKY, Figure, Numbers, array, drawable, looks_of

SHADES = colors.LinearSegmentedColormap.from_list("shades", ["#FFFFFF", SKY])
CHANGED = "#FBF3C0"  # behind a word that is not the one before
DARK = 0.55  # luminance of a cell: darker ones have white words
BOX = {"linewidth": 0.6, "clip_on": False}
ON_HATCH = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.8}  # behind a word


def panels(columns: int, width: float, height: float, **settings: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many inches and its panels, which stand side by side."""
    fig = Figure(figsize=(width, height))
    return fig, list(fig.subplots(1, columns, squeeze=False, **settings)[0])


def name_rows(ax: Axes, names: Iterable[Any], longest: int = 60) -> None:
    """Name the lines of a chart, the first at the top."""
    names = [drawable(str(name), longest) for name in names]
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))


# --- dots -----------------------------------------------------------------------------------------------------


def dots(
    ax: Axes, values: Numbers, at: Numbers, ends: Sequence, upright: bool = False, **look: Any
) -> None:
    """Draw values as markers at their places, each with a line between its two ends.

    `ends`: (low, high). `upright`: places go across and values up, not the other way round.
    """
    draw, xy = (ax.vlines, (at, values)) if upright else (ax.hlines, (values, at))
    draw(at, *ends, color=look["color"], linewidth=1.4)
    ax.plot(*xy, **(look | {"linestyle": "none"}))


def dot_rows(
    ax: Axes, names: Iterable[Any], values: Numbers, ends: Sequence, looks: Iterable[dict]
) -> None:
    """Draw one value a line, with its interval, its look and its name."""
    for y, (value, low, high, look) in enumerate(zip(values, *ends, looks, strict=True)):
        dots(ax, value, y, (low, high), **look)
    name_rows(ax, names)


def mark_rows(ax: Axes, groups: Mapping[str, Numbers]) -> None:
    """Draw one line of marks for each group, spread a little in height, and a bar at their mean."""
    looks = looks_of(groups)
    for y, (name, values) in enumerate(groups.items()):
        values = array(values)
        heights = y + np.linspace(-0.25, 0.25, len(values) + 2)[1:-1]
        ax.plot(values, heights, alpha=0.8, **(looks[name] | {"linestyle": "none"}))
        ax.vlines(np.mean(values), y - 0.4, y + 0.4, color=BLACK)
    name_rows(ax, groups)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


# --- lines ----------------------------------------------------------------------------------------------------


def line(ax: Axes, values: pd.Series, **look: Any) -> None:
    """Draw a series over its index, with a marker at about eight of its points."""
    ax.plot(values.index, values, markevery=max(1, len(values) // 8), **look)


def kind_lines(
    axes: Mapping[str, Axes],
    table: pd.DataFrame,
    x: str,
    middle: str = "mean",
    band: float | None = None,
) -> None:
    """Draw a line for each kind of a long table: the middle of each column at each x, in that column's axes.

    `middle`: "mean" or "median". `band`: the quantile at which a shaded band begins (it ends at 1 - `band`).
    """
    for kind, look in looks_of(table["kind"]).items():
        groups = table[table["kind"] == kind].groupby(x)[list(axes)]
        for column, ax in axes.items():
            values = groups.agg(middle)[column].dropna()
            if band is not None:
                low, high = (groups.quantile(q)[column].dropna() for q in (band, 1 - band))
                ax.fill_between(low.index, low, high, color=look["color"], alpha=0.18, linewidth=0)
            line(ax, values, label=drawable(kind), **look)
            ax.set_xlabel(x)
            ax.locator_params(axis="x", nbins=5, integer=True)


def running_mean(values: Numbers, window: int) -> pd.Series:
    """Return the mean of the last `window` values at each step, counted from 1 (of fewer at the beginning)."""
    series = pd.Series(array(values), index=range(1, len(values) + 1))
    return series.rolling(window, min_periods=1).mean()


# --- cells ----------------------------------------------------------------------------------------------------


def cells(
    ax: Axes,
    words: pd.DataFrame,
    faces: Any,
    *,
    notes: pd.DataFrame | None = None,
    bold: pd.DataFrame | None = None,
    hatches: pd.DataFrame | None = None,
    edge: str = "white",
    rotation: int = 0,
) -> None:
    """Draw a table as a grid of cells: its words on coloured faces, its index and its columns as labels.

    Places without a word stay empty. `faces`: an array with a colour for each cell. `notes`: small words at the right.
    `rotation`: of the columns' labels.
    """
    faces, blank = np.asarray(faces), pd.DataFrame("", words.index, words.columns)
    extras = [blank if each is None else each for each in (notes, bold, hatches)]
    notes, bold, hatches = (each.to_numpy() for each in extras)
    for (y, x), word in np.ndenumerate(words.to_numpy()):
        if not pd.isna(word):
            face, hatch = colors.to_rgb(faces[y, x]), hatches[y, x]
            ax.add_patch(Rectangle((x, y), 1, 1, fc=face, ec=edge, hatch=hatch, **BOX))
            look = _ink(face, hatch) | {"weight": "bold" if bold[y, x] else "normal"}
            _cell_words(ax, x, y, str(word), notes[y, x], look)
    slant = {"rotation": rotation, "ha": "right", "va": "center", "rotation_mode": "anchor"}
    slant = slant if rotation else {}
    for axis, names, look in ((ax.xaxis, words.columns, slant), (ax.yaxis, words.index, {})):
        names = [drawable(str(name), 24) for name in names]
        axis.set_ticks(np.arange(len(names)) + 0.5, names, **look)
    ax.set(xlim=(0, words.shape[1]), ylim=(len(words), 0))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _ink(face: tuple, hatch: str) -> dict[str, Any]:
    """Return the look of words on a face: white on a dark one, on a white ground where it is hatched."""
    if hatch:
        return {"bbox": ON_HATCH}
    return {"color": "white" if np.dot(face, (0.299, 0.587, 0.114)) < DARK else BLACK}


def _cell_words(ax: Axes, x: int, y: int, word: str, note: str, look: Mapping[str, Any]) -> None:
    """Write the word of one cell in its middle, or at its left beside a note at its right."""
    place, side = (0.05, "left") if note else (0.5, "center")
    ax.text(x + place, y + 0.5, drawable(word, 12), ha=side, va="center", fontsize=8, **look)
    if note:
        ax.text(x + 0.95, y + 0.5, note, ha="right", va="center", fontsize=7, alpha=0.75)


def changing_words(ax: Axes, words: pd.DataFrame, axis: int) -> None:
    """Draw a table of words; one that differs from the one before it along `axis` is bold on a shade."""
    before = words.shift(axis=axis)
    changed = words.ne(before) & before.notna()
    cells(ax, words, np.where(changed, CHANGED, "white"), bold=changed, edge="#C8C8C8")


def matrices(
    tables: Mapping[str, pd.DataFrame], columns: int, spec: str, shades: Any, scale: Any
) -> Figure:
    """Return a figure of triangles, one a panel: the lower half of each table, its numbers on shades of a scale."""
    sizes = [len(table) for table in tables.values()]
    columns = min(columns, len(tables))
    rows, alike = -(-len(tables) // columns), len(set(sizes)) == 1
    width, height = 0.36 * max(sizes) + 0.5, 0.28 * max(sizes) + 0.5
    fig = Figure(figsize=(1.3 + width * columns, 1.0 + height * rows))
    axes = fig.subplots(rows, columns, squeeze=False).flat
    for place, (ax, (title, table)) in enumerate(zip(axes, tables.items(), strict=False)):
        words = table.map(lambda value: "–" if np.isnan(value) else f"{value:z{spec}}")
        words = words.where(np.tri(*table.shape, dtype=bool))
        cells(ax, words, shades(scale(table.to_numpy())), rotation=45)
        outer = {"labelleft": place % columns == 0, "labelbottom": place + columns >= len(tables)}
        ax.tick_params(labelsize=8, **(outer if alike else {}))
        ax.set_title(title)
    for ax in axes[len(tables) :]:
        ax.set_axis_off()
    return fig


# --- words ----------------------------------------------------------------------------------------------------


def evenly(values: Iterable, most: int) -> list:
    """Return at most `most` of the distinct values, evenly spaced, the smallest and the largest among them."""
    every = sorted(set(values))
    return [every[i] for i in np.unique(np.linspace(0, len(every) - 1, most).round().astype(int))]


def in_words(values: Mapping[str, float] | pd.Series, spec: str = ".2f") -> str:
    """Return named numbers as words for an alt text: "prompt 0.91, start 0.53"."""
    return ", ".join(f"{name} {value:{spec}}" for name, value in values.items())
