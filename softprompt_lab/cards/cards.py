"""A card: in a notebook a box with an icon, words and parts that unfold; elsewhere the same as text."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from IPython.display import display
from jinja2 import Environment, FileSystemLoader

if TYPE_CHECKING:
    import pandas as pd

PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
# A text of which everything is escaped, and what stands between backticks is code.
PAGES.filters["prose"] = lambda text: re.sub("`([^`\n]+)`", r"<code>\1</code>", html.escape(text))


@dataclass(frozen=True)
class Card:
    """Something that is said to a reader.

    Args:
        text: all of it, as a terminal prints it.
        kind: "passed", "failed", "not attempted", "stopped" or "note": the icon and the colour of the border.
        title: a few words beside the icon.
        message: the sentence that matters, shown first.
        details: shown smaller, as it is typed: a call and its result, the kind of an error.
        folded: a summary to click, and the text that unfolds below it.
        table: shown below the message.
    """

    text: str
    kind: str
    title: str
    message: str
    details: str = ""
    folded: Mapping[str, str] = field(default_factory=dict)
    table: "pd.DataFrame | None" = None

    def show(self) -> None:
        """Show it in a notebook, print it elsewhere."""
        display(self)

    def __repr__(self) -> str:
        """The card as text."""
        return self.text

    def _repr_html_(self) -> str:
        """The card as HTML, every text in it escaped; it needs no script, so a saved page has it too."""
        return PAGES.get_template("card.html").render(card=self)
