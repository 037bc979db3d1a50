"""How alike prompts of several tasks and seeds are, in their vectors and in what they make the model do.

Vu et al. 2022 (SPoT, arXiv 2110.07904) take a trained prompt for an embedding of its task and compare two by the
cosine of their mean tokens or by the mean cosine over all pairs of tokens; Su et al. 2022 (arXiv 2111.06719) compare
them so too, and find that what a prompt does inside the model tells more about transfer than its vectors do.

Two prompts that started from the same words are alike because of the start, whatever they learned. So every table
holds the starts among themselves, the movements (prompt minus start) and random vectors of the prompts' norms, and
two seeds of one task are the yardstick for two tasks (`by_relation`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from sklearn.metrics import cohen_kappa_score
from torch.nn import functional

from ..batch import Example, Target
from ..evaluation import evaluate
from ..model import SoftPromptModel
from ..tasks import Task
from .neighbours import random_control

COLUMNS = ["first", "second", "kind", "measure", "value"]
Vectors = Mapping[str, torch.Tensor]  # name -> (P, D)

# ---------------------------------------------------------------------------------------------------- vectors


def pooled_cosine(first: Float[torch.Tensor, "_ D"], second: Float[torch.Tensor, "_ D"]) -> float:
    """Cosine of the mean tokens (Vu et al. 2022); the order of the tokens makes no difference."""
    return float(functional.cosine_similarity(first.float().mean(0), second.float().mean(0), dim=0))


def pairwise_cosine(first: Float[torch.Tensor, "_ D"], second: Float[torch.Tensor, "_ D"]) -> float:
    """Mean cosine over all pairs of tokens (Vu et al. 2022); less than 1 with itself, unless all tokens are one."""
    return float(
        (
            functional.normalize(first.float(), dim=1)
            @ functional.normalize(second.float(), dim=1).T
        ).mean()
    )


def aligned_cosine(first: Float[torch.Tensor, "P D"], second: Float[torch.Tensor, "P D"]) -> float:
    """Cosine of the prompts as one long vector each (Su et al. 2022): place by place."""
    return float(
        functional.cosine_similarity(first.float().flatten(), second.float().flatten(), dim=0)
    )


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
    _one_shape(prompts, starts or {})
    mean = word_embeddings.detach().float().mean(0).cpu() if centered else None
    groups = _with_controls(prompts, starts, seed, mean)
    movements = groups.pop("movement", {})
    if mean is not None:
        groups = {
            kind: {name: each - mean for name, each in group.items()}
            for kind, group in groups.items()
        }
    if movements:
        groups["movement"] = movements
    rows = [
        (one, other, kind, measure, function(group[one], group[other]))
        for kind, group in groups.items()
        for one, other in combinations_with_replacement(group, 2)
        for measure, function in VECTOR_MEASURES.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _one_shape(prompts: Vectors, starts: Vectors) -> None:
    """Raise ValueError unless there are prompts, all of one shape (P, D), and the starts are theirs."""
    shapes = {name: tuple(vectors.shape) for name, vectors in [*prompts.items(), *starts.items()]}
    if not prompts or len(set(shapes.values())) > 1 or len(next(iter(shapes.values()))) != 2:
        raise ValueError(f"prompts must be one or more of one shape (P, D); got {shapes}.")
    if set(starts) - set(prompts):
        raise ValueError(f"starts has {sorted(set(starts) - set(prompts))}, which are no prompts.")


def _with_controls(
    prompts: Vectors, starts: Vectors | None, seed: int, around: torch.Tensor | None = None
) -> dict[str, dict[str, torch.Tensor]]:
    """The prompts with what they are compared with, by kind and name; each name has random vectors of its own."""
    placed = _plain(prompts)
    groups = {"prompt": placed}
    if starts:
        begun = _plain(starts)
        groups["start"] = {name: begun[name] for name in placed if name in begun}
        groups["movement"] = {name: placed[name] - start for name, start in groups["start"].items()}
    drawn = {
        name: random_control(prompt, seed + i, around)
        for i, (name, prompt) in enumerate(placed.items())
    }
    return groups | {"random": drawn}


def _plain(vectors: Vectors) -> dict[str, torch.Tensor]:
    """Vectors in float32 on the CPU, without a gradient path."""
    return {name: each.detach().float().cpu() for name, each in vectors.items()}


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
    pairs, distinct, number_of = _to_measure(prompts, starts, seed)
    named = {str(i): each for i, each in enumerate(distinct)}
    measured = evaluate(model, task, split, prompts=named, limit=limit)
    tables = [each.predictions for each in measured.values()]
    columns = [f"log p({label})" for label in task.labels]
    answers = [table["prediction"].to_numpy() for table in tables]
    scores = [table[columns].to_numpy() for table in tables]  # (N, K) each
    rows = []
    for kind, one, other in pairs:
        first, second = number_of[kind, one], number_of[kind, other]
        found = {
            "agreement": float((answers[first] == answers[second]).mean()),
            "kappa": _kappa(answers[first], answers[second]),
            "correlation": _correlation(scores[first], scores[second]),
        }
        rows += [(one, other, kind, measure, value) for measure, value in found.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def _to_measure(
    prompts: Vectors, starts: Vectors | None, seed: int
) -> tuple[list[tuple[str, str, str]], list[torch.Tensor], dict[tuple[str, str], int]]:
    """The pairs (kind, first, second), each different tensor once, and for each (kind, name) the number of its own.

    Seeds share a start, which is measured once.
    """
    _one_shape(prompts, starts or {})
    groups = _with_controls(prompts, starts, seed)
    groups.pop("movement", None)  # a movement is no prompt
    pairs = [
        (kind, *pair)
        for kind, group in groups.items()
        for pair in combinations_with_replacement(group, 2)
    ]
    distinct: list[torch.Tensor] = []
    number_of = {}
    for kind, group in groups.items():
        for name, vectors in group.items():
            same = (number for number, other in enumerate(distinct) if torch.equal(vectors, other))
            number_of[kind, name] = next(same, len(distinct))
            if number_of[kind, name] == len(distinct):
                distinct.append(vectors)
    return pairs, distinct, number_of


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
    pairs, distinct, number_of = _to_measure(prompts, starts, seed)
    found = next_token_distributions(model, task, distinct, split, limit=limit)  # (prompts, N, V)
    rows = []
    for kind, one, other in pairs:
        first, second = found[number_of[kind, one]], found[number_of[kind, other]]
        same = (first.argmax(dim=-1) == second.argmax(dim=-1)).float().mean()
        rows.append((one, other, kind, "divergence", float(_jensen_shannon(first, second).mean())))
        rows.append((one, other, kind, "same first choice", float(same)))
    return pd.DataFrame(rows, columns=COLUMNS)


@torch.no_grad()
def next_token_distributions(
    model: SoftPromptModel,
    task: Task,
    prompts: Sequence[torch.Tensor],
    split: str = "test",
    *,
    limit: int | None = 64,
) -> Float[torch.Tensor, "K N V"]:
    """Log-probabilities of the token that stands first behind N texts in their template, for each of K prompts.

    They take 4 K N V bytes: 0.2 GB for 16 prompts, 64 texts and a vocabulary of 49,152.
    """
    rows = task.split(split)
    texts = rows[task.text_column][:limit]
    if not texts:
        raise ValueError(f"the {split} split of {task.name!r} has no rows; give a task with texts.")
    any_token = Target.of(
        [model.tokenizer.eos_token_id]
    )  # the logits of its place are those of any other token
    contexts = [task.encode(model.tokenizer, text)[0] for text in texts]
    examples = [
        Example(ids, [any_token], prompt=i) for i in range(len(prompts)) for ids in contexts
    ]
    placed = [prompt.detach().to(model.device, torch.float32) for prompt in prompts]
    found = torch.empty(len(examples), len(model.word_embeddings))
    for part in model.engine.label_logits(model.base_model, placed, examples):
        found[[index for index, _ in part.owners]] = part.logits.log_softmax(dim=-1).cpu()
    return found.view(len(prompts), len(texts), -1)


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
    found = [_matrix(table, measure) for table, measure in zip((one, other), measures, strict=True)]
    first, second = found
    if list(first.index) != list(second.index) or len(first) < 4:
        raise ValueError(
            f"{list(first.index)} and {list(second.index)}: the same prompts, four or more, are needed."
        )
    upper = np.triu_indices(len(first), k=1)
    x, values = first.to_numpy()[upper], second.to_numpy()
    if not np.isfinite([x, values[upper]]).all():
        raise ValueError(f"{measures} hold values that are not finite; leave those prompts out.")
    ranks = rankdata(x)

    def correlation(matrix: np.ndarray) -> float:
        return float(np.corrcoef(ranks, rankdata(matrix[upper]))[0, 1])

    spearman, shuffler = correlation(values), np.random.default_rng(seed)
    drawn = (shuffler.permutation(len(values)) for _ in range(relabellings))
    as_far = sum(
        abs(correlation(values[np.ix_(order, order)])) >= abs(spearman) - 1e-12 for order in drawn
    )
    sides = [
        table[table["measure"] == measure]
        for table, measure in zip((one, other), measures, strict=True)
    ]
    pairs = sides[0].merge(sides[1], on=["kind", "first", "second"], suffixes=("_one", "_other"))
    pairs = pairs[pairs["first"] != pairs["second"]].rename(
        columns={"value_one": "one", "value_other": "other"}
    )
    pairs = pairs[["kind", "first", "second", "one", "other"]].reset_index(drop=True)
    return Association(pairs, spearman, (as_far + 1) / (relabellings + 1))


def _matrix(table: pd.DataFrame, measure: str, kind: str = "prompt") -> pd.DataFrame:
    """One kind and measure of a table as a symmetric matrix, prompts in the table's order.

    Raises:
        ValueError: the table has no such rows.
    """
    rows = table[(table["kind"] == kind) & (table["measure"] == measure)]
    if rows.empty:
        there = ", ".join(
            f"{each} of {group}"
            for group, each in table[["kind", "measure"]].drop_duplicates().values
        )
        raise ValueError(f"the table has no {measure!r} of {kind!r}; it has: {there}.")
    names = list(dict.fromkeys(rows["first"]))
    half = rows.pivot(index="first", columns="second", values="value").reindex(
        index=names, columns=names
    )
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
