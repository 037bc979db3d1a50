"""Labelled text: its template, its labels and its splits, from the package, the hub, or a file of the user's own."""

import csv
import io
import itertools
import json
import math
import os
import reprlib
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset, load_dataset
from sklearn.model_selection import train_test_split

from .errors import LabError
from .saving import plain_file

LABEL_COLUMN = "text_label"
ASSETS = Path(__file__).parent / "assets"
COMPLAINT_LABELLINGS = (
    "text_label",
    "topic",
    "tone",
)  # the columns of `complaints` that can be asked for
SPLITS = ("train", "validation", "test")
SHARES = (
    0.6,
    0.15,
    0.25,
)  # of a user's own file; the test split is what an accuracy is reported on
MAX_LENGTH = 128  # tokens of text and label
MAX_FILE_BYTES = 100_000_000  # of a user's own file: it is held in memory
MAX_CELL = 131_072  # characters; the csv module's own limit
SHORT = reprlib.Repr()  # how a value is shown in a message
SHORT.maxstring = SHORT.maxother = 60


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
        """Refuse a template without exactly one place for the text."""
        if self.template.count("{text}") != 1:
            raise ValueError(f"template={self.template!r}; it must hold {{text}} exactly once.")

    def split(self, name: str) -> Dataset:
        """The rows of "train", "validation" or "test"."""
        if name not in SPLITS:
            raise ValueError(f"split={name!r}; choose one of: {', '.join(SPLITS)}.")
        return getattr(self, name)

    def with_template(self, template: str) -> "Task":
        """The same rows shown differently, for instance behind a hand-written prompt."""
        return replace(self, template=template)

    @property
    def instruction(self) -> str:
        """An instruction in words that names the labels."""
        *most, last = self.labels
        return f"Classify the text as {', '.join(most)} or {last}:"

    def prompt(self, text: str) -> str:
        """The text in its template, the label left open."""
        return self.template.replace("{text}", text)

    def encode(
        self, tokenizer, text: str, label: str | None = None, max_length: int = MAX_LENGTH
    ) -> tuple[list[int], list[int]]:
        """Token ids of the context and of the label; a long input loses the end of its *text*, never its label.

        White space at the template's end moves to the label, because a byte-pair vocabulary has " complaint" as one
        token: after "Label : " the model would have to write a word without its space. The label ends with the
        end-of-sequence token, which teaches the prompt to stop.

        Raises:
            ValueError: template and label alone are longer than `max_length`.
        """
        stripped = self.template.rstrip()
        space = self.template[len(stripped) :]
        label_ids: list[int] = []
        if label is not None:
            label_ids = tokenizer(space + label, add_special_tokens=False)["input_ids"] + [
                tokenizer.eos_token_id
            ]
        room = max_length - len(label_ids)

        def context(length: int) -> list[int]:
            return tokenizer(stripped.replace("{text}", text[:length]))["input_ids"]

        ids = context(len(text))
        if len(ids) > room:
            ids = context(_longest(text, lambda length: len(context(length)) <= room))
        if len(ids) > room:
            raise ValueError(
                f"max_length={max_length} is too short: the template takes {len(ids)} tokens and the label "
                f"{label!r} {len(label_ids)}, without any text."
            )
        return ids, label_ids

    def warn_of_cut_texts(
        self, tokenizer, texts: Sequence[str], max_length: int, stacklevel: int
    ) -> None:
        """Say how many texts `encode` has to cut, before something is measured on what is left of them."""
        longest = max(
            len(self.encode(tokenizer, "", label, max_length)[1]) for label in self.labels
        )
        contexts = [self.template.rstrip().replace("{text}", text) for text in texts]
        cut = (
            sum(len(ids) + longest > max_length for ids in tokenizer(contexts)["input_ids"])
            if contexts
            else 0
        )
        if cut:
            warnings.warn(
                f"{cut} of {len(texts)} texts lose their end: with template and label they are longer than "
                f"max_length={max_length} tokens. Raise max_length to keep them whole.",
                stacklevel=stacklevel + 1,
            )


