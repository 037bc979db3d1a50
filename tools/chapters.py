"""From a percent script to the learner's notebook and to the solved one, both without outputs.

A source is a jupytext percent script in `notebooks/source/`. In it, `### BEGIN SOLUTION` and
`### END SOLUTION` enclose what a learner is to write, the tag `setup` marks the cells that the exercises
need, and the heading `## Exercises` opens the part that the solved notebook repeats.
"""

from __future__ import annotations

import ast
from pathlib import Path

import jupytext
import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = "...  # your answer here"
EXERCISES = "## Exercises"
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


def _finish(cells: list[NotebookNode], stem: str) -> NotebookNode:
    """Make a notebook of cells with fixed ids and metadata, so that a second build gives the same file."""
    for index, cell in enumerate(cells):
        tags = cell.metadata.get("tags")
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
        cell.id = f"{stem[:2]}-{index:03d}"
    return nbformat.v4.new_notebook(cells=cells, metadata=nbformat.from_dict(METADATA))


def learner_version(source: NotebookNode, stem: str) -> NotebookNode:
    """Return the chapter as a learner opens it: solutions replaced by stubs."""
    cells = [nbformat.from_dict(dict(cell)) for cell in source.cells]
    for index, cell in enumerate(cells):
        if cell.cell_type == "code":
            try:
                cell.source = strip_solution(cell.source)
            except (ValueError, SyntaxError) as error:
                raise NotebookError(
                    f"{stem}, cell {index}: no stub can be made: {error}"
                ) from error
    return _finish(cells, stem)


def solved_version(source: NotebookNode, stem: str) -> NotebookNode:
    """Return the solved exercises: cells tagged `setup`, then all from the heading `## Exercises` on."""
    cells = [nbformat.from_dict(dict(cell)) for cell in source.cells]
    start = next(
        (
            index
            for index, cell in enumerate(cells)
            if cell.cell_type == "markdown" and EXERCISES in cell.source.splitlines()
        ),
        None,
    )
    if start is None:
        raise NotebookError(f"{stem}: no cell holds the heading {EXERCISES!r}")
    lines = (
        line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()
    )
    title = next((line for line in lines if line.startswith("# ")), f"# {stem}")
    opening = nbformat.v4.new_markdown_cell(
        f"{title}: solutions\n\nFirst the cells that the exercises need, then one solution of each. "
        f"The chapter is `../{stem}.ipynb`."
    )
    setup = [cell for cell in cells[:start] if "setup" in cell.metadata.get("tags", [])]
    for cell in cells[start:]:
        if cell.cell_type == "code":
            cell.source = _without_marks(cell.source)
    return _finish([opening, *setup, *cells[start:]], stem)


def make_notebook(source: Path, *, solutions: bool = False) -> NotebookNode:
    """Return the learner's notebook of a source, or the solved one, without outputs."""
    return (solved_version if solutions else learner_version)(read_source(source), source.stem)
