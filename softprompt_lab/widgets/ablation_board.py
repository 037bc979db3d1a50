"""The ablation board: switch virtual tokens off and on, and see what the task loses."""

from collections.abc import Callable
from functools import cache, partial

import ipywidgets
import pandas as pd

from .. import plots, reading
from ..evaluation import Evaluation, evaluate
from ..tasks import Task
from .frame import Content, Instrument, button, control
from .source import Prompt, opened, vectors, with_rows

BUTTONS = {"all": lambda on: True, "none": lambda on: False, "invert": lambda on: not on}


class AblationBoard(Instrument):
    """Loss and accuracy with some of the virtual tokens, beside the whole prompt.

    Controls: a box for each virtual token, named by its nearest word, and three buttons: all, none, invert. A virtual
    token that is off is removed; beside it stands the prompt with a random vector of the same norm in each place that
    is off. What was measured once comes back at once.

    Args:
        prompt: a run's folder, "zoo:NAME", a run or a model.
        task: of a model; a run has its own.
        limit: rows of the validation split that are measured; more take longer and tell more.

    Example:
        >>> from softprompt_lab.widgets import AblationBoard
        >>> AblationBoard("zoo:tweets-seed0")  # doctest: +SKIP
    """

    def __init__(self, prompt: Prompt, task: Task | None = None, limit: int = 16) -> None:
        run = opened(prompt, task)
        model = self._model = run.model
        self._task, self._limit = with_rows(run, "validation"), limit
        self._prompt = vectors(run)
        self._random = reading.random_control(self._prompt)
        self._measured = cache(self._measure)  # what was measured once comes back at once
        nearest = reading.nearest_tokens(self._prompt, model.word_embeddings, model.tokenizer, 1)
        layout = {"width": "8.5em"}
        self.toggles = [
            control(ipywidgets.Checkbox, f"{place}: {word}", True, layout=layout)
            for place, word in enumerate(nearest["token"])
        ]
        buttons = [
            button(name, partial(self._set_all, becomes), tooltip=f"{name} virtual tokens")
            for name, becomes in BUTTONS.items()
        ]
        self.all, self.none, self.invert = buttons
        super().__init__(self.toggles, buttons)

    def _set_all(self, becomes: Callable[[bool], bool]) -> None:
        """Set every box."""
        for toggle in self.toggles:
            toggle.value = becomes(toggle.value)

    def current(self) -> pd.DataFrame:
        """Return what is shown: name, kind, and the measures of `reading.probes`, changes against the whole prompt."""
        places = frozenset(range(len(self.toggles)))
        off = frozenset(place for place in places if not self.toggles[place].value)
        left = f"{len(places - off)} of {len(places)} virtual tokens"
        lines = [
            ("whole prompt", "prompt", self._measured(frozenset())),
            (left, "prompt", self._measured(off)),
            ("random vectors where they are off", "random", self._measured(off, random=True)),
            ("no prompt", "no prompt", self._measured(places)),
        ]
        whole = lines[0][-1]
        rows = [
            {"name": name, "kind": kind} | reading.compared(found, whole)
            for name, kind, found in lines
        ]
        return pd.DataFrame(rows).assign(**reading.levels(self._task, "validation", self._limit))

    def _measure(self, off: frozenset[int], random: bool = False) -> Evaluation:
        """Measure the prompt without the virtual tokens that are off, or with random vectors there."""
        self.announce("Measuring …")
        vectors = reading.take_out(self._prompt, off, self._random if random else None)
        given = {"split": "validation", "limit": self._limit, "prompts": {"": vectors}}
        return evaluate(self._model, self._task, **given)[""]

    def content(self) -> Content:
        """Return the picture of `current`, and its second line in words."""
        table = self.current()
        whole, now, random, _ = table.to_dict("records")
        status = (
            f"{now['name']}: accuracy {now['accuracy']:.1%} (whole prompt {whole['accuracy']:.1%}; change "
            f"{now['accuracy_change']:+.1%}, 95 % interval {now['accuracy_low']:+.1%} to {now['accuracy_high']:+.1%}), "
            f"loss {now['loss']:.3f} (whole prompt {whole['loss']:.3f}; change {now['loss_change']:+.3f}, "
            f"{now['loss_low']:+.3f} to {now['loss_high']:+.3f}). Random vectors where they are off: accuracy "
            f"{random['accuracy']:.1%}, loss {random['loss']:.3f}. {now['n']} rows of validation."
        )
        return Content(status, plots.board_figure(table))
