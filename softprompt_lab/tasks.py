"""Labelled text in three splits, and the template that shows a text to the model."""

import re
import textwrap
import warnings
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, takewhile
from operator import ne
from typing import Any, Literal
from weakref import WeakKeyDictionary, ref

from datasets import Dataset
from torch import nn

from .batch import decoder_start, generation_argument

LABEL_COLUMN = "text_label"
SPLITS = ("train", "validation", "test")
MAX_LENGTH = 128  # tokens of text and label


@dataclass(frozen=True)
class Task:
    """Labelled texts in three splits and the template that shows them to the model.

    Attributes:
        train, validation, test: `datasets.Dataset`s with at least `text_column` and "text_label".
        labels: every label, as words that the model can write; empty where answers are free text, one for each row.
        template: holds `{text}` once; white space at its end belongs to the label (`encode`).
        instruction: what the model is to do, in words; left out, it names the labels.
    """

    name: str
    train: Dataset
    validation: Dataset
    test: Dataset
    text_column: str
    labels: tuple[str, ...]
    template: str
    instruction: str = ""

    def __post_init__(self) -> None:
        """Refuse a template without exactly one place for the text; warn of what looks like another place."""
        if not self.instruction:
            *most, last = self.labels or ("Answer the text",)
            said = f"Classify the text as {', '.join(most)} or {last}:" if most else f"{last}:"
            object.__setattr__(self, "instruction", said)
        if self.template.count("{text}") != 1:
            raise ValueError(f"template={self.template!r}; it must hold {{text}} exactly once.")
        for place in sorted({*re.findall(r"{+ *\w* *}+", self.template)} - {"{text}"}):
            warnings.warn(f"template: {place} is shown as it stands, not replaced.", stacklevel=3)

    def __repr__(self) -> str:
        """Its name, rows, labels and template in two lines."""
        rows = ", ".join(f"{len(self.split(name)):,} {name}" for name in SPLITS)
        said = f"labels {', '.join(self.labels)}" if self.labels else "answers in free text"
        shown = [textwrap.shorten(text, 120) for text in (said, repr(self.template))]
        return f"Task {self.name!r}: rows {rows}; {shown[0]}\n  template {shown[1]}"

    def split(self, name: str) -> Dataset:
        """Return the rows of "train", "validation" or "test"."""
        if name not in SPLITS:
            raise ValueError(f"split={name!r}; choose one of: {', '.join(SPLITS)}.")
        return getattr(self, name)

    def with_template(self, template: str) -> "Task":
        """Return the same rows with another template, for instance behind a hand-written prompt."""
        return replace(self, template=template)

    @property
    def answers(self) -> tuple[str, ...]:
        """Every label, or where answers are free text each that a row of a split has."""
        known = [rows for rows in map(self.split, SPLITS) if LABEL_COLUMN in rows.column_names]
        return self.labels or tuple(
            dict.fromkeys(answer for rows in known for answer in rows[LABEL_COLUMN])
        )

    def prompt(self, text: str) -> str:
        """Return the text in its template, the label left open."""
        return self.template.replace("{text}", text)

    def encode(
        self, tokenizer, text: str, label: str | None = None, max_length: int = MAX_LENGTH
    ) -> tuple[list[int], list[int]]:
        """Return the token ids of the context and of the label; a long text loses its end, a label nothing.

        They are those of the whole text, cut where the label begins: white space at the template's end belongs to the
        label, because a byte-pair vocabulary has " complaint" as one token. The label ends with the end token, which
        teaches the prompt to stop; a context of a decoder has none, whatever the tokenizer adds. An encoder-decoder
        (`remember_base_model`) reads one text and writes another: the label is a text of its own there.

        Raises:
            ValueError: template and label alone are longer than `max_length`, or the tokenizer has no end token.
        """
        (short,) = self._cut(tokenizer, [text], max_length, label)
        return self.encode_whole(tokenizer, [short], [label])[0]

    def encode_whole(
        self, tokenizer, texts: Sequence[str], labels: Sequence[str | None]
    ) -> list[tuple[list[int], list[int]]]:
        """Return `encode` of texts with a label each, none of which is cut."""
        stripped = self.template.rstrip()
        contexts = [stripped.replace("{text}", text) for text in texts]
        if writes_apart(tokenizer):
            ids = tokenizer(contexts)["input_ids"]
            written = {label: _written(tokenizer, label) for label in {*labels}}
            return [(read, [*written[label]]) for read, label in zip(ids, labels, strict=True)]
        wholes = [
            f"{context}{self.template[len(stripped) :]}{label}"
            for context, label in zip(contexts, labels, strict=True)
        ]
        ids, rows = _read(tokenizer, [*contexts, *wholes]), []
        for front, row, label in zip(
            ids[: len(contexts)], ids[len(contexts) :], labels, strict=True
        ):
            same = takewhile(lambda pair: pair[0] == pair[1], zip(front, row, strict=False))
            start = len(list(same))
            rows.append(
                (front, [])
                if label is None
                else (row[:start], [*row[start:], end_token(tokenizer)])
            )
        return rows

    def cut(self, tokenizer, texts: Sequence[str], max_length: int, stacklevel: int) -> list[str]:
        """Return texts cut to what `encode` has room for, with a warning that says how many are.

        Raises:
            ValueError: as `encode`, or labels that are the same tokens, so that no score can tell them apart.
        """
        self._check_labels(tokenizer, stacklevel + 1)
        short = self._cut(tokenizer, texts, max_length)
        if number := sum(map(ne, texts, short)):
            warnings.warn(
                f"{number} of {len(texts)} texts lose their end: with template and label they are longer than "
                f"max_length={max_length} tokens. Raise max_length to keep them whole.",
                stacklevel=stacklevel + 1,
            )
        return short

    def _cut(
        self, tokenizer, texts: Sequence[str], max_length: int, label: str | None = None
    ) -> list[str]:
        """Return as much of each text as leaves room for the longest answer, so that it stays the same for all."""
        ids_of = self.label_ids(tokenizer, [*self.answers, label or ""])
        longest = max(ids_of, key=lambda label: len(ids_of[label]))

        def tokens(texts: Sequence[str]) -> list[int]:
            rows = self.encode_whole(tokenizer, texts, [longest] * len(texts))
            return [len(context) + len(ids) for context, ids in rows]

        def part(text: str) -> str:
            lengths = range(len(text) + 1)
            fits = bisect_right(lengths, max_length, key=lambda length: tokens([text[:length]])[0])
            if not fits:
                raise ValueError(
                    f"max_length={max_length} is too short: template and label {longest[:60]!r} take {tokens([''])[0]} "
                    "tokens, without any text."
                )
            return text[: fits - 1]

        counts = tokens(texts) if len(texts) else []
        return [
            part(text) if count > max_length else text
            for text, count in zip(texts, counts, strict=True)
        ]

    def label_ids(self, tokenizer, labels: Sequence[str]) -> dict[str, list[int]]:
        """Return the token ids of labels behind an empty text."""
        rows = self.encode_whole(tokenizer, [""] * len(labels), labels)
        return {label: ids for label, (_, ids) in zip(labels, rows, strict=True)}

    def _check_labels(self, tokenizer, stacklevel: int) -> None:
        """Raise ValueError for labels that are the same tokens; warn of those with tokens that are unknown."""
        ids = self.label_ids(tokenizer, self.answers) if self.answers else {}
        if silent := [label for label in ids if len(ids[label]) < 2]:
            raise ValueError(
                f"the tokenizer writes the labels {silent[:20]} as no token: use other words."
            )
        for one, other in combinations(self.labels, 2):
            if ids[one] == ids[other]:
                raise ValueError(
                    f"the tokenizer writes the labels {one!r} and {other!r} as the tokens {ids[one]} and {ids[other]}: "
                    "no score can tell them apart. Name them by other words."
                )
        unknown = [label for label in ids if tokenizer.unk_token_id in ids[label][:-1]]
        if unknown:
            warnings.warn(
                f"the tokenizer does not know all of the labels {unknown[:20]}: it writes what it does not know as "
                f"{tokenizer.unk_token}, which the model cannot write back as these words.",
                stacklevel=stacklevel + 1,
            )


