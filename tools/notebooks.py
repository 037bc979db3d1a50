"""Build, run and check the chapters: percent scripts in `notebooks/source/` become executed notebooks.

    python tools/notebooks.py build 02      # one chapter, or all of them without a number
    python tools/notebooks.py run           # execute the chapters with the checks of their claims, save nothing
    python tools/notebooks.py check         # do sources and notebooks agree, and is each fit to commit?
    python tools/notebooks.py rules         # how long each chapter is, and which rules of the course it breaks
    python tools/notebooks.py exercises     # what a stub, the right answer and wrong answers hear

`chapters.py` beside this file says what a source looks like, `lessons.py` which rules a chapter keeps.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import nbformat
import typer
from chapters import (
    APART,
    METADATA,
    NUMBER,
    NotebookError,
    chapter_question,
    chapter_title,
    finish,
    make_cells,
    make_notebook,
    measure,
    notebook_path,
    source_paths,
    tags,
)
from jupyter_client.manager import AsyncKernelManager
from lessons import Built, Lesson, write_built
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
MAX_BYTES = 1_000_000  # a notebook in the repository
MAX_CODE_LINES = 25  # a code cell
CELL_SECONDS = 900  # a cell that takes longer hangs
SLOW_SECONDS = 300  # a chapter that takes longer is marked in the table
PICTURE = re.compile(r"(data:image/png;base64,[\w+/=]*)")  # letters that mean nothing
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_ID = re.compile("softprompt-[0-9a-f]{32}")  # of the page that a widget keeps
IMAGE = re.compile(r"<img\b[^>]*>")
FIGURE = 'class="softprompt-figure"'
LINK = re.compile(r"\]\(([^)\s]+)\)")
README_TABLE = re.compile(r"(?<=<!-- chapters -->\n).*?(?=<!-- end of chapters -->)", re.DOTALL)
BAR = re.compile(r"\r?training:[^\n]*\n?")


def title(source: Path, solutions: bool) -> str:
    """Return how tables and messages call a notebook."""
    return f"solutions/{source.stem}" if solutions else source.stem


# --- running ------------------------------------------------------------------------------------------------


@contextmanager
def working_copy(path: Path) -> Iterator[Path]:
    """Yield the folder in which a notebook runs: a temporary copy, so that nothing that it writes stays."""
    solutions = path.parent.name == "solutions"
    folder = path.parents[1] if solutions else path.parent
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary).resolve() / folder.name
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("source", ".ipynb_checkpoints"))
        (copy / "solutions").mkdir(exist_ok=True)
        yield copy / "solutions" if solutions else copy


def _outputs(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """Yield each output with the index of its cell."""
    for index, cell in enumerate(notebook.cells):
        yield from ((index, output) for output in cell.get("outputs", []))


def _failure(notebook: NotebookNode, name: str, error: Exception) -> NotebookError:
    """Say in which chapter and cell a run stopped, with the cell's source and the error."""
    failed = [
        (index, output) for index, output in _outputs(notebook) if output.output_type == "error"
    ]
    if not failed:
        return NotebookError(f"{name}: {type(error).__name__}: {error}")
    index, output = failed[0]
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback))
    details = textwrap.indent(f"{notebook.cells[index].source}\n{trace}", "    ")
    return NotebookError(f"{name}, cell {index}: {output.ename}: {output.evalue}\n{details}")


def execute(notebook: NotebookNode, folder: Path, name: str, *, strict: bool = False) -> float:
    """Run all cells in `folder` with this Python, offline, and return the seconds.

    `strict` makes an exercise check that does not pass an error: that is how solved notebooks are run.
    Raises NotebookError where a cell fails.
    """
    manager = AsyncKernelManager(kernel_name="python3", transport_encryption="auto")
    manager.kernel_spec.argv[0] = sys.executable
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=CELL_SECONDS,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as data:  # of a reader who has done nothing yet
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "SOFTPROMPT_LAB_STRICT": "1" if strict else "0",
            "SOFTPROMPT_LAB_DATA": data,
        }
        try:
            client.execute(env=environment, cleanup_kc=True)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise _failure(notebook, name, error) from None
    return time.perf_counter() - started


