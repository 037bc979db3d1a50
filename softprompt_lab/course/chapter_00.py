"""Exercises of chapter 00."""

from .checks import exercise


@exercise("00-1", cases=[(8, 1024), (20, 576), (1, 1)])
def prompt_bytes(P, D):
    """Return a whole number, the bytes of P vectors of D float32 numbers.

    P vectors of D numbers each are P * D numbers. A float32 number takes 32 bits, and a byte has 8 of them.
    """
    return 4 * P * D


@exercise("00-2", cases=[(2, 3, 5, 7, 11), (8, 20, 64, 576, 49152)])
def shapes(B, P, T, D, V):
    """Return three shapes: of the input embeddings, of the vectors behind a layer, and of the scores.

    The input embeddings are the prompt's vectors and the text's, one behind the other: their number along
    the sequence is P + T. A layer changes the numbers in a vector, never how many vectors there are. The last
    step gives each token one score for each of the V tokens.
    """
    return [(B, P + T, D), (B, P + T, D), (B, P + T, V)]


def commonest(labels):
    """Return the commonest of some labels."""
    return max(set(labels), key=labels.count)


@exercise(
    "00-3",
    cases=[
        (["no"] * 6 + ["yes"] * 4, ["no", "yes", "no", "no"]),
        (["yes"] * 6 + ["no"] * 4, ["no", "yes", "no", "no"]),
        (["a", "b", "b", "c"], ["c", "c", "c"]),
    ],
)
def majority_accuracy(train_labels, labels):
    """Return the accuracy, a share, of always answering the commonest training label.

    Count the labels of the training rows and take the commonest. Then count how many of the measured rows
    have it. `max(set(labels), key=labels.count)` is one way to find the commonest.
    """
    return labels.count(commonest(train_labels)) / len(labels)
