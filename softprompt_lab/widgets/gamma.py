"""The gamma slider: how far a prompt can be drawn to a text before it stops doing its task."""

from collections.abc import Sequence

import pandas as pd

from .. import plots, reading
from ..embedding import text_start
from ..errors import LabError
from ..runs import zoo
from ..tasks import Task
from .frame import Content, Instrument, tables
from .slider import Slider
from .source import Prompt, is_of_zoo, opened, opened_together, vectors, with_rows

TABLE_FILE = "wayward.csv"  # of a prompt of the zoo: `reading.wayward_table` on all test rows


class GammaSlider(Instrument):
    """Prompts that were trained to look like a text, by the weight of the likeness: what they do, what they look like.

    Control: gamma; 0 is the free prompt. The accuracies, beside those of the text itself, random vectors and no prompt,
    come with the zoo; of other prompts they are measured in the background.

    Args:
        prompt: the free prompt: a run's folder, "zoo:NAME", or a run.
        drawn: runs that were trained with `penalty=TowardsText(text, gamma)`, all towards one text; by default those of
            the zoo for the same task.
        limit: rows of the test split that are measured.

    Raises:
        LabError: there are no such prompts, or not towards one text.

    Example:
        >>> from softprompt_lab.widgets import GammaSlider
        >>> GammaSlider("zoo:tweets-seed0")  # doctest: +SKIP
    """

    def __init__(
        self,
        prompt: Prompt,
        drawn: Sequence[Prompt] | None = None,
        task: Task | None = None,
        limit: int | None = 100,
    ) -> None:
        run = opened(prompt, task)
        task, shipped = with_rows(run, "test"), zoo.FOLDER / run.name / TABLE_FILE
        known = drawn is None and is_of_zoo(run) and shipped.is_file()
        self._table = pd.read_csv(shipped) if known else None
        if drawn is None:
            found = zoo.records(task.name).items()
            drawn = [zoo.PREFIX + name for name, record in found if "towards" in record]
        runs = opened_together([run, *drawn])[1:]
        texts = {each.record.get("towards") for each in runs}
        if len(texts) != 1 or None in texts:
            raise LabError(
                f"{run.name}: there are no prompts that were drawn towards one text for {task.name!r}; train some "
                "with `penalty=reading.TowardsText(text, gamma)` and pass their folders as drawn=[...]."
            )
        (self.text,) = texts
        self._run, self._limit = run, limit
        by_gamma = {each.record["gamma"]: vectors(each) for each in runs} | {0.0: vectors(run)}
        self._prompts = dict(sorted(by_gamma.items()))
        rows = len(self._prompts[0.0])
        self._target = text_start(
            self.text, run.model.tokenizer, run.model.word_embeddings_module, rows
        )
        gammas = [(f"{gamma:g}", gamma) for gamma in self._prompts]
        self.gamma = Slider("gamma", 0.0, gammas)
        super().__init__([self.gamma])

    def _measure(self) -> None:
        """Measure the whole series, and show it."""
        self._table = reading.wayward_table(
            self._run.model, self._run.task, self.text, self._prompts, limit=self._limit
        )
        self.post()

    def current(self) -> pd.DataFrame:
        """Return the words that are shown: of each virtual token the text's, the nearest, and the L2 distances."""
        words, tokenizer = self._run.model.word_embeddings, self._run.model.tokenizer
        prompt = self._prompts[self.gamma.value].to(self._target)
        text, found = (
            reading.nearest_tokens(each, words, tokenizer, 1, "l2")
            for each in (self._target, prompt)
        )
        away = (prompt - self._target).norm(dim=-1).tolist()
        columns = {"word of the text": text["token"], "distance from it": away}
        columns |= {"nearest word": found["token"], "distance from that": found["score"]}
        return pd.DataFrame(columns)

    def content(self) -> Content:
        """Return the curve with the chosen gamma marked, and the words beside the text's."""
        if self._table is None and not self.busy:
            self.in_background(self._measure)
        caption = "words of the text and of the prompt"
        shown = tables({caption: self.current().round(2)}, "virtual token")
        table = self._table
        if table is None:
            prompts = len(self._prompts) + 3
            return Content(f"Measuring {prompts} prompts on {self._limit} test rows …", None, shown)
        by_kind = table[table["kind"] != "gamma"].set_index("kind")["accuracy"]
        (row,) = table[table["gamma"] == self.gamma.value].itertuples()
        status = (
            f"gamma {row.gamma:g}: accuracy {row.accuracy:.1%} (95 % interval {row.low:.1%} to {row.high:.1%}); "
            f"{row.share:.0%} of the nearest words are the text's, mean squared distance {row.distance:.2g}. "
            f"The text itself {by_kind['text']:.1%}, no prompt {by_kind['no prompt']:.1%}. {row.n} test rows."
        )
        return Content(status, plots.wayward_figure(table, self.gamma.value), shown)
