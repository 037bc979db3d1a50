"""Evaluations of several prompts on the same rows, beside each other: differences with intervals, and votes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import bootstrap

from ..evaluation import Evaluation, evaluate
from ..model import SoftPromptModel
from ..tasks import Task

RESAMPLES = 2_000  # of the rows, for an interval


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
    """Return the evaluation of every prompt, in their order; equal prompts are measured once."""
    contents = [prompt.detach().float().cpu().numpy().tobytes() for prompt in prompts]
    names = [str(contents.index(content)) for content in contents]  # the number of the first equal
    once = dict(zip(names, prompts, strict=True))
    found = evaluate(model, task, split, prompts=once, limit=limit)
    return [found[name] for name in names]


def vote(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """Return what several prompts answer together, from `evaluate(..., prompts=...)`: one line a row of the task.

    Columns: text, label, mean_probability (the label with the highest mean probability over the prompts) and
    majority_vote (the label that most prompts choose, Lester et al. 2021, section 6; among equals the one with the
    higher mean probability). `(table["majority_vote"] == table["label"]).mean()` is the vote's accuracy.
    """
    tables = [each.predictions for each in evaluations.values()]
    scores = np.stack([table.filter(like="log p(").to_numpy() for table in tables])
    labels = [name[len("log p(") : -1] for name in tables[0].filter(like="log p(")]
    shares = torch.from_numpy(scores).softmax(dim=-1).mean(dim=0).numpy()  # (N, K)
    votes = (scores.argmax(axis=-1)[..., None] == np.arange(len(labels))).sum(axis=0)  # (N, K)
    return tables[0][["text", "label"]].assign(
        mean_probability=np.array(labels)[shares.argmax(axis=1)],
        majority_vote=np.array(labels)[(votes + shares / 2).argmax(axis=1)],
    )
