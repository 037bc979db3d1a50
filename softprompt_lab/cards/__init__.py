"""Cards: what a notebook shows of a check, a hint or an error, where a terminal prints text."""

from .cards import Card
from .errors import install

__all__ = ["Card", "install"]
