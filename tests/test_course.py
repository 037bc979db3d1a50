"""The course machinery: settings, checks that teach, hints, progress, comparisons."""

import json
import threading
from datetime import date
from pathlib import Path

import pytest
import torch

from softprompt_lab import course
from softprompt_lab.course import (
    ballot,
    check,
    checks,
    compare,
    exercise,
    exercise_ids,
    hint,
    progress,
    record,
    settings,
)
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


def begun(x, prompt):
    """A stub that gives the reader a constant, as 01-2 does."""
    z = 1.96  # noqa: F841


STUBS = [..., None, (..., 3), stub, unwritten, begun, lambda x, prompt: ...]


@pytest.mark.parametrize("answer", STUBS)
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


def forgotten(x, prompt):
    torch.cat([prompt.expand(len(x), -1, -1), x], dim=1)


class Forgotten:
    def __call__(self, x, prompt):
        pass


def unfit(x, prompt):
    return x.unfit()


def test_a_forgotten_return_is_no_stub(capsys, monkeypatch):
    """Nor is an error of torch whose kind is that of a stub."""
    for answer in (forgotten, Forgotten()):
        assert check("02-1", answer) is course.FAILED
        printed = capsys.readouterr().out
        assert "not yet. Your function returns None: is there a `return`?" in printed
    monkeypatch.setattr(
        torch.Tensor, "unfit", lambda x: (_ for _ in ()).throw(NotImplementedError()), raising=False
    )
    assert check("02-1", unfit) is course.FAILED
    assert "stopped with NotImplementedError" in capsys.readouterr().out


@pytest.mark.parametrize("ask", [lambda name: check(name, 1), hint])
def test_an_unknown_exercise_names_the_known_ones(ask, capsys, monkeypatch):
    """In one sentence, and without a traceback; where checks are strict, as an error."""
    for name, says in (
        ("02-99", "one of: 02-1, 02-2, 02-3, 02-4."),
        ("2-1", "one of: 02-1,"),
        ("seven", "00-1, 00-2"),
    ):
        assert not ask(name)
        printed = capsys.readouterr().out
        assert printed.startswith(f"There is no exercise {name!r}; choose")
        assert says in printed
    monkeypatch.setenv("SOFTPROMPT_LAB_STRICT", "1")
    with pytest.raises(LabError, match=r"'02-99'.*02-1"):
        ask("02-99")


# ---------------------------------------------------------------------------------------------------------- progress


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """The file of progress of a test of its own, not there yet, without the tests' strictness."""
    monkeypatch.setenv("SOFTPROMPT_LAB_DATA", str(tmp_path / "mine"))
    monkeypatch.delenv("SOFTPROMPT_LAB_STRICT", raising=False)
    record.warn_once.cache_clear()
    return tmp_path / "mine" / "progress.json"


def test_progress_outlives_a_failure_and_not_a_reset(kept, capsys, monkeypatch):
    """A pass keeps its day; a stub and a strict check leave nothing."""
    check("02-1", stub)
    assert not kept.exists()
    check("02-1", concatenate_prompt)
    monkeypatch.setattr(record, "date", type("Later", (date,), {"today": lambda: date(2090, 1, 2)}))
    check("02-1", behind)
    check("02-2", lambda ids, mask: ids)
    today = date.today().isoformat()
    assert json.loads(kept.read_text()) == {
        "02-1": {"passed": today, "tried": "2090-01-02"},
        "02-2": {"tried": "2090-01-02"},
    }
    monkeypatch.setenv("SOFTPROMPT_LAB_STRICT", "1")
    check("02-4", checks.find_exercise("02-4").right)
    capsys.readouterr()
    progress()
    shown = capsys.readouterr().out
    assert shown.startswith(f"1 of {len(IDS)} exercises passed. Kept in {kept}")
    (line,) = [line for line in shown.splitlines() if line.startswith("02")]
    assert line.split() == [
        *("02", "passed", today, "tried", "2090-01-02"),
        *("not", "attempted", "not", "attempted"),
    ]
    assert max(map(len, shown.splitlines()[1:])) <= 80
    progress(reset=True)
    assert capsys.readouterr().out.startswith("0 of ")
    assert not kept.exists()