# --- numbers in the prose -------------------------------------------------------------------------------------


def ask_numbers(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Return the cells with one before each whose prose holds expressions; it prints what they give."""
    asked = []
    for cell in cells:
        if cell.cell_type == "markdown" and (found := NUMBER.findall(cell.source)):
            listed = ", ".join(f'f"""{{{expression}}}"""' for expression in found)
            code = f"print(__import__('json').dumps([{listed}], ensure_ascii=False))"
            asked.append(nbformat.v4.new_code_cell(code, metadata={"tags": ["numbers"]}))
        asked.append(cell)
    return asked


def take_numbers(cells: list[NotebookNode]) -> tuple[list[NotebookNode], list[list[str]]]:
    """Return the executed cells without what `ask_numbers` put in, and each expression with its value."""
    kept, values, expressions = [], [], []
    for cell in cells:
        if "numbers" in tags(cell):
            values += json.loads(cell.outputs[0].text)
        else:
            kept.append(cell)
            if cell.cell_type == "markdown":
                expressions += NUMBER.findall(cell.source)
    return kept, [list(pair) for pair in zip(expressions, values, strict=True)]


# --- outputs that are the same tomorrow ---------------------------------------------------------------------


def _replace(value: Any, pairs: list[tuple[str, str]]) -> Any:
    """Replace text in every string of nested lists and dicts, pictures left out."""
    if isinstance(value, str):
        parts = PICTURE.split(value)
        for old, new in pairs:
            parts[::2] = [part.replace(old, new) for part in parts[::2]]
        return "".join(parts)
    if isinstance(value, list):
        return [_replace(item, pairs) for item in value]
    if isinstance(value, dict):
        return NotebookNode(
            {k: v if k == "image/png" else _replace(v, pairs) for k, v in value.items()}
        )
    return value


def private_paths() -> list[str]:
    """List the paths of this machine that no output may show: repository, home, temporary folder, Python."""
    paths = {ROOT, Path.home(), Path(tempfile.gettempdir()), Path(sys.prefix)}
    return sorted(str(path) for path in paths if len(path.parts) > 1)


def settle(notebook: NotebookNode) -> None:
    """Leave of a widget what it keeps on a page without a kernel, and of a progress bar nothing."""
    for _, output in _outputs(notebook):
        if output.output_type == "stream":
            output.text = BAR.sub("", output.text)
        elif WIDGET_VIEW in output.get("data", {}):
            del output.data[WIDGET_VIEW]
        elif "text/html" in output.get("data", {}):
            output.data["text/html"] = WIDGET_ID.sub("softprompt-kept", output.data["text/html"])
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("text") != ""]


def tidy_outputs(notebook: NotebookNode, folder: Path) -> None:
    """Make an executed notebook's outputs and metadata independent of the machine and the hour."""
    settle(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    pairs = [(f"{folder}/", ""), (str(folder), "."), (f"{ROOT}/", ""), (str(ROOT), ".")]
    if len(Path.home().parts) > 1:
        pairs.append((f"{Path.home()}/", "~/"))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _replace(cell.outputs, pairs)


# --- is a notebook fit to commit? ---------------------------------------------------------------------------


def _cell_problems(notebook: NotebookNode) -> Iterator[str]:
    """Yield what is wrong with single cells: too long, an error, a path or an address of this machine."""
    for index, cell in enumerate(notebook.cells):
        length = len(cell.source.splitlines())
        if cell.cell_type == "code" and length > MAX_CODE_LINES:
            yield f"cell {index} has {length} lines of code; at most {MAX_CODE_LINES}"
        if cell.cell_type == "markdown" and (found := NUMBER.search(cell.source)):
            yield f"cell {index} has a number that is not built: {found[0]}"
    for index, output in _outputs(notebook):
        page = "".join(output.get("data", {}).get("text/html", ""))
        bare = [image for image in IMAGE.findall(page) if not re.search('alt="[^"]', image)]
        if bare or "image/png" in output.get("data", {}):
            yield f"cell {index} shows a picture without alt text: use a figure of softprompt_lab.plots"
        if output.output_type == "error":
            yield f"cell {index} shows an error: {output.ename}: {output.evalue}"
        data = {
            kind: value for kind, value in output.get("data", {}).items() if kind != "image/png"
        }
        text = PICTURE.sub("", json.dumps({**output, "data": data}))
        for path in private_paths():
            if re.search(rf"(?<![\w.-]){re.escape(path)}(?![\w-])", text):
                yield f"cell {index} shows {path}, a path of this machine"
        if address := re.search(r"\b0x[0-9a-f]{8,}\b", text):
            yield f"cell {index} shows {address.group()}, a memory address, which differs at every run"


def _prose_problems(notebook: NotebookNode) -> Iterator[str]:
    """Yield the code cells that follow a code cell with no prose between them."""
    filled = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.source.strip()]
    for (_, before), (index, cell) in pairwise(filled):
        if before.cell_type == cell.cell_type == "code":
            yield f"cell {index} is code behind code: say in a sentence what it asks"


def link_problems(path: Path, texts: list[str]) -> Iterator[str]:
    """Yield the links of a page to files or headings that are not there."""
    for target in [found for text in texts for found in LINK.findall(text)]:
        name, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (path.parent / name).resolve() if name else path
        if not file.exists():
            yield f"a link goes to {target}, which is not there"
        elif anchor and anchor not in anchors(file):
            yield f"a link goes to {target}, and {file.name} has no such heading"


def anchors(path: Path) -> set[str]:
    """Return the headings of a notebook or a page as links name them."""
    lines = "\n".join(prose(path)).splitlines()
    return {line.lstrip("#").strip().replace(" ", "-") for line in lines if line.startswith("#")}


def prose(path: Path) -> list[str]:
    """Return the texts of a page, or of a notebook's cells."""
    if path.suffix != ".ipynb":
        return [path.read_text(encoding="utf-8")]
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "markdown"]