def _longest(text: str, fits) -> int:
    """The greatest number of characters that fits, by bisection."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


# ------------------------------------------------------------------------------------------------------- loading


def load_task(
    name_or_path: str | Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    labels: Sequence[str] | None = None,
    template: str | None = None,
    seed: int = 0,
) -> Task:
    """Load labelled texts.

    Args:
        name_or_path: "complaints" (shipped), "shop" (generated), "twitter_complaints" (RAFT, needs a network), or a
            CSV or JSONL file of your own.
        text_column, label_column: the columns of your own file. For "complaints" `label_column` is "text_label",
            "topic" or "tone"; for "shop" it names a skill (`shop.SKILLS`).
        labels: allowed labels of your own file; any other is an error. None: those that occur.
        template: holds `{text}` once; by default "{text column} : {text} Label : ".
        seed: of the split of your own file (60 / 15 / 25 %, stratified) and of the generated texts.

    Raises:
        LabError: an unknown name, no network, or a file with something wrong in it; the message names row and column.
    """
    name = str(name_or_path)
    path = Path(name_or_path)
    if path.suffix.lower() in (".csv", ".jsonl", ".json"):
        task = _load_file(path, text_column, label_column, labels, seed)
    elif name in _LOADERS:
        if text_column is not None or labels is not None:
            raise ValueError(
                f"{name} has its own text column and labels; text_column= and labels= are for files."
            )
        task = _LOADERS[name](label_column, seed)
    else:
        raise LabError(
            f"there is no task {name!r}; choose one of: {', '.join(_LOADERS)}, or give a .csv or .jsonl file."
        )
    return task if template is None else task.with_template(template)


def _load_complaints(label_column: str | None, seed: int) -> Task:
    """The shipped messages, with one of their three labellings as `text_label`."""
    chosen = label_column or LABEL_COLUMN
    if chosen not in COMPLAINT_LABELLINGS:
        raise LabError(
            f"complaints has no labelling {chosen!r}; choose one of: {', '.join(COMPLAINT_LABELLINGS)}."
        )
    splits = {}
    for split in SPLITS:
        table = pd.read_csv(
            ASSETS / "complaints" / f"{split}.csv", keep_default_na=False, encoding="utf-8"
        )
        labelled = table.assign(**{LABEL_COLUMN: table[chosen]}).drop(columns=["topic", "tone"])
        splits[split] = Dataset.from_pandas(labelled, preserve_index=False)
    name = "complaints" if chosen == LABEL_COLUMN else f"complaints/{chosen}"
    return _task(name, splits, "Tweet text")


def _load_shop(label_column: str | None, seed: int) -> Task:
    """Generated messages of the synthetic shop language, labelled for one skill."""
    from .data import shop

    skill = label_column or next(iter(shop.SKILLS))
    if skill not in shop.SKILLS:
        raise LabError(f"shop has no skill {skill!r}; choose one of: {', '.join(shop.SKILLS)}.")
    splits = {split: Dataset.from_list(rows) for split, rows in shop.dataset(skill, seed).items()}
    return _task(f"shop/{skill}", splits, "Tweet text")


def _load_twitter_complaints(label_column: str | None, seed: int) -> Task:
    """RAFT's 50 labelled tweets (Alex et al. 2021), split three ways, since the labels of its test rows are hidden."""
    if label_column is not None:
        raise LabError(
            f"twitter_complaints has one labelling; label_column={label_column!r} is not needed."
        )
    try:
        rows = load_dataset(
            "ought/raft",
            data_dir="twitter_complaints",
            revision="refs/convert/parquet",
            split="train",
        )
    except Exception as error:  # datasets raises many kinds where there is no network
        raise LabError(
            f'twitter_complaints could not be fetched ({error}). It needs a network; "complaints" has the same form '
            "and needs none."
        ) from error
    names = rows.features["Label"].names
    table = rows.to_pandas()
    table[LABEL_COLUMN] = [names[label] for label in table["Label"]]
    return _task(
        "twitter_complaints", _split(table, LABEL_COLUMN, seed, "twitter_complaints"), "Tweet text"
    )


