"""Evaluations of several prompts on the same rows, beside each other: differences with intervals, and votes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NoReturn

import numpy as np
import pandas as pd
import torch
from scipy.stats import bootstrap

from ..evaluation import Evaluation, evaluate
from ..model import SoftPromptModel
from ..tasks import LABEL_COLUMN, Task

RESAMPLES = 2_000  # of the rows, for an interval
Kept = dict[tuple, Evaluation]  # by split, limit and the prompt's numbers
_KEPT: ContextVar[Kept] = ContextVar("kept")


def compared(one: Evaluation, other: Evaluation) -> dict[str, float | int]:
    """Return the measures of one evaluation and how much they differ from another's of the same rows.

    A positive change of the loss is worse, one of the accuracy better. The 95 % intervals are a bootstrap over the
    rows, paired (Efron 1979): they cover the choice of rows, not that of the training run.

    Returns:
        loss, accuracy; loss_change, loss_low, loss_high; accuracy_change, accuracy_low, accuracy_high; n (rows).

    Raises:
        ValueError: the evaluations are of other rows, or of one row.
    """
    first, second = one.predictions, other.predictions
    if not first[["text", "label"]].equals(second[["text", "label"]]):
        raise ValueError(
            f"the evaluations are of other rows ({one.n} and {other.n}); measure both on the same ones."
        )
    losses = (first["loss"] - second["loss"]).to_numpy()
    correct = first["correct"].to_numpy(dtype=float) - second["correct"].to_numpy(dtype=float)
    rows = losses, first["tokens"].to_numpy(dtype=float), correct

    def changes(losses: np.ndarray, tokens: np.ndarray, correct: np.ndarray, axis: int):
        return np.stack([losses.sum(axis) / tokens.sum(axis), correct.mean(axis)])

    options = {"paired": True, "vectorized": True, "n_resamples": RESAMPLES}
    found = bootstrap(rows, changes, method="percentile", rng=np.random.default_rng(0), **options)
    ends = {"change": changes(*rows, axis=0), **found.confidence_interval._asdict()}
    measures = {
        f"{name}_{end}": float(values[number])
        for number, name in enumerate(("loss", "accuracy"))
        for end, values in ends.items()
    }
    return {"loss": one.loss, "accuracy": one.accuracy} | measures | {"n": one.n}


def evaluate_each(
    model: SoftPromptModel,
    task: Task,
    split: str,
    prompts: Sequence[torch.Tensor],
    limit: int | None = None,
) -> list[Evaluation]:
    """Return the evaluation of every prompt, in their order; equal prompts are measured once (see `keeping`)."""
    kept = _KEPT.get({})
    contents = [  # -0.0 is 0.0
        (split, limit, (prompt.detach().float().cpu() + 0.0).numpy().tobytes())
        for prompt in prompts
    ]
    once = dict(zip(contents, prompts, strict=True))
    names = {str(n): each for n, each in enumerate(once) if each not in kept}
    if names:
        new = {name: once[content] for name, content in names.items()}
        found = evaluate(model, task, split, prompts=new, limit=limit)
        kept |= {names[name]: each for name, each in found.items()}
    return [kept[content] for content in contents]


@contextmanager
def keeping(kept: Kept) -> Iterator[None]:
    """Measure no prompt of one model and task again that `kept` holds, and add to it what is measured."""
    before = _KEPT.set(kept)
    try:
        yield
    finally:
        _KEPT.reset(before)


def refuse_answers(what: str) -> NoReturn:
    """Raise ValueError for a task with free answers, where labels are compared."""
    raise ValueError(
        f"{what} compares labels, and this task has free answers: look at them in evaluate(...).predictions."
    )


def levels(task: Task, split: str, limit: int | None = None) -> dict[str, float | int]:
    """Return what an accuracy on the first rows of a split is read beside: n, majority and ceiling of these rows.

    `majority` is right who always gives the commonest answer of the training split, and as `ceiling` one human rater:
    the mean of the column "agreement", NaN for a task without it.
    """
    rows = task.split(split)
    truth = pd.Series(rows[LABEL_COLUMN][:limit])
    agreed = rows["agreement"][:limit] if "agreement" in rows.column_names else [np.nan]
    commonest = pd.Series(task.train[LABEL_COLUMN]).mode()[0]
    return {"n": len(truth), "majority": (truth == commonest).mean(), "ceiling": np.mean(agreed)}


def vote(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """Return what several prompts answer together, from `evaluate(..., prompts=...)`: one line a row of the task.

    Columns: text, label, mean_probability (the label with the highest mean probability over the prompts) and
    majority_vote (the label that most prompts choose, Lester et al. 2021, section 6; among equals the one with the
    higher mean probability). `(table["majority_vote"] == table["label"]).mean()` is the vote's accuracy.

    Raises:
        ValueError: the answers are free text.
    """
    if any(each.macro_f1 is None for each in evaluations.values()):
        refuse_answers("a vote")
    tables = [each.predictions for each in evaluations.values()]
    scores = np.stack([table.filter(like="log p(").to_numpy() for table in tables])
    labels = [name[len("log p(") : -1] for name in tables[0].filter(like="log p(")]
    shares = torch.from_numpy(scores).softmax(dim=-1).mean(dim=0).numpy()  # (N, K)
    votes = (scores.argmax(axis=-1)[..., None] == np.arange(len(labels))).sum(axis=0)  # (N, K)
    return tables[0][["text", "label"]].assign(
        mean_probability=np.array(labels)[shares.argmax(axis=1)],
        majority_vote=np.array(labels)[(votes + shares / 2).argmax(axis=1)],
    )
