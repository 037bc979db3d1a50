"""A CSV or JSONL file of a user's own: read, checked row by row, and split."""

import csv
import io
import json
import math
import re
import reprlib
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.model_selection import train_test_split

from ..errors import LabError
from ..saving import plain_file
from ..tasks import LABEL_COLUMN, SPLITS

# An accuracy is reported on the test split.
SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}
LEAST_ANSWERS = 20  # rows with free answers
LEAST_OF_A_LABEL = 7  # rows: with fewer a stratified split may lack it
MAX_FILE_BYTES = 100_000_000  # the file is held in memory
SEPARATORS = ",;\t"
HEAD = 10_000  # characters of the header in which the separator is looked for
LINE_BREAK = re.compile("\r\n?|\n")
NO_TEXT = re.compile("[\0\ud800-\udfff]")  # a NUL, or half of a character
# Control characters and what Unicode calls default ignorable, but not the tags that tell flags apart.
INVISIBLE = re.compile(
    "[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u2800\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0100-\U000e01ef]"
)
# What office programs write for a typed sign, and letters of other scripts that look Latin, in lower case; a Turkish I
# keeps its dot there.
SAME_LOOK = str.maketrans("‘’“”‐‒–—−асеорхуіјѕвкмнтοαı", "''\"\"-----aceopxyijsbkmhtoai", "\u0307")
SHORT = reprlib.Repr()  # how a value is shown in a message
SHORT.maxstring = SHORT.maxother = 60
QUOTING = (
    "Put a text that begins with a quotation mark, or holds {!r} or a line break, in double quotes and write each "
    "quotation mark in it twice; or write a JSONL file."
)
AS_JSON = "Write one object a line, or all objects in one array."
Rows = dict[int, dict[str, Any]]  # the number of each in its file, and its values by column


def read_labelled(
    path: Path, text_column: str, label_column: str, answers: bool = False
) -> pd.DataFrame:
    """Return the texts and labels of a CSV with a header, or of a file of JSON objects, in UTF-8.

    Rows that repeat an earlier text are left out with a warning, so that no test text was trained on. Labels that look
    alike stay different labels, with a warning, unless they are free `answers`.

    Raises:
        LabError: the file cannot be read, or a cell is not what it should be; the message names row and column.
    """
    if text_column in (label_column, LABEL_COLUMN):
        raise LabError(
            f"text_column={text_column!r} is the column of the labels; rename the column of the texts."
        )
    text = _decoded(path)
    read = _csv_rows if path.suffix.lower() == ".csv" else _json_rows
    rows = read(path, text, text_column, label_column)
    if not rows:
        raise LabError(f"{path} holds no rows.")
    table = _checked(path, rows, text_column, label_column)
    if not answers:
        _warn_of_labels_alike(path, table[LABEL_COLUMN])
    return _without_repeats(path, table, text_column)


def _decoded(path: Path) -> str:
    """Return the text of a UTF-8 file; another encoding is an error that names the line."""
    missing = "give the path of a CSV or JSONL file"
    content = plain_file(path, MAX_FILE_BYTES, error=LabError, missing=missing).read_bytes()
    try:
        text, wrong = content.decode("utf-8-sig"), content.find(0)  # of UTF-16 without its mark
    except UnicodeDecodeError as error:
        text, wrong = "", error.start
    if wrong >= 0:
        line = content[:wrong].count(b"\n") + 1
        raise LabError(
            f"{path}, line {line}: byte {content[wrong]:#04x} is not UTF-8 text. Save the file as UTF-8 "
            "(spreadsheets: 'CSV UTF-8')."
        )
    return text


# ----------------------------------------------------------------------------------------------------------- CSV


def _csv_rows(path: Path, text: str, *columns: str) -> Rows:
    """Return the rows of a CSV by their number in a spreadsheet, where the header is row 1.

    The separator is that of comma, semicolon and tab with which the header holds most of the columns asked for, then
    most columns. Blank rows are passed over.
    """

    def fit(separator: str) -> tuple[int, int]:
        header = next(csv.reader(head, delimiter=separator, skipinitialspace=True), [])
        return len({*columns} & {*header}), len(header)

    lines = io.StringIO(text, newline="").readlines()
    head = [line[:HEAD] for line in lines[:1]]
    separator = max(SEPARATORS, key=fit)
    records = _csv_records(path, lines, separator)
    header = records.pop(0) if records else []
    if twice := _twice(filter(None, header)):
        raise LabError(f"{path}, row 1 names {_shown(twice)} more than once; rename one of them.")
    full = {n: row for n, row in enumerate(records, 2) if any(row)}
    if columns[1] in header:
        _warn_of_rows_in_fields(path, full, separator, header.index(columns[1]))
    return {number: dict(zip(header, row, strict=True)) for number, row in full.items()}


