"""What all widgets share: one page, controls, an announced status, tables; what stays when the kernel is gone."""

import asyncio
import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from weakref import WeakSet

import ipywidgets
import pandas as pd
from IPython import get_ipython
from IPython.display import DisplayHandle, display

from .. import plots, reading

DELAY = 0.05  # seconds without a further change before a widget computes: one answer to a word typed fast
_SHOWN: dict[str, tuple[str, WeakSet["Page"]]] = {}  # by cell: its last run, and what that showed
HIGHEST = 284  # pixels of a picture on the page
LOOKS = {  # what controls of a kind have in common
    ipywidgets.Checkbox: {"indent": False, "layout": {"width": "auto"}},
    ipywidgets.Dropdown: {"layout": {"width": "auto"}},
}
STYLE = f"<style>{Path(__file__).with_name('widgets.css').read_text(encoding='utf-8')}</style>"


def control(kind: type[ipywidgets.Widget], label: str, value: Any, **options: Any) -> Any:
    """Return a control of a kind of ipywidgets with a label that is shown whole."""
    looks = {"style": {"description_width": "initial"}} | LOOKS.get(kind, {})
    return kind(value=value, description=label, **looks | options)


def button(label: str, pressed: Callable[[], None], **options: Any) -> ipywidgets.Button:
    """Return a button that calls a function."""
    made = ipywidgets.Button(description=label, **{"layout": {"width": "auto"}} | options)
    made.on_click(lambda _: pressed())
    return made


class Content(NamedTuple):
    """What a widget shows for the state of its controls.

    Attributes:
        status: one or two sentences in plain words, read out by a screen reader when they change.
        figure: the picture, its alt text goes with it; None where there is nothing to draw yet.
        table: HTML under the controls, of `tables`.
    """

    status: str
    figure: plots.Figure | None
    table: str = ""


