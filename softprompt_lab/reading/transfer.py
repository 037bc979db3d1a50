"""How alike prompts of several tasks and seeds are, in their vectors and in what they make the model do.

Vu et al. 2022 (SPoT, arXiv 2110.07904) take a trained prompt for an embedding of its task and compare two by the
cosine of their mean tokens or by the mean cosine over all pairs of tokens; Su et al. 2022 (arXiv 2111.06719) compare
them so too, and find that what a prompt does inside the model tells more about transfer than its vectors do.

Two prompts that started from the same words are alike because of the start, whatever they learned. So every table
holds the starts among themselves, the movements (prompt minus start) and random vectors of the prompts' norms, and
two seeds of one task are the yardstick for two tasks (`by_relation`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from sklearn.metrics import cohen_kappa_score
from torch.nn import functional

from ..engine.locks import lock
from ..evaluation import Evaluation
from ..model import SoftPromptModel
from ..tasks import Task
from .comparison import distinct, evaluate_each
from .controls import behind_each, check_decoder
from .neighbours import random_control

Vectors = Mapping[str, torch.Tensor]  # name -> (P, D)

# ---------------------------------------------------------------------------------------------------- vectors


def pooled_cosine(first: Float[torch.Tensor, "_ D"], second: Float[torch.Tensor, "_ D"]) -> float:
    """Cosine of the mean tokens (Vu et al. 2022); the order of the tokens makes no difference."""
    return float(functional.cosine_similarity(first.mean(0), second.mean(0), dim=0))


def pairwise_cosine(first: Float[torch.Tensor, "_ D"], second: Float[torch.Tensor, "_ D"]) -> float:
    """Mean cosine over all pairs of tokens (Vu et al. 2022); less than 1 with itself, unless all tokens are one."""
    return float(functional.cosine_similarity(first[:, None], second, dim=-1).mean())


def aligned_cosine(first: Float[torch.Tensor, "P D"], second: Float[torch.Tensor, "P D"]) -> float:
    """Cosine of the prompts as one long vector each (Su et al. 2022): place by place."""
    return float(functional.cosine_similarity(first.flatten(), second.flatten(), dim=0))


VECTOR_MEASURES = {
    "pooled cosine": pooled_cosine,
    "pairwise cosine": pairwise_cosine,
    "aligned cosine": aligned_cosine,
}


def vector_similarity(
    prompts: Vectors,
    word_embeddings: Float[torch.Tensor, "V D"] | None = None,
    starts: Vectors | None = None,
    *,
    centered: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Every pair of prompts, each with itself too, by the measures of `VECTOR_MEASURES`.

    Kinds of rows: "prompt"; "random", vectors of the prompts' norms; and with `starts` "start" and "movement", the
    prompt minus its start. It shows how near vectors are, not whether what they do is alike: many far vectors do the
    same (`label_similarity`).

    Args:
        prompts: by name, of one shape.
        word_embeddings: needed by `centered` alone.
        starts: the start of each prompt, by the prompt's name; a prompt without one is left out of those kinds.
        centered: take the mean word embedding from every vector first, which all share; a movement has none.
        seed: of the random vectors.

    Returns:
        Columns first, second, kind, measure, value.

    Raises:
        ValueError: no prompt, other shapes, or `centered` without word embeddings.
    """
    if centered and word_embeddings is None:
        raise ValueError("centered=True needs word_embeddings=, whose mean is taken off.")
    mean = word_embeddings.detach().float().mean(0).cpu() if centered else None
    groups = _with_controls(prompts, starts, seed, mean)
    if mean is not None:
        groups = {
            kind: {name: each - mean for name, each in group.items()}
            for kind, group in groups.items()
        }
    if starts:
        moved = groups["start"]
        groups["movement"] = {name: groups["prompt"][name] - start for name, start in moved.items()}
    return _pairs(
        groups, lambda one, other: {name: by(one, other) for name, by in VECTOR_MEASURES.items()}
    )


