"""A card: in a notebook a box with an icon, words and parts that unfold; elsewhere the same as text."""

import html
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Kind: icon, and the colour of the border, JupyterLab's or where there is none a darker one of the same hue.
LOOKS = {
    "passed": ("✓", "var(--jp-success-color1, #2e7d32)"),
    "failed": ("✗", "var(--jp-warn-color1, #b45309)"),
    "not attempted": ("○", "var(--jp-ui-font-color2, #616161)"),
    "note": ("→", "var(--jp-brand-color1, #1565c0)"),
    "stopped": ("✗", "var(--jp-error-color1, #c62828)"),
}
# JupyterLab shows the error's own output, one line, under the card that says the same.
NEXT_HIDDEN = "<style>.jp-OutputArea-child:has(.softprompt-stopped) + .jp-OutputArea-child {display: none}</style>"
BOX = "border-left: 6px solid {}; padding: 0.5em 1em; margin: 0.3em 0; line-height: 1.4; max-width: 60em; "
BOX += "overflow-wrap: anywhere; color: var(--jp-ui-font-color1, #1a1a1a); background: var(--jp-layout-color2, #f3f3f3)"
CODE = "white-space: pre-wrap; font-family: var(--jp-code-font-family, monospace); color: inherit; background: none"


@dataclass(frozen=True)
class Card:
    """Something that is said to a reader.

    Args:
        text: all of it, as a terminal prints it.
        kind: one of `LOOKS`.
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

    def __repr__(self) -> str:
        """The card as text."""
        return self.text

    def _repr_html_(self) -> str:
        """The card as HTML, every text in it escaped; it needs no script, so a saved page has it too."""
        icon, colour = LOOKS[self.kind]
        parts = [
            f'<strong><span aria-hidden="true">{icon}</span> {html.escape(self.title)}</strong>'
        ]
        parts.append(f'<div style="white-space: pre-wrap">{html.escape(self.message)}</div>')
        if self.table is not None:
            parts.append(self.table.to_html(border=0))
        if self.details:
            parts.append(f'<div style="{CODE}; font-size: 90%">{html.escape(self.details)}</div>')
        for summary, text in self.folded.items():
            parts.append(
                f'<details><summary style="cursor: pointer">{html.escape(summary)}</summary>'
            )
            parts.append(f'<div style="{CODE}">{html.escape(text)}</div></details>')
        name, body = self.kind.replace(" ", "-"), "".join(parts)
        hidden = NEXT_HIDDEN if self.kind == "stopped" else ""
        return f'{hidden}<div class="softprompt-{name}" style="{BOX.format(colour)}">{body}</div>'


def notebook_shell() -> Any:
    """Return the shell of a notebook's kernel; None in a terminal, a script or a test."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return shell if hasattr(shell, "kernel") else None


def show(card: Card) -> None:
    """Show a card where a notebook runs, or print its text."""
    if notebook_shell() is None:
        print(card)
        return
    from IPython.display import display

    display(card)