class Page(ipywidgets.VBox):
    """A widget, and under it the same as plain HTML, which the notebook keeps: the living one hides it.

    So a notebook that is opened on another day, or as a page of nbconvert, shows the last picture where the widget was.
    """

    _kept: DisplayHandle | None = None

    def __init__(self, children: Sequence[ipywidgets.Widget]) -> None:
        super().__init__(children=[ipywidgets.HTML(), *children])
        self.add_class("softprompt-live")
        hidden = f"<style>.softprompt-{self.model_id} {{ display: none; }}</style>"
        self.children[0].value, self.children[0].layout.display = STYLE + hidden, "none"
        self._loop = running_loop()
        if self._loop is not None:  # part of a box of the reader's, it is never displayed by itself
            self._loop.call_soon(lambda: self.comm is not None and self.fill())

    def still(self) -> str:
        """Return as HTML what is shown now."""
        raise NotImplementedError

    def fill(self) -> None:
        """Compute what is shown first; the controls are on the page already."""

    def keep(self) -> None:
        """Bring what the notebook keeps up to date."""
        if self._kept is not None:
            self._kept.update({"text/html": self._page(), "text/plain": ""}, raw=True)

    def _page(self) -> str:
        return (
            f'{STYLE}<div class="softprompt-still softprompt-{self.model_id}">{self.still()}</div>'
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget for a page that can show one, and for another one what to do."""
        said = f"{type(self).__name__}: run this cell in a notebook to use it."
        return super()._repr_mimebundle_(**kwargs) | {"text/plain": said}

    def _ipython_display_(self) -> None:
        """Show the widget at once, then its first picture, then what the notebook keeps."""
        close_older(self)
        display(self._repr_mimebundle_(), raw=True)
        self.fill()
        self._kept = display(
            {"text/html": self._page(), "text/plain": ""}, raw=True, display_id=True
        )

    def close(self) -> None:
        """Stop listening to the controls, and take everything off the page and out of memory."""
        for part in [*parts(self), self]:
            part.unobserve_all()
            for own in (part.layout, getattr(part, "style", None)):
                if own is not None:
                    own.close()
            ipywidgets.Widget.close(part)


class Instrument(Page):
    """A widget over one function of the package: a subclass makes `controls` and says in `content` what they ask for.

    Each control has a description, which is its label, and works by keyboard. Whatever goes wrong in `content` is said
    in the widget, whose picture then fades.
    """

    _timer: asyncio.TimerHandle | None = None
    _work: Thread | None = None
    _seen: Content | None = None
    _failed: Exception | None = None
    _height = 0
    _holder: Page | None = None  # a page whose part it is

    def __init__(
        self, controls: Sequence[ipywidgets.Widget], buttons: Sequence[ipywidgets.Widget] = ()
    ) -> None:
        """`controls`: a change of their value changes what is shown; `buttons` stand beside them."""
        layout = {"flex_flow": "row wrap"}
        self.controls = ipywidgets.HBox([*controls, *buttons], layout=layout)
        self.controls.add_class("softprompt-controls")
        self.picture, self.status, self.table = parts = [ipywidgets.HTML() for _ in range(3)]
        for part, name in zip(parts, ("picture", "status", "table"), strict=True):
            part.add_class(f"softprompt-{name}")
        super().__init__([self.picture, self.controls, self.status, self.table])
        for each in controls:
            each.observe(self._changed, names="value")
        self.announce("Computing …")

    def content(self) -> Content:
        """Return what the controls ask for."""
        raise NotImplementedError

    def fill(self) -> None:
        """Compute the first picture, where none is there."""
        if self._seen is None:
            self.refresh()

    def still(self) -> str:
        """Return picture, status and table as they are."""
        return f"{self.picture.value}{self.status.value}{self.table.value}"

    def refresh(self) -> None:
        """Show what the controls ask for, or what went wrong."""
        self._timer = None
        try:
            seen = self._content()
            picture = seen.figure.html() if seen.figure else ""
            height = seen.figure.canvas.get_width_height()[1] if seen.figure else 0
        except Exception as error:  # whatever goes wrong belongs on the reader's screen
            self.status.value = alert(error)
            self.picture.add_class("softprompt-old")
            self.table.value = ""
        else:
            self._seen, self._height = seen, max(self._height, min(height, HIGHEST))
            self.picture.layout.min_height = f"{self._height}px"  # so that nothing below it jumps
            self.announce(seen.status)
            self.picture.remove_class("softprompt-old")
            self.table.value, self.picture.value = seen.table, picture
        (self._holder or self).keep()

    def announce(self, status: str) -> None:
        """Say something in the widget, which a screen reader reads out."""
        self.status.value = paragraph(status, 'aria-live="polite"')

    def _content(self) -> Content:
        """Return what the controls ask for, or raise once what a thread has raised."""
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
        return self.content()

    @property
    def busy(self) -> bool:
        """Whether a thread is at work."""
        return self._work is not None and self._work.is_alive()

    def in_background(self, work: Callable[[], Any]) -> None:
        """Do what takes long in a thread, so that the controls answer; where no event loop runs, at once."""
        if self._loop is None:
            work()
            return

        def run() -> None:
            """Work, and let the page say what went wrong."""
            try:
                work()
            except Exception as error:  # whatever goes wrong belongs on the reader's screen
                self._failed = error
                self.post()

        self._work = Thread(target=run, daemon=True)
        self._work.start()

    def post(self) -> None:
        """From a thread: ask the kernel's thread, which alone changes the page, to refresh."""
        if self._loop is not None and not self._loop.is_closed() and self.comm is not None:
            self._loop.call_soon_threadsafe(self.refresh)

    def _changed(self, change: Any = None) -> None:
        """Refresh when nothing has changed for a moment; where no event loop runs, at once."""
        if self._timer is not None:
            self._timer.cancel()
        if loop := running_loop():
            self._timer = loop.call_later(DELAY, self.refresh)
        else:
            self.refresh()

    def close(self) -> None:
        """Compute nothing more, and take everything off the page."""
        if self._timer is not None:
            self._timer.cancel()
        super().close()


def close_older(page: Page) -> None:
    """Close what an earlier run of this cell has shown: it is on no page any more."""
    kernel = getattr(get_ipython(), "kernel", None)
    parent = kernel.get_parent() if kernel is not None else {}
    cell, run = parent.get("metadata", {}).get("cellId"), parent.get("header", {}).get("msg_id")
    if cell is None:  # nobody says which cell this is
        return
    before, pages = _SHOWN.get(cell, (run, WeakSet()))
    if before != run:
        for old in [each for each in pages if each is not page]:
            old.close()
        pages = WeakSet()
    pages.add(page)
    _SHOWN[cell] = run, pages


def parts(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """Yield what is in a widget, the innermost first."""
    for child in getattr(widget, "children", ()):
        yield from parts(child)
        yield child


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of the kernel's thread; None where no kernel runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def paragraph(text: str, attributes: str = "") -> str:
    """Return a text as HTML."""
    return f"<p {attributes}>{html.escape(text)}</p>"


def said(text: str) -> ipywidgets.HTML:
    """Return a widget of a text."""
    return ipywidgets.HTML(paragraph(text))


def alert(error: Exception) -> str:
    """Return as HTML what went wrong; a screen reader reads it out."""
    return paragraph(f"{type(error).__name__}: {error}", 'role="alert"')


def tables(frames: Mapping[str, pd.DataFrame], corner: str) -> str:
    """Return tables as HTML next to each other, every cell escaped: captions by name, `corner` names the index."""
    parts = "".join(_table(frame, name, corner) for name, frame in frames.items())
    named = f'tabindex="0" role="group" aria-label="{html.escape(", ".join(frames))}"'
    return f'<div class="softprompt-tables" {named}>{parts}</div>'


def _table(frame: pd.DataFrame, caption: str, corner: str) -> str:
    """Return one table as HTML."""
    table = frame.rename_axis(index=None, columns=corner).to_html(border=0)
    return table.replace("<thead>", f"<caption>{html.escape(caption)}</caption><thead>", 1)


def neighbour_tables(frames: Mapping[str, pd.DataFrame]) -> str:
    """Return the tables of `nearest_tokens` as HTML next to each other, by their names."""
    found = {name: reading.neighbour_table(frame) for name, frame in frames.items()}
    return tables(found, "virtual token")
