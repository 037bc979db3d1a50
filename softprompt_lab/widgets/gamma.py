"""The gamma slider: how far a prompt can be drawn to a text before it stops doing its task."""

from collections.abc import Mapping
from functools import cache

import ipywidgets
import pandas as pd
import torch
from jaxtyping import Float

from .. import plots, reading
from ..embedding import text_start
from ..model import SoftPromptModel
from ..tasks import Task
from .frame import Content, Instrument, as_table, control


class GammaSlider(Instrument):
    """Prompts that were trained to look like a text, by the weight of the likeness: what they do, what they look like.

    Control: gamma. Accuracies are measured when the widget opens, in one pass, beside those of the text itself, random
    vectors and no prompt.

    Args:
        prompts: by gamma, as `wayward.train_wayward(model, task, text)` returns them.
        text: what they were drawn to.
        limit: rows of the test split that are measured.

    Raises:
        ValueError: a text without a token.
    """

    def __init__(
        self,
        model: SoftPromptModel,
        task: Task,
        text: str,
        prompts: Mapping[float, Float[torch.Tensor, "P D"]],
        limit: int | None = 100,
    ) -> None:
        self._model = model
        self._prompts = {gamma: prompts[gamma].detach().clone() for gamma in sorted(prompts)}
        rows = len(next(iter(self._prompts.values())))
        self._target = text_start(text, model.tokenizer, model.word_embeddings_module, rows)
        measured = (model, task, text, self._prompts)
        self._measured = cache(lambda: reading.wayward_table(*measured, split="test", limit=limit))
        gammas = [(f"{gamma:g}", gamma) for gamma in self._prompts]
        least = gammas[0][1]
        self.gamma = control(ipywidgets.SelectionSlider, "gamma", least, options=gammas)
        super().__init__([self.gamma])

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
