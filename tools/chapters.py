"""From a percent script to the learner's notebook and to the solved one, both without outputs.

A source is a jupytext percent script in `notebooks/source/`. In it, `### BEGIN SOLUTION` and `### END SOLUTION` enclose
what a learner is to write, and the heading `## Exercises` opens the part that the solved notebook repeats. Tags:

setup       the solved notebook repeats the cell, since the exercises need it
exercise    an exercise in the middle of the text; the solved notebook has it too
parameters  what makes the chapter long; the cell `fast` behind it has the same names with small values for a trial
check       a claim of the prose, checked; like `fast` it stands in no notebook, the tool runs it

`{{accuracy:.3f}}` in the prose becomes what the expression gives at that place when the chapter is built. Times, links
to the neighbours and what the table says of an exercise are added to the cells that they belong to.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import jupytext
import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from lessons import EXERCISES, Lesson, lesson, read_built, tables
from nbformat import NotebookNode

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = "...  # your answer here"
APART = {"check", "fast"}  # tags of cells that stand in no notebook
NUMBER = re.compile(r"\{\{(.+?)\}\}")
HEADING = re.compile(r"^### Exercise (\d\d-\d+).*$", re.MULTILINE)
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}


class NotebookError(Exception):
    """A chapter that cannot be built or run; the message names the chapter, the cell and what went wrong."""


def source_paths(folder: Path, numbers: list[str] | None = None) -> list[Path]:
    """Return the sources of the chapters whose name begins with one of `numbers` (all of them without)."""
    paths = sorted((folder / "source").glob("[0-9][0-9]_*.py"))
    missing = [n for n in numbers or [] if not any(path.name.startswith(n) for path in paths)]
    if missing:
        raise NotebookError(
            f"no source begins with {', '.join(missing)} in {folder.name}/source; there are: "
            f"{', '.join(path.stem for path in paths) or 'none'}"
        )
    return [path for path in paths if not numbers or path.name.startswith(tuple(numbers))]


def notebook_path(source: Path, *, solutions: bool = False) -> Path:
    """Return where the learner's notebook of `source` stands, or its solved one."""
    folder = source.parents[1]
    return (folder / "solutions" if solutions else folder) / f"{source.stem}.ipynb"


def read_source(path: Path) -> NotebookNode:
    """Read a percent script as a notebook without outputs."""
    try:
        return jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    except (nbformat.ValidationError, ValueError) as error:
        raise NotebookError(
            f"{path.name} is no percent script: {str(error).splitlines()[0]}"
        ) from error


def _read_names(code: str) -> set[str]:
    """Return the names that a cell reads."""
    tree = ast.parse(TransformerManager().transform_cell(code))
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Load)}


