"""Rows of different lengths as a batch padded on either side, and what a row gives alone."""

import torch

ROWS = [[5, 17, 33, 8, 61, 12, 44], [9, 70, 3], [21, 22, 23, 24, 25]]
LABELLED = 2  # tokens at each row's end that carry a label


def padded(rows: list[list[int]], side: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`input_ids`, `attention_mask` and `labels` of rows padded at the "left" or the "right"."""
    longest = max(map(len, rows))
    ids = torch.full(
        (len(rows), longest), 7
    )  # a token that means something: only the mask tells pads
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for number, row in enumerate(rows):
        end = longest if side == "left" else len(row)
        ids[number, end - len(row) : end] = torch.tensor(row)
        mask[number, end - len(row) : end] = 1
        labels[number, end - LABELLED : end] = torch.tensor(row[-LABELLED:])
    return ids, mask, labels


def text_of(states: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """The entries of each row where its text is."""
    return [row[kept.bool()] for row, kept in zip(states, mask, strict=True)]
