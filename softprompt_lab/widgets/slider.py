"""A slider over values that have names, made of the browser's own, which a screen reader can name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

FOLDER = Path(__file__).parent


class Slider(anywidget.AnyWidget):
    """A choice among `options`, pairs of a label and a value; `value` can be read, set and observed.

    Raises:
        ValueError: a value that is none of the options.
    """

    _esm = FOLDER / "slider.js"
    description = traitlets.Unicode().tag(sync=True)
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    index = traitlets.Int().tag(sync=True)
    value = traitlets.Any()

    def __init__(
        self, description: str, value: Any, options: Sequence[tuple[str, Any]], **more: Any
    ) -> None:
        self.options = dict(options)
        super().__init__(description=description, labels=list(self.options), **more)
        self.value = value

    @traitlets.observe("index")
    def _moved(self, change: Any) -> None:
        self.value = [*self.options.values()][self.index]

    @traitlets.observe("value")
    def _set(self, change: Any) -> None:
        self.index = [*self.options.values()].index(self.value)

    @traitlets.validate("value")
    def _check(self, proposal: Any) -> Any:
        if proposal["value"] not in self.options.values():
            known = ", ".join(self.options)
            raise ValueError(
                f"{self.description}: {proposal['value']!r} is none of its values: {known}."
            )
        return proposal["value"]
