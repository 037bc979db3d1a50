"""The chapters: the builder's parts on a sample, then every chapter that is there."""

import importlib
import json
import sys
from pathlib import Path

import nbformat
import pytest
from pictures import image_in
from typer.testing import CliRunner

from softprompt_lab import course

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
chapters = importlib.import_module("chapters")
lessons = importlib.import_module("lessons")
notebooks = importlib.import_module("notebooks")

SOURCES = chapters.source_paths(notebooks.NOTEBOOKS)
BOTH = [
    pytest.param(s, solved, id=notebooks.title(s, solved))
    for s in SOURCES
    for solved in (False, True)
]
STUBS = [pytest.param(s, False, id=s.stem) for s in SOURCES]
SOLVED = [
    pytest.param(s, True, id=notebooks.title(s, True), marks=pytest.mark.slow) for s in SOURCES
]

SAMPLE = '''# %% [markdown]
# # 02 Sample
# How long is a number?

# %% tags=["setup"]
import os
from pathlib import Path

import torch
from softprompt_lab import plots
from softprompt_lab.course import check
from softprompt_lab.widgets.frame import Content, Instrument

print("working in", os.getcwd())
Path("left-behind.txt").write_text("x")
print(chr(13) + "training: 100%|###| 2/2 [00:00<00:00]")


class Widget(Instrument):
    def content(self):
        return Content("seen", plots.training_curve([2.0, 1.0]))


Widget([])

# %% [markdown]
# How long it takes.

# %% tags=["setup", "parameters"]
STEPS = 100

# %% tags=["fast"]
STEPS = 2

# %% [markdown]
# A picture of {{STEPS}} steps, {{STEPS / 3:.1f}} a row.

# %% tags=["check"]
assert STEPS == 100, "checked"

# %% [markdown]
# See [above](#02-Sample).

# %%
plots.training_curve([2.0, 1.0])

# %% [markdown]
# ## Exercises
#
# ### Exercise 02-1: Write the concatenation

# %%
def concatenate(x, prompt):
    """(B, T, D) and (P, D) -> (B, P+T, D)."""
    ### BEGIN SOLUTION
    rows = prompt.to(x.dtype).expand(len(x), -1, -1)
    return torch.cat([rows, x], dim=1)
    ### END SOLUTION


check("02-1", concatenate)

# %% [markdown]
# And a number.

# %%
### BEGIN SOLUTION
half = 3
answer = 2 * half
### END SOLUTION
print(answer)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of notebooks with one source."""
    (tmp_path / "notebooks" / "source").mkdir(parents=True)
    (tmp_path / "notebooks" / "source" / "02_sample.py").write_text(SAMPLE, encoding="utf-8")
    return tmp_path / "notebooks"


def command(*arguments: object) -> tuple[int, str]:
    """Run tools/notebooks.py and return its exit code and all that it printed."""
    result = CliRunner().invoke(notebooks.app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def rewrite(path: Path, old: str, new: str) -> None:
    """Replace a text in a file that must hold it."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


# --- the parts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "stub"),
    [
        ("a = 1", "a = 1"),
        (
            "def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION\nf(1)",
            "def f(x):\n    ...  # your answer here\nf(1)",
        ),
        (
            "### BEGIN SOLUTION\nb = 2\na, c = b, b\nd = 1\n### END SOLUTION\nprint(a, c)",
            "a = ...  # your answer here\nc = ...  # your answer here\nprint(a, c)",
        ),
        (
            "### BEGIN SOLUTION\ndef f():\n    return 1\n### END SOLUTION\nf",
            "f = ...  # your answer here\nf",
        ),
        ("### BEGIN SOLUTION\nprint(1)\n### END SOLUTION", "...  # your answer here"),
        (
            "%time\nfor i in x:\n    ### BEGIN SOLUTION\n    i\n    ### END SOLUTION\n    i + 1",
            "%time\nfor i in x:\n    ...  # your answer here\n    i + 1",
        ),
        (
            "### BEGIN SOLUTION\na = 1\n### END SOLUTION\na\n### BEGIN SOLUTION\nc = 1\n### END SOLUTION\nc",
            "a = ...  # your answer here\na\nc = ...  # your answer here\nc",
        ),
    ],
)
def test_a_solution_becomes_a_stub(cell, stub):
    assert chapters.strip_solution(cell) == stub


def test_the_letters_of_a_picture_are_no_path():
    """They are neither replaced nor taken for one; what stands beside them is."""
    picture = "data:image/png;base64,AA/home/B+"
    page = {"text/html": f'/home/x <img src="{picture}"> /home/y', "image/png": "/home/"}
    found = notebooks._replace(page, [("/home/", "")])
    assert found == {"text/html": f'x <img src="{picture}"> y', "image/png": "/home/"}


@pytest.mark.parametrize(
    "cell",
    [
        "### BEGIN SOLUTION\na = 1",
        "a = 1\n### END SOLUTION",
        "### BEGIN SOLUTION\n### BEGIN SOLUTION",
    ],
)
def test_marks_without_a_partner_are_refused(cell):
    with pytest.raises(ValueError, match="without its partner"):
        chapters.strip_solution(cell)


def test_a_source_is_named_where_it_is_wrong(folder):
    source = folder / "source" / "02_sample.py"
    rewrite(source, "    ### END SOLUTION\n", "")
    with pytest.raises(chapters.NotebookError, match="02_sample, cell 8"):
        chapters.make_notebook(source)
    rewrite(source, "# ## Exercises", "# ## Practice")
    with pytest.raises(chapters.NotebookError, match="'## Exercises'"):
        chapters.make_notebook(source, solutions=True)


def test_the_solved_notebook_holds_the_setup_and_the_solved_exercises(folder):
    cells = chapters.make_notebook(folder / "source" / "02_sample.py", solutions=True).cells
    assert cells[0].source.startswith("# 02 Sample: solutions")
    assert [cell.metadata.get("tags") for cell in cells[1:3]] == [
        ["setup"],
        ["setup", "parameters"],
    ]
    assert cells[3].source.startswith("## Exercises")
    assert not any(cell.source.startswith("plots.") for cell in cells)
    assert "return torch.cat" in cells[4].source
    assert cells[-1].source == "half = 3\nanswer = 2 * half\nprint(answer)"


def test_an_exercise_says_what_it_asks_for(folder, monkeypatch):
    table = {"kind": "build", "minutes": 5, "difficulty": 2}
    monkeypatch.setattr(chapters, "tables", lambda chapter: {f"{chapter}-1": table})
    cells = chapters.make_notebook(folder / "source" / "02_sample.py").cells
    line = "### Exercise 02-1: Write the concatenation\n\n*Build, 5 minutes, difficulty 2 of 3.*"
    assert line in cells[7].source


def test_paths_of_the_machine_are_found_wherever_they_stand():
    cell = nbformat.v4.new_code_cell(
        "x", outputs=[nbformat.v4.new_output("stream", text=f"in {ROOT}/a\n")]
    )
    cell.outputs.append(
        nbformat.v4.new_output("display_data", {"text/html": f"<a href='{Path.home()}/b'>"})
    )
    cell.outputs.append(
        nbformat.v4.new_output("display_data", {"text/plain": "<object at 0x7f00deadbeef>"})
    )
    found = list(notebooks._cell_problems(nbformat.v4.new_notebook(cells=[cell])))
    assert any(str(ROOT) in line for line in found)
    assert any(str(Path.home()) in line for line in found)
    assert any("memory address" in line for line in found)


# --- build, check, run on a sample --------------------------------------------------------------------------


@pytest.mark.slow
def test_build_check_and_run(folder):
    code, printed = command("build", "--folder", folder, "02")
    assert code == 0, printed
    assert sorted(path.name for path in folder.iterdir()) == [
        "02_sample.ipynb",
        "solutions",
        "source",
    ]
    first = (folder / "02_sample.ipynb").read_bytes()
    notebook = nbformat.reads(first.decode(), as_version=4)
    setup, _, picture, stub, number = (c for c in notebook.cells if c.cell_type == "code")
    told, seen = notebook.cells[0].source, notebook.cells[4].source
    assert "running 1 on two cores" in told
    assert seen == "A picture of 100 steps, 33.3 a row."
    assert "checked" not in first.decode()
    assert setup.outputs[0].text == "working in .\n"
    image, alt = image_in(picture.outputs[0].data["text/html"])
    assert image.format == "PNG"
    assert alt.startswith("Line chart")
    (card,) = stub.outputs
    assert card.data["text/plain"].startswith("02-1 not attempted yet. ")
    assert number.outputs[0].text == "Ellipsis\n"
    _, alone, kept = setup.outputs
    assert alone.data == {"text/plain": "Widget: run this cell in a notebook to use it."}
    assert image_in(kept.data["text/html"])[1].startswith("Line chart")
    assert ">seen</p>" in kept.data["text/html"]
    assert "widgets" not in notebook.metadata
    solved = nbformat.read(str(folder / "solutions" / "02_sample.ipynb"), as_version=4)
    assert "02-1 passed." in json.dumps(solved.cells)
    notebooks.build_notebook(folder / "source" / "02_sample.py")
    assert (folder / "02_sample.ipynb").read_bytes() == first, (
        "a second build must give the same file"
    )
    assert command("check", "--folder", folder)[0] == 0
    code, printed = command("run", "--folder", folder, "--fast")
    assert code == 0
    assert "Time of each chapter" in printed
    assert (folder / "02_sample.ipynb").read_bytes() == first


@pytest.mark.slow
def test_a_failing_cell_is_shown_and_saves_nothing(folder):
    source = folder / "source" / "02_sample.py"
    rewrite(source, "answer = 2 * half", "answer = 2 * whole")
    code, printed = command("build", "--folder", folder)
    assert code == 1
    assert "solutions/02_sample, cell 6: NameError: name 'whole' is not defined" in printed
    assert "answer = 2 * whole" in printed
    assert not (folder / "solutions" / "02_sample.ipynb").exists()
    rewrite(source, "STEPS == 100", "STEPS == 99")
    with pytest.raises(chapters.NotebookError, match="AssertionError: checked"):
        notebooks.run_notebook(source)  # what the prose claims
    rewrite(source, "2 * whole", "6")
    rewrite(source, "return torch.cat([rows, x], dim=1)", "return x")
    with pytest.raises(chapters.NotebookError, match=r"AssertionError: 02-1 not yet\."):
        notebooks.build_notebook(source, solutions=True)  # not passing its check, it is no solution


def test_check_names_what_is_wrong(folder):
    assert command("check", "--folder", folder)[0] == 1  # not built
    assert command("build", "--no-execute", "--folder", folder)[0] == 0
    code, printed = command("check", "--folder", folder)
    assert code == 1
    assert "02_sample: no cell has an output" in printed
    source = folder / "source" / "02_sample.py"
    rewrite(source, "# A picture of", "# The loss of")
    rewrite(source, "#02-Sample", "03_next.ipynb")
    rewrite(source, "half = 3", "\n".join(f"half = {i}" for i in range(30)))
    rewrite(source, "# And a number.", "# ")
    (folder / "07_orphan.ipynb").write_text((folder / "02_sample.ipynb").read_text())
    printed = command("check", "--folder", folder)[1]
    assert "02_sample: cell 4 differs from the source, at 'A picture of {{STEPS}}" in printed
    assert "02_sample: cell 4 has a number that is not built: {{STEPS}}" in printed
    assert "07_orphan.ipynb has no source" in printed
    command("build", "--no-execute", "--folder", folder)
    printed = command("check", "--folder", folder)[1]
    assert "solutions/02_sample: cell 6 has 32 lines of code; at most 25" in printed
    assert "02_sample: cell 10 is code behind code" in printed
    assert "02_sample: a link goes to 03_next.ipynb, which is not there" in printed


def test_a_link_goes_to_a_heading(folder):
    page = folder / "page.md"
    page.write_text(
        "# What is it?\n## Why\n[here](#What-is-it?) [there](other.md#Why) [not](#Why-not)"
    )
    assert list(notebooks.link_problems(page, notebooks.prose(page))) == [
        "a link goes to other.md#Why, which is not there",
        "a link goes to #Why-not, and page.md has no such heading",
    ]


def test_a_picture_without_alt_text_is_found():
    page = '<img src="a"><img alt="" src="b"><img src="c" alt="seen">'
    outputs = [nbformat.v4.new_output("display_data", {"text/html": page})]
    cell = nbformat.v4.new_code_cell("x", outputs=outputs)
    found = list(notebooks._cell_problems(nbformat.v4.new_notebook(cells=[cell])))
    assert found == [
        "cell 0 shows a picture without alt text: use a figure of softprompt_lab.plots"
    ]


def test_a_chapter_is_measured_by_the_rules(folder):
    """Words of the prose and lines of code, without exercises; what is too much or too little is named."""
    source = folder / "source" / "02_sample.py"
    about = chapters.measure(source)
    assert (about.cells, about.words, about.lines, about.figures) == (7, 22, 15, 0)
    broken = about.broken()
    assert broken == ["figures 0, at least 4"]
    rewrite(source, "# How long it takes.", "# " + "word " * 1600)
    assert chapters.measure(source).broken() == ["words 1618, at most 1500", *broken]


def test_an_unknown_chapter_names_the_known_ones(folder):
    code, printed = command("build", "--folder", folder, "13")
    assert code == 1
    assert "no source begins with 13" in printed
    assert "02_sample" in printed


# --- the chapters -------------------------------------------------------------------------------------------


def test_the_first_half_of_the_course_is_there():
    assert {source.name[:2] for source in SOURCES} >= {f"{n:02d}" for n in range(8)}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_chapter_keeps_the_rules_of_the_course(source):
    """All but the minutes of running, which are those of the machine that built it."""
    broken = chapters.measure(source).broken()
    assert [rule for rule in broken if not rule.startswith("running")] == []


def test_the_readme_has_the_chapters_as_they_were_built():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == notebooks.with_table(readme)


@pytest.mark.parametrize(
    "page", [*notebooks.NOTEBOOKS.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=str
)
def test_the_links_of_a_page_go_somewhere(page):
    assert list(notebooks.link_problems(page, notebooks.prose(page))) == []


@pytest.mark.parametrize(("source", "solved"), BOTH)
def test_source_and_notebook_agree_and_are_fit_to_commit(source, solved):
    assert notebooks.problems(source, solutions=solved) == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_chapter_has_checked_exercises_and_its_sections(source):
    text = source.read_text(encoding="utf-8")
    ids = course.exercise_ids(source.name[:2])
    assert len(ids) >= 2
    for exercise_id in ids:
        assert f'check("{exercise_id}"' in text, (
            f"{exercise_id} has a check that the chapter does not call"
        )
    for section in ("## Summary", "## Exercises", "## Sources"):
        assert f"# {section}\n" in text


@pytest.mark.parametrize(("source", "solved"), [*STUBS, *SOLVED])
def test_an_exercise_runs_without_the_cells_above(source, solved, capsys, monkeypatch):
    """Its own cells import what they use; as shipped it is a stub, and solved it passes."""
    monkeypatch.delenv("SOFTPROMPT_LAB_STRICT", raising=False)
    _, cells = lessons.split(chapters.make_notebook(source, solutions=solved).cells)
    checks, names = 0, {}
    for text in [cell.source for cell in cells if cell.cell_type == "code"]:
        exec(text, names)
        if "course.check(" in text:
            said = " passed. " if solved else " not attempted yet. "
            assert said in capsys.readouterr().out, text
            checks, names = checks + 1, {}
    assert checks == len(course.exercise_ids(source.name[:2]))


@pytest.mark.slow
@pytest.mark.parametrize(("source", "solved"), BOTH)
def test_every_chapter_runs_fast(source, solved):
    assert notebooks.run_notebook(source, solutions=solved, fast=True) > 0