def _csv_records(path: Path, lines: list[str], separator: str) -> list[list[str]]:
    """Return the fields of all rows; one whose quotation marks do not enclose whole fields, or with more or fewer
    fields than the header, is an error.
    """
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)
    records, read = [], 0
    try:
        for record in reader:
            if records and any(record) and len(record) != len(records[0]):
                raise csv.Error(f"{len(record)} fields, where the header has {len(records[0])}")
            records.append(record)
            read = reader.line_num
    except csv.Error as error:
        raise LabError(
            f"{path}, row {len(records) + 1}, which begins in line {read + 1} with {SHORT.repr(lines[read])}, cannot "
            f"be read: {error}. {QUOTING.format(separator)}"
        ) from error
    return records


def _warn_of_rows_in_fields(
    path: Path, rows: dict[int, list[str]], separator: str, place: int
) -> None:
    """Warn of quoted fields that hold lines which end as rows do, with a label at its `place`: were they rows?"""
    labels = {row[place].strip() for row in rows.values()} - {""}
    found = []
    for number, row in rows.items():
        lines = LINE_BREAK.split(separator.join(row))
        own = len(LINE_BREAK.findall(separator.join(row[:place])))  # the line of the row's label
        for line in lines[:own] + lines[own + 1 :]:
            cells = [cell.strip() for cell in line.split(separator)]
            if len(cells) >= len(row) and labels & {cells[place], cells[place - len(row)]}:
                found.append((number, line))
    if found:
        number, line = found[0]
        warnings.warn(
            f"{path}: {len(found)} lines in quoted fields look like rows of their own, the first in row {number}: "
            f"{SHORT.repr(line)}. They are read as part of the field; if they are rows, a quotation mark is stray. "
            f"{QUOTING.format(separator)}",
            stacklevel=5,
        )


# ---------------------------------------------------------------------------------------------------------- JSON


def _json_rows(path: Path, text: str, *_: str) -> Rows:
    """Return the rows of a file with one JSON object a line, by their line, or with one array of objects, by place."""
    if text.lstrip().startswith("["):
        rows = dict(enumerate(_parsed(text, f"{path} is no JSON array"), 1))
    else:
        rows = {
            number: _parsed(line, f"{path}, row {number} is no JSON object")
            for number, line in enumerate(io.StringIO(text, newline=None), 1)
            if line.strip()
        }
    for number, row in rows.items():
        if not isinstance(row, dict):
            raise LabError(f"{path}, row {number} is no JSON object: {SHORT.repr(row)}. {AS_JSON}")
    return rows


