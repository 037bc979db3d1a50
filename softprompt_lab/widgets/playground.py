"""The playground: type a message, and see what the labels get behind several prompts and behind none."""

import warnings
from collections.abc import Sequence
from functools import cache, partial

import ipywidgets
import pandas as pd
import torch

from .. import plots
from ..evaluation import evaluate, label_probabilities
from ..model import SoftPromptModel
from ..reading.comparison import refuse_answers
from ..runs.saved import SavedRun
from ..tasks import MAX_LENGTH, Task
from .frame import Content, Instrument, button, control, tables
from .source import Prompt, opened_together, vectors, with_rows

NO_PROMPT = "no prompt"
EXAMPLES = 3  # test texts to click: the last is one that the first prompt gets wrong
SEARCHED = 40  # test texts among which that one is looked for
SAID = 4  # prompts whose answers are said in words
SHORT = 44  # characters of an example on its button


class Playground(Instrument):
    """The probability of each label for a message, side by side behind each of the chosen prompts.

    Controls: the message, test texts to click, and a box for each prompt. The bare base model is the control, always
    one of the choices; it answers for each task.

    Args:
        prompts: a run's folder, "zoo:NAME", a run or a model, or several of them on one base model; of a model every
            named prompt.
        task: of a model; a run has its own.
        text: the message at the beginning; left out, the first test text.

    Raises:
        ValueError: a task with free answers.

    Example:
        >>> from softprompt_lab.widgets import Playground
        >>> Playground(["zoo:tweets-seed0", "zoo:reviews-seed0"])  # doctest: +SKIP
    """

    def __init__(
        self,
        prompts: Prompt | Sequence[Prompt],
        task: Task | None = None,
        text: str | None = None,
    ) -> None:
        given = prompts if isinstance(prompts, list | tuple) else [prompts]
        self._runs = runs = opened_together(given, task)
        tasks = [with_rows(run, "test") if run.task is None else run.task for run in runs]
        if not all(each.labels for each in tasks):
            refuse_answers("the playground")
        lines = [
            (name, prompt, of)
            for run, of in zip(runs, tasks, strict=True)
            for name, prompt in _named(run).items()
        ]
        names = distinct([name for name, _, _ in lines])
        groups: dict[tuple, tuple[Task, dict[str, torch.Tensor]]] = {}  # prompts by what is asked
        for name, (_, prompt, of) in zip(names, lines, strict=True):
            groups.setdefault((of.name, of.labels, of.template), (of, {}))[1][name] = prompt
        titles = distinct([of.name for of, _ in groups.values()])
        self._groups = dict(zip(titles, groups.values(), strict=True))
        self._answers = cache(self._answer)  # going back over a word costs nothing
        first = tasks[0]
        texts = first.test[first.text_column][:EXAMPLES] if len(first.test) else []
        self.examples = [button("", partial(self._take, number)) for number in range(len(texts))]
        self._offer(texts)
        text = text if text is not None else next(iter(texts), "")
        wide = {"rows": 2, "layout": {"width": "min(62rem, 98%)"}}
        self.text = control(ipywidgets.Textarea, "message", text, **wide)
        names = [*names, NO_PROMPT]
        self.chosen = {name: control(ipywidgets.Checkbox, name, True) for name in names}
        super().__init__([self.text, *self.chosen.values()], self.examples)

    # ---------------------------------------------------------------------------------------------- examples

    def fill(self) -> None:
        """Answer the first message, then look for a test text that the first prompt gets wrong."""
        first = self._seen is None
        super().fill()
        if first and self.examples:
            self.in_background(self._find_wrong)

    def _offer(self, texts: Sequence[str], wrong: str = "") -> None:
        """Put texts on the buttons."""
        self._texts = list(texts)
        for place, (each, text) in enumerate(zip(self.examples, texts, strict=True)):
            said = "answered wrongly: " if wrong and place == len(texts) - 1 else ""
            each.description = said + (text if len(text) <= SHORT else text[: SHORT - 1] + "…")
            each.tooltip = text + wrong * bool(said)

    def _take(self, number: int) -> None:
        """Make an example the message."""
        self.text.value = self._texts[number]

    def _find_wrong(self) -> None:
        """Put the first test text that the first prompt gets wrong on the last button."""
        run = self._runs[0]
        found = evaluate(run.model, run.task, prompts={"": vectors(run)}, limit=SEARCHED)[""]
        wrong = found.predictions[~found.predictions["correct"]]
        if len(wrong) and self.comm is not None:
            row = wrong.iloc[0]
            label = f" (its label is {row['label']})"
            offer = partial(self._offer, [*self._texts[:-1], row["text"]], label)
            offer() if self._loop is None else self._loop.call_soon_threadsafe(offer)

    # ----------------------------------------------------------------------------------------------- answers

    def current(self) -> dict[str, pd.DataFrame]:
        """Return the tables that are shown: a task's name -> one line a chosen prompt, one column a label."""
        return self._current()[0]

    def _current(self) -> tuple[dict[str, pd.DataFrame], bool]:
        """Return the tables for message and boxes as they are, and whether the message was cut."""
        chosen = (name for name, box in self.chosen.items() if box.value)
        return self._answers(self.text.value, tuple(chosen))

    def _answer(self, text: str, names: tuple[str, ...]) -> tuple[dict[str, pd.DataFrame], bool]:
        """Ask the model, once for each task."""
        if not names:
            raise ValueError("no prompt is chosen; tick at least one box.")
        found, model = {}, self._runs[0].model
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for title, (task, prompts) in self._groups.items():
                asked = {name: prompts[name] for name in names if name in prompts}
                if NO_PROMPT in names:
                    asked[NO_PROMPT] = torch.zeros(0, model.prompt.shape[1])
                if asked:
                    shares = label_probabilities(model, task, [text], prompts=asked)
                    found[title] = shares.droplevel("text")
        return found, any("max_length" in str(warning.message) for warning in said)

    def content(self) -> Content:
        """Return the shares as cells, and the likeliest label in words; a text that was cut is said."""
        if not self.text.value.strip():
            return Content("Type a message, or click an example.", None)
        shares, cut = self._current()
        likeliest = [
            f"{name}: {row.idxmax()} {row.max():.0%}"
            for table in shares.values()
            for name, row in table.iterrows()
        ]
        more = f"; {len(likeliest) - SAID} more below" * (len(likeliest) > SAID)
        status = f"Likeliest label. {'; '.join(likeliest[:SAID])}{more}."
        if cut:
            status += f" The end of the message was cut off: at most {MAX_LENGTH} tokens are read."
        shown = {name: table.map("{:.1%}".format) for name, table in shares.items()}
        return Content(status, plots.answer_shares(shares), tables(shown, "prompt"))


def distinct(names: Sequence[str]) -> list[str]:
    """Return names of which none comes twice: the second of a kind is "name (2)"."""
    seen = [names[:place].count(name) for place, name in enumerate(names)]
    return [name if not n else f"{name} ({n + 1})" for name, n in zip(names, seen, strict=True)]


def _named(run: SavedRun) -> dict[str, torch.Tensor]:
    """Return a run's prompt by the run's name, or every prompt of a model by its own."""
    model: SoftPromptModel = run.model
    if run.record or run.snapshots or len(model.prompts) == 1:
        return {run.name: vectors(run)}
    return {name: model.prompt_by_name(name).detach().clone() for name in model.prompts}
