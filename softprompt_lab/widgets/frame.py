"""What all widgets share: how controls are made, an announced status, a table, a picture; errors on the page."""

import asyncio
import base64
import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ipywidgets
import pandas as pd

from .. import plots, reading

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

    _timer: asyncio.TimerHandle | None = None

    def __init__(
        self, controls: Sequence[ipywidgets.Widget], buttons: Sequence[ipywidgets.Widget] = ()
    ) -> None:
        """`controls`: a change of their value changes what is shown; `buttons` stand beside them."""
        layout = {"flex_flow": "row wrap"}
        self.controls = ipywidgets.HBox([*controls, *buttons], layout=layout)
        self.status, self.table, self.picture = (ipywidgets.HTML() for _ in range(3))
        super().__init__(children=[self.controls, self.status, self.table, self.picture])
        for control in controls:
            control.observe(self._changed, names="value")
        self.refresh()

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
        if self._timer is not None:
            self._timer.cancel()
        if loop := running_loop():
            self._timer = loop.call_later(DELAY, self.refresh)
        else:
            self.refresh()

    def close(self) -> None:
        """Stop listening to the controls and take everything off the page."""
        if self._timer is not None:
            self._timer.cancel()
        for child in self.children:
            for part in (*getattr(child, "children", ()), child):
                part.unobserve_all()
                part.close()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        """The widget for a page that can show one, and the static figure for one that cannot."""
        figure, metadata = self.static_figure()._repr_mimebundle_()
        return {**super()._repr_mimebundle_(**kwargs), **figure}, metadata


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of the kernel's thread; None where no kernel runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


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


def neighbour_tables(frames: Mapping[str, pd.DataFrame]) -> str:
    """The tables of `nearest_tokens` as HTML next to each other, by their names."""
    return side_by_side(
        [
            as_table(reading.neighbour_table(frame), name, "virtual token")
            for name, frame in frames.items()
        ]
    )
