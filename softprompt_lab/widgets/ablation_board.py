"""The ablation board: switch virtual tokens off and on, and see what the task loses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import ipywidgets
import pandas as pd
import torch

from .. import plots, reading
from ..evaluation import Evaluation, evaluate
from ..model import SoftPromptModel
from ..tasks import Task
from .frame import Content, Instrument, run_of, with_rows


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
        self.toggles = [
            ipywidgets.Checkbox(
                True, description=f"{place}: {word}", indent=False, layout={"width": "9em"}
            )
            for place, word in enumerate(words)
        ]
        self.all = self._button("all", lambda on: True)
        self.none = self._button("none", lambda on: False)
        self.invert = self._button("invert", lambda on: not on)
        super().__init__([*self.toggles, self.all, self.none, self.invert], self.toggles)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        task: Task | None = None,
        *,
        base_model: Any = None,
        tokenizer: Any = None,
        **more: Any,
    ) -> Self:
        """Make a board of a saved run; the arguments behind the folder are those of `runs.saved_run` and of the board.

        Args:
            task: where its rows do not come with the package.

        Raises:
            AdapterError: the folder is damaged or does not fit the base model.
            LabError: the base model is not there, or the rows of the task are not.
        """
        run = run_of(folder, base_model, tokenizer)
        return cls(run.model, task or with_rows(run), **more)

    def _button(self, name: str, becomes: Callable[[bool], bool]) -> ipywidgets.Button:
        """A button that sets every box at once."""
        button = ipywidgets.Button(
            description=name, tooltip=f"{name} virtual tokens", layout={"width": "6em"}
        )

        def pressed(_: Any) -> None:
            self._setting = True
            for toggle in self.toggles:
                toggle.value = becomes(toggle.value)
            self._setting = False
            self._changed()

        button.on_click(pressed)
        return button

    def _changed(self, change: Any = None) -> None:
        """As every widget, but once for a button, which changes many boxes."""
        if not self._setting:
            super()._changed(change)

    def current(self) -> pd.DataFrame:
        """Return what is shown: name, kind, and the measures of `reading.probes`, changes against the whole prompt."""
        off = frozenset(place for place, toggle in enumerate(self.toggles) if not toggle.value)
        on = len(self.toggles) - len(off)
        whole = ("removed", frozenset())
        nothing = ("removed", frozenset(range(len(self.toggles))))
        lines = [
            ("whole prompt", "prompt", whole),
            (f"{on} of {len(self.toggles)} virtual tokens", "prompt", ("removed", off)),
            ("random vectors where they are off", "random", ("random", off) if off else whole),
            ("no prompt", "no prompt", nothing),
        ]
        self._measure([key for _, _, key in lines])
        reference = self._found[whole]
        rows = [
            {"name": name, "kind": kind} | reading.compared(self._found[key], reference)
            for name, kind, key in lines
        ]
        return pd.DataFrame(rows)

    def _measure(self, keys: list[tuple[str, frozenset[int]]]) -> None:
        """Measure the prompts that were not measured yet."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._found]
        if not missing:
            return
        self.status.value = '<p aria-live="polite">Measuring …</p>'
        vectors: dict[str, torch.Tensor] = {}
        for number, (how, off) in enumerate(missing):
            filler = self._random if how == "random" else None
            vectors[str(number)] = reading.take_out(self._prompt, off, filler)
        found = evaluate(self._model, self._task, prompts=vectors, **self._rows)
        self._found |= dict(zip(missing, found.values(), strict=True))

    def content(self) -> Content:
        """The picture of `current`, and its second line in words."""
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