_LOADERS = {
    "complaints": _load_complaints,
    "shop": _load_shop,
    "twitter_complaints": _load_twitter_complaints,
}


def _task(name: str, splits: dict[str, Dataset], text_column: str) -> Task:
    """A task over finished splits; its labels are those of the training rows."""
    labels = tuple(sorted(set(splits["train"][LABEL_COLUMN])))
    return Task(
        name,
        *(splits[split] for split in SPLITS),
        text_column,
        labels,
        f"{text_column} : {{text}} Label : ",
    )


# ------------------------------------------------------------------------------------------------ a file of one's own


def _load_file(
    path: Path,
    text_column: str | None,
    label_column: str | None,
    labels: Sequence[str] | None,
    seed: int,
) -> Task:
    """A CSV with a header, or one JSON object a line, in UTF-8."""
    text_column, label_column = text_column or "text", label_column or "label"
    if text_column in (label_column, LABEL_COLUMN):
        raise LabError(
            f"text_column={text_column!r} is the column of the labels; rename the column of the texts."
        )
    if not os.path.lexists(path):
        raise LabError(f"there is no file {path}; give the path of a CSV or JSONL file.")
    rows = _read_csv(path) if path.suffix.lower() == ".csv" else _read_jsonl(path)
    cleaned = _check_rows(path, rows, text_column, label_column, labels)
    if not cleaned:
        raise LabError(f"{path} holds no rows.")
    table = pd.DataFrame(cleaned)
    repeated = table.duplicated(text_column)
    if repeated.any():
        warnings.warn(
            f"{path}: {int(repeated.sum())} rows repeat the text of an earlier row and are left out, so that no test "
            "text was trained on.",
            stacklevel=3,
        )
        table = table[~repeated]
    return _task(path.stem, _split(table, LABEL_COLUMN, seed, str(path)), text_column)


def _lines(path: Path) -> io.StringIO:
    """The lines of a UTF-8 file; another encoding is an error that names the line."""
    try:
        content = plain_file(
            path, MAX_FILE_BYTES, error=LabError, missing="give a CSV or JSONL file"
        ).read_bytes()
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error}") from error
    try:
        place, text = content.find(0), content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place, text = error.start, ""
    if place >= 0:
        line = content[:place].count(b"\n") + 1
        raise LabError(
            f"{path}, line {line}: byte {content[place]:#04x} is not UTF-8 text. Save the file as UTF-8 "
            "(spreadsheets: 'CSV UTF-8')."
        )
    return io.StringIO(
        text, newline=""
    )  # a line ends with \n or \r, not with the other signs of `str.splitlines`