def _with_controls(
    prompts: Vectors, starts: Vectors | None, seed: int, around: torch.Tensor | None = None
) -> dict[str, dict[str, torch.Tensor]]:
    """Return prompts, starts and random vectors by kind and name, in float32 on the CPU.

    Raises:
        ValueError: there is no prompt, the shapes differ, or a start belongs to no prompt.
    """
    starts = starts or {}
    shapes = {name: tuple(vectors.shape) for name, vectors in [*prompts.items(), *starts.items()]}
    if not prompts or len(set(shapes.values())) > 1 or len(next(iter(shapes.values()))) != 2:
        raise ValueError(f"prompts must be one or more of one shape (P, D); got {shapes}.")
    if set(starts) - set(prompts):
        raise ValueError(f"starts has {sorted(set(starts) - set(prompts))}, which are no prompts.")
    groups = {"prompt": prompts}
    if starts:
        groups["start"] = {name: starts[name] for name in prompts if name in starts}
    groups["random"] = {
        name: random_control(prompt.cpu(), seed + number, around)
        for number, (name, prompt) in enumerate(prompts.items())
    }
    return {
        kind: {name: each.detach().float().cpu() for name, each in group.items()}
        for kind, group in groups.items()
    }


def _pairs(
    groups: Mapping[str, Mapping[str, Any]], measures: Callable[[Any, Any], dict[str, float]]
) -> pd.DataFrame:
    """Return the measures of every pair of each kind: first, second, kind, measure, value."""
    rows = [
        (one, other, kind, measure, value)
        for kind, group in groups.items()
        for one, other in combinations_with_replacement(group, 2)
        for measure, value in measures(group[one], group[other]).items()
    ]
    return pd.DataFrame(rows, columns=["first", "second", "kind", "measure", "value"])


# -------------------------------------------------------------------------------------------------- behaviour


