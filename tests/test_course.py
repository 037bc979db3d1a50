"""The course machinery: settings, checks that teach, hints, comparisons."""

import pytest
import torch

from softprompt_lab import course
from softprompt_lab.course import check, checks, compare, exercise, exercise_ids, hint, settings
from softprompt_lab.embedding import concatenate_prompt
from softprompt_lab.errors import LabError


def behind(x, prompt):
    return torch.cat([x, prompt.expand(len(x), -1, -1)], dim=1)


def first_row_only(x, prompt):
    rest = torch.zeros(len(x) - 1, *prompt.shape, dtype=x.dtype)
    return torch.cat([torch.cat([prompt[None], rest]), x], dim=1)


def wrong_dtype(x, prompt):
    return torch.cat([prompt.expand(len(x), -1, -1), x.float()], dim=1)


def detached(x, prompt):
    return torch.cat([prompt.data.to(x.dtype).expand(len(x), -1, -1), x], dim=1)


def scaled(x, prompt):
    return concatenate_prompt(x, 2 * prompt)


def mixed_rows(x, prompt):
    return concatenate_prompt(x.flip(0), prompt)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (behind, "stands behind the text"),
        (first_row_only, "row 1 does not"),
        (wrong_dtype, "bfloat16 input your result is float32"),
        (detached, "gradient"),
        (scaled, "enter unchanged"),
        (mixed_rows, "row i must keep its own text"),
        (lambda x, prompt: x, "the prompt is missing"),
        (lambda x, prompt: prompt.expand(len(x), -1, -1), "the text is missing"),
        (lambda x, prompt: torch.cat([prompt, x[0]]), "one row came back"),
        (lambda x, prompt: (x, prompt), "Return one tensor"),
        (lambda x, prompt: torch.cat([prompt, x], dim=1), "stopped with RuntimeError"),
    ],
)
def test_a_wrong_concatenation_is_told_what_is_wrong(answer, says, capsys):
    assert check("02-1", answer) is course.FAILED
    printed = capsys.readouterr().out
    assert says in printed
    assert printed.startswith("02-1 not yet.")
    assert 'hint("02-1")' in printed


def test_the_package_passes_its_own_exercise(capsys):
    assert check("02-1", concatenate_prompt) is course.PASSED
    assert capsys.readouterr().out.startswith("02-1 passed. ")


def stub(x, prompt):
    """A stub as the notebooks have it."""


def unwritten(x, prompt):
    raise NotImplementedError


@pytest.mark.parametrize("answer", [..., None, (..., 3), stub, unwritten, lambda x, prompt: ...])
def test_a_stub_left_alone_is_no_failure(answer, capsys, monkeypatch):
    monkeypatch.delenv("SOFTPROMPT_LAB_STRICT", raising=False)
    verdict = check("02-1", answer)
    assert verdict is course.NOT_ATTEMPTED
    assert not verdict
    assert "not attempted yet" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [..., behind, stub])
def test_a_solved_notebook_stops_at_a_check_that_does_not_pass(answer, monkeypatch):
    monkeypatch.setenv("SOFTPROMPT_LAB_STRICT", "1")
    with pytest.raises(AssertionError, match="02-1"):
        check("02-1", answer)
    assert check("02-1", concatenate_prompt)


def test_an_unknown_exercise_names_the_known_ones():
    with pytest.raises(LabError, match=r"'02-99'.*02-1"):
        check("02-99", 1)
    with pytest.raises(LabError, match="none"):
        hint("77-1")


def test_a_hint_is_printed_on_demand(capsys):
    hint("02-1")
    assert "expand" in capsys.readouterr().out


def test_an_exercise_is_registered_by_its_id(monkeypatch, capsys):
    monkeypatch.setattr(checks, "_REGISTRY", {})
    monkeypatch.setattr(checks, "tables", lambda: {"99-1": {"passed": "Three."}})

    @exercise("99-1")
    def three():
        """Return three.

        Count to three.
        """
        return 3

    assert exercise_ids("99") == ["99-1"]
    assert check("99-1", 3)
    assert not check("99-1", 4)
    assert "Your answer is 4. Right is 3." in capsys.readouterr().out
    hint("99-1")
    assert capsys.readouterr().out == "Hint for 99-1: Count to three.\n"


IDS = [key for chapter in range(7) for key in exercise_ids(f"{chapter:02d}")]
WRONG = [(key, wrong) for key in IDS for wrong in checks.tables()[key].get("wrong", {})]


def test_every_exercise_has_its_table():
    assert sorted(checks.tables()) == IDS


@pytest.mark.parametrize("exercise_id", IDS)
def test_the_right_answer_passes(exercise_id, capsys):
    """And none of its faults is found in it."""
    assert check(exercise_id, checks.find_exercise(exercise_id).right)
    assert checks.tables()[exercise_id]["passed"] in capsys.readouterr().out


@pytest.mark.parametrize(("exercise_id", "wrong"), WRONG)
def test_a_wrong_answer_hears_its_advice(exercise_id, wrong, capsys):
    entry = checks.find_exercise(exercise_id)
    assert check(exercise_id, lambda *case: entry.evaluate(wrong, case)) is course.FAILED
    assert checks.tables()[exercise_id]["wrong"][wrong] in capsys.readouterr().out


def test_a_verdict_shows_nothing_at_the_end_of_a_cell():
    from IPython.core.formatters import DisplayFormatter

    formatter = DisplayFormatter()
    formatter.ipython_display_formatter.enabled = True
    assert formatter.format(course.FAILED) == ({}, {})


def test_compare_prints_exact_near_and_far(capsys):
    ours = torch.tensor([1.0, 2.0])
    assert compare("same", ours, ours)
    assert compare("near", ours, ours + 1e-6)
    assert not compare("far", ours, [1.0, 2.5])
    assert not compare("shape", ours, ours[None])
    assert not compare("nan", ours, [1.0, float("nan")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "same: exact yes | within 1e-05 yes | largest difference 0"
    assert lines[1].startswith("near: exact no | within 1e-05 yes | largest difference 9.5")
    assert lines[2] == "far: exact no | within 1e-05 no | largest difference 0.5"
    assert lines[3] == "shape: shapes differ, ours (2,), theirs (1, 2)"
    assert lines[4] == "nan: exact no | within 1e-05 no | largest difference nan"


def test_settings_follow_the_environment(monkeypatch):
    monkeypatch.delenv("SOFTPROMPT_LAB_FAST", raising=False)
    assert (settings().fast, settings().base, settings().task) == (False, "smollm2", "complaints")
    assert settings().steps(100) == 100
    monkeypatch.setenv("SOFTPROMPT_LAB_FAST", "1")
    assert (settings().fast, settings().base, settings().task) == (True, "tiny", "shop")
    assert [settings().steps(n) for n in (10, 50, 100, 300)] == [10, 50, 50, 150]