@pytest.mark.parametrize(
    "content", [b"\xff{", b"[1]", b'{"02-1": "passed"}', b'{"02-1": {"passed": 3}}']
)
def test_a_damaged_file_of_progress_is_said_and_put_aside(kept, content):
    kept.parent.mkdir()
    kept.write_bytes(content)
    with pytest.warns(
        UserWarning, match=r"kept as progress.damaged.json, and your progress starts"
    ):
        assert check("02-1", concatenate_prompt)
    assert list(json.loads(kept.read_text())) == ["02-1"]
    assert kept.with_suffix(".damaged.json").read_bytes() == content


@pytest.mark.filterwarnings("always")
def test_a_disk_that_takes_nothing_stops_no_check(kept, recwarn):
    """And is said once."""
    kept.parent.write_text("a file where the folder would be")
    assert check("02-1", concatenate_prompt)
    assert check("02-1", concatenate_prompt)
    assert [str(found.message).split(",")[0] for found in recwarn] == ["Your progress is not kept"]
    progress()


def test_two_notebooks_do_not_lose_each_others_lines(kept):
    """Each reads again before it writes, while the other waits."""
    names = [f"99-{number}" for number in range(24)]
    tasks = [threading.Thread(target=record.record, args=(name, course.PASSED)) for name in names]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()
    assert sorted(json.loads(kept.read_text())) == sorted(names)
    assert {path.name for path in kept.parent.iterdir()} <= {"progress.json", "progress.lock"}


# ------------------------------------------------------------------------------------------------ hints and exercises


def test_a_hint_is_printed_on_demand(capsys):
    hint("02-1")
    assert "expand" in capsys.readouterr().out


def test_an_exercise_is_registered_by_its_id(monkeypatch, capsys):
    monkeypatch.setattr(checks, "_REGISTRY", {})
    monkeypatch.setattr(checks, "tables", lambda: {"99-1": {"passed": "Three."}})

    @exercise("99-1")
    def three():
        """Return three.

        Count.

        To three.
        """
        return 3

    assert exercise_ids("99") == ["99-1"]
    assert check("99-1", 3)
    assert not check("99-1", 4)
    said = capsys.readouterr().out
    assert said.index("not yet. Right is 3.") < said.index("Your answer is 4.")
    hint("99-1")
    hint("99-1", 2)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        'Hint 1 of 2 for 99-1: Count. The next: course.hint("99-1", 2).',
        "Hint 2 of 2 for 99-1: To three.",
    ]


IDS = [key for chapter in range(8) for key in exercise_ids(f"{chapter:02d}")]
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


TRIES = [(key, tried) for key in IDS for tried in checks.tables()[key].get("tries", {})]


@pytest.mark.parametrize(("exercise_id", "tried"), TRIES)
def test_a_faulty_answer_hears_its_advice(exercise_id, tried, capsys):
    entry = checks.find_exercise(exercise_id)
    assert check(exercise_id, lambda *case: entry.evaluate(tried, case)) is course.FAILED
    assert checks.tables()[exercise_id]["tries"][tried] in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------- votes


@pytest.fixture
def asked(monkeypatch):
    """A vote."""
    options = {"it falls": "You thought of <b> & so on.", "it rises": "It does not."}
    table = {"99-a": {"question": "What does the loss do?", "options": options}}
    monkeypatch.setattr(ballot, "written", lambda: table)
    return lambda: ballot.Ballot("99-a", **table["99-a"])


def test_a_vote_is_kept_and_answered(kept, asked):
    """Once it is cast the answers are there, the chosen one open, also on another day."""
    paper = asked()
    _, rises = paper._options.children
    assert " open" not in paper.still()
    rises.click()
    opened = "<details open><summary>✓ You said: it rises</summary><p >It does not.</p>"
    assert opened in paper.still()
    assert opened in paper._told.value
    assert "You thought of &lt;b&gt; &amp; so on." in paper.still()
    assert json.loads(kept.read_text()) == {"99-a": {"it rises": date.today().isoformat()}}
    again = asked()
    assert opened in again.still()
    assert again._options.layout.display == "none"


def test_an_unknown_vote_names_the_known_ones(asked):
    with pytest.raises(LabError, match="no vote '99-b'; choose one of: 99-a"):
        course.vote("99-b")


def test_every_vote_has_two_to_four_options_and_an_answer_to_each():
    for key, table in checks.written().items():
        if "question" in table:
            assert 2 <= len(table["options"]) <= 4, key
            assert all(map(str.strip, table["options"].values())), key


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
