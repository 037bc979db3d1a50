"""The ablation board: switch virtual tokens off and on, and see what the task loses."""

from collections.abc import Callable
from functools import partial
from typing import Any

import ipywidgets
import pandas as pd

from .. import plots, reading
from ..evaluation import Evaluation, evaluate
from ..model import SoftPromptModel
from ..tasks import Task
from .frame import Content, Instrument, button, control

BUTTONS = {"all": lambda on: True, "none": lambda on: False, "invert": lambda on: not on}


class AblationBoard(Instrument):
    """Loss and accuracy with some of the virtual tokens, beside the whole prompt.

    Controls: a box for each virtual token, named by its nearest word, and three buttons: all, none, invert. A virtual
    token that is off is removed; beside it stands the prompt with a random vector of the same norm in each place that
    is off. What was measured once comes back at once.

    Args:
        split, limit: the rows that are measured, the first `limit` of the split; more take longer and tell more.
        seed: of the random vectors.

    Raises:
        ValueError: an unknown split, or a model without a tokenizer.
    """

    def __init__(
        self,
        model: SoftPromptModel,
        task: Task,
        split: str = "validation",
        limit: int = 16,
        *,
        seed: int = 0,
    ) -> None:
        self._model, self._task, self._rows = model, task, {"split": split, "limit": limit}
        self._prompt = model.prompt.detach().float().clone()
        self._random = reading.random_control(self._prompt, seed)
        self._found: dict[tuple[str, frozenset[int]], Evaluation] = {}
        self._setting = False
        _, nearest = reading.nearest(self._prompt, model.word_embeddings, 1)
        words = [reading.readable_token(int(token), model.tokenizer) for token in nearest[:, 0]]
        layout = {"width": "9em"}
        self.toggles = [
            control(ipywidgets.Checkbox, f"{place}: {word}", True, layout=layout)
            for place, word in enumerate(words)
        ]
        buttons = [
            button(name, partial(self._set_all, becomes), tooltip=f"{name} virtual tokens")
            for name, becomes in BUTTONS.items()
        ]
        self.all, self.none, self.invert = buttons
        super().__init__([*self.toggles, *buttons], self.toggles)

    def _set_all(self, becomes: Callable[[bool], bool]) -> None:
        """Set every box, and measure once."""
        self._setting = True
        for toggle in self.toggles:
            toggle.value = becomes(toggle.value)
        self._setting = False
        self._changed()

    def _changed(self, change: Any = None) -> None:
        """Refresh as every widget does, but once for a button, which changes many boxes."""
        if not self._setting:
            super()._changed(change)

    def current(self) -> pd.DataFrame:
        """Return what is shown: name, kind, and the measures of `reading.probes`, changes against the whole prompt."""
        places = frozenset(range(len(self.toggles)))
        off = frozenset(place for place in places if not self.toggles[place].value)
        whole = ("removed", frozenset())
        lines = [
            ("whole prompt", "prompt", whole),
            (f"{len(places - off)} of {len(places)} virtual tokens", "prompt", ("removed", off)),
            ("random vectors where they are off", "random", ("random", off) if off else whole),
            ("no prompt", "no prompt", ("removed", places)),
        ]
        self._measure([key for *_, key in lines])
        rows = [
            {"name": name, "kind": kind} | reading.compared(self._found[key], self._found[whole])
            for name, kind, key in lines
        ]
        return pd.DataFrame(rows)

    def _measure(self, keys: list[tuple[str, frozenset[int]]]) -> None:
        """Measure the prompts that were not measured yet."""
        missing = {str(key): key for key in keys if key not in self._found}
        if not missing:
            return
        self.announce("Measuring …")
        vectors = {
            name: reading.take_out(self._prompt, off, self._random if how == "random" else None)
            for name, (how, off) in missing.items()
        }
        found = evaluate(self._model, self._task, prompts=vectors, **self._rows)
        self._found |= {missing[name]: evaluation for name, evaluation in found.items()}

    def content(self) -> Content:
        """Return the picture of `current`, and its second line in words."""
        table = self.current()
        whole, now, random, _ = table.to_dict("records")
        status = (
            f"{now['name']}: accuracy {now['accuracy']:.1%} (whole prompt {whole['accuracy']:.1%}; change "
            f"{now['accuracy_change']:+.1%}, 95 % interval {now['accuracy_low']:+.1%} to {now['accuracy_high']:+.1%}), "
            f"loss {now['loss']:.3f} (whole prompt {whole['loss']:.3f}; change {now['loss_change']:+.3f}, "
            f"{now['loss_low']:+.3f} to {now['loss_high']:+.3f}). Random vectors where they are off: accuracy "
            f"{random['accuracy']:.1%}, loss {random['loss']:.3f}. {now['n']} rows of {self._rows['split']}."
        )
        return Content(status, plots.board_figure(table))
