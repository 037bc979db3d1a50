"""Checks of chapter 04: cutting the text and not the label, positions from the mask, Wilson's interval."""

from collections.abc import Callable, Sequence

import torch

from ..evaluation import wilson_interval
from .checks import Wrong, exercise

# --- 04-1 ---------------------------------------------------------------------------------------------------

Pieces = tuple[list[int], list[int]]


@exercise(
    "04-1",
    hint="""
    Count first what may not be lost: len(before) + len(after) + len(label). What is left of max_length is the
    room for the text: text[:room]. Mind a room of 0.
    """,
)
def cut_the_text(fit: Callable[..., Pieces]) -> str:
    """Check `fit(before, text, after, label, max_length)`: the text alone is cut, from its end."""
    before, after, label = [1, 2], [3, 4], [8, 9]
    short, long = [50, 51], list(range(50, 70))
    for text, room in ((short, 6), (short, 2), (long, 6), (long, 1), (long, 0)):
        max_length = len(before) + len(after) + len(label) + room
        found = fit(before, text, after, label, max_length)
        if not (isinstance(found, Sequence) and len(found) == 2):
            raise Wrong("return two lists: the context's ids and the label's ids.")
        context, kept = list(found[0]), list(found[1])
        if kept != label:
            raise Wrong(
                f"with {len(text)} tokens of text and max_length={max_length} the label came back as {kept}, "
                f"not {label}: the row teaches nothing, or something wrong. Cut the text."
            )
        if len(context) + len(kept) > max_length:
            raise Wrong(
                f"{len(context) + len(kept)} ids came back for max_length={max_length}, text {len(text)}: "
                "count the frame and the label too when you work out the room for the text."
            )
        if context[-2:] != after or context[:2] != before:
            raise Wrong(
                f"the frame is damaged: the context is {context}, it must begin with {before} and end with "
                f"{after}. The model has to see where the text ends and what is asked."
            )
        _check_text(context[2:-2], text, room)
    return "However long the message: what is asked, and the answer, are still there."


def _check_text(kept: list[int], text: list[int], room: int) -> None:
    """Raise Wrong unless the kept text is the first `room` tokens."""
    if kept == text[:room]:
        return
    if room and kept == text[-room:]:
        raise Wrong(
            "you keep the end of the text; the specification keeps its beginning, text[:room]."
        )
    if room == 0:
        raise Wrong(
            f"with no room left for the text you keep {len(kept)} of its tokens; text[:0] is empty."
        )
    raise Wrong(
        f"there is room for {room} of the {len(text)} tokens of text and you keep {len(kept)}: {kept}."
    )


# --- 04-2 ---------------------------------------------------------------------------------------------------


@exercise(
    "04-2",
    hint="""
    Put P ones in front of the mask: the virtual tokens count as text. `mask.cumsum(dim=1) - 1` counts the
    ones up to each place.
    """,
)
def positions_from_the_mask(positions: Callable[[torch.Tensor, int], torch.Tensor]) -> str:
    """Check `positions(mask, P)`: (B, T) -> (B, P+T), counting virtual tokens and text, not pads."""
    mask = torch.tensor([[0, 0, 0, 1, 1], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    for prompt in (3, 1):
        found = positions(mask.clone(), prompt)
        if not isinstance(found, torch.Tensor) or tuple(found.shape) != (3, prompt + 5):
            shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise Wrong(
                f"for B=3, T=5, P={prompt} the result is {shape}, not (B, P+T) = {(3, prompt + 5)}."
            )
        virtual = torch.arange(prompt).expand(3, -1)
        if not torch.equal(found[:, :prompt].long(), virtual):
            raise Wrong(
                f"the {prompt} virtual tokens get {found[0, :prompt].tolist()}; they come first: 0 to P-1."
            )
        for row, name in enumerate(("padded on the left", "unpadded", "padded on the right")):
            _check_row(found[row, prompt:].long(), mask[row].bool(), prompt, name)
    return "A text token's position is now the same in every batch. The pads may hold any number: none is seen."


def _check_row(found: torch.Tensor, text: torch.Tensor, prompt: int, name: str) -> None:
    """Raise Wrong unless the row's text stands at P, P+1, ..."""
    wanted = torch.arange(int(text.sum())) + prompt
    ours = found[text]
    if torch.equal(ours, wanted):
        return
    consecutive = (torch.arange(len(text)) + prompt)[text]
    if torch.equal(ours, consecutive):
        advice = (
            "you count the pads too, as PEFT does: the same text stands elsewhere in a wider batch"
        )
    elif torch.equal(ours, wanted - prompt):
        advice = "you start again at 0, where the virtual tokens are: the text goes on at P"
    elif torch.equal(ours, wanted + 1):
        advice = "you are one too far: the first place is 0, and a cumulative sum begins at 1"
    else:
        advice = "count the ones of the mask from the left"
    raise Wrong(
        f"the row {name} has its text at {ours.tolist()} and not at {wanted.tolist()} (P={prompt}): {advice}."
    )


# --- 04-3 ---------------------------------------------------------------------------------------------------


@exercise(
    "04-3",
    hint="""
    Square both sides: (share - p)^2 = z^2 p (1 - p) / n. Order by powers of p:
    (1 + z^2/n) p^2 - (2 share + z^2/n) p + share^2 = 0. Its two solutions are the ends of the interval.
    """,
)
def interval(wilson: Callable[[int, int], tuple[float, float]]) -> str:
    """Check `wilson(correct, n)`: the two solutions p of |correct/n - p| = z sqrt(p (1-p) / n), z = 1.96."""
    for correct, n in ((43, 50), (10, 10), (0, 12), (200, 400)):
        found = tuple(float(end) for end in wilson(correct, n))
        wanted = wilson_interval(correct, n)
        if len(found) != 2 or found[0] > found[1]:
            raise Wrong(
                f"return two numbers, the lower first; for {correct} of {n} you return {found}."
            )
        if max(abs(ours - theirs) for ours, theirs in zip(found, wanted, strict=True)) > 1e-3:
            raise Wrong(
                f"for {correct} right of {n} you return {found[0]:.3f} to {found[1]:.3f}; "
                f"{_interval_advice(found, correct, n)} Right is {wanted[0]:.3f} to {wanted[1]:.3f}."
            )
    low, high = wilson(10, 10)
    return (
        f"Ten right of ten: the true accuracy may be {low:.0%} to {high:.0%}. Few rows say little."
    )


def _interval_advice(found: tuple[float, float], correct: int, n: int) -> str:
    """Say what is wrong with one interval."""
    share = correct / n
    half = 1.96 * (share * (1 - share) / n) ** 0.5
    if abs(found[0] - (share - half)) < 1e-6 and abs(found[1] - (share + half)) < 1e-6:
        return "that puts the measured share under the root (Wald's interval, of width 0 when all are right)."
    if found[0] < -1e-9 or found[1] > 1 + 1e-9:
        return "an accuracy below 0 or above 1 cannot be."
    return "put both ends into the equation and see which side is larger."
