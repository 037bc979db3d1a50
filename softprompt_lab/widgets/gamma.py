"""The gamma slider: how far a prompt can be drawn to a text before it stops doing its task."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import ipywidgets
import pandas as pd
import torch
from jaxtyping import Float

from .. import plots, reading
from ..embedding import text_start
from ..model import SoftPromptModel
from ..tasks import Task
from .frame import Content, Instrument, as_table, control, run_of, with_rows


class GammaSlider(Instrument):
    """Prompts that were trained to look like a text, by the weight of the likeness: what they do, what they look like.

    Control: gamma. Accuracies are measured when the widget opens, in one pass, beside those of the text itself, random
    vectors and no prompt.

    Args:
        prompts: by gamma, as `wayward.train_wayward(model, task, text)` returns them.
        text: what they were drawn to.
        split, limit: the rows that are measured.

    Raises:
        ValueError: no prompt, or a text without a token.
    """

    def __init__(
        self,
        model: SoftPromptModel,
        task: Task,
        text: str,
        prompts: Mapping[float, Float[torch.Tensor, "P D"]],
        *,
        split: str = "test",
        limit: int | None = 100,
    ) -> None:
        if not prompts:
            raise ValueError(
                "prompts is empty; train some with wayward.train_wayward(model, task, text)."
            )
        self._model = model
        self._prompts = {gamma: prompts[gamma].detach().clone() for gamma in sorted(prompts)}
        rows = len(next(iter(self._prompts.values())))
        self._target = text_start(text, model.tokenizer, model.word_embeddings_module, rows)
        measured, where = (model, task, text, self._prompts), {"split": split, "limit": limit}
        self._measured = cache(lambda: reading.wayward_table(*measured, **where))
        gammas = [(f"{gamma:g}", gamma) for gamma in self._prompts]
        self.gamma = control(
            ipywidgets.SelectionSlider,
            "gamma",
            gammas[0][1],
            options=gammas,
            continuous_update=True,
        )
        super().__init__([self.gamma])

    @classmethod
    def from_folders(
        cls, folders: Sequence[str | Path], *, base_model: Any = None, **more: Any
    ) -> Self:
        """Make a slider of saved runs of one task, each a folder or `zoo:NAME`.

        Their `task.json` says `towards`, the text, and `gamma`; one that says neither is the free prompt, gamma 0.

        Args:
            base_model: with `tokenizer`, in place of loading the base model.
            more: `split` and `limit`.

        Raises:
            AdapterError, LabError: as `runs.saved_run`, or the rows of the task do not come with the package.
            ValueError: no run was drawn towards a text, or two towards other texts.
        """
        first = run_of(folders[0], base_model, more.pop("tokenizer", None))
        given = (first.model.base_model, first.model.tokenizer)
        found = [first, *(run_of(folder, *given) for folder in folders[1:])]
        texts = {run.record["towards"] for run in found if "towards" in run.record}
        if len(texts) != 1:
            raise ValueError(
                f"the runs were drawn towards {len(texts)} texts ({', '.join(texts)}); it must be one."
            )
        prompts = {run.record.get("gamma", 0.0): run.model.prompt for run in found}
        return cls(first.model, with_rows(first), texts.pop(), prompts, **more)

    def current(self) -> pd.DataFrame:
        """Return the words that are shown: of each virtual token the text's, the nearest, and the L2 distances."""
        words, tokenizer = self._model.word_embeddings, self._model.tokenizer
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
        """The curve with the chosen gamma marked, and the words beside the text's."""
        table = self._measured()
        by_kind = table[table["kind"] != "gamma"].set_index("kind")["accuracy"]
        (row,) = table[table["gamma"] == self.gamma.value].itertuples()
        status = (
            f"gamma {row.gamma:g}: accuracy {row.accuracy:.1%} (95 % interval {row.low:.1%} to {row.high:.1%}); "
            f"{row.share:.0%} of the nearest words are the text's, mean squared distance {row.distance:.2g}. "
            f"The text itself {by_kind['text']:.1%}, no prompt {by_kind['no prompt']:.1%}."
        )
        caption = "words of the text and of the prompt"
        shown = as_table(self.current().round(2), caption, "virtual token")
        return Content(status, plots.wayward_figure(table, self.gamma.value), shown)