def _difference(built: NotebookNode, committed: NotebookNode) -> str | None:
    """Name the first cell in which the source and the committed notebook differ."""
    for index, (ours, theirs) in enumerate(zip(built.cells, committed.cells, strict=False)):
        if (ours.cell_type, ours.source) != (theirs.cell_type, theirs.source):
            return f"cell {index} differs from the source, at {theirs.source[:60]!r}"
    if len(built.cells) != len(committed.cells):
        return f"the source makes {len(built.cells)} cells, the notebook has {len(committed.cells)}"
    return None


def _committed(source: Path, solutions: bool) -> Path:
    """Return the path of a notebook that must have been built."""
    path = notebook_path(source, solutions=solutions)
    if not path.exists():
        raise NotebookError(
            f"{path.name} is not built: python tools/notebooks.py build {source.stem[:2]}"
        )
    return path


def problems(source: Path, *, solutions: bool = False) -> list[str]:
    """List why the committed notebook of a source is not fit to commit; an empty list is a pass."""
    try:
        path = _committed(source, solutions)
        built = make_notebook(source, solutions=solutions)
    except NotebookError as error:
        return [str(error)]
    committed = nbformat.read(path, as_version=4)
    found = [] if (difference := _difference(built, committed)) is None else [difference]
    if path.stat().st_size > MAX_BYTES:
        found.append(f"{path.stat().st_size:,} bytes; at most {MAX_BYTES:,}")
    if not any(_outputs(committed)):
        found.append("no cell has an output: build it without --no-execute")
    found += _cell_problems(committed)
    found += link_problems(path, prose(path))
    return found if solutions else found + list(_prose_problems(committed))


# --- commands -----------------------------------------------------------------------------------------------


def run_cells(
    cells: list[NotebookNode], source: Path, *, solutions: bool
) -> tuple[NotebookNode, float]:
    """Execute cells as a notebook of a chapter, and return it with the seconds that it took."""
    notebook = finish(cells, source.stem)
    with working_copy(notebook_path(source, solutions=solutions)) as folder:
        seconds = execute(notebook, folder, title(source, solutions), strict=solutions)
        tidy_outputs(notebook, folder)
    return notebook, seconds


def figures_in(notebook: NotebookNode) -> int:
    """Count the figures that a notebook shows."""
    return sum(str(output.get("data", "")).count(FIGURE) for _, output in _outputs(notebook))


