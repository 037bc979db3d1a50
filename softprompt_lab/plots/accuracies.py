"""What a figure with measures needs: accuracies of enough rows only, what they are read beside, n and its intervals."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .charts import counted
from .figure import LEVELS, Figure

FEWEST_ROWS = 200  # of an accuracy: its interval is 14 points wide at a half
ONE_LINE = 0.012  # of an accuracy: nearer levels could not be told apart


def drawn(table: pd.DataFrame, measures: Mapping[str, str], live: bool = False) -> dict[str, str]:
    """Return the measures (column -> title) that are drawn: an accuracy from `FEWEST_ROWS` rows on.

    From fewer it is no result, though a widget may show it (`live`), with its interval and the number of rows.
    """
    few = table["n"].min() < FEWEST_ROWS and not live
    return {name: title for name, title in measures.items() if not few or "accuracy" not in title}


def level_lines(
    ax: Axes,
    measure: str,
    table: pd.DataFrame,
    levels: Mapping[str, float],
    upright: bool = False,
    less: float = 0.0,
) -> None:
    """Draw levels, each in its style of `LEVELS`, and of an accuracy the majority and a human rater.

    Those that lie on each other are one line with all their names. `less`: is taken off each.
    """
    if measure == "accuracy":
        majority, ceiling = table.reindex(columns=["majority", "ceiling"]).iloc[0]
        levels = {**levels, "majority": majority, "human rater": ceiling}
    at: dict[float, list[str]] = {}
    for name, level in levels.items():
        if not np.isnan(level):
            place = next((known for known in at if abs(known - level) < ONE_LINE), level)
            at.setdefault(place, []).append(name)
    draw = ax.axvline if upright else ax.axhline
    for level, names in at.items():
        draw(level - less, label=" and ".join(names), zorder=1, **LEVELS[names[0]])


def measured(
    fig: Figure, table: pd.DataFrame, alt: str, columns: int = 4, live: bool = False
) -> Figure:
    """Return a figure with its legend and its alt text, which say how many rows were measured."""
    rows = table["n"].iloc[0]
    said = f"n = {counted(rows, 'row')}; lines through marks are 95 % intervals"
    if rows < FEWEST_ROWS and not live:
        said += f"; no accuracy, which takes {FEWEST_ROWS} rows"
    fig.legend_below(columns, said)
    fig.alt = f"{alt} ({said})"
    return fig
