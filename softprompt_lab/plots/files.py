"""Figures of files: the bytes themselves, and how many of them there are."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from .charts import cells, dot_rows, panels, words_beside
from .figure import BLUE, GREY, Figure, styled

FACES = ("#E69F00", "#FFFFFF", "#C5E4F7")  # of the parts of a file, in turn
UNITS = ("bytes", "KB", "MB", "GB")  # each a thousand of the one before


@styled
def bytes_figure(content: bytes, parts: Mapping[str, int], columns: int = 16) -> Figure:
    """Draw bytes in rows, on the colour of the part that they belong to.

    `parts`: the number of bytes of each named part, at most three, in order. One of which every byte is a letter or a
    space is drawn as text, another in hexadecimal.
    """
    words, faces, at = [], [], 0
    for size, face in zip(parts.values(), FACES, strict=False):
        part = content[at : at + size]
        text = all(31 < byte < 127 for byte in part)
        words += [chr(byte).replace(" ", "␣") if text else f"{byte:02x}" for byte in part]
        faces += [face] * len(part)
        at += size
    rows = -(-len(words) // columns)
    words, faces = (each + [None] * (rows * columns - len(each)) for each in (words, faces))
    places = [f"byte {row * columns}" for row in range(rows)]
    fig, (ax,) = panels(1, 8.5, 0.9 + 0.3 * rows)
    table = pd.DataFrame(np.reshape(words, (rows, columns)), places)
    cells(ax, table, np.reshape(faces, (rows, columns)))
    ax.set_xticks([])
    said = [f"{name}: {size:,} bytes" for name, size in parts.items()]
    patches = [Patch(fc=c, ec=GREY, label=one) for c, one in zip(FACES, said, strict=False)]
    fig.legend(handles=patches, loc="outside lower center", ncols=len(parts))
    fig.alt = f"The first {len(content)} bytes of a file, one a cell; its parts: {'; '.join(said)}."
    return fig


def in_bytes(size: int) -> str:
    """Return a size with three digits and its unit: "532 bytes", "18.6 KB"."""
    power = min(len(f"{size:.0f}") - 1, 11) // 3
    return f"{size / 1000**power:.3g} {UNITS[power]}"


@styled
def sizes_figure(sizes: Mapping[str, int]) -> Figure:
    """Draw sizes in bytes on an axis of powers of ten, one a line, with the size in words beside it."""
    fig, (ax,) = panels(1, 7.5, 0.9 + 0.34 * len(sizes))
    look, values = {"color": BLUE, "marker": "o", "markersize": 8}, sizes.values()
    ax.set_xscale("log")
    ax.grid(axis="x", color="#DDDDDD")
    dot_rows(ax, sizes, values, (values, values), [look] * len(sizes))
    words_beside(ax, map(in_bytes, values))
    lowest, most = np.floor(np.log10(min(values))), 3 * max(values)
    ax.set(xlabel="bytes, each line ten times the one before", xlim=(0.7 * 10**lowest, most))
    ax.set_xticks(10.0 ** np.arange(lowest, np.log10(most)))
    said = (f"{name} {in_bytes(size)}" for name, size in sizes.items())
    fig.alt = f"Dots on an axis of powers of ten: {', '.join(said)}."
    return fig
