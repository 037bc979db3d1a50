"""How alike prompts of several tasks and seeds are, in their vectors and in what they make the model do.

Vu et al. 2022 (SPoT, arXiv 2110.07904) take a trained prompt for an embedding of its task and compare two by the
cosine of their mean tokens; Su et al. 2022 (arXiv 2111.06719) compare them so too, and find that what a prompt does
inside the model tells more about transfer than its vectors do.

Two prompts that started from the same words are alike because of the start, whatever they learned. So every table
holds the starts among themselves, the movements (prompt minus start) and random vectors of the prompts' norms, and
two seeds of one task are the yardstick for two tasks (`by_relation`).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.spatial.distance import jensenshannon
from torch.nn import functional

from ..batch import takes
from ..engine.locks import lock
from ..model import SoftPromptModel
from ..tasks import Task
from .controls import behind_each, check_decoder
from .neighbours import random_control

Vectors = Mapping[str, torch.Tensor]  # name -> (P, D)

# ---------------------------------------------------------------------------------------------------- vectors


def pooled_cosine(first: Float[torch.Tensor, "_ D"], second: Float[torch.Tensor, "_ D"]) -> float:
    """Cosine of the mean tokens (Vu et al. 2022); the order of the tokens makes no difference."""
    return float(functional.cosine_similarity(first.mean(0), second.mean(0), dim=0))


def aligned_cosine(first: Float[torch.Tensor, "P D"], second: Float[torch.Tensor, "P D"]) -> float:
    """Cosine of the prompts as one long vector each (Su et al. 2022): place by place."""
    return float(functional.cosine_similarity(first.flatten(), second.flatten(), dim=0))


VECTOR_MEASURES = {
    "pooled cosine": pooled_cosine,
    "aligned cosine": aligned_cosine,
}


def vector_similarity(
    prompts: Vectors,
    starts: Vectors | None = None,
    word_embeddings: Float[torch.Tensor, "V D"] | None = None,
) -> pd.DataFrame:
    """Every pair of prompts, each with itself too, by the measures of `VECTOR_MEASURES`.

    Kinds of rows: "prompt"; "random", vectors of the prompts' norms; and with `starts` "start" and "movement", the
    prompt minus its start. It shows how near vectors are, not whether what they do is alike: many far vectors do the
    same (`next_token_similarity`).

    Args:
        prompts: by name, of one shape.
        starts: the start of each prompt, by the prompt's name; a prompt without one is left out of those kinds.
        word_embeddings: where they are given, their mean is first taken off every vector, which all share; a movement
            has none.

    Returns:
        Columns first, second, kind, measure, value.
    """
    mean = None if word_embeddings is None else word_embeddings.detach().float().mean(0).cpu()
    groups = _with_controls(prompts, starts, mean)
    begun = groups.get("start", {})
    movement = {name: groups["prompt"][name] - start for name, start in begun.items()}
    if mean is not None:
        groups = {
            kind: {name: each - mean for name, each in group.items()}
            for kind, group in groups.items()
        }
    groups |= {"movement": movement} if starts else {}
    return _pairs(
        groups, lambda one, other: {name: by(one, other) for name, by in VECTOR_MEASURES.items()}
    )


def _with_controls(
    prompts: Vectors, starts: Vectors | None, around: torch.Tensor | None = None
) -> dict[str, dict[str, torch.Tensor]]:
    """Return prompts, starts and random vectors by kind and name, in float32 on the CPU."""
    groups = {"prompt": {name: each.detach().float().cpu() for name, each in prompts.items()}}
    if starts:
        kept = [name for name in prompts if name in starts]
        groups["start"] = {name: starts[name].detach().float().cpu() for name in kept}
    groups["random"] = {
        name: random_control(each, number, around)
        for number, (name, each) in enumerate(groups["prompt"].items())
    }
    return groups


def _pairs(
    groups: Mapping[str, Vectors],
    measures: Callable[[torch.Tensor, torch.Tensor], dict[str, float]],
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


def next_token_similarity(
    model: SoftPromptModel,
    task: Task,
    prompts: Vectors,
    starts: Vectors | None = None,
    *,
    split: str = "test",
    limit: int | None = 64,
) -> pd.DataFrame:
    """How alike the distributions of the next token are that prompts give behind the same texts, over all words.

    Measures: "divergence", the mean over the texts of the Jensen-Shannon divergence in bits, 0 for the same and 1 for
    distributions that share no word (Lin 1991); "same first choice", the share of texts with the same likeliest word.
    Labels are not named, so prompts of several tasks can be compared.

    Args:
        task: only its texts and its template are used.
        prompts, starts: as of `vector_similarity`; the kinds are "prompt", "start" and "random".

    Returns:
        Columns first, second, kind, measure, value.

    Raises:
        ValueError: an encoder-decoder.
    """
    groups = _with_controls(prompts, starts)
    every = [vectors for group in groups.values() for vectors in group.values()]
    found = iter(next_token_distributions(model, task, every, split, limit=limit))
    groups = {kind: {name: next(found) for name in group} for kind, group in groups.items()}

    def measures(one: torch.Tensor, other: torch.Tensor) -> dict[str, float]:
        same = (one.argmax(dim=-1) == other.argmax(dim=-1)).float().mean()
        shares = one.double().exp(), other.double().exp()  # the root of nearly 0 needs float64
        divergence = (jensenshannon(*shares, base=2, axis=1) ** 2).mean()
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
        ValueError: an encoder-decoder.
    """
    base_model = check_decoder(model)
    texts = task.split(split)[task.text_column][:limit]
    named = {str(number): each.to(model.device) for number, each in enumerate(prompts)}
    found, only = [], {"logits_to_keep": 1} if takes(base_model, "logits_to_keep") else {}
    with lock(base_model):
        for text in texts:  # (K, V) each
            embeddings = behind_each(base_model, named, task.encode(model.tokenizer, text)[0])
            logits = base_model(inputs_embeds=embeddings, use_cache=False, **only).logits[:, -1]
            found.append(logits.float().log_softmax(dim=-1).cpu())
    return torch.stack(found, dim=1)


# --------------------------------------------------------------------------------------------------- readings


def by_relation(table: pd.DataFrame, task_of: Mapping[str, str]) -> pd.DataFrame:
    """Two seeds of one task beside two tasks: the mean, lowest and highest value of each kind and measure.

    `table` is one of the tables above; `task_of` names each prompt's task. Columns: kind, measure, relation ("same
    task" or "other task"), mean, lowest, highest, pairs. A prompt with itself is left out.
    """
    pairs = table[table["first"] != table["second"]]
    same = pairs["first"].map(task_of) == pairs["second"].map(task_of)
    pairs = pairs.assign(relation=np.where(same, "same task", "other task"))
    groups = pairs.groupby(["kind", "measure", "relation"], sort=False)["value"]
    return groups.agg(mean="mean", lowest="min", highest="max", pairs="size").reset_index()
