"""Chapter 00: the checks of the exercises."""

from collections.abc import Callable, Sequence

from .checks import Wrong, exercise


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
            2
            * prompt
            * width: "that is 2 bytes a number, which is float16 or bfloat16; the prompt is float32",
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
            raise Wrong(
                f"your function returns {len(found)} shapes; three are asked for: {', '.join(names)}."
            )
        for name, ours, theirs in zip(names, map(tuple, found), wanted, strict=True):
            if ours != theirs:
                raise Wrong(
                    f"for {sizes} {name} have shape {ours} in your answer: {_shape_advice(ours, sizes)}"
                )
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
        advice = (
            "that is a count, a share is asked for"
            if same == 3
            else "3 of the 4 measured rows have label 'no'"
        )
        raise Wrong(
            f"where 'no' is commonest in training and in 3 of 4 measured rows you return {same}: {advice}."
        )
    other = majority_accuracy(["yes"] * 6 + ["no"] * 4, ["no", "yes", "no", "no"])
    if abs(other - 0.75) < 1e-9:
        raise Wrong(
            "you looked at the rows that are measured: with training labels 6 'yes' and 4 'no' the baseline "
            "answers 'yes', which is right in 1 of the 4 rows. A baseline may not see the answers either."
        )
    if abs(other - 0.25) > 1e-9:
        raise Wrong(
            f"with training labels 6 'yes' and 4 'no', measured on no, yes, no, no, you return {other}."
        )
    three = majority_accuracy(["a", "b", "b", "c"], ["c", "c", "c"])
    if three != 0:
        raise Wrong(
            f"the commonest training label may be absent from the measured rows: 0 is right, not {three}."
        )
    return "A model that learned nothing but this one number of the training rows scores as much."
