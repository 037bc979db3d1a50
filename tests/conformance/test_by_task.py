"""The table of task types by family is what running it gives."""

import pytest
from by_task import TABLE, cases, line_of


@pytest.mark.parametrize(("task", "family"), cases())
def test_a_row_of_the_table_is_true(task, family):
    """Ours are the plain base model's numbers, and PEFT's are equal just where the table says so."""
    assert line_of(task, family) in TABLE.read_text(encoding="utf-8").splitlines()
