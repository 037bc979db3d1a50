"""What all figures share: a `Figure` that shows itself with its alt text, the palette, the style.

One palette (Okabe and Ito 2008, safe for colour-blind readers); markers, line styles, hatches or words say
again what a colour says. No pyplot: a figure is shown once, by the cell that returns it.
"""

import base64
import html
import io
import textwrap
import threading
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache, wraps
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import figure, font_manager, ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#767676"
LOOKS = list(  # of lines
    mpl.cycler(
        color=[BLUE, VERMILLION, GREEN, PURPLE, ORANGE, BLACK, GREY],
        marker=list("os^DvxP"),
        linestyle=["-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1))],
    )
)
DOTTED = {"color": BLACK, "linestyle": ":", "linewidth": 1.4}  # a level to compare with
LEVELS = {  # what an accuracy is read beside
    "majority": DOTTED,
    "human rater": {"color": BLACK, "linestyle": (0, (8, 2)), "linewidth": 1.0},
    "no prompt": {"color": PURPLE, "linestyle": "--", "linewidth": 1.4},
    "the text itself": {"color": GREEN, "linestyle": "-.", "linewidth": 1.4},
    "random vectors": {"color": ORANGE, "linestyle": (0, (1, 3)), "linewidth": 2.2},
}
DRAWING = threading.RLock()  # held while matplotlib's settings, one set for all threads, are ours
COLOURS = 128  # of a PNG's palette: a third of the size, no difference to see
TITLE_LETTERS = 10.5  # of a title, for each inch of a figure's width
DPI = 110  # a figure of 8 inches is 880 pixels wide and about 20 KB
SMALLEST = 0.7  # of a picture's width: smaller letters could not be read; the page scrolls
COUNTS = ("step", "layer", "head")  # axes without fractions
DARK_PAGE = ":is([data-jp-theme-light=false],.vscode-dark)"  # of JupyterLab, nbconvert; VS Code
DARK = (  # whites become the page's dark grey and hues stay
    f"<style>{DARK_PAGE} .softprompt-figure{{filter:invert(.92) hue-rotate(180deg)}}"
    f"{DARK_PAGE} .softprompt-scroll{{color-scheme:dark}}</style>"
)
STYLE = {
    "figure.dpi": DPI,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}

Numbers = Any  # a list, an array, a tensor or a column of numbers: whatever `array` takes


class Figure(figure.Figure):
    """A matplotlib figure without pyplot, which shows itself in a notebook as a picture with its `alt` text.

    Attributes:
        animated: An animated PNG, to be shown in place of the picture.
    """

    alt = ""
    animated = b""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        return {"text/html": self.html(), "text/plain": self.alt}, {}

    def html(self) -> str:
        """Return the picture as an element of a page, with its bytes and its alt text: what a notebook shows.

        JupyterLab would show an "image/png" without alt text. Under a dark theme the picture is dark; a notebook that
        is not trusted drops the style for that, and nothing else. It shrinks to `SMALLEST`, then it is scrolled.
        """
        data = base64.b64encode(self.png()).decode()
        width, height = self.canvas.get_width_height()
        return (
            f'{DARK}<div class="softprompt-scroll" tabindex="0" style="overflow-x:auto">'
            f'<img class="softprompt-figure" alt="{html.escape(self.alt)}" width="{width}" height="{height}" '
            f'style="height:auto;max-width:100%;min-width:{SMALLEST * width:.0f}px" '
            f'src="data:image/png;base64,{data}"></div>'
        )

    def png(self) -> bytes:
        """Return the picture, the same bytes for the same figure."""
        if self.animated:
            return self.animated
        canvas, buffer = FigureCanvasAgg(self), io.BytesIO()
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        image.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def legend_below(self, columns: int = 4, title: str | None = None) -> None:
        """Put one legend under all panels: every label once, in the order in which they were drawn."""
        labelled = [ax.get_legend_handles_labels() for ax in self.axes]
        entries = {
            label: handle for parts in labelled for handle, label in zip(*parts, strict=True)
        }
        if entries:
            look = {"loc": "outside lower center", "ncols": columns, "title": title}
            self.legend(list(entries.values()), list(entries), **look)
        elif title:
            self.supxlabel(title, fontsize=10)


def styled(draw: Callable) -> Callable:
    """Draw with the style of the course, under a `title` where one is given, and leave matplotlib's settings alone."""

    @wraps(draw)
    def wrapped(*args: Any, title: str = "", **kwargs: Any) -> Any:
        with DRAWING, mpl.rc_context(STYLE):
            drawn = draw(*args, **kwargs)
            _finish(drawn)
            if title:
                lines = textwrap.wrap(title, int(TITLE_LETTERS * drawn.get_figwidth()))
                drawn.suptitle("\n".join(lines), x=0.01, ha="left", fontweight="bold")
                drawn.set_figheight(drawn.get_figheight() + 0.24 * len(lines))
                drawn.alt = f"{title}. {drawn.alt}"
            return drawn

    return wrapped


def _finish(fig: Figure) -> None:
    """Let markers on the edge of their axes be seen whole, and put ticks of `COUNTS` at whole numbers only.

    A line with a point beyond the axes stays cut.
    """
    whole = {"steps": [1, 2, 2.5, 5, 10], "integer": True, "min_n_ticks": 1}
    for ax in fig.axes:
        for line in ax.lines:
            points = np.ma.masked_invalid(line.get_xydata())
            line.set_clip_on(bool(((points < ax.viewLim.min) | (points > ax.viewLim.max)).any()))
        for axis in (ax.xaxis, ax.yaxis):
            free = isinstance(axis.get_major_locator(), ticker.AutoLocator)
            if free and axis.get_label_text() in COUNTS:
                axis.set_major_locator(ticker.MaxNLocator(5, **whole))


@cache
def _glyphs() -> frozenset[int]:
    """Return the code points that the figures' font can draw."""
    path = font_manager.findfont(STYLE["font.family"])
    return frozenset(font_manager.get_font(path).get_charmap())


def _alone(character: str) -> bool:
    """Return whether a character is drawn as itself, whatever stands beside it."""
    leftward = unicodedata.bidirectional(character) in ("R", "AL")
    return (
        ord(character) in _glyphs() and not leftward and unicodedata.category(character)[0] != "M"
    )


def drawable(text: str, longest: int = 60) -> str:
    r"""Return `text` as the figures' font can draw it: other characters as \u escapes, cut to `longest`.

    So are marks, which would change the letter before them, and letters that are written from right to left.
    """
    shown = "".join(c if _alone(c) else c.encode("unicode_escape").decode() for c in text)
    shown = shown if len(shown) <= longest else shown[: longest - 1] + "…"
    return shown.replace("$", r"\$")


def array(values: Numbers) -> np.ndarray:
    """Return a list, array or tensor as an array of float64."""
    values = values.detach().cpu() if hasattr(values, "detach") else values
    return np.asarray(values, dtype=np.float64)


def percent(*axes: Any) -> None:
    """Show fractions on each axis as percentages."""
    for axis in axes:
        axis.set_major_formatter(ticker.PercentFormatter(xmax=1, decimals=0))


def first_of(drawn: int, every: int) -> str:
    """Return the label of an axis with the first virtual tokens, which says so where there are more."""
    return "virtual token" if drawn >= every else f"virtual token (first {drawn} of {every})"


def looks_of(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Give each distinct name a colour, a marker and a line style: what `plot` takes."""
    return dict(zip(dict.fromkeys(names), cycle(LOOKS), strict=False))
