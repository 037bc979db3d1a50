"""The playground: type a message, and see what the labels get behind several prompts and behind none."""

from collections.abc import Mapping
from functools import cache

import ipywidgets
import pandas as pd
import torch

from .. import plots
from ..evaluation import label_probabilities
from ..model import SoftPromptModel
from ..reading.comparison import refuse_answers
from ..tasks import Task
from .frame import Content, Instrument, as_table, control, side_by_side

NO_PROMPT = "no prompt"


class Playground(Instrument):
    """The probability of each label for a message, side by side behind each of the chosen prompts.

    Controls: the message, and a box for each prompt. The bare base model is the control, always one of the choices.

    Args:
        model: the base model, and the prompts by name that can be chosen.
        task: template and labels; or, by prompt, the task that it was trained on: the bare base model then answers
            for each task.
        text: the message at the beginning; left out, the task's first test text.

    Raises:
        ValueError: a task with free answers.
    """

    def __init__(
        self, model: SoftPromptModel, task: Task | Mapping[str, Task], text: str | None = None
    ) -> None:
        self._model = model
        prompts = {name: model.prompt_by_name(name) for name in model.prompts}
        self._prompts = {name: prompt.detach().clone() for name, prompt in prompts.items()}
        tasks = dict.fromkeys(prompts, task) if isinstance(task, Task) else dict(task)
        if not all(task.labels for task in tasks.values()):
            refuse_answers("the playground")
        self._tasks = tasks
        self._answers = cache(self._answer)  # going back over a word costs nothing
        first = next(iter(tasks.values()))
        if text is None:
            text = first.test[0][first.text_column] if len(first.test) else ""
        wide = {"rows": 3, "layout": {"width": "95%"}}
        self.text = control(ipywidgets.Textarea, "message", text, **wide)
        names = (*prompts, NO_PROMPT)
        self.chosen = {name: control(ipywidgets.Checkbox, name, True) for name in names}
        super().__init__([self.text, *self.chosen.values()])

    def current(self) -> dict[str, pd.DataFrame]:
        """Return the tables that are shown: a task's name -> one line a chosen prompt, one column a label."""
        chosen = (name for name, box in self.chosen.items() if box.value)
        return self._answers(self.text.value, tuple(chosen))

    def _answer(self, text: str, names: tuple[str, ...]) -> dict[str, pd.DataFrame]:
        """Ask the model, once for each task."""
        if not names:
            raise ValueError("no prompt is chosen; tick at least one box.")
        tables = {}
        for task in {task.name: task for task in self._tasks.values()}.values():
            prompts = {
                name: prompt
                for name, prompt in self._prompts.items()
                if name in names and self._tasks[name].name == task.name
            }
            if NO_PROMPT in names:
                prompts[NO_PROMPT] = torch.zeros(0, self._model.prompt.shape[1])
            if prompts:
                found = label_probabilities(self._model, task, [text], prompts=prompts)
                tables[task.name] = found.droplevel("text")
        return tables

    def content(self) -> Content:
        """Return the shares as bars and as tables."""
        tables = self.current()
        likeliest = "; ".join(
            f"{name}: {row.idxmax()} {row.max():.0%}"
            for table in tables.values()
            for name, row in table.iterrows()
        )
        shown = [
            as_table(table.map("{:.1%}".format), name, "prompt") for name, table in tables.items()
        ]
        status = f"Likeliest label. {likeliest}"
        return Content(status, plots.answer_shares(tables), side_by_side(shown))
