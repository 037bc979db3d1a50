"""A CSV or JSONL file of a user's own: read, checked row by row, and split."""

import io
import json
import re
import reprlib
import warnings
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.model_selection import train_test_split

from ..errors import LabError
from ..saving import plain_file
from ..tasks import LABEL_COLUMN, SPLITS

# An accuracy is reported on the test split.
SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}
LEAST_OF_A_LABEL = 7  # rows: with fewer a stratified split may lack it
MAX_FILE_BYTES = 100_000_000  # the file is held in memory
NO_TEXT = re.compile("[\0\ud800-\udfff]")  # a NUL, or half of a character
SHORT = reprlib.Repr()  # how a value is shown in a message
SHORT.maxstring = SHORT.maxother = 60


def read_labelled(path: Path, text_column: str, label_column: str) -> pd.DataFrame:
    """Return the texts and labels of a CSV with a header, or of a file with one JSON object a line, in UTF-8.

    Rows that repeat an earlier text are left out with a warning, so that no test text was trained on.

    Raises:
        LabError: the file cannot be read, or a cell is not what it should be; the message names row and column.
    """
    if text_column in (label_column, LABEL_COLUMN):
        raise LabError(
            f"text_column={text_column!r} is the column of the labels; rename the column of the texts."
        )
    text = _decoded(path)
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _json_rows(path, text)
    if rows.empty:
        raise LabError(f"{path} holds no rows.")
    table = _checked(path, rows, text_column, label_column)
    repeated = table.duplicated(text_column)
    if repeated.any():
        warnings.warn(
            f"{path}: {repeated.sum()} rows repeat the text of an earlier row and are left out, so that no test text "
            "was trained on.",
            stacklevel=3,
        )
    return table[~repeated]


def _decoded(path: Path) -> str:
    """Return the text of a UTF-8 file; another encoding is an error that names the line."""
    missing = "give the path of a CSV or JSONL file"
    content = plain_file(path, MAX_FILE_BYTES, error=LabError, missing=missing).read_bytes()
    try:
        text, wrong = content.decode("utf-8-sig"), content.find(0)  # pandas 2 ends a cell at a NUL
    except UnicodeDecodeError as error:
        text, wrong = "", error.start
    if wrong >= 0:
        line = content[:wrong].count(b"\n") + 1
        raise LabError(
            f"{path}, line {line}: byte {content[wrong]:#04x} is not UTF-8 text. Save the file as UTF-8 "
            "(spreadsheets: 'CSV UTF-8')."
        )
    return text


def _csv_rows(path: Path, text: str) -> pd.DataFrame:
    """Return the rows of a CSV by their number in a spreadsheet, where the header is row 1.

    The delimiter is that of comma, semicolon and tab which the header has most of.
    """
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    try:
        rows = pd.read_csv(
            io.StringIO(text, newline=""),
            sep=delimiter,
            header=None,  # pandas would rename a column that is there twice
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,  # so that the numbers are right
        )
    except ValueError as error:
        said = str(error).strip()
        raise LabError(
            f"{path}: {said}. Put texts with {delimiter!r} or a line break in them in double quotes."
        ) from error
    names = rows.iloc[0]
    twice = names[names.duplicated() & (names != "")]
    if len(twice):
        raise LabError(f"{path}, row 1 names {_shown(twice)} more than once; rename one of them.")
    rows = rows.set_axis(names, axis=1).set_axis(rows.index + 1)[1:]
    return rows[(rows != "").any(axis=1)]


def _json_rows(path: Path, text: str) -> pd.DataFrame:
    """Return the rows of a file with one JSON object a line, by their line number."""
    rows = {}
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            try:
                rows[number] = {**json.loads(line)}
            except (ValueError, TypeError, RecursionError) as error:
                raise LabError(f"{path}, row {number} is no JSON object: {error}.") from error
    return pd.DataFrame(list(rows.values()), index=list(rows), dtype=object)


def _checked(path: Path, rows: pd.DataFrame, text_column: str, label_column: str) -> pd.DataFrame:
    """Return text and label of every row; the first thing wrong is reported with its row and column."""
    for column in (text_column, label_column):
        if column not in rows:
            raise LabError(
                f"{path} has no column {column!r}; it has: {_shown(rows.columns)}. Name yours with text_column= and "
                "label_column= (--text-column, --label-column)."
            )
    cleaned = []
    for number, text, label in zip(rows.index, rows[text_column], rows[label_column], strict=True):
        row = f"{path}, row {number}, column"
        words = _text(text, f"{row} {text_column!r}")
        cleaned.append((words, _label(label, f"{row} {label_column!r}")))
    return pd.DataFrame(cleaned, columns=[text_column, LABEL_COLUMN])


def _text(value: Any, where: str) -> str:
    """Return a cell that holds a text."""
    if not isinstance(value, str) or not value.strip() or NO_TEXT.search(value):
        raise LabError(f"{where} holds {SHORT.repr(value)}; a text is needed.")
    return value.strip()


def _label(value: Any, where: str) -> str:
    """Return a cell that holds a label: a word, or a number that is one."""
    usable = isinstance(value, str | int | float)
    if not usable or str(value).strip().lower() in ("", "nan"):
        raise LabError(
            f"{where} holds {SHORT.repr(value)}; every row needs a label, a word or a number."
        )
    return _text(str(value), where)


def _shown(names: Iterable[Any]) -> str:
    """Return the first of many names, for a message."""
    return ", ".join(map(SHORT.repr, islice(names, 20)))


def split_rows(table: pd.DataFrame, seed: int, source: str) -> dict[str, pd.DataFrame]:
    """Return three splits with the same share of each label (scikit-learn, stratified).

    Raises:
        LabError: `source` has too few rows or labels.
    """
    counts = table[LABEL_COLUMN].value_counts()
    if len(counts) < 2 or counts.min() < LEAST_OF_A_LABEL:
        raise LabError(
            f"{source} has {len(counts)} labels, the rarest, {counts.index[-1]!r}, on {counts.iloc[-1]} rows; at least "
            f"two are needed, each on {LEAST_OF_A_LABEL} or more, for a training, a validation and a test split."
        )

    def part(rows: pd.DataFrame, share: float) -> list[pd.DataFrame]:
        stratified = {"stratify": rows[LABEL_COLUMN], "random_state": seed}
        return train_test_split(rows, test_size=share, **stratified)

    rest, test = part(table, SHARES["test"])
    train, validation = part(rest, SHARES["validation"] / (1 - SHARES["test"]))
    return dict(zip(SPLITS, (train, validation, test), strict=True))
