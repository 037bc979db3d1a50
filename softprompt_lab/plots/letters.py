"""The figure of the course's letters: what B, P, T, D, V and L count."""

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .figure import BLACK, GREEN, GREY, ORANGE, SKY, Figure, styled

CELLS = {
    "virtual": (ORANGE, "///"),
    "text": (SKY, ""),
    "layer": ("#E8E8E8", ""),
    "score": (GREEN, "..."),
}


@styled
def letters_figure(
    batch: int, prompt: int, text: int, width: int, vocabulary: int, layers: int
) -> Figure:
    """Draw what each of B, P, T, D, V, L counts, with the numbers of a real batch and model."""
    fig = Figure(figsize=(9.0, 3.3))
    ax = fig.subplots()
    _rows(ax)
    _vector(ax, width)
    _stack(ax, layers)
    _scores(ax, vocabulary)
    _measure(ax, (0.0, 2.0), (3.75, 3.75), f"P = {prompt}\nvirtual tokens")
    _measure(ax, (2.2, 5.2), (3.75, 3.75), f"T = {text}\ntext tokens")
    _measure(ax, (-0.35, -0.35), (0.0, 3.4), f"B = {batch}\nrows")
    for start, end in ((5.4, 6.2), (7.5, 8.3), (10.9, 11.7)):
        ax.annotate(
            "",
            (end, 1.7),
            (start, 1.7),
            arrowprops={"arrowstyle": "->", "color": BLACK, "linewidth": 1.2},
        )
    ax.set(xlim=(-2.1, 13.6), ylim=(-0.75, 5.0), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
    fig.alt = (
        f"Diagram from left to right. A batch of B = {batch} rows; each row has the same P = {prompt} virtual "
        f"tokens in front, hatched, and up to T = {text} text tokens behind. Each token enters as a vector of "
        f"D = {width} numbers, passes L = {layers} frozen layers, and leaves as a score for each of the "
        f"V = {vocabulary:,} tokens of the vocabulary."
    )
    return fig


def _cell(ax: Axes, x: float, y: float, kind: str, wide: float = 0.9, high: float = 0.7) -> None:
    """Draw one rectangle in the colour and hatch of its kind."""
    colour, hatch = CELLS[kind]
    ax.add_patch(
        Rectangle((x, y), wide, high, facecolor=colour, hatch=hatch, edgecolor=GREY, linewidth=0.7)
    )


def _rows(ax: Axes) -> None:
    """Draw the batch: two virtual tokens in front of three text tokens, four times."""
    for row in range(4):
        for token in range(5):
            _cell(ax, token + 0.2 * (token > 1), 0.9 * row, "virtual" if token < 2 else "text")


def _vector(ax: Axes, width: int) -> None:
    """Draw one token's vector as a column of numbers."""
    for number in range(7):
        _cell(ax, 6.4, 0.05 + 0.48 * number, "text", wide=0.9, high=0.48)
    ax.text(6.85, 3.75, f"D = {width}\nnumbers a token", ha="center", va="bottom", fontsize=9)


def _stack(ax: Axes, layers: int) -> None:
    """Draw the frozen layers, one on another."""
    for layer in range(5):
        _cell(ax, 8.5, 0.05 + 0.68 * layer, "layer", wide=2.2, high=0.55)
        ax.text(9.6, 0.32 + 0.68 * layer, "frozen", ha="center", va="center", fontsize=8)
    ax.text(9.6, 3.75, f"L = {layers}\nlayers", ha="center", va="bottom", fontsize=9)


def _scores(ax: Axes, vocabulary: int) -> None:
    """Draw one token's scores over the vocabulary."""
    for score in range(7):
        _cell(ax, 11.9, 0.05 + 0.48 * score, "score", wide=0.9, high=0.48)
    ax.text(
        12.35, 3.75, f"V = {vocabulary:,}\nscores a token", ha="center", va="bottom", fontsize=9
    )


def _measure(ax: Axes, xs: tuple[float, float], ys: tuple[float, float], words: str) -> None:
    """Draw a measuring line along one side and name what it measures."""
    across = ys[0] == ys[1]
    xs = (xs[0], xs[1] - 0.1) if across else xs
    ax.plot(xs, ys, color=BLACK, linewidth=1.0, marker="|" if across else "_", markersize=6)
    if across:
        ax.text(sum(xs) / 2, ys[0] + 0.15, words, ha="center", va="bottom", fontsize=9)
    else:
        ax.text(xs[0] - 0.15, sum(ys) / 2, words, ha="right", va="center", fontsize=9)
