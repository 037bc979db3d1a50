"""How large the package is: lines and lines of code of each core file and each room, now and at another commit.

    python tools/house.py                     # the working tree
    python tools/house.py --before 8a30133    # beside a commit, with the folders beside the package

A line of code is one that holds a token: no blank, comment or docstring, after `ruff format` at 100 columns. The core
is the files directly in the package. Tables of texts (TOML) in the package are counted apart, by their lines.
"""

import ast
import io
import subprocess
import tokenize
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "softprompt_lab"
BESIDE = ("notebooks", "tools", "benchmarks", "tests")  # moving code there is not saving it
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(text: str) -> int:
    """Return the number of lines of a module that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
            lines.difference_update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def formatted(text: str) -> str:
    """Return a module as `ruff format` writes it at 100 columns."""
    command = ["ruff", "format", "--isolated", "--line-length", "100", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def home_of(path: str) -> str:
    """Return a core file's own name, the room of another one, or the folder beside the package."""
    first, *rest = Path(path).parts
    if first != PACKAGE or path.endswith(".toml"):
        return f"beside: {first}/" if first != PACKAGE else "beside: tables of texts"
    return rest[0] if len(rest) == 1 else f"{rest[0]}/"


def sizes(texts: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Return (lines, lines of code) of each home, from the texts of modules by their paths."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, text in texts.items():
        lines = found[home_of(path)]
        lines[0] += len(text.splitlines())
        lines[1] += len(text.splitlines()) if path.endswith(".toml") else code_lines(text)
    return {home: (lines, code) for home, (lines, code) in found.items()}


def totals(found: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Return (lines, lines of code) of the core, the rooms and the package."""
    inside = {home: size for home, size in found.items() if not home.startswith("beside")}
    core = [size for home, size in inside.items() if not home.endswith("/")]
    rooms = [size for home, size in inside.items() if home.endswith("/")]
    named = {"the core": core, "the rooms": rooms, "the package": core + rooms}
    return {name: tuple(map(sum, zip(*part, strict=True))) for name, part in named.items()}


def working_tree() -> dict[str, str]:
    """Return the modules of the package and of the folders beside it, by their paths."""
    paths = [path for folder in (PACKAGE, *BESIDE) for path in (ROOT / folder).rglob("*.py")]
    paths += (ROOT / PACKAGE).rglob("*.toml")
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(paths)}


def at_commit(commit: str) -> dict[str, str]:
    """Return the same of a commit."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

    names = git("ls-tree", "-r", "--name-only", commit, PACKAGE, *BESIDE).splitlines()
    texts = {name: git("show", f"{commit}:{name}") for name in names if name.endswith(".py")}
    return {name: formatted(text) for name, text in texts.items()}


def main(
    before: Annotated[str | None, typer.Option(help="A commit to stand beside.")] = None,
) -> None:
    """Print the table."""
    now = sizes(working_tree())
    then = sizes(at_commit(before)) if before else {}
    rows = {**dict.fromkeys(sorted(then.keys() | now.keys())), **totals(now)}
    old = {**then, **(totals(then) if then else {})}
    new = {**now, **totals(now)}
    print(f"{'':24}{'before':>16}{'now':>16}")
    print(f"{'':24}{'lines':>8}{'code':>8}{'lines':>8}{'code':>8}")
    for home in rows:
        print(
            f"{home:24}"
            + "".join(f"{n:>8,}" for n in (*old.get(home, (0, 0)), *new.get(home, (0, 0))))
        )


if __name__ == "__main__":
    typer.run(main)
