"""README.md is true: each test that it names exists, and each test of this folder is named."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
ROW = re.compile(
    r"\|\s*(?P<peft>[^|]*?)\s*\|\s*(?P<files>[^|]*?)\s*\| `(?P<file>[\w./]+)::(?P<test>\w+)` \| (?P<verdict>\w+) \|"
)
ROWS = [
    ROW.match(line)
    for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    if "::" in line
]


@cache
def collected(path: Path) -> list[str]:
    """The functions that pytest collects from a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def test_every_row_names_a_test_that_there_is():
    """In a module that pytest collects, once, so that no other of its name hides it."""
    assert len(ROWS) > 60
    assert all(ROWS), (
        "a row has not the form | PEFT's test | in | `module.py::test` | verdict | why |"
    )
    for row in ROWS:
        path = FOLDER / row["file"]
        assert path.name.startswith("test_"), path
        assert collected(path).count(row["test"]) == 1, f"{row['file']}::{row['test']}"
        assert row["verdict"] in ("same", "better", "refused"), row["verdict"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("test_peft_*.py")), ids=lambda path: path.name)
def test_every_test_here_is_in_the_table(path):
    """But for those of the table itself."""
    named = {row["test"] for row in ROWS if row["file"] == path.name}
    assert path == Path(__file__) or set(collected(path)) == named


def test_each_of_pefts_tests_has_a_place():
    """A row without PEFT's name goes on with the one above; none stands twice for the same files."""
    assert ROWS[0]["peft"]
    places = Counter(
        (row["peft"], letter) for row in ROWS if row["peft"] for letter in row["files"].split()
    )
    assert not [place for place, times in places.items() if times > 1]
    assert {letter for _, letter in places} == set("DEFSCIMBU")