def label_similarity(
    model: SoftPromptModel,
    task: Task,
    prompts: Vectors,
    starts: Vectors | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """How alike the answers are that prompts give to the same rows of a task, whether right or wrong.

    Measures: "agreement", the share of rows with the same answer; "kappa", the agreement beyond that of two prompts
    that answer as often so, blindly (Cohen 1960), nan where both only ever give one answer; "correlation" of the
    labels' log-probabilities, each row's mean taken off. A prompt of another task than `task` answers with this one's
    labels here, which it was never asked for: read `next_token_similarity` beside it.

    Kinds: "prompt", "random" (vectors of the prompts' norms) and with `starts` "start".

    Args:
        limit: the first so many rows only; the prompts, starts and random vectors are measured on each.

    Returns:
        Columns first, second, kind, measure, value.

    Raises:
        ValueError: as `vector_similarity` and `evaluate`.
    """
    groups = _with_controls(prompts, starts, seed)
    every = [vectors for group in groups.values() for vectors in group.values()]
    found = iter(evaluate_each(model, task, split, every, limit))
    answers = {kind: {name: next(found) for name in group} for kind, group in groups.items()}
    return _pairs(answers, _alike)


def _alike(one: Evaluation, other: Evaluation) -> dict[str, float]:
    """Return how alike two prompts answer the same rows."""
    answers = [each.predictions["prediction"].to_numpy() for each in (one, other)]
    scores = [each.predictions.filter(like="log p(").to_numpy() for each in (one, other)]
    return {
        "agreement": float((answers[0] == answers[1]).mean()),
        "kappa": _kappa(*answers),
        "correlation": _correlation(*scores),
    }


def _kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Cohen's kappa; nan where chance alone agrees always."""
    if len(set(first) | set(second)) == 1:
        return float("nan")
    return float(cohen_kappa_score(first, second))


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of two (N, K) tables of scores, what lifts all labels of a row taken off."""
    one, other = (scores - scores.mean(axis=1, keepdims=True) for scores in (first, second))
    norm = np.linalg.norm(one) * np.linalg.norm(other)
    return float((one * other).sum() / norm) if norm else float("nan")


def next_token_similarity(
    model: SoftPromptModel,
    task: Task,
    prompts: Vectors,
    starts: Vectors | None = None,
    *,
    split: str = "test",
    limit: int | None = 64,
    seed: int = 0,
) -> pd.DataFrame:
    """How alike the distributions of the next token are that prompts give behind the same texts, over all words.

    Measures: "divergence", the mean over the texts of the Jensen-Shannon divergence in bits, 0 for the same and 1 for
    distributions that share no word (Lin 1991); "same first choice", the share of texts with the same likeliest word.
    Labels are not named, so prompts of several tasks can be compared.

    Kinds, arguments and errors are those of `label_similarity`; of `task` only the texts and the template are used.
    """
    groups = _with_controls(prompts, starts, seed)
    once, own = distinct([vectors for group in groups.values() for vectors in group.values()])
    found = next_token_distributions(model, task, list(once.values()), split, limit=limit)
    by_name, names = dict(zip(once, found, strict=True)), iter(own)
    groups = {
        kind: {name: by_name[next(names)] for name in group} for kind, group in groups.items()
    }

    def measures(one: torch.Tensor, other: torch.Tensor) -> dict[str, float]:
        same = (one.argmax(dim=-1) == other.argmax(dim=-1)).float().mean()
        divergence = _jensen_shannon(one, other).mean()
        return {"divergence": float(divergence), "same first choice": float(same)}

    return _pairs(groups, measures)


@torch.no_grad()
def next_token_distributions(
    model: SoftPromptModel,
    task: Task,
    prompts: Sequence[torch.Tensor],
    split: str = "test",
    *,
    limit: int | None = 64,
) -> Float[torch.Tensor, "K N V"]:
    """Return log-probabilities of the token that comes first after N texts in their template, for each of K prompts.

    They take 4 K N V bytes: 0.2 GB for 16 prompts, 64 texts and a vocabulary of 49,152.

    Raises:
        ValueError: an encoder-decoder, prompts of several shapes, or a split without rows.
    """
    base_model = check_decoder(model)
    texts = task.split(split)[task.text_column][:limit]
    if not texts:
        raise ValueError(f"the {split} split of {task.name!r} has no rows; give a task with texts.")
    named = {str(number): each.to(model.device) for number, each in enumerate(prompts)}
    found = []
    with lock(base_model):
        for text in texts:
            embeddings = behind_each(base_model, named, task.encode(model.tokenizer, text)[0])
            logits = base_model(inputs_embeds=embeddings, use_cache=False).logits[:, -1]  # (K, V)
            found.append(logits.float().log_softmax(dim=-1).cpu())
    return torch.stack(found, dim=1)


def _jensen_shannon(
    first: Float[torch.Tensor, "N V"], second: Float[torch.Tensor, "N V"]
) -> torch.Tensor:
    """Jensen-Shannon divergence in bits of each row, from log-probabilities; (N,)."""
    middle = torch.logaddexp(first, second) - np.log(2)
    each = [
        functional.kl_div(middle, side, reduction="none", log_target=True).sum(-1)
        for side in (first, second)
    ]
    return ((each[0] + each[1]) / 2 / np.log(2)).clamp(min=0)


# --------------------------------------------------------------------------------------------------- readings


def by_relation(table: pd.DataFrame, task_of: Mapping[str, str]) -> pd.DataFrame:
    """Two seeds of one task beside two tasks: the mean, lowest and highest value of each kind and measure.

    `table` is one of the tables above; `task_of` names each prompt's task. Columns: kind, measure, relation ("same
    task" or "other task"), mean, lowest, highest, pairs. A prompt with itself is left out.

    Raises:
        ValueError: a prompt without a task.
    """
    unknown = {*table["first"], *table["second"]} - set(task_of)
    if unknown:
        raise ValueError(f"task_of has no task for {', '.join(sorted(unknown))}.")
    pairs = table[table["first"] != table["second"]]
    same = pairs["first"].map(task_of) == pairs["second"].map(task_of)
    pairs = pairs.assign(relation=np.where(same, "same task", "other task"))
    groups = pairs.groupby(["kind", "measure", "relation"], sort=False)["value"]
    return groups.agg(mean="mean", lowest="min", highest="max", pairs="size").reset_index()


@dataclass(frozen=True)
class Association:
    """Whether pairs that are alike in one way are alike in another.

    Attributes:
        pairs: kind, first, second, one, other, of every kind that both tables hold; none of a prompt with itself.
        spearman: correlation of the ranks of the two values over the pairs of trained prompts.
        p: share of the relabellings of the prompts that give a correlation as far from 0 (Mantel 1967): pairs that
            share a prompt are not independent, so the textbook's value for as many pairs would be too small.
    """

    pairs: pd.DataFrame
    spearman: float
    p: float


def association(
    one: pd.DataFrame,
    other: pd.DataFrame,
    measures: tuple[str, str],
    *,
    relabellings: int = 2_000,
    seed: int = 0,
) -> Association:
    """Compare a measure of one table with a measure of another over the pairs of prompts.

    Raises:
        ValueError: the tables hold other pairs, fewer than four prompts, or values that are not finite.
    """
    sides = [_of_measure(*side) for side in zip((one, other), measures, strict=True)]
    first, second = (_matrix(side) for side in sides)
    if list(first.index) != list(second.index) or len(first) < 4:
        raise ValueError(
            f"{list(first.index)} and {list(second.index)}: the same prompts, four or more, are needed."
        )
    upper = np.triu_indices(len(first), k=1)
    ranks, values = rankdata(first.to_numpy()[upper]), second.to_numpy()
    if not np.isfinite([first.to_numpy()[upper], values[upper]]).all():
        raise ValueError(f"{measures} hold values that are not finite; leave those prompts out.")

    def correlation(order: np.ndarray) -> float:
        return float(np.corrcoef(ranks, rankdata(values[np.ix_(order, order)][upper]))[0, 1])

    spearman, generator = correlation(np.arange(len(values))), np.random.default_rng(seed)
    drawn = [correlation(generator.permutation(len(values))) for _ in range(relabellings)]
    as_far = int((np.abs(drawn) >= abs(spearman) - 1e-12).sum())
    keys = ["kind", "first", "second"]
    columns = [
        side.set_index(keys)["value"].rename(name)
        for side, name in zip(sides, ("one", "other"), strict=True)
    ]
    pairs = pd.concat(columns, axis=1, join="inner").reset_index()
    pairs = pairs[pairs["first"] != pairs["second"]].reset_index(drop=True)
    return Association(pairs, spearman, (as_far + 1) / (relabellings + 1))


def _of_measure(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return one measure's rows.

    Raises:
        ValueError: there are none of prompts.
    """
    rows = table[table["measure"] == measure]
    if "prompt" not in set(rows["kind"]):
        found = table[["kind", "measure"]].drop_duplicates().values
        names = ", ".join(f"{each} of {kind}" for kind, each in found)
        raise ValueError(f"the table has no {measure!r} of 'prompt'; it has: {names}.")
    return rows


def _matrix(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the values of the pairs of prompts as a symmetric matrix, prompts in the table's order."""
    rows = rows[rows["kind"] == "prompt"]
    names = list(dict.fromkeys(rows["first"]))
    half = rows.pivot(index="first", columns="second", values="value")
    half = half.reindex(index=names, columns=names)
    return half.where(half.notna(), half.T)


def learning_curves(runs: Mapping[str, Sequence[pd.DataFrame]], window: int = 1) -> pd.DataFrame:
    """Histories (`TrainingHistory.to_pandas`) of trainings from several starts as one long table.

    `runs`: by the kind of start ("text", "random", "from complaint", ...) one history a seed, in the same order of
    seeds. Columns: kind, run (from 0), step, measure ("loss", "validation_loss", "validation_accuracy"), value; the
    training loss is the mean of the last `window` steps.
    """
    parts = []
    for kind, histories in runs.items():
        for run, history in enumerate(histories):
            smooth = history.assign(loss=history["loss"].rolling(window, min_periods=1).mean())
            long = smooth.melt("step", var_name="measure").dropna().assign(kind=kind, run=run)
            parts.append(long[["kind", "run", "step", "measure", "value"]])
    if not parts:
        raise ValueError("there is no history; give one or more for each kind of start.")
    return pd.concat(parts, ignore_index=True)


def transfer_gain(curves: pd.DataFrame, kind: str, against: str) -> pd.DataFrame:
    """What a start gains over another at each step: differences of the runs of the same number.

    Columns: measure, step, mean, deviation (over the runs; nan for one), runs. A gain in loss is negative, in accuracy
    positive. With two or three runs read the deviation first.

    Raises:
        ValueError: a kind that the curves lack.
    """
    for each in (kind, against):
        if each not in set(curves["kind"]):
            raise ValueError(
                f"there is no kind {each!r}; there are: {', '.join(curves['kind'].unique())}."
            )
    keys = ["measure", "step", "run"]
    sides = [curves[curves["kind"] == each].set_index(keys)["value"] for each in (kind, against)]
    gains = (sides[0] - sides[1]).dropna().rename("gain").reset_index()
    groups = gains.groupby(["measure", "step"], sort=False)["gain"]
    return groups.agg(mean="mean", deviation="std", runs="size").reset_index()