def _bound_names(code: str) -> list[str]:
    """List the names that the statements of `code` bind: functions, classes, assignments."""
    names = []
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.append(statement.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            names += [
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            ]
    return list(dict.fromkeys(names))


def _stub(block: list[str], indent: str, rest: str) -> list[str]:
    """Return the lines for a solution: `name = ...` for what the rest of the cell reads, or else `...`."""
    if indent:
        return [indent + STUB]
    wanted = [name for name in _bound_names("\n".join(block)) if name in _read_names(rest)]
    return [f"{name} = {STUB}" for name in wanted] or [STUB]


def strip_solution(code: str) -> str:
    """Replace each solution of a cell by a stub that runs; ValueError or SyntaxError where none can."""
    parts: list[str | tuple[list[str], str]] = []  # a line to keep, or a solution and its indent
    block: list[str] | None = None
    for line in code.splitlines():
        mark = line.strip()
        if mark == BEGIN and block is None:
            block = []
            parts.append((block, line[: len(line) - len(line.lstrip())]))
        elif mark == END and block is not None:
            block = None
        elif mark in (BEGIN, END):
            raise ValueError(f"{mark!r} without its partner")
        else:
            (parts if block is None else block).append(line)
    if block is not None:
        raise ValueError(f"{BEGIN!r} without its partner")
    if all(isinstance(part, str) for part in parts):
        return code
    rest = "\n".join(part if isinstance(part, str) else f"{part[1]}..." for part in parts)
    lines = [
        line for part in parts for line in ([part] if isinstance(part, str) else _stub(*part, rest))
    ]
    return "\n".join(lines)


def _without_marks(code: str) -> str:
    """Drop the solution marks and keep the solution."""
    return "\n".join(line for line in code.splitlines() if line.strip() not in (BEGIN, END))


def tags(cell: NotebookNode) -> set[str]:
    """Return the tags of a cell."""
    return set(cell.metadata.get("tags", []))


def finish(cells: list[NotebookNode], stem: str) -> NotebookNode:
    """Make a notebook of cells with fixed ids and metadata, so that a second build gives the same file."""
    for index, cell in enumerate(cells):
        named = cell.metadata.get("tags")
        cell.metadata = NotebookNode({"tags": named} if named else {})
        cell.id = f"{stem[:2]}-{index:03d}"
    return nbformat.v4.new_notebook(cells=cells, metadata=nbformat.from_dict(METADATA))


def learner_version(cells: list[NotebookNode], source: Path) -> list[NotebookNode]:
    """Return the chapter as a learner opens it: solutions replaced by stubs."""
    for index, cell in enumerate(cells):
        if cell.cell_type == "code":
            try:
                cell.source = strip_solution(cell.source)
            except (ValueError, SyntaxError) as error:
                raise NotebookError(
                    f"{source.stem}, cell {index}: no stub can be made: {error}"
                ) from error
    return cells


def solved_version(cells: list[NotebookNode], source: Path) -> list[NotebookNode]:
    """Return the solved exercises: what is tagged for them, then all from the heading `## Exercises` on."""
    start = next(
        (
            index
            for index, cell in enumerate(cells)
            if cell.cell_type == "markdown" and EXERCISES in cell.source.splitlines()
        ),
        None,
    )
    if start is None:
        raise NotebookError(f"{source.stem}: no cell holds the heading {EXERCISES!r}")
    opening = nbformat.v4.new_markdown_cell(
        f"# {chapter_title(source)}: solutions\n\nFirst the cells that the exercises need, then one solution of each. "
        f"The chapter is [here](../{source.stem}.ipynb)."
    )
    needed = [cell for cell in cells[:start] if tags(cell) & {"setup", "exercise", "fast"}]
    for cell in cells:
        if cell.cell_type == "code":
            cell.source = _without_marks(cell.source)
    return [opening, *needed, *cells[start:]]


def _line(source: Path, beginning: str) -> str:
    """Return what follows in the first line of a source that begins in some way, or its name."""
    lines = source.read_text(encoding="utf-8").splitlines()
    found = (line.removeprefix(beginning) for line in lines if line.startswith(beginning))
    return next(found, source.stem)


def chapter_title(source: Path) -> str:
    """Return a chapter's number and name."""
    return _line(source, "# # ")


def chapter_question(source: Path) -> str:
    """Return the question that a chapter answers."""
    return _line(source, "# **").partition("**")[0]


def neighbours(source: Path) -> str:
    """Return links to the chapters before and after."""
    paths = source_paths(source.parents[1])
    here = paths.index(source)
    links = []
    if here:
        links.append(f"[← {chapter_title(paths[here - 1])}]({paths[here - 1].stem}.ipynb)")
    if here + 1 < len(paths):
        links.append(f"[{chapter_title(paths[here + 1])} →]({paths[here + 1].stem}.ipynb)")
    return " · ".join(links)


def measure(source: Path) -> Lesson:
    """Return a chapter in numbers."""
    return lesson(source, [cell for cell in read_source(source).cells if not tags(cell) & APART])


def fill_numbers(cells: list[NotebookNode], numbers: list[list[str]]) -> None:
    """Put into the prose what its expressions gave; what was not built yet stays an expression."""
    known = iter(numbers)

    def value(found: re.Match) -> str:
        """Return the number at one place."""
        expression, text = next(known, ("", ""))
        return text if expression == found[1] else found[0]

    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = NUMBER.sub(value, cell.source)


def _describe_exercises(cells: list[NotebookNode], chapter: str) -> None:
    """Say below the heading of each exercise of what kind it is, how long it takes and how hard it is."""
    known = tables(chapter)

    def described(found: re.Match) -> str:
        """Return a heading with its line."""
        about = known.get(found[1], {})
        if "kind" not in about:
            return found[0]
        kind, minutes, difficulty = (
            about["kind"].capitalize(),
            about["minutes"],
            about["difficulty"],
        )
        return f"{found[0]}\n\n*{kind}, {minutes} minutes, difficulty {difficulty} of 3.*"

    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = HEADING.sub(described, cell.source)


def make_cells(
    source: Path, *, solutions: bool = False, also: str | None = None, fill: bool = True
) -> list[NotebookNode]:
    """Return the cells of a notebook, whose prose has expressions still unless `fill`.

    `also` keeps the cells tagged "check" or "fast", which are run and not shown.
    """
    cells = [nbformat.from_dict(dict(cell)) for cell in read_source(source).cells]
    shown = [cell for cell in cells if not tags(cell) & APART]
    if not solutions:
        times, links = lesson(source, shown).times(), neighbours(source)
        shown[0].source = "\n\n".join(filter(None, [shown[0].source, times, links]))
        shown[-1].source = "\n\n".join(filter(None, [shown[-1].source, links]))
    if fill:
        fill_numbers(cells, read_built(source).numbers)
    _describe_exercises(cells, source.stem[:2])
    cells = [cell for cell in cells if not tags(cell) & (APART - {also})]
    return (solved_version if solutions else learner_version)(cells, source)


def make_notebook(source: Path, *, solutions: bool = False) -> NotebookNode:
    """Return the learner's notebook of a source, or the solved one, without outputs."""
    return finish(make_cells(source, solutions=solutions), source.stem)
