"""Exercises of chapter 04: cutting the text and not the label, positions from the mask, Wilson's interval."""

import torch

from ..evaluation import wilson_interval
from .checks import exercise
from .intervals import WILSON

# --- 04-1 ---


def end_of_the_text_kept(before, text, after, label, max_length):
    """You keep the end of the text; the specification keeps its beginning, text[:room]."""
    room = max_length - len(before) - len(after) - len(label)
    return before + text[max(len(text) - room, 0) :] + after, label


def label_changed(found, before, text, after, label, max_length):
    """The label did not come back as it was: the row teaches nothing, or something wrong. Cut the text."""
    return found[1] != label


def too_long(found, before, text, after, label, max_length):
    """That is more than max_length: count the frame and the label too when you work out the room for the text."""
    return len(found[0]) + len(found[1]) > max_length


def frame_damaged(found, before, text, after, label, max_length):
    """The frame is damaged: the context must begin with all of `before` and end with all of `after`. The model
    has to see where the text ends and what is asked."""
    return found[0][: len(before)] != before or found[0][-len(after) :] != after


@exercise(
    "04-1",
    cases=[
        ([1, 2], text, [3, 4], [8, 9], 6 + room)
        for text, room in (
            ([50, 51], 6),
            ([50, 51], 2),
            (list(range(50, 70)), 6),
            (list(range(50, 70)), 1),
            (list(range(50, 70)), 0),
        )
    ],
    wrong=[end_of_the_text_kept],
    faults=[label_changed, too_long, frame_damaged],
    returns="two lists: the context's ids and the label's ids",
    passed="However long the message: what is asked, and the answer, are still there.",
)
def cut(before, text, after, label, max_length):
    """Return context and label, together at most max_length ids, where the text alone is cut, at its end.

    Count first what may not be lost: len(before) + len(after) + len(label). What is left of max_length is the
    room for the text: text[:room]. Mind a room of 0.
    """
    room = max_length - len(before) - len(after) - len(label)
    return before + text[:room] + after, label


# --- 04-2 ---


def real_positions(result, mask, P):
    """Return positions with those at pads, which may be any number, set to 0."""
    return result * torch.cat([mask.new_ones(len(mask), P), mask], dim=1)


def pads_counted(mask, P):
    """You count the pads too, as PEFT does: the same text stands elsewhere in a wider batch."""
    return torch.arange(P + mask.shape[1]).expand(len(mask), -1)


def begun_again(mask, P):
    """You start again at 0, where the virtual tokens are: the text goes on at P."""
    return torch.cat([pads_counted(mask[:, :0], P), mask.cumsum(dim=1) - 1], dim=1)


def one_too_far(mask, P):
    """You are one too far: the first place is 0, and a cumulative sum begins at 1."""
    return positions(mask, P) + 1


def virtual_tokens_elsewhere(found, mask, P):
    """The P virtual tokens come first: 0 to P-1."""
    return not torch.equal(found[:, :P].long(), pads_counted(mask[:, :0], P))


MASK = torch.tensor([[0, 0, 0, 1, 1], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])


@exercise(
    "04-2",
    cases=[(MASK, 3), (MASK, 1)],
    wrong=[pads_counted, begun_again, one_too_far],
    faults=[virtual_tokens_elsewhere],
    measure=real_positions,
    returns="a tensor (B, P+T)",
    passed="A text token's position is now the same in every batch. The pads may hold any number: none "
    "is seen.",
)
def positions(mask, P):
    """Return the positions (B, P+T) of virtual tokens and text from a mask (B, T), pads not counted.

    Put P ones in front of the mask: the virtual tokens count as text. `mask.cumsum(dim=1) - 1` counts the
    ones up to each place.
    """
    return torch.cat([mask.new_ones(len(mask), P), mask], dim=1).cumsum(dim=1) - 1


# --- 04-3 ---


@exercise(
    "04-3",
    passed="Ten right of ten: the true accuracy may be 72% to 100%. Few rows say little.",
    **WILSON,
)
def wilson(correct, n):
    """Return the two solutions p of |correct/n - p| = z sqrt(p (1-p) / n), z = 1.96, the lower first.

    Square both sides: (share - p)^2 = z^2 p (1 - p) / n. Order by powers of p:
    (1 + z^2/n) p^2 - (2 share + z^2/n) p + share^2 = 0. Its two solutions are the ends of the interval.
    """
    return wilson_interval(correct, n)
