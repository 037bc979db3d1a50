"""What all widgets share: how controls are made, an announced status, a table, a picture; errors on the page."""

import asyncio
import base64
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import ipywidgets
import pandas as pd

from .. import plots
from ..errors import LabError
from ..runs import saved as runs
from ..runs import zoo
from ..tasks import Task

DELAY = 0.05  # seconds without a further change before a widget computes: one answer to a word typed fast
LOOKS = {  # what controls of a kind have in common
    ipywidgets.Checkbox: {"indent": False, "layout": {"width": "auto"}},
    ipywidgets.SelectionSlider: {"continuous_update": False},
}


def control(kind: type[ipywidgets.Widget], label: str, value: Any, **options: Any) -> Any:
    """Return a control of a kind of ipywidgets with a label that is shown whole."""
    looks = {"style": {"description_width": "initial"}} | LOOKS.get(kind, {})
    return kind(value=value, description=label, **looks | options)


def button(label: str, pressed: Callable[[], None], **options: Any) -> ipywidgets.Button:
    """Return a button that calls a function."""
    made = ipywidgets.Button(description=label, **options)
    made.on_click(lambda _: pressed())
    return made


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
        self.controls = ipywidgets.HBox(list(controls), layout={"flex_flow": "row wrap"})
        self.status, self.table, self.picture = (ipywidgets.HTML() for _ in range(3))
        super().__init__(children=[self.controls, self.status, self.table, self.picture])
        for control in self._watched:
            control.observe(self._changed, names="value")
        self.refresh()

    @classmethod
    def from_folder(
        cls, folder: str | Path, task: Task | None = None, *, base_model: Any = None, **more: Any
    ) -> Self:
        """Make a widget of a saved run: its folder, or `zoo:NAME`.

        Args:
            task: Where its rows do not come with the package.
            base_model: With `tokenizer`, in place of loading the base model, as in `runs.saved_run`.
            **more: Of the widget.

        Raises:
            AdapterError: The folder is damaged or does not fit the base model.
            LabError: The base model is not there, or the rows of the task are not.
        """
        run = run_of(folder, base_model, more.pop("tokenizer", None))
        return cls(run.model, task or with_rows(run), **more)

    def content(self) -> Content:
        """Return what the controls ask for."""
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
            self.announce(f"{type(error).__name__}: {error}", 'role="alert"')
            self.table.value = self.picture.value = ""
            return
        self.announce(content.status)
        self.table.value, self.picture.value = content.table, picture

    def announce(self, status: str, role: str = 'aria-live="polite"') -> None:
        """Say something in the widget, which a screen reader reads out."""
        self.status.value = f"<p {role}>{html.escape(status)}</p>"

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
