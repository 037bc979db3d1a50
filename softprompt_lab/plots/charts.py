"""The parts that figures are made of: panels, cells with words, dots with intervals, rows of marks, lines by kind."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from .figure import BLACK, SKY, Figure, Numbers, array, drawable, looks_of, styled

SHADES = colors.LinearSegmentedColormap.from_list("shades", ["#FFFFFF", SKY])
SHADES = SHADES.with_extremes(bad="white")
CHANGED = "#FBF3C0"  # behind a word that is not the one before
WIDEST = 10.0  # inches of a figure: a wider one would be shrunk until its words cannot be read
BOX = {"edgecolor": "#C8C8C8", "linewidth": 0.6, "clip_on": False}
SLANTED = {"rotation": 45, "ha": "right", "va": "center", "rotation_mode": "anchor"}


def panels(columns: int, width: float, height: float, **settings: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many inches, at most `WIDEST`, and its panels, which stand side by side."""
    fig = Figure(figsize=(min(width, WIDEST), height))
    return fig, list(fig.subplots(1, columns, squeeze=False, **settings)[0])


def name_rows(ax: Axes, names: Iterable[Any]) -> None:
    """Name the lines of a chart, the first at the top."""
    names = [drawable(str(name)) for name in names]
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))


# --- dots -----------------------------------------------------------------------------------------------------


def dots(
    ax: Axes, values: Numbers, ends: Sequence, at: Numbers, upright: bool = False, **look: Any
) -> None:
    """Draw values as markers at their places, each with a line between its two ends, low and high.

    `upright`: places go across and values up, not the other way round.
    """
    draw, xy = (ax.vlines, (at, values)) if upright else (ax.hlines, (values, at))
    draw(at, *ends, color=look["color"], linewidth=1.4)
    ax.plot(*xy, **(look | {"linestyle": "none"}))


def dot_rows(
    ax: Axes, names: Iterable[Any], values: Numbers, ends: Sequence, looks: Iterable[dict]
) -> None:
    """Draw one value a line, with its interval, its look and its name."""
    for y, (value, low, high, look) in enumerate(zip(values, *ends, looks, strict=True)):
        dots(ax, value, (low, high), y, **look)
    name_rows(ax, names)


