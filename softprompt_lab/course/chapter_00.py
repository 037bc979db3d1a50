"""Chapter 00: the figure of the letters B P T D V L, and the checks of the exercises."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..plots import Figure
from ..plots.figure import BLACK, GREEN, GREY, ORANGE, SKY, styled
from .checks import Wrong, exercise

# --- the letters --------------------------------------------------------------------------------------------

CELLS = {"virtual": (ORANGE, "///"), "text": (SKY, ""), "layer": ("#E8E8E8", ""), "score": (GREEN, "...")}


@styled
def letters_figure(batch: int, prompt: int, text: int, width: int, vocabulary: int, layers: int) -> Figure:
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
        ax.annotate("", (end, 1.7), (start, 1.7), arrowprops={"arrowstyle": "->", "color": BLACK, "linewidth": 1.2})
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
    ax.add_patch(Rectangle((x, y), wide, high, facecolor=colour, hatch=hatch, edgecolor=GREY, linewidth=0.7))


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
    ax.text(12.35, 3.75, f"V = {vocabulary:,}\nscores a token", ha="center", va="bottom", fontsize=9)


def _measure(ax: Axes, xs: tuple[float, float], ys: tuple[float, float], words: str) -> None:
    """Draw a measuring line along one side and name what it measures."""
    across = ys[0] == ys[1]
    xs = (xs[0], xs[1] - 0.1) if across else xs
    ax.plot(xs, ys, color=BLACK, linewidth=1.0, marker="|" if across else "_", markersize=6)
    if across:
        ax.text(sum(xs) / 2, ys[0] + 0.15, words, ha="center", va="bottom", fontsize=9)
    else:
        ax.text(xs[0] - 0.15, sum(ys) / 2, words, ha="right", va="center", fontsize=9)


# --- exercises ----------------------------------------------------------------------------------------------


@exercise(
    "00-1",
    hint="""
    P vectors of D numbers each are P * D numbers. A float32 number takes 32 bits, and a byte has 8 of them.
    """,
)
def size_of_prompt(prompt_bytes: Callable[[int, int], int]) -> str:
    """Check `prompt_bytes(P, D)`: the bytes of P vectors of D float32 numbers."""
    for prompt, width in ((8, 1024), (20, 576), (1, 1)):
        found, wanted = prompt_bytes(prompt, width), 4 * prompt * width
        says = {
            prompt * width: "that counts the numbers; a float32 number takes 4 bytes",
            2 * prompt * width: "that is 2 bytes a number, which is float16 or bfloat16; the prompt is float32",
            8 * prompt * width: "that is 8 bytes a number, which is float64; the prompt is float32",
            32 * prompt * width: "that counts bits; 8 bits are a byte",
            4 * (prompt + width): "that adds P and D; each of the P vectors has D numbers",
        }.get(found, f"{wanted:,} are right")
        if found != wanted:
            raise Wrong(f"for P={prompt}, D={width} you return {found}: {says}.")
    return (
        f"8 vectors of width 1,024 take {prompt_bytes(8, 1024):,} bytes: the 33 KB of the adapter file that "
        "this course began with (chapter 05)."
    )


@exercise(
    "00-2",
    hint="""
    The input embeddings are the prompt's vectors and the text's, one behind the other: their number along
    the sequence is P + T. A layer changes the numbers in a vector, never how many vectors there are. The last
    step gives each token one score for each of the V tokens.
    """,
)
def shapes_on_the_way(shapes: Callable[..., Sequence[tuple[int, int, int]]]) -> str:
    """Check `shapes(B, P, T, D, V)`: of the input embeddings, behind a layer, and of the scores."""
    names = ("the input embeddings", "the vectors behind a layer", "the scores")
    for sizes in (
        {"B": 2, "P": 3, "T": 5, "D": 7, "V": 11},
        {"B": 8, "P": 20, "T": 64, "D": 576, "V": 49152},
    ):
        batch, prompt, text, width, vocabulary = sizes.values()
        wanted = [(batch, prompt + text, width)] * 2 + [(batch, prompt + text, vocabulary)]
        found = list(shapes(**sizes))
        if len(found) != 3:
            raise Wrong(f"your function returns {len(found)} shapes; three are asked for: {', '.join(names)}.")
        for name, ours, theirs in zip(names, map(tuple, found), wanted, strict=True):
            if ours != theirs:
                raise Wrong(f"for {sizes} {name} have shape {ours} in your answer: {_shape_advice(ours, sizes)}")
    return "P stands in one place: a prompt makes the sequence longer and changes nothing else."


def _shape_advice(shape: tuple[int, ...], sizes: dict[str, int]) -> str:
    """Say what is wrong with one shape."""
    if len(shape) != 3:
        return "three numbers are needed, rows first."
    if shape[0] != sizes["B"]:
        return f"the first number is the batch, B = {sizes['B']}; the prompt adds tokens to a row, no rows."
    if shape[1] == sizes["T"]:
        return "the prompt is missing along the sequence; its P vectors stand in front of the text's T."
    if shape[1] == sizes["P"] * sizes["T"]:
        return "the sequence is P vectors and then T vectors, so their numbers add up, they do not multiply."
    if shape[1] != sizes["P"] + sizes["T"]:
        return "the second number is the length of the sequence, prompt and text."
    return "the last number is D as long as tokens are vectors, and V where each token has scores."


@exercise(
    "00-3",
    hint="""
    Count the labels of the training rows and take the commonest. Then count how many of the measured rows
    have it. `max(set(labels), key=labels.count)` is one way to find the commonest.
    """,
)
def majority(majority_accuracy: Callable[[list[str], list[str]], float]) -> str:
    """Check `majority_accuracy(train_labels, labels)`: always answer the commonest *training* label."""
    same = majority_accuracy(["no"] * 6 + ["yes"] * 4, ["no", "yes", "no", "no"])
    if abs(same - 0.75) > 1e-9:
        advice = "that is a count, a share is asked for" if same == 3 else "3 of the 4 measured rows have label 'no'"
        raise Wrong(f"where 'no' is commonest in training and in 3 of 4 measured rows you return {same}: {advice}.")
    other = majority_accuracy(["yes"] * 6 + ["no"] * 4, ["no", "yes", "no", "no"])
    if abs(other - 0.75) < 1e-9:
        raise Wrong(
            "you looked at the rows that are measured: with training labels 6 'yes' and 4 'no' the baseline "
            "answers 'yes', which is right in 1 of the 4 rows. A baseline may not see the answers either."
        )
    if abs(other - 0.25) > 1e-9:
        raise Wrong(f"with training labels 6 'yes' and 4 'no', measured on no, yes, no, no, you return {other}.")
    three = majority_accuracy(["a", "b", "b", "c"], ["c", "c", "c"])
    if three != 0:
        raise Wrong(f"the commonest training label may be absent from the measured rows: 0 is right, not {three}.")
    return "A model that learned nothing but this one number of the training rows scores as much."