def _parsed(text: str, wrong: str) -> Any:
    """Return a JSON value, whose objects have each name once."""
    try:
        return json.loads(text, object_pairs_hook=_json_object)
    except (ValueError, RecursionError) as error:
        raise LabError(f"{wrong}: {error}. {AS_JSON}") from error


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these names and values; of a name that is there twice a value would be lost."""
    if twice := _twice(name for name, _ in pairs):
        raise ValueError(f"it names {_shown(twice)} more than once")
    return dict(pairs)


# --------------------------------------------------------------------------------------------------------- cells


def _checked(path: Path, rows: Rows, text_column: str, label_column: str) -> pd.DataFrame:
    """Return text and label of every row; the first thing wrong is reported with its row and column."""
    names = dict.fromkeys(chain.from_iterable(rows.values()))
    for column in (text_column, label_column):
        if column not in names:
            raise LabError(
                f"{path} has no column {column!r}; it has: {_shown(names)}. Name yours with text_column= and "
                "label_column= (--text-column, --label-column)."
            )
    cleaned = []
    for number, values in rows.items():
        row = f"{path}, row {number}, column"
        words = _text(values.get(text_column), f"{row} {text_column!r}")
        cleaned.append((words, _label(values.get(label_column), f"{row} {label_column!r}")))
    return pd.DataFrame(cleaned, list(rows), [text_column, LABEL_COLUMN])


def _text(value: Any, where: str) -> str:
    """Return a cell that holds a text."""
    if not isinstance(value, str) or NO_TEXT.search(value) or not _seen(value):
        raise LabError(f"{where} holds {SHORT.repr(value)}; a text is needed.")
    return value.strip()


def _label(value: Any, where: str) -> str:
    """Return a cell that holds a label: a word, or a number or truth value of JSON as JSON writes it."""
    if isinstance(value, bool):
        value = json.dumps(value)
    usable = isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    if not usable or str(value).strip().lower() in ("", "nan"):
        raise LabError(
            f"{where} holds {SHORT.repr(value)}; every row needs a label, a word or a number."
        )
    word = value if isinstance(value, str) else str(value).removesuffix(".0")  # 1.0 is 1
    return _text(word, where)


def _seen(text: str) -> str:
    """Return what can be seen of a text, in one Unicode form (NFKC) and with single spaces."""
    return " ".join(INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).split())


def _look(label: str) -> str | Decimal:
    """Return what labels have in common that may be one: how they look without capitals, or their number."""
    look = _seen(_seen(label).casefold()).translate(SAME_LOOK).strip("'\"")
    try:
        number = Decimal(look)
    except InvalidOperation:
        return look
    return number if number.is_finite() else look


def _warn_of_labels_alike(path: Path, labels: pd.Series) -> None:
    """Warn of labels that count as several and look like one, with the first row of each."""
    groups: dict[str | Decimal, list[str]] = {}
    for row, label in labels.drop_duplicates().items():
        groups.setdefault(_look(label), []).append(f"{label[:60]!a} (row {row})")
    alike = [" and ".join(group) for group in groups.values() if len(group) > 1]
    if alike:
        warnings.warn(
            f"{path}: labels that look alike are different labels here: {'; '.join(alike[:20])}. Each row is the first "
            "with its label. Write them in one way if they mean the same.",
            stacklevel=4,
        )


def _without_repeats(path: Path, table: pd.DataFrame, text_column: str) -> pd.DataFrame:
    """Return the first row of each text; a text in another Unicode form or with other spaces is the same."""
    texts = table[text_column].map(_seen)
    repeated = texts.duplicated()
    if repeated.any():
        first = table.assign(row=table.index).groupby(texts).transform("first")
        other = first[first[LABEL_COLUMN] != table[LABEL_COLUMN]]
        said = f"{repeated.sum() - len(other)} with the same label, {len(other)} with another label"
        for row, (label, earlier) in other[[LABEL_COLUMN, "row"]].head(1).iterrows():
            said += f": row {row} has {table[LABEL_COLUMN][row]!r}, row {earlier} {label!r}; correct one of them"
        warnings.warn(
            f"{path}: {repeated.sum()} rows repeat the text of an earlier row and are left out, so that no test text "
            f"was trained on; {said}.",
            stacklevel=4,
        )
    return table[~repeated]


def _twice(names: Iterable[str]) -> list[str]:
    """Return the names that are there more than once."""
    return [name for name, number in Counter(names).items() if number > 1]


def _shown(names: Iterable[Any]) -> str:
    """Return the first of many names, for a message."""
    return ", ".join(map(SHORT.repr, islice(names, 20)))


def split_rows(
    table: pd.DataFrame, seed: int, source: str, answers: bool = False
) -> dict[str, pd.DataFrame]:
    """Return three splits (scikit-learn), with the same share of each label unless they are free `answers`.

    Raises:
        LabError: `source` has too few rows or labels.
    """
    counts = table[LABEL_COLUMN].value_counts()
    labels = len(counts) > 1 and counts.min() >= LEAST_OF_A_LABEL
    if answers and len(table) < LEAST_ANSWERS:
        raise LabError(f"{source} has {len(table)} rows; at least {LEAST_ANSWERS} are needed.")
    if answers and labels:
        warnings.warn(
            f"{source} has {len(counts)} different answers, each on {counts.min()} rows or more: if they are labels, "
            "leave out answers=True (--answers), and they are compared with each other.",
            stacklevel=3,
        )
    if not answers and not labels:
        advice = ""
        if counts.min() < LEAST_OF_A_LABEL:
            advice = " If they are free answers and no labels, say answers=True (--answers)."
        raise LabError(
            f"{source} has {len(counts)} labels, the rarest, {counts.index[-1]!r}, on {counts.iloc[-1]} rows; at least "
            "two are needed, each on "
            f"{LEAST_OF_A_LABEL} or more, for a training, a validation and a test split.{advice}"
        )

    def part(rows: pd.DataFrame, share: float) -> list[pd.DataFrame]:
        stratify = None if answers else rows[LABEL_COLUMN]
        return train_test_split(rows, test_size=share, stratify=stratify, random_state=seed)

    rest, test = part(table, SHARES["test"])
    train, validation = part(rest, SHARES["validation"] / (1 - SHARES["test"]))
    return dict(zip(SPLITS, (train, validation, test), strict=True))
