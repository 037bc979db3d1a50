"""Exercises of chapter 00."""

from .checks import exercise

# --- 00-1, and 05-1 ---


def count_of_numbers(P, D, submodules=1):
    """That counts the numbers; a float32 number takes 4 bytes."""
    return P * D * submodules


def two_bytes_each(P, D, submodules=1):
    """That is 2 bytes a number, which is float16 or bfloat16; the prompt is float32."""
    return 2 * P * D * submodules


def eight_bytes_each(P, D, submodules=1):
    """That is 8 bytes a number, which is float64; the prompt is float32."""
    return 8 * P * D * submodules


def bits(P, D, submodules=1):
    """That counts bits; 8 bits are a byte."""
    return 32 * P * D * submodules


def sizes_added(P, D, submodules=1):
    """That adds P and D; each of the P vectors has D numbers."""
    return 4 * (P + D) * submodules


WRONG_BYTES = (count_of_numbers, two_bytes_each, eight_bytes_each, bits, sizes_added)


@exercise(
    "00-1",
    cases=[(8, 1024), (20, 576), (1, 1)],
    wrong=WRONG_BYTES,
    returns="a whole number",
    passed="8 vectors of width 1,024 take 32,768 bytes: the 33 KB of the adapter file that this "
    "course began with (chapter 05).",
)
def prompt_bytes(P, D):
    """Return the bytes of P vectors of D float32 numbers.

    P vectors of D numbers each are P * D numbers. A float32 number takes 32 bits, and a byte has 8 of them.
    """
    return 4 * P * D


# --- 00-2 ---


def shape_is_not_three_numbers(found, *sizes):
    """A shape needs three numbers, rows first."""
    return any(len(shape) != 3 for shape in found)


def batch_is_not_first(found, B, P, T, D, V):
    """The first number is the batch, B; the prompt adds tokens to a row, no rows."""
    return any(shape[0] != B for shape in found)


def prompt_is_missing(found, B, P, T, D, V):
    """The prompt is missing along the sequence; its P vectors stand in front of the text's T."""
    return any(shape[1] == T for shape in found)


def lengths_are_multiplied(found, B, P, T, D, V):
    """The sequence is P vectors and then T vectors, so their numbers add up, they do not multiply."""
    return any(shape[1] == P * T for shape in found)


def length_is_wrong(found, B, P, T, D, V):
    """The second number is the length of the sequence, prompt and text."""
    return any(shape[1] != P + T for shape in found)


def width_is_wrong(found, B, P, T, D, V):
    """The last number is D as long as tokens are vectors, and V where each token has scores."""
    return [shape[2] for shape in found] != [D, D, V]


@exercise(
    "00-2",
    cases=[(2, 3, 5, 7, 11), (8, 20, 64, 576, 49152)],
    faults=[
        shape_is_not_three_numbers,
        batch_is_not_first,
        prompt_is_missing,
        lengths_are_multiplied,
        length_is_wrong,
        width_is_wrong,
    ],
    returns="three shapes: of the input embeddings, of the vectors behind a layer, of the scores",
    passed="P stands in one place: a prompt makes the sequence longer and changes nothing else.",
)
def shapes(B, P, T, D, V):
    """Return the shapes of the input embeddings, of the vectors behind a layer, and of the scores.

    The input embeddings are the prompt's vectors and the text's, one behind the other: their number along
    the sequence is P + T. A layer changes the numbers in a vector, never how many vectors there are. The last
    step gives each token one score for each of the V tokens.
    """
    return [(B, P + T, D), (B, P + T, D), (B, P + T, V)]


# --- 00-3 ---


def count_of_right_answers(train_labels, labels):
    """That is a count, and a share is asked for."""
    return labels.count(max(set(train_labels), key=train_labels.count))


def commonest_measured_label(train_labels, labels):
    """You looked at the rows that are measured, and a baseline may not see the answers either: take the label
    that is commonest in training."""
    return labels.count(max(set(labels), key=labels.count)) / len(labels)


@exercise(
    "00-3",
    cases=[
        (["no"] * 6 + ["yes"] * 4, ["no", "yes", "no", "no"]),
        (["yes"] * 6 + ["no"] * 4, ["no", "yes", "no", "no"]),
        (["a", "b", "b", "c"], ["c", "c", "c"]),
    ],
    wrong=[count_of_right_answers, commonest_measured_label],
    returns="a share",
    passed="A model that learned nothing but this one number of the training rows scores as much.",
)
def majority_accuracy(train_labels, labels):
    """Return the accuracy of always answering the commonest training label.

    Count the labels of the training rows and take the commonest. Then count how many of the measured rows
    have it. `max(set(labels), key=labels.count)` is one way to find the commonest.
    """
    return labels.count(max(set(train_labels), key=train_labels.count)) / len(labels)
