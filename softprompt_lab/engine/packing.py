"""A batch as packed rows: the prompt once, then every text once, with a mask that keeps the texts apart.

    [ prompt | shared | context 1 | target 1 | context 2 | target 2a | target 2b | ... ]

What all contexts begin with (a template's first words) is shared: it stands there once, and every text sees it like
the prompt. Positions restart behind it for each context, and behind the context for each target. A token sees the
prompt, what is shared, its own context and its own target, nothing else, so a text's result is what it would be alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import torch
from jaxtyping import Bool, Float

from ..batch import Example

PROMPT_SEGMENT = 0


def shared_context(examples: Sequence[Example]) -> list[int]:
    """Return the tokens that all contexts begin with."""
    columns = zip(*(example.context for example in examples), strict=False)
    return [tokens[0] for tokens in takewhile(lambda tokens: len(set(tokens)) == 1, columns)]


def unique_tokens(examples: Sequence[Example]) -> int:
    """Return how many tokens the model must read where these examples stand in one row."""
    return sum(map(len, examples)) - max(len(examples) - 1, 0) * len(shared_context(examples))


@dataclass
class PackedRow:
    """One row for the base model, without its prompt. N tokens, M labels.

    Attributes:
        prompt: number of the prompt that every text of the row shares.
        shared: number of tokens in front that all contexts begin with.
        ids, position_ids, segments, parents: N entries each; `parents` holds the segment that a token also sees.
        label_positions: M positions in `[prompt | ids]` whose logits predict `label_ids`.
        owners: M pairs (index of the example, index of its target).
        lengths: tokens of each example, all its targets included, without the shared ones.
    """

    prompt: int = 0
    shared: int = 0
    ids: list[int] = field(default_factory=list)
    position_ids: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    label_positions: list[int] = field(default_factory=list)
    label_ids: list[int] = field(default_factory=list)
    owners: list[tuple[int, int]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    @classmethod
    def of(
        cls, examples: Sequence[tuple[int, Example]], prompt: int, prompt_length: int
    ) -> "PackedRow":
        """Return the row of some examples, each with its index."""
        shared = shared_context([example for _, example in examples])
        positions = list(range(prompt_length, prompt_length + len(shared)))
        segments = [PROMPT_SEGMENT] * len(shared)
        row = cls(prompt, len(shared), shared, positions, segments, list(segments))
        for index, example in examples:
            row._add(example, index, prompt_length)
        return row

    def _add(self, example: Example, index: int, prompt_length: int) -> None:
        """Append one example: its context once, each of its targets as a branch behind it."""
        own, front = example.context[self.shared :], prompt_length + self.shared
        self.lengths.append(len(example) - self.shared)
        context = self._new_segment(own, front, parent=PROMPT_SEGMENT)
        last_of_context = prompt_length + len(self.ids) - 1 if own else front - 1
        for number, target in enumerate(example.targets):
            first = prompt_length + len(self.ids)
            self._new_segment(target.ids[:-1], prompt_length + len(example.context), parent=context)
            for place, label in target.supervised:
                source = last_of_context if place == 0 else first + place - 1
                if source >= 0:  # without prompt and context nothing predicts the first token
                    self.label_positions.append(source)
                    self.label_ids.append(label)
                    self.owners.append((index, number))

    def _new_segment(self, ids: Sequence[int], first_position: int, parent: int) -> int:
        """Append tokens that see each other and their parent; return the segment's number."""
        segment = self.segments[-1] + 1 if self.segments else PROMPT_SEGMENT + 1
        self.ids.extend(ids)
        self.position_ids.extend(range(first_position, first_position + len(ids)))
        self.segments.extend([segment] * len(ids))
        self.parents.extend([parent] * len(ids))
        return segment if ids else parent


def pack(
    examples: Sequence[Example], prompt_lengths: Sequence[int], text_tokens: Sequence[float]
) -> Iterator[PackedRow]:
    """Lay examples one behind the other, those of one prompt in as few rows as keep near its `text_tokens`.

    The rows come out about equally long; an example longer than `text_tokens` gets a row of its own.

    Args:
        prompt_lengths: virtual tokens of each prompt.
        text_tokens: for each prompt the length of text that a row should have.
    """
    for prompt, length in enumerate(prompt_lengths):
        chosen = [pair for pair in enumerate(examples) if pair[1].prompt == prompt]
        tokens = unique_tokens([example for _, example in chosen])
        aim = tokens / max(1, math.ceil(tokens / text_tokens[prompt]))
        row: list[tuple[int, Example]] = []
        for pair in chosen:
            longer = [*row, pair]
            middle = sum(unique_tokens([kept for _, kept in part]) for part in (row, longer)) / 2
            if row and middle > aim:
                yield PackedRow.of(row, prompt, length)
                longer = [pair]
            row = longer
        if row:
            yield PackedRow.of(row, prompt, length)


def packed_mask(row: PackedRow, prompt_length: int) -> Bool[torch.Tensor, "N_all N_all"]:
    """Return the (P+N, P+N) mask, True where a token (row) sees a token (column) before it or itself."""
    front = [PROMPT_SEGMENT] * prompt_length
    segments = torch.tensor(front + row.segments, dtype=torch.long)  # (P+N,)
    parents = torch.tensor(front + row.parents, dtype=torch.long)  # (P+N,)
    in_prompt = segments == PROMPT_SEGMENT
    return (same(segments, segments) | same(parents, segments) | in_prompt).tril()


def same(queries: torch.Tensor, keys: torch.Tensor) -> Bool[torch.Tensor, "*rows Q K"]:
    """Return for each pair of a query's and a key's segment whether they are equal."""
    return queries[..., :, None] == keys[..., None, :]


def additive(
    sees: Bool[torch.Tensor, "Q K"], weight: torch.Tensor
) -> Float[torch.Tensor, "1 1 Q K"]:
    """Return a mask as every attention takes it: 0 where a query sees a key, the lowest number elsewhere.

    Args:
        weight: of the base model, whose type and device the mask has.
    """
    mask = torch.zeros(sees.shape, dtype=weight.dtype, device=weight.device)
    return mask.masked_fill_(~sees.to(mask.device), torch.finfo(mask.dtype).min)[None, None]