_base_models: WeakKeyDictionary[Any, ref] = WeakKeyDictionary()  # of tokenizers


def remember_base_model(tokenizer, base_model: nn.Module) -> None:
    """Remember whose tokenizer it is: `Task.encode` makes what this base model reads and writes."""
    _base_models[tokenizer] = ref(base_model)


def end_token(tokenizer) -> int:
    """Return the id of the token that ends a text.

    Raises:
        ValueError: the tokenizer has none.
    """
    for token in (tokenizer.eos_token_id, getattr(tokenizer, "sep_token_id", None)):
        if token is not None:
            return token
    raise ValueError(
        "the tokenizer has no end token, so a label could not end; set tokenizer.eos_token."
    )


def _added(tokenizer, kind: Literal["text", "text_target"]) -> tuple[list[int], list[int]]:
    """Return the special tokens that a tokenizer puts in front of a text of this kind, and those behind it."""
    bare, whole = (
        tokenizer(**{kind: "a"}, add_special_tokens=added)["input_ids"] for added in (False, True)
    )
    ends = (n for n in range(len(bare), len(whole) + 1) if whole[n - len(bare) : n] == bare)
    end = max(ends, default=len(whole))
    return whole[: max(end - len(bare), 0)], whole[end:]


def _read(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of texts that go on, without what a tokenizer adds behind them ([SEP], an end token)."""
    _, behind = _added(tokenizer, "text")
    return [ids[: len(ids) - len(behind)] for ids in tokenizer(list(texts))["input_ids"]]


def writes_apart(tokenizer) -> bool:
    """Return whether the tokenizer's base model is an encoder-decoder, which reads one text and writes another."""
    base_model = _base_models.get(tokenizer, lambda: None)()
    return base_model is not None and base_model.config.is_encoder_decoder


def forced_tokens(tokenizer) -> list[int]:
    """Return what `generate` makes an encoder-decoder write first: BART's `<s>`, a code of the language, or nothing."""
    forced = None
    if writes_apart(tokenizer):
        forced = generation_argument(_base_models[tokenizer](), {}, "forced_bos_token_id")
    return [] if forced is None else [forced]


def _written(tokenizer, label: str | None) -> list[int]:
    """Return the ids of a label as an encoder-decoder writes it, a text of its own, behind the token it starts with."""
    if label is None:
        return []
    front, _ = _added(tokenizer, "text_target")
    front = [] if front == [decoder_start(_base_models[tokenizer]())] else front
    ids = tokenizer(text_target=label, add_special_tokens=False)["input_ids"]
    return [*(forced_tokens(tokenizer) or front), *ids, end_token(tokenizer)]
