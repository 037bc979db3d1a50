"""Figures of what enters the model: the concatenation with its mask and labels, and attention masks."""

from collections.abc import Sequence
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from .figure import BLACK, GREEN, GREY, ORANGE, SKY, Figure, Numbers, array, drawable, styled

KINDS = {
    "prompt": ("virtual token", ORANGE, "///"),
    "text": ("text token", SKY, ""),
    "label": ("label token", GREEN, "..."),
    "pad": ("padding", "#FFFFFF", ""),
}


def _cells(ax: Axes, rows: list[list[tuple[str, str]]], title: str) -> None:
    """Draw rows of (kind, text) as coloured, hatched cells."""
    for y, row in enumerate(rows):
        for x, (kind, text) in enumerate(row):
            _, colour, hatch = KINDS[kind]
            ax.add_patch(
                Rectangle(
                    (x, y), 1, 1, facecolor=colour, hatch=hatch, edgecolor=GREY, linewidth=0.6
                )
            )
            ax.text(
                x + 0.5,
                y + 0.5,
                text,
                ha="center",
                va="center",
                fontsize=8,
                bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.8}
                if hatch
                else None,
            )
    ax.set(
        xlim=(-0.02, max(map(len, rows)) + 0.02),
        ylim=(len(rows) + 0.03, -0.03),
        xticks=[],
        title=title,
    )
    ax.set_yticks([y + 0.5 for y in range(len(rows))], [f"row {y}" for y in range(len(rows))])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


@styled
def concatenation_diagram(
    prompt_length: int,
    text_lengths: Sequence[int],
    label_lengths: int | Sequence[int] = 1,
    padding_side: str = "right",
) -> Figure:
    """Draw [prompt | text] for a batch, with the mask and the labels that belong to it, B x (P + T) each.

    `text_lengths`: tokens of each row, labels included. `label_lengths`: how many of them, at the end, are
    labels.
    """
    if padding_side not in ("left", "right"):
        raise ValueError(f"padding_side is {padding_side!r}; it is 'left' or 'right'")
    counts = (
        [label_lengths] * len(text_lengths)
        if isinstance(label_lengths, int)
        else list(label_lengths)
    )
    width, virtual, batch = max(text_lengths), [("prompt", p) for p in range(prompt_length)], []
    for length, labels in zip(text_lengths, counts, strict=True):
        text = [("label" if t >= length - labels else "text", t) for t in range(length)]
        pads = [("pad", 0)] * (width - length)
        batch.append(virtual + (pads + text if padding_side == "left" else text + pads))
    letters = {"prompt": "p", "text": "x", "label": "y"}
    views = {
        "embeddings that enter the model": lambda kind, i: (
            "pad" if kind == "pad" else f"{letters[kind]}{i}"
        ),
        "attention mask": lambda kind, i: "0" if kind == "pad" else "1",
        "labels": lambda kind, i: f"y{i}" if kind == "label" else "-100",
    }
    fig = Figure(
        figsize=(
            min(10.0, 1.2 + 0.52 * (prompt_length + width)),
            0.7 + 3 * (0.45 + 0.3 * len(batch)),
        )
    )
    for ax, (title, view) in zip(fig.subplots(3, 1), views.items(), strict=True):
        size = f"B x (P + T) = {len(batch)} x ({prompt_length} + {width})"
        _cells(
            ax, [[(kind, view(kind, i)) for kind, i in row] for row in batch], f"{title}, {size}"
        )
    patches = [
        Patch(facecolor=c, hatch=hatch, edgecolor=GREY, label=name)
        for name, c, hatch in KINDS.values()
    ]
    fig.legend(handles=patches, loc="outside lower center", ncols=4)
    fig.alt = (
        f"Diagram of a batch of {len(batch)} rows: {prompt_length} virtual tokens in front of {width} text "
        f"positions, padded on the {padding_side}. The mask is 1 for virtual and text tokens and 0 for "
        f"padding; the labels are -100 everywhere but at the label tokens."
    )
    return fig


@styled
def attention_mask(
    mask: Numbers, labels: Sequence[str] | None = None, blocks: Sequence[tuple[str, int]] = ()
) -> Figure:
    """Draw a small mask (Q, K) of True or 1 for "may look": queries down, keys across.

    `labels`: a word for each key. `blocks`: (name, length) of the groups of positions, divided by lines.
    """
    seen = array(mask) != 0
    if seen.ndim != 2 or max(seen.shape) > 64:
        raise ValueError(
            f"the mask has shape {seen.shape}; it must be (Q, K) with at most 64 positions a side"
        )
    queries, keys = seen.shape
    cell = 0.3 if labels is not None else 0.22
    fig = Figure(figsize=(1.9 + cell * keys, 1.5 + cell * queries))
    ax = fig.subplots()
    ax.imshow(
        np.where(seen, 1.0, 0.0), cmap=mpl.colors.ListedColormap(["#FFFFFF", SKY]), vmin=0, vmax=1
    )
    ax.plot(*np.argwhere(seen)[:, ::-1].T, color=BLACK, marker=".", markersize=4, linestyle="none")
    for edge in np.cumsum([length for _, length in blocks])[:-1]:
        ax.axvline(edge - 0.5, color=BLACK, linewidth=1.2)
        ax.axhline(edge - 0.5, color=BLACK, linewidth=1.2)
    middles = np.cumsum([0] + [length for _, length in blocks])
    names = (
        [drawable(label, 14) for label in labels]
        if labels is not None
        else [name for name, _ in blocks]
    )
    at = range(keys) if labels is not None else [(a + b - 1) / 2 for a, b in pairwise(middles)]
    if names:
        ax.set_xticks(at, names, rotation=90 if labels is not None else 0)
        ax.set_yticks(at if queries == keys else [], names if queries == keys else [])
    ax.set(
        xlabel="key: position that is looked at",
        ylabel="query: position that looks",
        title="dot: may look, empty: may not",
    )
    ax.spines[:].set_visible(True)
    fig.alt = (
        f"Attention mask of {queries} queries and {keys} keys; {int(seen.sum())} of {seen.size} pairs are "
        f"allowed"
        + (f"; blocks: {', '.join(f'{name} ({n})' for name, n in blocks)}" if blocks else "")
        + "."
    )
    return fig
