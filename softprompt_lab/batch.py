"""A padded batch behind its prompts: what stands where in the rows that the base model sees.

Text stands directly behind its prompt and every pad outside, whatever side the caller padded on, so a row's positions
are what they would be alone. `places` tells where each token of the caller's row went, which lines outputs up again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch.nn.utils.rnn import pad_sequence

from .embedding import concatenate_prompt
from .engine.packing import IGNORE


@dataclass(frozen=True)
class PromptedBatch:
    """B rows of `[prompt | text]` or `[text | prompt]`, pads all on one side; N = P + T with the longest prompt.

    Attributes:
        embeddings: what the base model reads.
        mask: True at virtual and text tokens.
        places: where each token of the caller's `(B, T)` stands in the row.
        text: the caller's mask.
        position_ids: where a base model that counts the places in a row would count otherwise.
    """

    embeddings: Float[torch.Tensor, "B N D"]
    mask: Bool[torch.Tensor, "B N"]
    places: Int[torch.Tensor, "B T"]
    text: Bool[torch.Tensor, "B T"]
    position_ids: Int[torch.Tensor, "B N"] | None = None

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """The base model's arguments."""
        inputs = {"inputs_embeds": self.embeddings, "attention_mask": self.mask.long()}
        return inputs if self.position_ids is None else inputs | {"position_ids": self.position_ids}

    def lay_out(self, values: Int[torch.Tensor, "B T"]) -> Int[torch.Tensor, "B N"]:
        """One number for each token of the caller's row, at its place; 0 at virtual tokens."""
        return torch.zeros_like(self.mask, dtype=values.dtype).scatter(1, self.places, values)

    def align(
        self, states: Float[torch.Tensor, "B N X"], behind: int = 0
    ) -> Float[torch.Tensor, "B T X"]:
        """What the base model returned at each token of the caller's row, or `behind` places before it; 0 at pads."""
        index = (self.places - behind)[..., None].expand(-1, -1, states.shape[-1])
        return states.gather(1, index) * self.text[..., None]


def prepend_prompt(
    prompts: Sequence[Float[torch.Tensor, "_ D"]],
    words: Float[torch.Tensor, "B T D"],
    text: Bool[torch.Tensor, "B T"],
    pads: Literal["left", "right"] = "right",
) -> PromptedBatch:
    """Put prompts in front of embedded text: one for every row, or a list of B, which may differ in length.

    Args:
        text: True at text, False at pads, on whatever side.
        pads: where they stand in the result; generation wants them on the left.
    """
    front, front_mask = _stacked(prompts, len(words), words.device)
    mask = torch.cat([front_mask, text], dim=1)  # (B, P+T)
    embeddings = concatenate_prompt(words, front)
    order = pads_last(mask) if pads == "right" else pads_first(mask)
    return PromptedBatch(
        embeddings.gather(1, order[..., None].expand_as(embeddings)),
        mask.gather(1, order),
        order.argsort(dim=1)[:, front.shape[1] :],  # the inverse of a permutation is its argsort
        text,
    )


def append_prompt(
    prompts: Sequence[Float[torch.Tensor, "_ D"]],
    words: Float[torch.Tensor, "B T D"],
    text: Bool[torch.Tensor, "B T"],
    first_position: int = 0,
) -> PromptedBatch:
    """`[text | prompt | pads]` with the position ids of `[prompt | text]`: the same to a model that looks both ways.

    The text's first token ([CLS]) stays in the first place, where such models' classifiers read.

    Args:
        first_position: the position id of the first place; RoBERTa's is behind its padding token.
    """
    front, front_mask = _stacked(prompts, len(words), words.device)
    embeddings = torch.cat([words, front.to(words.dtype).expand(len(words), -1, -1)], dim=1)
    mask = torch.cat([text, front_mask], dim=1)  # (B, T+P)
    numbers = torch.cat(
        [front_mask.sum(dim=1, keepdim=True) + text.cumsum(dim=1), front_mask.cumsum(dim=1)], dim=1
    )
    order = pads_last(mask)
    return PromptedBatch(
        embeddings.gather(1, order[..., None].expand_as(embeddings)),
        mask.gather(1, order),
        order.argsort(dim=1)[:, : text.shape[1]],
        text,
        first_position + (numbers.gather(1, order) - 1).clamp_min(0),
    )


def _stacked(
    prompts: Sequence[Float[torch.Tensor, "_ D"]], rows: int, device: torch.device
) -> tuple[Float[torch.Tensor, "_ P D"], Bool[torch.Tensor, "_ P"]]:
    """Prompts of different lengths as one tensor, and for each of `rows` rows which places are virtual tokens."""
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    front = pad_sequence(list(prompts), batch_first=True)  # (1 or B, P, D)
    return front, (torch.arange(front.shape[1], device=device) < lengths[:, None]).expand(rows, -1)


def pads_last(mask: Bool[torch.Tensor, "B N"]) -> Int[torch.Tensor, "B N"]:
    """Places in an order that puts each row's pads last and keeps the order of the rest."""
    return (~mask).long().argsort(dim=1, stable=True)


def pads_first(mask: Bool[torch.Tensor, "B N"]) -> Int[torch.Tensor, "B N"]:
    """Places in an order that puts each row's pads first and keeps the order of the rest."""
    return mask.long().argsort(dim=1, stable=True)


# ------------------------------------------------------------------------------------------ what the caller gave


REFUSED = {
    "position_ids": "positions are counted from the attention mask",
    "past_key_values": "a cache would hold the prompt already",
    "inputs_embeds": "pass input_ids",
    "logits_to_keep": "logits line up with input_ids; training and evaluation make those at the labels only",
}


def refuse(given: Callable[[str], Any], reasons: Mapping[str, str] = REFUSED) -> None:
    """Raise ValueError for arguments that would be silently wrong behind a prompt."""
    for name, reason in reasons.items():
        if given(name) is not None:
            raise ValueError(f"{name} cannot be passed: {reason}.")


def checked_mask(
    tokens: Shaped[torch.Tensor, "B T *D"], attention_mask: Int[torch.Tensor, "_ _"] | None
) -> Bool[torch.Tensor, "B T"]:
    """The mask of tokens, ids or vectors, as booleans; every row must have at least one token of text."""
    shape = tokens.shape[:2]
    if attention_mask is None:
        return torch.ones(shape, dtype=torch.bool, device=tokens.device)
    if attention_mask.shape != shape:
        raise ValueError(
            f"attention_mask is {tuple(attention_mask.shape)}, input_ids {tuple(shape)}."
        )
    mask = attention_mask.bool()
    if not mask.any(dim=1).all():
        empty = (~mask.any(dim=1)).nonzero()[:, 0].tolist()
        raise ValueError(f"rows {empty} hold no text: their attention mask is all 0.")
    return mask


def check_labels(labels: Int[torch.Tensor, "_ _"] | None, mask: torch.Tensor) -> None:
    """Labels line up with the text; a label on a pad would teach the prompt to predict pads."""
    if labels is None:
        return
    if labels.shape != mask.shape:
        raise ValueError(f"labels are {tuple(labels.shape)}, input_ids {tuple(mask.shape)}.")
    if ((labels != IGNORE) & ~mask).any():
        raise ValueError("a pad has a label; set labels to -100 wherever attention_mask is 0.")