def _read_csv(path: Path) -> Iterable[tuple[int, dict]]:
    """(line, row) of a CSV with a header; comma, semicolon or tab is found out."""
    lines = _lines(path)
    header = lines.readline()
    delimiter = max(",;\t", key=header.count)
    lines.seek(0)
    reader = csv.DictReader(lines, delimiter=delimiter)
    try:
        twice = _named_twice(reader.fieldnames or ())
        if twice:
            raise LabError(
                f"{path}, line {reader.line_num} names {twice} more than once; rename one of them."
            )
        for row in reader:
            if None in row or None in row.values():
                raise LabError(
                    f"{path}, line {reader.line_num}: {len(reader.fieldnames)} columns were expected; put texts "
                    f"with {delimiter!r} or a line break in them in double quotes."
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise LabError(f"{path}, line {reader.reader.line_num}: {error}.") from error


def _read_jsonl(path: Path) -> Iterable[tuple[int, dict]]:
    """(line, row) of a file with one JSON object a line."""
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_each_once)
        except (ValueError, RecursionError) as error:
            raise LabError(f"{path}, line {number} is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise LabError(
                f"{path}, line {number} holds a {type(row).__name__}; one JSON object a line is needed."
            )
        yield number, row


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys all differ; of two that are the same Python would keep the last."""
    twice = _named_twice(key for key, _ in pairs)
    if twice:
        raise ValueError(f"it names {twice} more than once")
    return dict(pairs)


def _check_rows(
    path: Path,
    rows: Iterable[tuple[int, dict]],
    text_column: str,
    label_column: str,
    labels: Sequence[str] | None,
) -> list[dict[str, str]]:
    """Text and label of every row; the first thing wrong is reported with its line and column."""
    cleaned = []
    for line, row in rows:
        for column in (text_column, label_column):
            if column not in row:
                raise LabError(
                    f"{path}, line {line} has no column {column!r}; it has: {_names(row)}. Name yours "
                    "with text_column= and label_column= (--text-column, --label-column)."
                )
        text = _text(row[text_column], f"{path}, line {line}, column {text_column!r}")
        label = _label(row[label_column], f"{path}, line {line}, column {label_column!r}")
        if labels is not None and label not in labels:
            raise LabError(
                f"{path}, line {line}, column {label_column!r} holds {SHORT.repr(label)}; allowed are: "
                f"{', '.join(labels)}."
            )
        cleaned.append({text_column: text, LABEL_COLUMN: label})
    return cleaned


def _text(value: Any, where: str) -> str:
    """A cell that holds a text."""
    if not isinstance(value, str) or not value.strip():
        raise LabError(f"{where} holds {SHORT.repr(value)}; a text is needed.")
    if len(value) > MAX_CELL:
        raise LabError(
            f"{where} holds {SHORT.repr(value)}: {len(value):,} characters; at most {MAX_CELL:,} are read."
        )
    if "\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value):
        raise LabError(
            f"{where} holds {SHORT.repr(value)}: a NUL, or half of a character; a text is needed."
        )
    return value.strip()


def _label(value: Any, where: str) -> str:
    """A cell that holds a label: a word, or a number that is one."""
    if isinstance(value, dict | list) or (isinstance(value, float) and not math.isfinite(value)):
        raise LabError(f"{where} holds {SHORT.repr(value)}; a label is a word or a number.")
    if value is None or not str(value).strip() or str(value).strip().lower() == "nan":
        raise LabError(f"{where} is empty (it holds {value!r}); every row needs a label.")
    return _text(str(value), where)


def _named_twice(names: Iterable[str]) -> str:
    """The names that occur more than once; spreadsheets leave columns without a name, which may be many."""
    return _names(name for name, count in Counter(names).items() if name and count > 1)


def _names(names: Iterable[Any]) -> str:
    """The first columns of a row, for a message."""
    return ", ".join(map(SHORT.repr, itertools.islice(names, 20)))


def _split(table: pd.DataFrame, label_column: str, seed: int, source: str) -> dict[str, Dataset]:
    """Three splits with the same share of each label (scikit-learn, stratified)."""
    counts = table[label_column].value_counts()
    if len(counts) < 2:
        raise LabError(
            f"{source} has one label only ({counts.index[0]!r}); at least two are needed."
        )
    if counts.min() < 5:
        raise LabError(
            f"{source}: label {counts.idxmin()!r} occurs {counts.min()} times; at least 5 of each are needed for a "
            "training, a validation and a test split."
        )
    try:
        rest, test = train_test_split(
            table, test_size=SHARES[2], stratify=table[label_column], random_state=seed
        )
        train, validation = train_test_split(
            rest,
            test_size=SHARES[1] / (1 - SHARES[2]),
            stratify=rest[label_column],
            random_state=seed,
        )
    except ValueError as error:
        raise LabError(
            f"{source} has too few rows for its {len(counts)} labels: {error}"
        ) from error
    return {
        name: Dataset.from_pandas(part, preserve_index=False)
        for name, part in zip(SPLITS, (train, validation, test), strict=True)
    }
