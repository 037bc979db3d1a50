"""What the vectors do: they are taken out, reordered, mixed and scaled, and the task is measured each time.

Every probe returns one long table, a row for each prompt that was measured, its controls among them. The column `kind`
says whose vectors a row holds: "prompt", "start" (the untrained start, where it is given), "random" (vectors of random
direction and the prompt's norms, the column `draw` numbers them), "no prompt" (the bare base model). The last columns
are the same everywhere:

    loss, accuracy          as `evaluate` measures them
    loss_change             loss minus that of what the row is compared with (each probe says what that is);
                            positive is worse
    loss_low, loss_high     its 95 % interval, paired over the rows (`compared`)
    accuracy_change, accuracy_low, accuracy_high    the same of the accuracy; negative is worse
    n, majority, ceiling    rows of the task; of these rows the accuracy of the commonest label, and that of one human
                            rater (`comparison.levels`)

The intervals cover the choice of rows, not that of the training run, and each stands alone: among twenty that show
nothing one lies beside zero by chance. A prompt that was never trained shortened, reordered or scaled may fail for
that reason alone; the controls say what the same treatment does to other vectors.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import factorial
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch.nn import functional

from ..evaluation import Evaluation
from ..model import SoftPromptModel
from ..tasks import Task
from .comparison import compared, evaluate_each, levels
from .controls import prompt_and_start
from .neighbours import random_control

FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
PARTS = ("without one", "one alone")  # of an ablation
COUNTS = ("virtual_token", "draw")  # whole numbers, missing where they mean nothing


class Case(NamedTuple):
    """A prompt to measure.

    Attributes:
        vectors: the prompt.
        columns: what its row of the table says of it.
        references: the numbers of the cases whose mean it is compared with, with the share of each.
    """

    vectors: Float[torch.Tensor, "_ D"]
    columns: dict[str, Any]
    references: Mapping[int, float]


def _measured(
    model: SoftPromptModel, task: Task, cases: Sequence[Case], split: str, limit: int | None
) -> pd.DataFrame:
    """Return a row for each case: its columns, then the measures."""
    found = evaluate_each(model, task, split, [case.vectors for case in cases], limit)
    table = pd.DataFrame(
        case.columns | compared(one, _mean(found, case.references))
        for case, one in zip(cases, found, strict=True)
    )
    table = table.astype({name: "Int64" for name in COUNTS if name in table})
    return table.assign(**levels(task, split, limit))


def _mean(found: Sequence[Evaluation], shares: Mapping[int, float]) -> Evaluation:
    """Return the weighted mean of evaluations row by row: its predictions alone, which `compared` reads."""
    first = found[next(iter(shares))]
    mean = {
        column: sum(
            share * found[i].predictions[column].astype(float) for i, share in shares.items()
        )
        for column in ("loss", "correct")
    }
    return replace(first, predictions=first.predictions.assign(**mean))


def _kinds(
    model: SoftPromptModel, start: torch.Tensor | None, draws: int
) -> list[tuple[dict[str, Any], torch.Tensor]]:
    """Return the active prompt, its start where it is given and random vectors, each with its columns."""
    vectors = prompt_and_start(model, start)
    kinds = [({"kind": kind, "draw": None}, each) for kind, each in vectors.items()]
    random = [random_control(vectors["prompt"], draw) for draw in range(draws)]
    return kinds + [({"kind": "random", "draw": draw}, each) for draw, each in enumerate(random)]


def _bare(prompt: torch.Tensor, reference: int = 0, **columns: str) -> Case:
    """Return the case of the bare base model."""
    return Case(prompt[:0], {**columns, "kind": "no prompt"}, {reference: 1.0})


# --- ablation -----------------------------------------------------------------------------------------------


def take_out(
    prompt: Float[torch.Tensor, "P D"],
    places: Collection[int],
    filler: Float[torch.Tensor, "P D"] | None = None,
) -> Float[torch.Tensor, "_ D"]:
    """Return the prompt without the virtual tokens at `places`, or with those of `filler` there instead."""
    out = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
    out[list(places)] = True
    return prompt[~out] if filler is None else torch.where(out[:, None], filler, prompt)


def ablation(
    model: SoftPromptModel,
    task: Task,
    split: str = "validation",
    limit: int | None = None,
    *,
    start: Float[torch.Tensor, "_ D"] | None = None,
    draws: int = 3,
    parts: Sequence[str] = PARTS,
) -> pd.DataFrame:
    """Measure the prompt without each virtual token, and each virtual token alone.

    Columns: part ("whole", "without one", "one alone", "nothing"), virtual_token, kind, draw, and the measures; the
    change is against the whole prompt, for kind "start" against the whole start. With kind "random" a virtual
    token is replaced by a random vector of its norm ("without one"), or that random vector stands alone.

    A virtual token that is taken out is removed: the prompt gets shorter (erasure, Li et al. 2016, arXiv 1612.08220),
    and all that stands behind moves up by one position.

    It shows which virtual tokens the prompt cannot do without. It does not show which carry the task: two that say
    the same replace each other, so that neither is missed, and the changes do not add up to that of leaving out all.
    A trained virtual token may also do harm (Ma et al. 2022, arXiv 2210.04457): its removal then lowers the loss.

    Args:
        start: the untrained prompt, ablated the same way.
        draws: of random vectors; 2 P (1 + draws) prompts are measured, and 2 P more with a start.
        parts: one of the two alone takes half the time.

    Raises:
        ValueError: an unknown split, or a start of another shape.
    """
    kinds, cases = _kinds(model, start, draws), []
    prompt = kinds[0][1]
    for kind, vectors in kinds:
        random, whole = kind["kind"] == "random", {0: 1.0}
        if not random:
            whole = {len(cases): 1.0}
            cases.append(Case(vectors, {"part": "whole", "virtual_token": None} | kind, whole))
        for place in range(len(prompt)):
            rest = take_out(prompt, [place], vectors) if random else take_out(vectors, [place])
            left = dict(zip(PARTS, (rest, vectors[[place]]), strict=True))
            for part in parts:
                columns = {"part": part, "virtual_token": place} | kind
                cases.append(Case(left[part], columns, whole))
    return _measured(model, task, [*cases, _bare(prompt, part="nothing")], split, limit)


# --- shuffling ----------------------------------------------------------------------------------------------


def orders_of(length: int, times: int) -> dict[str, tuple[int, ...]]:
    """Return orders of so many places by name: "as trained", "reversed", and up to `times` distinct others.

    Raises:
        ValueError: fewer than two places have one order only.
    """
    if length < 2:
        raise ValueError(
            f"a prompt of {length} virtual tokens has one order only; there is nothing to shuffle."
        )
    straight = tuple(range(length))
    orders = {"as trained": straight, "reversed": straight[::-1]}
    shuffler = Random(0)
    while len(orders) < min(times + 2, factorial(length)):
        drawn = tuple(shuffler.sample(straight, length))
        if drawn not in orders.values():
            orders[f"random {len(orders) - 1}"] = drawn
    return orders


def shuffling(
    model: SoftPromptModel,
    task: Task,
    split: str = "validation",
    limit: int | None = None,
    *,
    times: int = 10,
    start: Float[torch.Tensor, "_ D"] | None = None,
    draws: int = 1,
) -> pd.DataFrame:
    """Measure the virtual tokens in other orders: reversed, and `times` times at random.

    Columns: name ("as trained", "reversed", "random 1", ...), order (the places, in words), kind, draw, and the
    measures; the change is against the same vectors "as trained". Kinds "start" and "random" stand in the same
    orders.

    It shows whether the order is used at all. It does not show that the prompt reads like a sentence: a base model
    tells positions apart, and any vector may be tuned to its place.

    Raises:
        ValueError: a prompt of one virtual token, an unknown split, or a start of another shape.
    """
    kinds, cases = _kinds(model, start, draws), []
    prompt = kinds[0][1]
    orders = orders_of(len(prompt), times)
    for kind, vectors in kinds:
        trained = {len(cases): 1.0}
        for name, order in orders.items():
            columns = {"name": name, "order": " ".join(map(str, order))} | kind
            cases.append(Case(vectors[list(order)], columns, trained))
    return _measured(model, task, [*cases, _bare(prompt)], split, limit)


# --- interpolation ------------------------------------------------------------------------------------------


def between(
    first: Float[torch.Tensor, "P D"],
    second: Float[torch.Tensor, "P D"],
    at: float,
    spherical: bool = False,
) -> Float[torch.Tensor, "P D"]:
    """Return the prompt at `at` on the way from the first (0) to the second (1).

    `spherical`: each virtual token turns in the plane of its two ends and its norm goes evenly from one to the
    other (Shoemake 1985, slerp); where the ends point the same or opposite ways, it goes straight.
    """
    first, second = first.detach().float(), second.detach().float()
    straight = (1 - at) * first + at * second  # (P, D)
    if not spherical:
        return straight
    ends = [functional.normalize(end, dim=-1) for end in (first, second)]
    angle = (ends[0] * ends[1]).sum(-1, keepdim=True).clamp(-1, 1).arccos()  # (P, 1)
    sine = angle.sin()
    turned = (((1 - at) * angle).sin() * ends[0] + (at * angle).sin() * ends[1]) / sine  # (P, D)
    norm = (1 - at) * first.norm(dim=-1, keepdim=True) + at * second.norm(dim=-1, keepdim=True)
    return torch.where(sine > 1e-4, norm * turned, straight)


def random_end(
    first: Float[torch.Tensor, "P D"], second: Float[torch.Tensor, "P D"], seed: int = 0
) -> Float[torch.Tensor, "P D"]:
    """Return vectors of the second prompt's norms and as far from the first as those of the second are.

    What of a vector is along the first's stays; what is across points in a random direction. Where nothing is across
    (the second is a multiple of the first) this is the second itself.
    """
    first, second = first.detach().float(), second.detach().float()
    along = functional.normalize(first, dim=-1)

    def across(vectors: torch.Tensor) -> torch.Tensor:
        return vectors - (vectors * along).sum(-1, keepdim=True) * along

    rest = across(second)
    direction = functional.normalize(across(random_control(torch.ones_like(second), seed)), dim=-1)
    return second - rest + direction * rest.norm(dim=-1, keepdim=True)


def interpolation(
    model: SoftPromptModel,
    task: Task,
    first: Float[torch.Tensor, "_ D"],
    second: Float[torch.Tensor, "_ D"],
    points: int = 11,
    split: str = "validation",
    limit: int | None = None,
    *,
    spherical: bool = False,
    draws: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure prompts on the way from one to another: two seeds, or a start and its end.

    Columns: at (0 is the first, 1 the second), kind, draw, and the measures; the change is against the straight line
    between the measures of the two ends, so it is 0 at both. Kind "random" goes from the first to a `random_end`,
    which has the norms of the second and its distance. `barrier` finds the highest point of each.

    Two ends without a barrier lie in one basin (linear mode connectivity: Frankle et al. 2020, arXiv 1912.05671). A
    barrier shows less: virtual token i is mixed with virtual token i, and two runs from random starts need not agree
    on which does what. A random end has a high loss itself, so its line is steep: compare shapes, not heights.

    Args:
        first, second: (P, D), both of one shape; `model.prompt` plays no part.
        spherical: see `between`.

    Raises:
        ValueError: two shapes, fewer than 2 points, or an unknown split.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"the prompts have shapes {tuple(first.shape)} and {tuple(second.shape)}; they must be one."
        )
    if points < 2:
        raise ValueError(f"points={points}; a way has two ends at least.")
    first, second = (end.detach().float().to(model.device) for end in (first, second))
    ends = [("prompt", None, second)]
    ends += [("random", draw, random_end(first, second, seed + draw)) for draw in range(draws)]
    cases = []
    for kind, draw, end in ends:
        begin = len(cases)
        for at in np.linspace(0, 1, points).tolist():
            line = {begin: 1 - at, begin + points - 1: at}
            columns = {"at": at, "kind": kind, "draw": draw}
            cases.append(Case(between(first, end, at, spherical), columns, line))
    return _measured(model, task, [*cases, _bare(first)], split, limit)


def barrier(table: pd.DataFrame) -> pd.DataFrame:
    """Return where each way of `interpolation` lies highest above the line between its ends, and how high.

    Columns: kind, draw, at, barrier (nats; 0 where no point lies above), low, high. Measured from the line between
    the ends, as Entezari et al. 2021 (arXiv 2110.06296) do; Frankle et al. 2020 measure the error from the mean of
    both. The interval is that of the one point: the highest of several is higher by chance.
    """
    ways = table[table["kind"] != "no prompt"]
    highest = ways.loc[
        ways.groupby(["kind", "draw"], sort=False, dropna=False)["loss_change"].idxmax()
    ]
    names = {"loss_change": "barrier", "loss_low": "low", "loss_high": "high"}
    return highest.rename(columns=names)[["kind", "draw", "at", *names.values()]].reset_index(
        drop=True
    )


# --- scaling ------------------------------------------------------------------------------------------------


def scaling(
    model: SoftPromptModel,
    task: Task,
    factors: Sequence[float] = FACTORS,
    split: str = "validation",
    limit: int | None = None,
    *,
    start: Float[torch.Tensor, "_ D"] | None = None,
    draws: int = 3,
) -> pd.DataFrame:
    """Measure the prompt times each factor; its directions stay, its norms change.

    Columns: factor, kind, draw, and the measures; the change is against the same vectors at factor 1, which is
    measured even where `factors` lacks it. Factor 0 is a prompt of zeros: P places that are read and say nothing.
    It is not "no prompt", which is a row of its own.

    It shows whether the norm matters, which cosines cannot see. A base model that normalises its input
    (RMSNorm, LayerNorm) still tells norms apart, through the residual stream that later layers add to.

    Raises:
        ValueError: an unknown split, or a start of another shape.
    """
    kinds, cases = _kinds(model, start, draws), []
    steps = sorted({1.0, *map(float, factors)})
    one = steps.index(1.0)
    for kind, vectors in kinds:
        whole = {len(cases) + one: 1.0}
        cases += [Case(vectors * factor, {"factor": factor} | kind, whole) for factor in steps]
    return _measured(model, task, [*cases, _bare(kinds[0][1], one)], split, limit)