def build_notebook(source: Path, *, solutions: bool = False, run: bool = True) -> float:
    """Write one notebook of a source, executed unless `run` is False, and return the seconds that it took.

    What the run of a learner's notebook tells is kept in `built.json`: minutes, figures, the numbers in the prose.
    """
    path, seconds = notebook_path(source, solutions=solutions), 0.0
    path.parent.mkdir(exist_ok=True)
    if not run:
        notebook = make_notebook(source, solutions=solutions)
        keep_outputs(notebook, nbformat.read(path, as_version=4).cells if path.exists() else [])
    elif solutions:
        notebook, seconds = run_cells(make_cells(source, solutions=True), source, solutions=True)
    else:
        notebook, seconds = build_lesson(source)
    if run and (found := list(_cell_problems(notebook))):
        raise NotebookError(f"{title(source, solutions)}: " + "; ".join(found))
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return seconds


def keep_outputs(made: NotebookNode, before: list[NotebookNode]) -> None:
    """Give a notebook the outputs of other cells, where the code of both is the same."""
    ours, theirs = ([c for c in cells if c.cell_type == "code"] for cells in (made.cells, before))
    if [cell.source for cell in ours] == [cell.source for cell in theirs]:
        for cell, executed in zip(ours, theirs, strict=True):
            cell.outputs, cell.execution_count = executed.outputs, executed.execution_count


def build_lesson(source: Path) -> tuple[NotebookNode, float]:
    """Run a learner's notebook with its checks, keep what that told, and return the notebook as it is committed."""
    cells = ask_numbers(make_cells(source, also="check", fill=False))
    ran, seconds = run_cells(cells, source, solutions=False)
    cells, numbers = take_numbers(ran.cells)
    write_built(source, Built(math.ceil(seconds / 60), figures_in(ran), numbers))
    made = make_notebook(source)
    keep_outputs(made, [cell for cell in cells if not tags(cell) & APART])
    return made, seconds


def run_notebook(source: Path, *, solutions: bool = False, fast: bool = False) -> float:
    """Execute a notebook of a source with the checks of its claims, or fast; save nothing, return the seconds."""
    _committed(source, solutions)
    also = "fast" if fast else None if solutions else "check"
    cells = make_cells(source, solutions=solutions, also=also)
    return run_cells(cells, source, solutions=solutions)[1]


def _times(rows: list[tuple[str, float, str]]) -> Table:
    """Return the table of seconds per notebook."""
    table = Table("notebook", "seconds", "result", title="Time of each chapter")
    for name, seconds, result in rows:
        slow = f", over {SLOW_SECONDS} s" if seconds > SLOW_SECONDS else ""
        table.add_row(name, f"{seconds:.1f}", result + slow)
    table.add_row("all", f"{sum(seconds for _, seconds, _ in rows):.1f}", "")
    return table


app = typer.Typer(
    help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
)
Numbers = Annotated[
    list[str] | None, typer.Argument(help="Chapters by number, such as 02; all without.")
]
Folder = Annotated[Path, typer.Option(help="The folder that holds source/ and the notebooks.")]


def _selected(folder: Path, numbers: list[str] | None) -> list[tuple[Path, bool]]:
    """List each selected source twice: for the learner's notebook (False) and for the solved one (True)."""
    try:
        sources = source_paths(folder, numbers)
    except NotebookError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(1) from None
    return [(source, solutions) for source in sources for solutions in (False, True)]


def _each(folder: Path, numbers: list[str] | None, work: Callable[[Path, bool], float]) -> None:
    """Call `work(source, solutions)` for each notebook, print the seconds, and leave with 1 if one failed."""
    rows, errors = [], []
    for source, solutions in _selected(folder, numbers):
        started = time.perf_counter()
        try:
            seconds, result = work(source, solutions), "ok"
        except NotebookError as error:
            seconds, result = time.perf_counter() - started, "failed"
            errors.append(str(error))
        rows.append((title(source, solutions), seconds, result))
        typer.echo(f"{title(source, solutions)}: {result}, {seconds:.1f} s")
    Console().print(_times(rows))
    for error in errors:
        typer.secho(error, fg="red", err=True)
    if errors:
        raise typer.Exit(1)


