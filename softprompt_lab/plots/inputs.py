"""Diagrams of what enters the model: its jobs, the concatenation with its mask and labels, what each letter counts."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.patches import Patch, Rectangle

from .charts import WIDEST, cells, counted, panels
from .figure import BLACK, GREEN, GREY, ORANGE, SKY, Figure, drawable, styled

COLOURS = {"p": "#F0C566", "x": "#9AD2F2", "y": "#80CEB9", "pad": "#FFFFFF"}  # light, under words
NAMES = {"p": "virtual token", "x": "text token", "y": "label token", "pad": "padding"}


@styled
def concatenation_diagram(
    prompt_length: int,
    text_lengths: Sequence[int],
    label_lengths: Sequence[int],
    padding_side: str = "right",
    words: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """Draw [prompt | text] for a batch, with the mask and the labels that belong to it, B x (P + T) each.

    `text_lengths`: tokens of each row, labels included. `label_lengths`: how many of them, at the end, are labels.
    `words`: the tokens of each row, to be drawn in place of x0, x1, ...
    """
    batch, width = len(text_lengths), max(text_lengths)
    virtual, rows = [f"p{p}" for p in range(prompt_length)], []
    for length, labels in zip(text_lengths, label_lengths, strict=True):
        text = [f"{'y' if t >= length - labels else 'x'}{t}" for t in range(length)]
        pads = ["pad"] * (width - length)
        rows.append(virtual + {"left": pads + text, "right": text + pads}[padding_side])
    tokens = pd.DataFrame(rows, index=[f"row {row}" for row in range(batch)])
    kinds = tokens.map(lambda token: token if token == "pad" else token[0])
    for row, names in enumerate(words or []):
        tokens.iloc[row, kinds.iloc[row].isin(["x", "y"])] = names
    cell = 0.75 if words else 0.52
    inches = np.clip(1.2 + cell * (prompt_length + width), 5.0, WIDEST)
    fig = Figure(figsize=(inches, 2.3 + 0.9 * batch))
    size = f"B x (P + T) = {batch} x ({prompt_length} + {width})"
    views = {
        "embeddings that enter the model": tokens,
        "attention mask": kinds.ne("pad").astype(int),
        "labels": tokens.where(kinds == "y", "-100"),
    }
    for ax, (title, words) in zip(fig.subplots(3, 1), views.items(), strict=True):
        cells(ax, words, kinds.map(COLOURS.get))
        ax.set(xticks=[], title=f"{title}, {size}")
    patches = [
        Patch(fc=COLOURS[kind], ec=GREY, label=f"{kind}: {name}") for kind, name in NAMES.items()
    ]
    fig.legend(handles=patches, loc="outside lower center", ncols=2)
    fig.alt = (
        f"Diagram of a batch of {counted(batch, 'row')}: {counted(prompt_length, 'virtual token')} in front of "
        f"{counted(width, 'text position')}, padded on the {padding_side}. The mask is 1 for virtual and text tokens "
        f"and 0 for padding; the labels are -100 everywhere but at the label tokens."
    )
    return fig


@styled
def jobs_figure(jobs: pd.DataFrame, vectors: int) -> Figure:
    """Draw one frozen model between its inputs and its answers: a line for each job, whose prompt is `vectors` boxes.

    `jobs`: one line a job, the prompt's name as index, columns `word` and `answer`.
    """
    fig, (ax,) = panels(1, 8.0, 0.6 + 0.34 * len(jobs))
    ax.add_patch(Rectangle((7.6, -0.45), 2.6, len(jobs) - 0.1, fc="#E8E8E8", ec=GREY))
    ax.text(8.9, (len(jobs) - 1) / 2, "one frozen\nmodel", ha="center", va="center")
    for y, (name, word, answer) in enumerate(jobs[["word", "answer"]].itertuples()):
        for x in range(vectors):
            ax.add_patch(
                Rectangle((2.7 + 0.42 * x, y - 0.3), 0.36, 0.6, fc=ORANGE, ec=GREY, lw=0.7)
            )
        ax.text(2.5, y, drawable(name), ha="right", va="center", fontsize=9)
        box = {"fc": COLOURS["x"], "ec": GREY, "lw": 0.7, "boxstyle": "square,pad=0.25"}
        ax.text(2.9 + 0.42 * vectors, y, drawable(word), va="center", fontsize=9, bbox=box)
        ax.annotate("", (7.5, y), (6.7, y), arrowprops={"arrowstyle": "->"})
        ax.annotate("", (11.1, y), (10.3, y), arrowprops={"arrowstyle": "->"})
        ax.text(11.3, y, drawable(answer, 28), va="center", fontweight="bold")
    ax.set(xlim=(0, 15), ylim=(len(jobs) - 0.5, -0.6), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    said = "; ".join(f"{name}: {word} becomes {answer}" for name, word, answer in jobs.itertuples())
    fig.alt = f"Diagram of one frozen model behind {counted(len(jobs), 'prompt')} of {vectors} vectors. {said}."
    return fig


@styled
def letters_figure(
    batch: int, prompt: int, text: int, width: int, vocabulary: int, layers: int
) -> Figure:
    """Draw what each of B, P, T, D, V, L counts, with the numbers of a real batch and model."""
    fig, (ax,) = panels(1, 9.0, 3.3)
    rows, numbers = 0.9 * np.arange(4), 0.05 + 0.48 * np.arange(7)
    boxes = [  # left ends, lower ends, width and height, colour
        ([0, 1], rows, (0.9, 0.7), ORANGE),
        ([2.2, 3.2, 4.2], rows, (0.9, 0.7), SKY),
        ([6.4], numbers, (0.9, 0.48), SKY),
        ([8.5], 0.05 + 0.68 * np.arange(5), (2.2, 0.55), "#E8E8E8"),
        ([11.9], numbers, (0.9, 0.48), GREEN),
    ]
    for lefts, bottoms, size, colour in boxes:
        for corner in product(lefts, bottoms):
            ax.add_patch(Rectangle(corner, *size, fc=colour, ec=GREY, lw=0.7))
    ax.plot([0, 1.9, np.nan, 2.2, 5.1], [3.75] * 5, color=BLACK, linewidth=1, marker="|")
    ax.plot([-0.35, -0.35], [0, 3.4], color=BLACK, linewidth=1, marker="_")
    for x, words in (
        (0.95, f"P = {prompt}\nvirtual tokens"),
        (3.65, f"T = {text}\ntext tokens"),
        (6.85, f"D = {width}\nnumbers a token"),
        (9.6, f"L = {layers}\nfrozen layers"),
        (12.35, f"V = {vocabulary:,}\nscores a token"),
    ):
        ax.text(x, 3.9, words, ha="center", va="bottom", fontsize=9)
    ax.text(-0.5, 1.7, f"B = {batch}\nrows", ha="right", va="center", fontsize=9)
    for start in (5.4, 7.5, 10.9):
        ax.annotate("", (start + 0.8, 1.7), (start, 1.7), arrowprops={"arrowstyle": "->"})
    ax.set(xlim=(-2.1, 13.6), ylim=(-0.75, 5.0), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
    fig.alt = (
        f"Diagram from left to right. A batch of B = {batch} rows; each row has the same P = {prompt} virtual "
        f"tokens in front and up to T = {text} text tokens behind. Each token enters as a vector of "
        f"D = {width} numbers, passes L = {layers} frozen layers, and leaves as a score for each of the "
        f"V = {vocabulary:,} tokens of the vocabulary."
    )
    return fig
