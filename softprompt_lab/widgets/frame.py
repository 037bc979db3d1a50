"""What all widgets share: controls, an announced status, a table, a picture; errors on the page; a static figure."""

import asyncio
import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets
import pandas as pd

from .. import plots
from ..errors import LabError
from ..runs import saved as runs
from ..runs import zoo
from ..tasks import Task

DELAY = 0.05  # seconds without a further change before a widget computes: one answer to a word typed fast
WIDE = {"description_width": "initial"}  # a control's label is shown whole


class Content(NamedTuple):
    """What a widget shows for the state of its controls.

    Attributes:
        status: one sentence in plain words, read out by a screen reader when it changes.
        figure: the picture; its alt text goes with it.
        table: HTML under the status, of `as_table` and `side_by_side`.
    """

    status: str
    figure: plots.Figure
    table: str = ""


class Instrument(ipywidgets.VBox):
    """A widget over one function of the package: a subclass makes `controls` and says in `content` what they ask for.

    Each control has a description, which is its label, and works by keyboard. Whatever goes wrong in `content` is
    shown in the widget. In a page without a kernel or a widget manager the output is `static_figure`.
    """

    def __init__(
        self,
        controls: Sequence[ipywidgets.Widget],
        watched: Sequence[ipywidgets.Widget] | None = None,
    ):
        """`watched`: the controls whose value changes what is shown; left out, all of them."""
        self._timer: asyncio.TimerHandle | None = None
        self._watched = list(controls if watched is None else watched)
        self.controls = ipywidgets.HBox(
            list(controls), layout=ipywidgets.Layout(flex_flow="row wrap")
        )
        self.status, self.table, self.picture = (ipywidgets.HTML() for _ in range(3))
        super().__init__(children=[self.controls, self.status, self.table, self.picture])
        for control in self._watched:
            control.observe(self._changed, names="value")
        self.refresh()

    def content(self) -> Content:
        """What the controls ask for."""
        raise NotImplementedError

    def static_figure(self) -> plots.Figure:
        """The same as one figure, for a page where no widget lives."""
        return self.content().figure

    def refresh(self) -> None:
        """Show what the controls ask for, or what went wrong."""
        self._timer = None
        try:
            content = self.content()
            picture = as_image(content.figure)
        except Exception as error:  # whatever goes wrong belongs on the reader's screen
            self.show_error(error)
            return
        self.status.value = f'<p aria-live="polite">{html.escape(content.status)}</p>'
        self.table.value, self.picture.value = content.table, picture

    def show_error(self, error: BaseException) -> None:
        """Say in the widget what went wrong, in place of what it showed before."""
        text = html.escape(f"{type(error).__name__}: {error}")
        self.status.value, self.table.value, self.picture.value = (
            f'<p role="alert">{text}</p>',
            "",
            "",
        )

    def _changed(self, change: Any = None) -> None:
        """Refresh when nothing has changed for a moment; where no event loop runs, at once."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.refresh()
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(DELAY, self.refresh)

    def close(self) -> None:
        """Stop listening to the controls and take everything off the page."""
        if getattr(self, "_timer", None) is not None:
            self._timer.cancel()
        for part in _parts_of(self):
            part.unobserve_all()
            part.close()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        """The widget for a page that can show one, and the static figure for one that cannot."""
        figure, metadata = self.static_figure()._repr_mimebundle_()
        return {**super()._repr_mimebundle_(**kwargs), **figure}, metadata


def _parts_of(box: ipywidgets.Box) -> list[ipywidgets.Widget]:
    """Everything inside a box, also inside its boxes."""
    parts = []
    for child in box.children:
        parts += [*_parts_of(child), child] if isinstance(child, ipywidgets.Box) else [child]
    return parts


def as_image(figure: plots.Figure) -> str:
    """A figure as an image element with its alt text."""
    data = base64.b64encode(figure.png()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(figure.alt)}" style="max-width:100%">'


def side_by_side(tables: Sequence[str]) -> str:
    """HTML tables next to each other where there is room."""
    parts = "".join(f"<div>{table}</div>" for table in tables)
    return f'<div style="display:flex;flex-wrap:wrap;gap:2em;overflow-x:auto">{parts}</div>'


def as_table(frame: pd.DataFrame, caption: str, corner: str = "") -> str:
    """A table as HTML, every cell escaped; the caption is its name for a screen reader, `corner` that of the index."""
    table = frame.rename_axis(index=None, columns=corner).to_html(border=0)
    table = table.replace("<table ", '<table style="border-spacing:1em 0.2em" ', 1)
    return table.replace("<thead>", f"<caption>{html.escape(caption)}</caption><thead>", 1)


def run_of(folder: str | Path, base_model: Any = None, tokenizer: Any = None) -> runs.SavedRun:
    """A saved run by its folder, or by `zoo:NAME`; errors and arguments of `runs.saved_run`."""
    return runs.saved_run(zoo.located(str(folder)), base_model, tokenizer)


def with_rows(run: runs.SavedRun) -> Task:
    """The task of a saved run.

    Raises:
        LabError: its rows do not come with the package.
    """
    if not len(run.task.validation):
        raise LabError(
            f"{run.name} was trained on {run.task.name!r}, whose rows are not in the folder; pass the task."
        )
    return run.task
