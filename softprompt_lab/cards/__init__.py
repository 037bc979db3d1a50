"""Cards: what a notebook shows of a check, a hint or an error, where a terminal prints text."""

from .cards import Card, notebook_shell, show
from .errors import install

__all__ = ["Card", "install", "notebook_shell", "show"]