def words_beside(ax: Axes, texts: Iterable[str], longest: int = 84) -> None:
    """Write a text at the right of each line of a chart, cut to so many characters."""
    for y, text in enumerate(texts):
        place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8}
        ax.annotate(drawable(text, longest), (1.02, y), **place)


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
            look = look | {"markevery": max(1, len(values) // 8), "label": drawable(kind)}
            ax.plot(values.index, values, **look)
            ax.set_xlabel(x)


@styled
def curves_figure(
    table: pd.DataFrame,
    x: str,
    columns: Mapping[str, str],
    middle: str = "mean",
    band: float | None = None,
) -> Figure:
    """Draw columns of a long table by step or by layer: a line for each kind, one panel a column.

    `columns`: with the names of their axes. `middle`, `band`: as in `kind_lines`.
    """
    fig, axes = panels(len(columns), 0.6 + 3.4 * len(columns), 3.2)
    kind_lines(dict(zip(columns, axes, strict=True)), table, x, middle, band)
    for ax, name in zip(axes, columns.values(), strict=True):
        ax.set_ylabel(name)
    fig.legend_below(min(4, 2 * len(columns)))
    said = []
    for kind, own in table.groupby("kind", sort=False):
        last = own.groupby(x)[list(columns)].agg(middle).ffill().iloc[-1]
        said.append(f"{kind} {in_words(last.dropna().rename(columns))}")
    fig.alt = f"Lines by {x}, each a {middle}; they end at: {'; '.join(said)}."
    return fig


def running_mean(values: Numbers, window: int) -> pd.Series:
    """Return the mean of the last `window` values at each step, counted from 1 (of fewer at the beginning)."""
    series = pd.Series(array(values), index=range(1, len(values) + 1))
    return series.rolling(window, min_periods=1).mean()


# --- cells ----------------------------------------------------------------------------------------------------


class CellText(Text):
    """A word in a cell, 1 x 1 of the axes' units: as much of it as there is room for when it is drawn.

    Attributes:
        beside: What stands in the same cell, at the right.
    """

    beside: Text | None = None

    def draw(self, renderer: Any) -> None:
        """Turn a word that is too long for the cell's width, or cut one that is too long for its height too."""
        corners = self.axes.transData.transform([(0, 0), (1, 1)])
        width, height = 0.9 * np.abs(corners[1] - corners[0])
        width -= self.beside.get_window_extent(renderer).width * 1.1 if self.beside else 0
        if width < self.get_window_extent(renderer).width <= height:
            self.set_rotation(90)
        while self.get_window_extent(renderer).width > width and len(self.get_text()) > 1:
            self.set_text(self.get_text().removesuffix("…")[:-1].rstrip("\\") + "…")
        super().draw(renderer)


def cells(
    ax: Axes,
    words: pd.DataFrame,
    faces: Any,
    *,
    notes: pd.DataFrame | None = None,
    bold: pd.DataFrame | None = None,
) -> None:
    """Draw a table as a grid of cells: its words on light faces, its index and its columns as labels.

    Places without a word stay empty. `faces`: an array with a colour for each cell. `notes`: small words at the right.
    """
    faces = np.asarray(faces)
    for (y, x), word in np.ndenumerate(words.to_numpy()):
        if pd.isna(word):
            continue
        ax.add_patch(Rectangle((x, y), 1, 1, facecolor=colors.to_rgb(faces[y, x]), **BOX))
        weight = "bold" if bold is not None and bold.iloc[y, x] else "normal"
        place, side = (0.5, "center") if notes is None else (0.05, "left")
        look = {"va": "center", "fontsize": 8}
        text = CellText(x + place, y + 0.5, drawable(str(word)), ha=side, weight=weight, **look)
        ax.add_artist(text).set_in_layout(False)
        if notes is not None:
            text.beside = ax.text(x + 0.95, y + 0.5, notes.iloc[y, x], ha="right", **look)
    slant = {} if pd.api.types.is_numeric_dtype(words.columns) else SLANTED
    for axis, names, look in ((ax.xaxis, words.columns, slant), (ax.yaxis, words.index, {})):
        names = [drawable(str(name), 24) for name in names]
        axis.set_ticks(np.arange(len(names)) + 0.5, names, **look)
    ax.set(xlim=(0, words.shape[1]), ylim=(len(words), 0))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def changing_words(ax: Axes, words: pd.DataFrame, axis: int) -> None:
    """Draw a table of words; one that differs from the one before it along `axis` is bold on a shade."""
    before = words.shift(axis=axis)
    changed = words.ne(before) & before.notna()
    cells(ax, words, np.where(changed, CHANGED, "white"), bold=changed)


def matrices(tables: Mapping[str, pd.DataFrame], spec: str, scale: Any) -> Figure:
    """Return a figure of triangles, one a panel: the lower half of each table, its numbers on shades of a scale."""
    sizes = [len(table) for table in tables.values()]
    columns = math.isqrt(len(tables) - 1) + 1
    rows, alike = -(-len(tables) // columns), len(set(sizes)) == 1
    width, height = 0.36 * max(sizes) + 0.5, 0.28 * max(sizes) + 0.5
    fig = Figure(figsize=(1.3 + width * columns, 1.0 + height * rows))
    axes = fig.subplots(rows, columns, squeeze=False).flat
    for place, (ax, (title, table)) in enumerate(zip(axes, tables.items(), strict=False)):
        words = table.map(lambda value: "–" if np.isnan(value) else f"{value:z{spec}}")
        words = words.where(np.tri(*table.shape, dtype=bool))
        cells(ax, words, SHADES(scale(table.to_numpy())))
        outer = {"labelleft": place % columns == 0, "labelbottom": place + columns >= len(tables)}
        ax.tick_params(labelsize=8, **(outer if alike else {}))
        ax.set_title(title)
    for ax in axes[len(tables) :]:
        ax.set_axis_off()
    return fig


# --- words ----------------------------------------------------------------------------------------------------


def counted(number: int | np.integer, noun: str) -> str:
    """Return a number with its noun: "1 step", "2 steps"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def evenly(values: Iterable, most: int) -> list:
    """Return at most `most` of the distinct values, evenly spaced, the smallest and the largest among them."""
    every = sorted(set(values))
    return [every[i] for i in np.unique(np.linspace(0, len(every) - 1, most).round().astype(int))]


def in_words(values: Mapping[str, float] | pd.Series, spec: str = ".2f") -> str:
    """Return named numbers as words for an alt text: "prompt 0.91, start 0.53"."""
    return ", ".join(f"{name} {value:{spec}}" for name, value in values.items())
