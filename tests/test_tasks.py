"""The shipped messages, and files of a user's own with everything that can be wrong in them."""

import contextlib
import csv
import io
import itertools
import json
import os
import re
import warnings

import pandas as pd
import pytest
from damage import EDITS, damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softprompt_lab import LabError, load_task
from softprompt_lab.data.files import MAX_FILE_BYTES, read_labelled
from softprompt_lab.data.loading import ASSETS
from softprompt_lab.data.loading import LABELLINGS as LABELLINGS_OF
from softprompt_lab.tasks import SPLITS

LABELLINGS = {
    "text_label": {"complaint", "no complaint"},
    "topic": {"account", "billing", "delivery", "product", "service"},
    "tone": {"angry", "calm", "happy", "ironic"},
}
ROWS = [(f"message number {n} about {n * 7}", "good" if n % 3 else "bad") for n in range(40)]


@pytest.fixture(scope="module")
def complaints():
    """All 600 shipped messages as one table."""
    parts = [
        pd.read_csv(ASSETS / "complaints" / f"{s}.csv").assign(split=s)
        for s in ("train", "validation", "test")
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def write(tmp_path):
    """Write a file and give its path."""

    def _write(content: str | bytes, name: str = "mine.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


def csv_of(rows) -> str:
    """A CSV with columns text and label."""
    return pd.DataFrame(rows, columns=["text", "label"]).to_csv(index=False)


def test_complaints_have_rafts_columns_and_the_promised_sizes(complaints):
    """50 / 150 / 400, ids that are unique, RAFT's label numbers, no label hidden."""
    assert complaints.groupby("split").size().to_dict() == {
        "train": 50,
        "validation": 150,
        "test": 400,
    }
    assert complaints["ID"].is_unique
    assert (
        complaints["Label"].map({1: "complaint", 2: "no complaint"}) == complaints["text_label"]
    ).all()
    for column, labels in LABELLINGS.items():
        assert set(complaints[column]) == labels


@pytest.mark.parametrize("column", list(LABELLINGS))
def test_complaints_are_stratified(complaints, column):
    """Every label has about the same share in every split (3 rows of 50 may differ)."""
    shares = complaints.groupby("split")[column].value_counts(normalize=True).unstack()
    assert (shares.max() - shares.min()).max() <= 0.06


def test_no_two_complaints_are_near_duplicates(complaints):
    """Largest Jaccard similarity of character 5-grams, opening words, and unequal texts."""
    texts = complaints["Tweet text"].str.lower()
    grams = [{text[i : i + 5] for i in range(len(text) - 4)} for text in texts]
    similar = [len(a & b) / len(a | b) for a, b in itertools.combinations(grams, 2)]
    assert max(similar) < 0.35
    assert sum(value > 0.2 for value in similar) < 10
    assert texts.str.split().str[0].value_counts().max() <= 20
    assert texts.is_unique


def test_complaints_are_varied(complaints):
    """Length, emoji, hashtags, mentions; tone does not give the label away; words rarely do."""
    words = complaints["Tweet text"].str.split().str.len()
    assert words.min() <= 5
    assert words.max() >= 35
    for sign, least in (("#", 0.08), ("@", 0.2)):
        assert complaints["Tweet text"].str.contains(sign).mean() > least
    assert (
        complaints["Tweet text"].map(lambda text: any(ord(c) > 0x2600 for c in text)).mean() > 0.1
    )
    shares = (
        complaints.groupby("tone")["text_label"].value_counts(normalize=True).unstack()["complaint"]
    )
    assert shares.between(0.1, 0.75).all()
    assert complaints["Tweet text"].str.contains("complain", case=False).mean() < 0.02


@pytest.mark.parametrize("column", list(LABELLINGS))
def test_each_labelling_is_a_task(column):
    """The chosen labelling stands in `text_label`; the others are not there to be peeked at."""
    task = load_task("complaints", label_column=column)
    assert set(task.labels) == LABELLINGS[column]
    assert task.test.column_names == ["Tweet text", "ID", "Label", "text_label"]
    assert task.template == "Tweet text : {text} Label : "


@pytest.mark.parametrize("skill", LABELLINGS_OF["shop"])
def test_each_skill_of_the_shop_is_a_task(skill):
    """On the same messages, with one column of labels."""
    task, default = load_task("shop", label_column=skill), load_task("shop")
    assert (task.name, default.name) == (f"shop/{skill}", "shop/complaint")
    assert [len(task.split(split)) for split in SPLITS] == [200, 150, 400]
    assert task.template == "Tweet text : {text} Label : "
    for split in SPLITS:
        assert task.split(split).column_names == ["Tweet text", "text_label"]
        assert task.split(split)["Tweet text"] == default.split(split)["Tweet text"]


def test_another_seed_takes_other_rows_of_the_shop_for_training():
    """And leaves the test rows, on which accuracies are compared."""
    first, same, other = (load_task("shop", seed=seed) for seed in (1, 1, 2))
    assert first.train["Tweet text"] == same.train["Tweet text"]
    common = set(first.train["Tweet text"]) & set(other.train["Tweet text"])
    assert len(common) < 50
    assert set(first.test["Tweet text"]) == set(load_task("shop").test["Tweet text"])


def test_a_column_of_texts_is_for_files():
    """The named tasks have their own."""
    with pytest.raises(ValueError, match="text_column= is for files"):
        load_task("shop", text_column="text")


def test_a_users_file_is_split_with_its_shares(write):
    """60 / 15 / 25 %, stratified, the same for the same seed, CSV or JSONL."""
    task = load_task(write(csv_of(ROWS)), seed=3)
    assert [len(task.split(s)) for s in ("train", "validation", "test")] == [24, 6, 10]
    assert task.labels == ("bad", "good")
    assert task.template == "text : {text} Label : "
    lines = "\n".join(json.dumps({"msg": text, "y": label}) for text, label in ROWS)
    again = load_task(write(lines, "mine.jsonl"), text_column="msg", label_column="y", seed=3)
    assert again.test["msg"] == task.test["text"]
    semicolons = write(csv_of(ROWS).replace(",", ";"), "semi.csv")
    assert load_task(semicolons, seed=3).test["text"] == task.test["text"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            csv_of(ROWS).replace("text,", "words,"),
            r"has no column 'text'; it has: 'words', 'label'",
        ),
        ("a.csv", csv_of([*ROWS, ("", "bad")]), r"row 42, column 'text' holds ''"),
        (
            "a.csv",
            csv_of([*ROWS, ("hello there", "")]),
            r"row 42, column 'label' holds ''; every row needs a label",
        ),
        (
            "a.csv",
            csv_of(ROWS) + "one\n",
            r"row 42, .* 'one\\n', cannot be read: 1 fields, where the header has 2\. Put",
        ),
        (
            "a.csv",
            csv_of(ROWS) + "one,two,three\n",
            r"row 42, which begins in line 42 with 'one,two,three\\n', .* 3 fields, .* holds ',' or a",
        ),
        ("a.csv", csv_of(ROWS) + "one,good,\n", r"row 42, .* 3 fields, where the header has 2"),
        (
            "a.csv",
            csv_of(ROWS).replace(",", ";", 1),
            r"row 2, .* 1 fields, where the header has 2\. .* or holds ';'",
        ),
        (
            "a.csv",
            csv_of(ROWS) + '"two\nlines",good\n"five,good\nsix,bad\n',
            r"row 43, which begins in line 44 with '\"five,good\\n', cannot be read: unexpected",
        ),
        ("a.csv", csv_of(ROWS) + '"a" b,bad\n', r"row 42, .* cannot be read: ',' expected after"),
        ("a.csv", csv_of(ROWS) + r'"he \"b\" ",bad', r"row 42, .* cannot be read: ',' expected"),
        ("a.csv", csv_of(ROWS) + '""b"",bad\n', r"row 42, .* cannot be read: ',' expected after"),
        ("a.csv", csv_of(ROWS) + "'a, b',bad\n", r"row 42, .* 3 fields, where the header has 2"),
        ("a.csv", csv_of(ROWS) + "a\rb,bad\n", r"row 42, .* 'a\\r', .* 1 fields"),
        ("a.csv", csv_of(ROWS) + "\x1a", r"row 42, .* '\\x1a', .* 1 fields"),
        ("a.csv", csv_of(ROWS) + "b" * 2**17 + "x,bad\n", r"row 42, .* larger than field limit"),
        ("a.csv", csv_of([*ROWS, ("\u200b\xa0", "bad")]), r"row 42, .* holds '\\u200b\\xa0'; a t"),
        ("a.csv", csv_of(ROWS).encode() + b"caf\xe9,bad\n", r"line 42: byte 0xe9 is not UTF-8"),
        ("a.csv", csv_of(ROWS).encode("utf-16"), r"line 1: byte 0xff is not UTF-8"),
        ("a.csv", "text,label\n", r"holds no rows"),
        ("a.csv", "", r"a\.csv holds no rows"),
        (
            "a.csv",
            csv_of([(text, "good") for text, _ in ROWS]),
            r"has 1 labels, .* 'good', on 40 rows",
        ),
        (
            "a.csv",
            csv_of([*ROWS, ("rare", "odd")]),
            r"has 3 labels, .* 'odd', on 1 rows",
        ),
        ("a.jsonl", '{"text": "a", "label": "b"}\n{"text": ', r"row 2 is no JSON object"),
        ("a.jsonl", "[1, 2]\n", r"row 1 is no JSON object: 1\. Write one object a line, or all"),
        ("a.jsonl", "5\n6\n", r"row 1 is no JSON object: 5\. Write one object a line, or all"),
        ("a.json", '"text"', r"row 1 is no JSON object: 'text'\. Write one"),
        ("a.json", "[[1], [2]]", r"row 1 is no JSON object: \[1\]\. Write one"),
        (
            "a.jsonl",
            '["a", "b"]\n["c", "d"]\n',
            r"is no JSON array: Extra data: line 2 .* Write one",
        ),
        ("a.json", '{\n"text": "a",\n"label": "b"\n}', r"row 1 is no JSON object: .* Write one"),
        ("a.json", "[]", r"a\.json holds no rows"),
        (
            "a.jsonl",
            '{"text": "a", "label": "b", "label": "c"}\n',
            r"row 1 is no JSON object: it names 'label' more than once",
        ),
        (
            "a.json",
            '[{"text": "a", "label": "b", "text": "c"}]',
            r"it names 'text' more than once",
        ),
        ("a.jsonl", '{"text": "x", "label": 1e999}\n', r"row 1, column 'label' holds inf; every"),
        ("a.jsonl", '{"text": 5, "label": "b"}\n', r"row 1, column 'text' holds 5"),
        (
            "a.jsonl",
            '{"text": "x", "label": null}\n',
            r"row 1, column 'label' holds None; every row",
        ),
        (
            "a.jsonl",
            '{"text": "x", "label": NaN}\n',
            r"row 1, column 'label' holds nan; every row needs a label, a word or",
        ),
        (
            "a.csv",
            csv_of([*ROWS, ("hello there", "NaN")]),
            r"row 42, column 'label' holds 'NaN'; every row needs a label",
        ),
        (
            "a.jsonl",
            '{"text": "x", "label": ["b"]}\n',
            r"row 1, column 'label' holds \['b'\]; every row needs a label, a word",
        ),
        (
            "a.jsonl",
            '{"text": "x", "label": ' + "9" * 5000 + "}\n",
            r"row 1 is no JSON object: Exceeds the limit",
        ),
        ("a.jsonl", '{"a":' * 100_000, r"row 1 is no JSON object: maximum recursion"),
        ("a.jsonl", "[" * 100_000, r"is no JSON array: maximum recursion"),
        (
            "a.jsonl",
            '{"text": "x\\ud800", "label": "b"}\n',
            r"row 1, column 'text' holds 'x\\ud800'; a text is needed",
        ),
        (
            "a.jsonl",
            '{"text": "x\\u0000", "label": "b"}\n',
            r"row 1, column 'text' holds 'x\\x00'; a text is needed",
        ),
        (
            "a.csv",
            csv_of(ROWS) + "a\0b,good\n",
            r"line 42: byte 0x00 is not UTF-8 text",
        ),
        ("a.csv", csv_of(ROWS).encode("utf-16-le"), r"line 1: byte 0x00 is not UTF-8 text"),
        ("a.csv", "text,label,text\na,b,c\n", r"row 1 names 'text' more than once"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(write, name, content, message):
    """File, line, column, value."""
    with pytest.raises(LabError, match=message):
        load_task(write(content, name))


def test_a_line_ends_where_the_format_says(write):
    """Not at a form feed, a Unicode line separator or the like, which a text may hold."""
    rows = [(f"{text} one\u2028two\x0cthree\x85four", label) for text, label in ROWS]
    lines = "\n".join(
        json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows
    )
    for path in (write(csv_of(rows)), write(lines, "mine.jsonl")):
        task = load_task(path)
        assert sorted(t for s in SPLITS for t in task.split(s)["text"]) == sorted(
            text for text, _ in rows
        )
    old = csv_of(ROWS).replace("\n", "\r")
    assert load_task(write(old)).test["text"] == load_task(write(csv_of(ROWS))).test["text"]


def test_a_column_cannot_be_both(write):
    """Nor can the texts stand where the labels will."""
    for columns in ({"text_column": "label"}, {"text_column": "text_label"}):
        with pytest.raises(LabError, match="is the column of the labels"):
            load_task(write(csv_of(ROWS)), **columns)


def _sparse(path):
    """More than is read, without filling the disk."""
    with open(path, "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "is no plain file"),
        (os.mkdir, "is no plain file"),
        (
            lambda path: os.symlink("/dev/zero", path),
            "is a link that leaves its folder, to /dev/zero",
        ),
        (lambda path: os.symlink("/etc/hostname", path), "is a link that leaves its folder"),
        (lambda path: os.symlink(path, path), "cannot be opened"),
        (
            lambda path: os.symlink(f"{path}.gone", path),
            "does not exist; give the path of a CSV or JSONL file",
        ),
        (_sparse, "100,000,001 bytes is too large"),
    ],
    ids=["pipe", "folder", "device", "link", "loop", "dangling", "huge"],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_what_is_no_plain_file_is_not_read(tmp_path, name, make, message):
    """Nothing waits for ever, and nothing outside is shown in a message."""
    make(tmp_path / name)
    with pytest.raises(LabError, match=message):
        load_task(tmp_path / name)


def test_a_message_shows_the_start_of_a_value(write):
    """Not all of it."""
    path = write(json.dumps({"x" * 10_000: 1} | {f"column {n}": 1 for n in range(1000)}), "a.jsonl")
    with pytest.raises(LabError, match="has no column") as raised:
        load_task(path)
    assert len(str(raised.value)) < 1000


CELLS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.just("good")
)
LINES = st.lists(
    st.dictionaries(st.sampled_from(["text", "label", "x"]), CELLS | st.lists(CELLS), max_size=3)
)
FEW = settings(
    max_examples=100, deadline=20_000, suppress_health_check=list(HealthCheck), database=None
)


def only_lab_errors(path) -> None:
    """A task with its rows, or a LabError that names the file."""
    try:
        task = load_task(path)
    except LabError as error:
        if str(path) not in str(error):
            raise
        return
    assert len(task.labels) > 1
    assert all(
        label in task.labels for split in SPLITS for label in task.split(split)["text_label"]
    )


@pytest.mark.filterwarnings("ignore")
@FEW
@given(table=LINES, good=st.booleans())
def test_any_json_lines(tmp_path_factory, table, good):
    """Rows of any JSON, behind good ones or alone."""
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    rows = [{"text": text, "label": label} for text, label in ROWS] if good else []
    path.write_text("\n".join(map(json.dumps, rows + table)))
    only_lab_errors(path)


@pytest.mark.filterwarnings("ignore")
@FEW
@given(name=st.sampled_from(["any.csv", "any.jsonl"]), edits=EDITS)
def test_damaged_tables(tmp_path_factory, name, edits):
    """Bytes changed, cut off, put in or left out."""
    lines = "\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS)
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(damaged((csv_of(ROWS) if name.endswith("csv") else lines).encode(), edits))
    only_lab_errors(path)


SIGNS = st.text("\",;\t '\\aé\u2028\ufeff", max_size=6)
BREAKS = st.text("\",;\t '\\aé\u2028\n\r", max_size=6)
HEADERS = (
    ["text label", "label text", "x label text -"],
    ["text label text", "text", "text label -"],
)
ENCODINGS = ["utf-8", "utf-8-sig"], ["utf-16", "utf-16-le", "utf-32", "cp1252"]
WRITERS = [(csv.QUOTE_MINIMAL, "\r\n"), (csv.QUOTE_ALL, "\n"), (csv.QUOTE_ALL, "\r")]


def read_table(path, content: bytes) -> tuple[list[tuple[str, str]], bool]:
    """Text and label of the rows as they are read, and whether some are said to stand in a field of another."""
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        table = read_labelled(path, "text", "label")
    told = any("look like rows of their own" in str(warning.message) for warning in seen)
    return list(table.itertuples(index=False, name=None)), told


def written_rows(path, case) -> None:
    """What csv.writer writes is read, whatever is in the texts."""
    parts, labels, separator, (quoting, end), mark = case
    rows = [
        (f"{before}{n}{after}", label)
        for n, ((before, after), label) in enumerate(zip(parts, labels, strict=False))
    ]
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end)
    writer.writerows([("text", "label"), *rows])
    found, _ = read_table(path, file.getvalue().encode("utf-8-sig" if mark else "utf-8"))
    assert found == [(text.strip(), label) for text, label in rows]


def joined_rows(path, case) -> None:
    """Lines put together without quoting: each is the row that csv finds in it alone, or something is said."""
    parts, labels, separator, names, (end, encoding) = case
    lines = []
    for n, ((before, after), label) in enumerate(zip(parts, labels, strict=False)):
        cells = {"text": f"{before}{n}{after}", "label": label, "-": ""}
        lines.append(separator.join(cells.get(name, "x") for name in names.split()))
    header = separator.join("" if name == "-" else name for name in names.split())
    try:
        content = end.join([header, *lines, ""]).encode(encoding)
        found, told = read_table(path, content)
    except (LabError, UnicodeEncodeError):
        return
    options = {"delimiter": separator, "skipinitialspace": True}
    alone = [next(csv.DictReader([header, line], **options)) for line in lines]
    assert told or found == [(row["text"].strip(), row["label"].strip()) for row in alone]


def most_of(choices: tuple[list[str], list[str]]):
    """Nearly always one of the first, so that what else is wrong with a table is reached."""
    usual, other = map(st.sampled_from, choices)
    return st.integers(0, 9).flatmap(lambda n: other if n == 9 else usual)


LABELS_OF_ROWS = st.lists(st.sampled_from(["good", "bad"]), min_size=9, max_size=9)
MARKS = st.sampled_from(["", "a", '"']) | st.sampled_from(["", '""', "'"]) | SIGNS
PARTS = st.lists(st.tuples(MARKS, MARKS), min_size=1, max_size=9)
TABLES = {
    "written": (
        written_rows,
        st.tuples(
            st.lists(st.tuples(BREAKS, BREAKS), min_size=1, max_size=9),
            LABELS_OF_ROWS,
            st.sampled_from(",;\t"),
            st.sampled_from(WRITERS),
            st.booleans(),
        ),
    ),
    "joined": (
        joined_rows,
        st.tuples(
            PARTS.map(lambda parts: [("a", "b"), ("a", "b"), *parts]),
            LABELS_OF_ROWS.map(lambda labels: ["good", "bad", *labels]),
            st.sampled_from(",;\t"),
            most_of(HEADERS),
            st.tuples(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]), most_of(ENCODINGS)),
        ),
    ),
}


