"""Errors of this package as cards: the sentence first, the traceback folded below; the cell has failed all the same."""

import re
import traceback
from typing import Any

from IPython import get_ipython

from ..errors import LabError
from .cards import Card

PACKAGE = __name__.partition(".")[0]
ANSI = re.compile(r"\x1b\[[0-9;]*m")
ABOVE = (
    "Run the cells above first: menu Run, 'Run All Above Selected Cell'. If that does not help, look for a typing "
    "error in the name."
)


def install() -> None:
    """Let the kernel of this notebook show our errors as cards; anywhere else, and the second time, do nothing.

    `_showtraceback` is where IPython lets a subclass put a finished traceback elsewhere. By then everything else is
    done that follows an error (`%debug` and `%xmode` work as ever), and an error of others passes unchanged.
    """
    shell = get_ipython()
    if not hasattr(shell, "kernel") or getattr(shell._showtraceback, "__module__", "") == __name__:
        return
    plain = shell._showtraceback

    def show_traceback(kind: type, error: BaseException, lines: list[str]) -> None:
        """Show a card and one line, which a saved notebook keeps as the cell's error; or what others raise as ever."""
        message = explanation(error, shell.user_ns)
        if message is None:
            plain(kind, error, lines)
            return
        said, folded = f"{kind.__name__}: {error}", {"Traceback": ANSI.sub("", "\n".join(lines))}
        Card(said, "stopped", "This cell stopped", message, kind.__name__, folded).show()
        plain(kind, error, [said])
        shell._last_traceback = lines  # what a program hears that runs the notebook

    shell._showtraceback = show_traceback


def explanation(error: BaseException, names: dict[str, Any]) -> str | None:
    """Return what a card says of an error of this package, or of a name that a cell lacks; None for any other error.

    Args:
        names: the notebook's, by which its cells are told from other code.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised_in = frames[-1].f_globals if frames else {}
    inside = str(raised_in.get("__name__")).partition(".")[0] == PACKAGE
    if isinstance(error, LabError) or (inside and isinstance(error, Exception)):
        return str(error)
    return f"{error}. {ABOVE}" if type(error) is NameError and raised_in is names else None