@app.command()
def build(
    numbers: Numbers = None,
    folder: Folder = NOTEBOOKS,
    run: Annotated[
        bool, typer.Option("--execute/--no-execute", help="Run the cells, or keep what they gave.")
    ] = True,
) -> None:
    """Make each chapter's notebook and its solved notebook from the source, executed."""
    _each(
        folder,
        numbers,
        lambda source, solutions: build_notebook(source, solutions=solutions, run=run),
    )
    if folder == NOTEBOOKS:
        readme = folder.parent / "README.md"
        readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")


def with_table(readme: str) -> str:
    """Return the README with its table of chapters made anew."""
    lines = ["| chapter | question | reading | running | exercises |", "|---|---|---|---|---|"]
    for source in source_paths(NOTEBOOKS):
        about, name = measure(source), f"notebooks/{source.stem}.ipynb"
        times = (about.reading, about.running, about.exercising)
        minutes = " | ".join(f"{each} min" for each in times)
        lines.append(
            f"| [{chapter_title(source)}]({name}) | {chapter_question(source)} | {minutes} |"
        )
    return README_TABLE.sub(lambda _: "\n".join(lines) + "\n", readme)


@app.command()
def run(
    numbers: Numbers = None,
    folder: Folder = NOTEBOOKS,
    fast: Annotated[
        bool, typer.Option("--fast", help="Few steps and rows; nothing is claimed.")
    ] = False,
) -> None:
    """Execute the committed notebooks in a temporary copy, save nothing, and print a table of seconds."""
    _each(
        folder,
        numbers,
        lambda source, solutions: run_notebook(source, solutions=solutions, fast=fast),
    )


@app.command()
def check(numbers: Numbers = None, folder: Folder = NOTEBOOKS) -> None:
    """Fail when a notebook differs from its source or is not fit to commit."""
    selected = _selected(folder, numbers)
    found = [
        f"{title(source, solutions)}: {problem}"
        for source, solutions in selected
        for problem in problems(source, solutions=solutions)
    ]
    known = {path.stem for path in source_paths(folder)}
    found += [
        f"{path.name} has no source"
        for path in sorted(folder.rglob("[0-9][0-9]_*.ipynb"))
        if path.stem not in known and ".ipynb_checkpoints" not in path.parts
    ]
    readme = folder.parent / "README.md"
    if folder == NOTEBOOKS and readme.read_text(encoding="utf-8") != with_table(
        readme.read_text(encoding="utf-8")
    ):
        found.append("README.md: its table of chapters is not that of the last build")
    for problem in found:
        typer.secho(problem, fg="red", err=True)
    typer.echo(f"{len(selected)} notebooks checked, {len(found)} problems")
    if found:
        raise typer.Exit(1)


@app.command()
def rules(numbers: Numbers = None, folder: Folder = NOTEBOOKS) -> None:
    """Print how long each chapter is and what it holds, and fail when one breaks a rule of the course."""
    names = list(Lesson.__dataclass_fields__)
    table, broken = Table(*names, "breaks", title="Chapters"), False
    for source in source_paths(folder, numbers):
        about = measure(source)
        broken |= bool(about.broken())
        table.add_row(*(str(getattr(about, n)) for n in names), "; ".join(about.broken()))
    Console(width=200).print(table)
    if broken:
        raise typer.Exit(1)


@app.command()
def exercises(numbers: Numbers = None) -> None:
    """Print what the check of each exercise says to a stub, to the right answer and to wrong ones."""
    from softprompt_lab.course import checks

    for exercise_id, table in checks.tables().items():
        if numbers and not exercise_id.startswith(tuple(numbers)):
            continue
        entry = checks.find_exercise(exercise_id)
        given = {"a stub": ..., "the right answer": entry.right}
        for wrong in (*table.get("wrong", {}), *table.get("tries", {})):
            given[wrong] = lambda *case, wrong=wrong: entry.evaluate(wrong, case)  # noqa: B023
        for name, answer in given.items():
            verdict, message, *_ = checks._judge(entry, table, answer)
            typer.echo(f"{exercise_id} | {name} | {verdict.name} | {message}")


if __name__ == "__main__":
    app()