def fuzz_tables(kind: str, path, examples: int) -> None:
    """So many tables of a kind."""
    check, strategy = TABLES[kind]

    @settings(FEW, max_examples=examples)
    @given(case=strategy)
    def run(case):
        check(path, case)

    run()


@pytest.mark.parametrize("kind", TABLES)
def test_no_row_is_lost_without_a_word(tmp_path, kind):
    """A few tables in every run."""
    fuzz_tables(kind, tmp_path / "any.csv", 100)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", TABLES)
def test_no_row_of_many_tables_is_lost_without_a_word(tmp_path, kind):
    """As many of each kind as SOFTPROMPT_LAB_FUZZ says."""
    fuzz_tables(kind, tmp_path / "any.csv", int(os.environ.get("SOFTPROMPT_LAB_FUZZ", "1000")))


def texts_of(task) -> list[str]:
    """The texts of all splits, sorted."""
    return sorted(text for split in SPLITS for text in task.split(split)[task.text_column])


def warned(path, **options) -> list[str]:
    """What load_task warns of, each of which names the line that called it."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        load_task(path, **options)
    assert {warning.filename for warning in seen} <= {__file__}
    return [str(warning.message) for warning in seen]


def test_repeated_texts_are_left_out_with_a_warning(write):
    """So that no test text was trained on."""
    with pytest.warns(UserWarning, match="2 rows repeat the text .* on; 2 with the same label"):
        task = load_task(write(csv_of([*ROWS, *ROWS[:2]])))
    assert sum(len(task.split(s)) for s in ("train", "validation", "test")) == len(ROWS)


def test_a_text_with_two_labels_is_named(write):
    """In other spaces and another Unicode form too; the first row of the text stays."""
    rows = [*ROWS, ("caf\u00e9 au lait", "good")]
    again = [("cafe\u0301  au\u00a0lait\u200b", "bad"), ROWS[3], (f" {ROWS[0][0]} ", "good")]
    (said,) = warned(write(csv_of(rows + again)))
    assert "3 rows repeat the text" in said
    labels = (
        "1 with the same label, 2 with another label: row 43 has 'bad', row 42 'good'; correct one"
    )
    assert labels in said
    with pytest.warns(UserWarning, match="repeat the text"):
        task = load_task(write(csv_of(rows + again)))
    assert texts_of(task) == sorted(text for text, _ in rows)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("good", "Good"),
        ("straße", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("fine", "\ufb01ne"),
        ("12", "\uff11\uff12"),
        ("good", "\ufeffgood"),
        ("good", "go\u200bod"),
        ("good", "go\u00adod"),
        ("good", "\u202egood"),
        ("good", "go\x07od"),
        ("\U0001f44d", "\U0001f44d\ufe0f"),
        ("so so", "so\u00a0so"),
        ("so so", "so  so"),
        ("so so", "so\tso"),
        ("so-so", "so\u2011so"),
        ("don't", "don\u2019t"),
        ("good", "'good'"),
        ("good", "g\u043e\u043ed"),
        ("OK", "\u041eK"),
        ("iyi", "\u0130Y\u0130"),
        ("1", "1.0"),
        ("1", "01"),
        ("1e3", "1000"),
        ("true", "True"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_labels_that_look_alike_are_told_with_their_first_rows(write, name, one, other):
    """And stay apart: what is meant is for the user to say."""
    rows = [(f"message {n}", [one, other, "bad"][n % 3]) for n in range(45)]
    lines = "\n".join(json.dumps({"text": text, "label": label}) for text, label in rows)
    path = write(csv_of(rows) if name == "a.csv" else f"\n{lines}", name)
    (said,) = warned(path)
    assert f"{one!a} (row 2) and {other!a} (row 3). Each row is the first" in said
    with pytest.warns(UserWarning, match="look alike"):
        assert set(load_task(path).labels) == {one, other, "bad"}


@pytest.mark.parametrize(
    "labels",
    [
        ["good", "bad"],
        ["complaint", "no complaint"],
        ["-1", "1"],
        ["1.5", "15"],
        ["cafe", "caf\u00e9"],
        ["snan", "inf"],
        ["12345678901234567890123456789012", "12345678901234567890123456789013"],
        ["1e999999999", "1e-999999999"],
        ["\U0001f3f4\U000e0067\U000e0062\U000e007f", "\U0001f3f4\U000e0066\U000e0072\U000e007f"],
    ],
    ids=ascii,
)
def test_labels_that_differ_are_not_said_to_look_alike(write, labels):
    """Numbers as exact as they are written; flags of regions, which differ in signs without a look of their own."""
    assert not warned(write(csv_of([(text, labels[n % 2]) for n, (text, _) in enumerate(ROWS)])))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1, "1", 1.0, 2], ("1", "2")),
        ([True, "true", False], ("false", "true")),
        ([0.5, "0.5", 2], ("0.5", "2")),
    ],
)
def test_one_value_of_json_is_one_label(write, values, labels):
    """However it is written, without a word."""
    rows = [{"text": f"message {n}", "label": values[n % len(values)]} for n in range(60)]
    path = write("\n".join(map(json.dumps, rows)), "a.jsonl")
    assert not warned(path)
    assert load_task(path).labels == labels


@pytest.mark.parametrize(
    ("lost", "row", "line"),
    [
        ('"never,bad\nagain",good\n', 42, "never,bad"),
        ('"never,bad\nplain,good\nat all",good\n', 42, "never,bad"),
        ('"never,bad\r\na, b",good\r\n', 42, "never,bad"),
        ('"never, ever,bad\nagain",good\n', 42, "never, ever,bad"),
        ('plain,"good\nplainer,bad"\n', 42, "plainer,bad"),
        ('fine,good\n"he said ""no"",bad\nagain",good\n', 43, 'he said "no",bad'),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_rows_in_a_quoted_field_are_told(write, separator, lost, row, line):
    """A stray quotation mark takes in the rows up to the next one; where that one ends a text, the CSV is valid."""
    path = write((csv_of(ROWS) + lost).replace(",", separator))
    shown = repr(line.replace(",", separator))
    said = f"lines in quoted fields look like rows of their own, the first in row {row}: {shown}"
    told = pytest.warns(UserWarning, match=re.escape(said))
    with told, contextlib.suppress(LabError):  # a label of two lines has too few rows
        load_task(path)


def test_a_text_of_several_lines_is_one_row(write):
    """Whether the label stands behind it or before it, and with separators in it."""
    rows = [(f'Dear sir, \n{text},\r\n"please"; good', label) for text, label in ROWS]
    turned = pd.DataFrame(rows, columns=["text", "label"])[["label", "text"]].to_csv(index=False)
    for content in (csv_of(rows), turned):
        path = write(content.encode())
        assert not warned(path)
        assert texts_of(load_task(path)) == sorted(text for text, _ in rows)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    "header", ["text{}label{}a,b;c", '"a, b;c;d"{}text{}label', "text{} label{}a"]
)
def test_the_separator_is_that_of_the_columns_asked_for(write, separator, header):
    """Whatever other separators the header holds; blanks behind one are not part of a field."""
    head = header.format(separator, separator)
    cells = {"text": 0, " label": 1, "label": 1}
    names = next(csv.reader([head], delimiter=separator))
    lines = [
        separator.join(f' "{row[cells[name]]}"' if name in cells else "x" for name in names)
        for row in ROWS
    ]
    path = write("\n".join([head, *lines, "", separator * (len(names) - 1), ""]))
    assert not warned(path)
    task = load_task(path)
    assert texts_of(task) == sorted(text for text, _ in ROWS)
    assert task.labels == ("bad", "good")


def test_columns_without_a_name_are_passed_over(write):
    """A spreadsheet writes one for each separator at the end of its rows."""
    path = write("".join(f"{line},,\n" for line in csv_of(ROWS).splitlines()))
    assert texts_of(load_task(path)) == sorted(text for text, _ in ROWS)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_an_array_of_objects_is_a_table(write, name, indent):
    """Numbered by place; NaN in another column does no harm."""
    rows = [{"text": text, "label": label, "x": float("nan")} for text, label in ROWS]
    assert texts_of(load_task(write(json.dumps(rows, indent=indent), name))) == sorted(
        text for text, _ in ROWS
    )
    with pytest.raises(LabError, match="row 41, column 'label' holds None"):
        load_task(write(json.dumps([*rows, {"text": "x"}], indent=indent), name))


def test_a_path_may_begin_with_a_tilde(write, monkeypatch):
    """As a shell writes the home folder; of a user that is not there, it is said."""
    monkeypatch.setenv("HOME", str(write(csv_of(ROWS)).parent))
    assert len(load_task("~/mine.csv").train) == 24
    with pytest.raises(LabError, match=r"~nobody_here/mine\.csv does not exist"):
        load_task("~nobody_here/mine.csv")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "complaint",
            {},
            "there is no task 'complaint'; choose one of: complaints, shop, twitter_complaints",
        ),
        (
            "complaints",
            {"label_column": "mood"},
            "no labelling 'mood'; choose one of: text_label, topic, tone",
        ),
        (
            "shop",
            {"label_column": "text_label"},
            "shop has no labelling 'text_label'; choose one of: complaint, topic, tone, urgent",
        ),
        ("nowhere.csv", {}, "nowhere.csv does not exist; give the path"),
    ],
)
def test_unknown_names_say_what_there_is(name, options, message):
    """And what to choose."""
    with pytest.raises(LabError, match=message):
        load_task(name, **options)


def test_raft_without_a_network_says_what_else_there_is():
    """The hub is not reached in tests (HF_HUB_OFFLINE)."""
    with pytest.raises(LabError, match='"complaints" has the same form'):
        load_task("twitter_complaints")


def test_an_instruction_names_the_labels():
    """What a TEXT start says, and what a prompt is compared with when it is read back."""
    assert load_task("complaints").instruction == "Classify the text as complaint or no complaint:"
    tone = load_task("complaints", label_column="tone")
    assert tone.instruction == "Classify the text as angry, calm, happy or ironic:"


@pytest.mark.filterwarnings("error")
def test_a_template_has_one_place_for_the_text():
    """And braces in a text do no harm, nor those around more than a name."""
    task = load_task("complaints")
    assert task.with_template("{text} = ").prompt("{x} {text}") == "{x} {text} = "
    assert task.with_template('{"q": "{text}", "a": ').prompt("hm") == '{"q": "hm", "a": '
    for template in ("no place", "{Text}", "{ text }", "{text} {text}", "{}"):
        with pytest.raises(ValueError, match="exactly once"):
            task.with_template(template)


@pytest.mark.parametrize("place", ["{label}", "{{text}}", "{ tweet }", "{}", "{text}}", "{0}"])
def test_what_looks_like_another_place_is_told(place):
    """As format strings and Jinja have them: here it stands in front of the model as it is."""
    template = place if "{text}" in place else f"{{text}} is {place}"
    task = load_task("complaints")
    with pytest.warns(UserWarning, match=re.escape(f"template: {place} is shown as it stands")):
        assert task.with_template(template).prompt("a") == template.replace("{text}", "a")
