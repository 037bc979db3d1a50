"""Evaluations of several prompts on the same rows, beside each other: differences with intervals, and votes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import bootstrap

from ..evaluation import Evaluation, evaluate
from ..model import SoftPromptModel
from ..tasks import Task


@dataclass(frozen=True)
class Difference:
    """How much one evaluation differs from another on the same rows: this minus the other.

    Attributes:
        loss, accuracy: the differences; a positive loss is worse, a positive accuracy better.
        loss_interval, accuracy_interval: 95 % intervals, a bootstrap over the rows, paired (Efron 1979).
        n: rows.
    """

    loss: float
    loss_interval: tuple[float, float]
    accuracy: float
    accuracy_interval: tuple[float, float]
    n: int


def difference(
    one: Evaluation, other: Evaluation, *, resamples: int = 2_000, seed: int = 0
) -> Difference:
    """Compare two evaluations row by row.

    The interval covers the choice of rows, not that of the training run.

    Raises:
        ValueError: they are not of the same rows.
    """
    first, second = one.predictions, other.predictions
    if not first[["text", "label"]].equals(second[["text", "label"]]):
        raise ValueError(
            f"the evaluations are of other rows ({one.n} and {other.n}); measure both on the same ones."
        )
    losses = (first["loss"] - second["loss"]).to_numpy()
    correct = first["correct"].to_numpy(dtype=float) - second["correct"].to_numpy(dtype=float)
    tokens = first["tokens"].to_numpy(dtype=float)
    return Difference(
        loss=float(losses.sum() / tokens.sum()),
        loss_interval=_interval(losses, tokens, resamples, seed),
        accuracy=float(correct.mean()),
        accuracy_interval=_interval(correct, np.ones(len(correct)), resamples, seed),
        n=one.n,
    )


def _interval(
    values: np.ndarray, weights: np.ndarray, resamples: int, seed: int
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of sum(values) / sum(weights) over rows drawn with replacement."""
    if len(values) < 2 or (np.ptp(values) == 0 and np.ptp(weights) == 0):  # no resample differs
        return (float(values.sum() / weights.sum()),) * 2
    low, high = bootstrap(
        (values, weights),
        lambda values, weights, axis: values.sum(axis=axis) / weights.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(low), float(high)


def compared(one: Evaluation, other: Evaluation) -> dict[str, float | int]:
    """Return the measures of one evaluation and its change against another: the last columns of every probe."""
    change = difference(one, other)
    return {
        "loss": one.loss,
        "accuracy": one.accuracy,
        "loss_change": change.loss,
        "loss_low": change.loss_interval[0],
        "loss_high": change.loss_interval[1],
        "accuracy_change": change.accuracy,
        "accuracy_low": change.accuracy_interval[0],
        "accuracy_high": change.accuracy_interval[1],
        "n": change.n,
    }


def distinct(prompts: Sequence[torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return each different tensor once, by name, and the name of every prompt's own."""
    contents = [prompt.detach().float().cpu().numpy().tobytes() for prompt in prompts]
    names = {content: str(number) for number, content in enumerate(dict.fromkeys(contents))}
    own = [names[content] for content in contents]
    return dict(zip(own, prompts, strict=True)), own


def evaluate_each(
    model: SoftPromptModel,
    task: Task,
    split: str,
    prompts: Sequence[torch.Tensor],
    limit: int | None = None,
    **options: int,
) -> list[Evaluation]:
    """Return the evaluation of every prompt, in their order; equal prompts are measured once.

    Args:
        options: of `evaluate`.
    """
    once, own = distinct(prompts)
    found = evaluate(model, task, split, prompts=once, limit=limit, **options)
    return [found[name] for name in own]


def vote(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """Return what several prompts answer together, from `evaluate(..., prompts=...)`: one line a row of the task.

    Columns: text, label, mean_probability (the label with the highest mean probability over the prompts) and
    majority_vote (the label that most prompts choose, Lester et al. 2021, section 6; among equals the one with the
    higher mean probability). `(table["majority_vote"] == table["label"]).mean()` is the vote's accuracy.

    Raises:
        ValueError: there is no evaluation.
    """
    if not evaluations:
        raise ValueError("there is no evaluation; give those of two prompts or more.")
    tables = [each.predictions for each in evaluations.values()]
    scores = np.stack([table.filter(like="log p(").to_numpy() for table in tables])
    labels = [name[len("log p(") : -1] for name in tables[0].filter(like="log p(")]
    shares = torch.from_numpy(scores).softmax(dim=-1).mean(dim=0).numpy()  # (N, K)
    votes = (scores.argmax(axis=-1)[..., None] == np.arange(len(labels))).sum(axis=0)  # (N, K)
    return tables[0][["text", "label"]].assign(
        mean_probability=np.array(labels)[shares.argmax(axis=1)],
        majority_vote=np.array(labels)[(votes + shares / 2).argmax(axis=1)],
    )
