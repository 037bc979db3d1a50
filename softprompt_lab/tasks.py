"""Labelled text in three splits, and the template that shows a text to the model."""

import re
import warnings
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from datasets import Dataset

LABEL_COLUMN = "text_label"
SPLITS = ("train", "validation", "test")
MAX_LENGTH = 128  # tokens of text and label


@dataclass(frozen=True)
class Task:
    """Labelled texts in three splits and the template that shows them to the model.

    Attributes:
        train, validation, test: `datasets.Dataset`s with at least `text_column` and "text_label".
        labels: every label, as words that the model can write.
        template: holds `{text}` once; white space at its end belongs to the label (`encode`).
    """

    name: str
    train: Dataset
    validation: Dataset
    test: Dataset
    text_column: str
    labels: tuple[str, ...]
    template: str

    def __post_init__(self) -> None:
        """Refuse a template without exactly one place for the text; warn of what looks like another place."""
        if self.template.count("{text}") != 1:
            raise ValueError(f"template={self.template!r}; it must hold {{text}} exactly once.")
        for place in sorted({*re.findall(r"{+ *\w* *}+", self.template)} - {"{text}"}):
            warnings.warn(f"template: {place} is shown as it stands, not replaced.", stacklevel=3)

    def split(self, name: str) -> Dataset:
        """Return the rows of "train", "validation" or "test"."""
        if name not in SPLITS:
            raise ValueError(f"split={name!r}; choose one of: {', '.join(SPLITS)}.")
        return getattr(self, name)

    def with_template(self, template: str) -> "Task":
        """Return the same rows with another template, for instance behind a hand-written prompt."""
        return replace(self, template=template)

    @property
    def instruction(self) -> str:
        """An instruction in words that names the labels."""
        *most, last = self.labels
        return f"Classify the text as {', '.join(most)} or {last}:"

    def prompt(self, text: str) -> str:
        """Return the text in its template, the label left open."""
        return self.template.replace("{text}", text)

    def encode(
        self, tokenizer, text: str, label: str | None = None, max_length: int = MAX_LENGTH
    ) -> tuple[list[int], list[int]]:
        """Return the token ids of the context and of the label; a long text loses its end, a label nothing.

        White space at the template's end moves to the label, because a byte-pair vocabulary has " complaint" as one
        token: after "Label : " the model would have to write a word without its space. The label ends with the
        end-of-sequence token, which teaches the prompt to stop.

        Raises:
            ValueError: template and label alone are longer than `max_length`.
        """
        stripped = self.template.rstrip()
        label_ids: list[int] = []
        if label is not None:
            spaced = self.template[len(stripped) :] + label
            label_ids = tokenizer(spaced, add_special_tokens=False)["input_ids"]
            label_ids = [*label_ids, tokenizer.eos_token_id]
        space = max_length - len(label_ids)

        def context(characters: int) -> list[int]:
            return tokenizer(stripped.replace("{text}", text[:characters]))["input_ids"]

        ids = context(len(text))
        if len(ids) > space:
            lengths = range(len(text) + 1)
            fitting = bisect_right(lengths, space, key=lambda length: len(context(length))) - 1
            if fitting < 0:
                raise ValueError(
                    f"max_length={max_length} is too short: the template takes {len(context(0))} tokens and the label "
                    f"{label!r} {len(label_ids)}, without any text."
                )
            ids = context(fitting)
        return ids, label_ids

    def warn_of_cut_texts(
        self, tokenizer, texts: Sequence[str], max_length: int, stacklevel: int
    ) -> None:
        """Warn with the number of texts that `encode` has to cut, before something is measured on the rest of them."""
        if not len(texts):
            return
        longest = max(
            len(self.encode(tokenizer, "", label, max_length)[1]) for label in self.labels
        )
        contexts = [self.template.rstrip().replace("{text}", text) for text in texts]
        cut = sum(len(ids) + longest > max_length for ids in tokenizer(contexts)["input_ids"])
        if cut:
            warnings.warn(
                f"{cut} of {len(texts)} texts lose their end: with template and label they are longer than "
                f"max_length={max_length} tokens. Raise max_length to keep them whole.",
                stacklevel=stacklevel + 1,
            )
