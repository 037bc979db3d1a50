"""A batch as packed rows: the prompt once, then every text once, with a mask that keeps the texts apart.

    [ prompt | shared | context 1 | target 1 | context 2 | target 2a | target 2b | ... ]

What all contexts begin with (a template's first words) is shared: it stands there once, and everyone sees it like the
prompt. Positions restart behind it for each context, and behind the context for each target. A token sees the prompt,
what is shared, its own context and its own target, nothing else, so a row's result is what it would be alone. Built in
chapter 11.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import torch
from jaxtyping import Bool, Int

IGNORE = -100  # a label that is not counted, as in torch.nn.CrossEntropyLoss
PROMPT_SEGMENT = 0


@dataclass(frozen=True)
class Target:
    """Tokens that follow a context, and which of them are to be predicted.

    `labels[i]` is the token that must stand at place i, or -100; it is read at the place before.
    """

    ids: Sequence[int]
    labels: Sequence[int]

    @classmethod
    def of(cls, ids: Sequence[int]) -> "Target":
        """A target whose every token is to be predicted."""
        return cls(ids, ids)

    @property
    def supervised(self) -> list[tuple[int, int]]:
        """(place, label) of each token that is to be predicted."""
        return [(place, label) for place, label in enumerate(self.labels) if label != IGNORE]


@dataclass(frozen=True)
class Example:
    """A context and one target (training) or several that compete (rank classification).

    `prompt` is the number of the prompt that stands in front, where several are at work.
    """

    context: Sequence[int]
    targets: Sequence[Target]
    prompt: int = 0

    def __len__(self) -> int:
        """Tokens that the model must read: a target's last token is predicted, never read."""
        return len(self.context) + sum(max(len(target.ids) - 1, 0) for target in self.targets)


def examples_of(pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> list[Example]:
    """Training rows, (context ids, label ids), as examples whose whole label is to be predicted."""
    return [Example(context, [Target.of(label)]) for context, label in pairs]


def shared_context(examples: Sequence[Example]) -> list[int]:
    """The tokens that all contexts begin with."""
    columns = zip(*(example.context for example in examples), strict=False)
    return [tokens[0] for tokens in takewhile(lambda tokens: len(set(tokens)) == 1, columns)]


def unique_tokens(examples: Sequence[Example]) -> int:
    """Tokens that the model must read where these examples stand in one row."""
    return sum(map(len, examples)) - max(len(examples) - 1, 0) * len(shared_context(examples))


@dataclass
class PackedRow:
    """One row for the base model, without its prompt. N tokens, M labels.

    Attributes:
        prompt: number of the prompt that every text of the row shares.
        shared: number of tokens in front that all contexts begin with.
        ids, position_ids, segments, parents: N entries each; `parents` holds the segment that a token also sees.
        label_positions: M places in `[prompt | ids]` whose logits predict `label_ids`.
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
        """The row of some examples, each with its index."""
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
        """Append tokens that see each other and their parent; returns the segment's number."""
        segment = self.segments[-1] + 1 if self.segments else PROMPT_SEGMENT + 1
        self.ids.extend(ids)
        self.position_ids.extend(range(first_position, first_position + len(ids)))
        self.segments.extend([segment] * len(ids))
        self.parents.extend([parent] * len(ids))
        return segment if ids else parent


def pack(
    examples: Sequence[Example], prompt_lengths: Sequence[int], text_tokens: Sequence[float]
) -> Iterator[PackedRow]:
    """Lay examples behind one another, those of one prompt in as few rows as keep near its `text_tokens`.

    Args:
        prompt_lengths: virtual tokens of each prompt.
        text_tokens: for each prompt the length of text that a row should have (`engine.costs`). The rows
            come out about equally long; an example longer than that gets a row of its own.
    """
    for prompt, length in enumerate(prompt_lengths):
        chosen = [
            (index, example) for index, example in enumerate(examples) if example.prompt == prompt
        ]
        tokens = unique_tokens([example for _, example in chosen])
        aim = tokens / max(1, math.ceil(tokens / text_tokens[prompt]))
        row: list[tuple[int, Example]] = []
        for index, example in chosen:
            longer = [*row, (index, example)]
            middle = sum(unique_tokens([kept for _, kept in part]) for part in (row, longer)) / 2
            if row and middle > aim:
                yield PackedRow.of(row, prompt, length)
                longer = longer[-1:]
            row = longer
        if row:
            yield PackedRow.of(row, prompt, length)


def packed_mask(row: PackedRow, prompt_length: int) -> Bool[torch.Tensor, "N_all N_all"]:
    """True where a token (row) may look at a token (column): behind it, and in the prompt, its parent or its own."""
    segments = torch.tensor(
        [PROMPT_SEGMENT] * prompt_length + row.segments, dtype=torch.long
    )  # (P+N,)
    parents = torch.tensor(
        [PROMPT_SEGMENT] * prompt_length + row.parents, dtype=torch.long
    )  # (P+N,)
    own = segments[:, None] == segments[None, :]
    parent = parents[:, None] == segments[None, :]
    in_prompt = segments[None, :] == PROMPT_SEGMENT
    return (own | parent | in_prompt).tril()


def from_tensors(
    input_ids: Int[torch.Tensor, "B T"],
    mask: Bool[torch.Tensor, "B T"],
    labels: Int[torch.Tensor, "B T"],
    prompts: Sequence[int] | None = None,
) -> list[Example]:
    """The rows of a padded batch as examples; pads on any side fall away.

    Everything before the first counted label is context, the rest is the target. `prompts`: a number for each row.
    """
    rows = zip(
        input_ids.tolist(),
        mask.tolist(),
        labels.tolist(),
        prompts or [0] * len(input_ids),
        strict=True,
    )
    examples = []
    for row, kept, row_labels, prompt in rows:
        ids = [token for token, is_text in zip(row, kept, strict=True) if is_text]
        marks = [label for label, is_text in zip(row_labels, kept, strict=True) if is_text]
        start = next((place for place, label in enumerate(marks) if label != IGNORE), len(marks))
        examples.append(Example(ids[:start], [Target(ids[start:], marks[start:])], prompt))
    return examples
