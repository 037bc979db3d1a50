"""A question before a result: what a cell shows below it stays folded until the reader has chosen an answer."""

import html
from datetime import date
from functools import partial

import ipywidgets
from IPython.display import display

from ..errors import LabError
from ..widgets.frame import Page, button, paragraph, said
from .checks import written
from .record import keep, recorded


def vote(vote_id: str) -> None:
    """Ask a question of `chapter_NN.toml`; stands first in a cell, whose other outputs unfold when an option is chosen.

    The choice is kept on the reader's disk, and each option then gets its answer. A page without a kernel shows the
    question, and an option that is opened there shows its answer and unfolds the rest.

    Raises:
        LabError: there is no vote of this id.

    Example:
        course.vote("04-a")
    """
    votes = {key: table for key, table in written().items() if "question" in table}
    if vote_id not in votes:
        raise LabError(f"There is no vote {vote_id!r}; choose one of: {', '.join(votes)}.")
    display(Ballot(vote_id, **votes[vote_id]))


class Ballot(Page):
    """The question, a button for each option, and once one is pressed, the answers.

    Args:
        options: what is said to those who choose it, by option.
    """

    def __init__(self, vote_id: str, question: str, options: dict[str, str]) -> None:
        self._id, self._question, self._answers = vote_id, question, options
        self._chosen = next((each for each in recorded().get(vote_id, {}) if each in options), None)
        self._options = ipywidgets.VBox(
            [button(option, partial(self._cast, option)) for option in options]
        )
        self._options.add_class("softprompt-options")
        self._told = ipywidgets.HTML()
        super().__init__([said(question), self._options, self._told])
        self._tell()

    def still(self) -> str:
        """Return question and answers; the rest of the cell is folded as long as none of them is open."""
        return f'<div class="softprompt-asked">{paragraph(self._question)}{self._list()}</div>'

    def _cast(self, option: str) -> None:
        """Keep the choice and show the answers."""
        self._chosen = option
        keep(self._id, {option: date.today().isoformat()})
        self._tell()
        self.keep()

    def _tell(self) -> None:
        """Show buttons or, once a choice is made, the answers."""
        if self._chosen is not None:
            self._options.layout.display = "none"
            self._told.value = f'<div aria-live="polite">{self._list()}</div>'

    def _list(self) -> str:
        """Return the options as parts to unfold; of the chosen one the answer is open."""
        parts = []
        for option, answer in self._answers.items():
            state, yours = ("open", "✓ You said: ") if option == self._chosen else ("", "")
            summary = f"<summary>{yours}{html.escape(option)}</summary>"
            parts.append(f"<details {state}>{summary}{paragraph(answer)}</details>")
        return "".join(parts)
