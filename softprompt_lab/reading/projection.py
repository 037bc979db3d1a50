"""Can a prompt be written in words? Its projection onto the vocabulary, and the two trainings that ask for one.

A soft prompt and the words nearest to it are different prompts. `discretisation_gap` says how different they are for
a task. `OntoWords` (PEZ) makes `train` look for words that work, `TowardsText` (a wayward prompt) for vectors that work
and whose nearest words are a text chosen beforehand: pass them as `project=` and `penalty=`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from transformers import PreTrainedTokenizerBase

from ..embedding import text_start
from ..evaluation import Evaluation
from ..model import SoftPromptModel
from ..tasks import Task
from .comparison import difference, evaluate_each
from .controls import prompt_and_start
from .neighbours import controls, random_control, readable_token
from .search import METRICS, Metric, nearest

GAPS = [f"{name}{end}" for name in ("gap", "loss_gap") for end in ("", "_low", "_high")]


def discretised(
    prompt: Float[torch.Tensor, "P D"],
    word_embeddings: Float[torch.Tensor, "V D"],
    metric: Metric = "cosine",
    centered: bool = False,
) -> tuple[Float[torch.Tensor, "P D"], Int[torch.Tensor, " P"]]:
    """Replace each virtual token by the embedding of its nearest word; return the vectors, float32, and the words' ids.

    The prompt's own length and direction are gone: what is left is a text, its special tokens included.

    Raises:
        ValueError: shapes, numbers or metric that cannot be.
    """
    ids = nearest(prompt, word_embeddings, 1, metric, centered)[1][:, 0]
    return word_embeddings.detach()[ids.to(word_embeddings.device)].to(
        prompt.device, torch.float32
    ), ids


@dataclass(frozen=True)
class OntoWords:
    """`train(..., project=OntoWords())`: look for a prompt of words by gradient descent (PEZ).

    In front of the text stand the words nearest to the vectors that move; the gradient found at the words moves the
    vectors. A step that changes no word changes no output. After training the model holds the words' embeddings;
    `history.snapshots` hold the vectors, whose words `discretised` names. Every step compares the prompt with the whole
    vocabulary: 0.35 s for 49,152 words of width 576 on one core.

    Wen et al. 2023 (arXiv 2302.03668), algorithm 1, with their metric, cosine. They keep the best words met on the way:
    pass `evaluate_every=` and `patience=`.

    Raises:
        ValueError: an unknown metric.
    """

    metric: Metric = "cosine"
    centered: bool = False

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric is {self.metric!r}; choose one of {', '.join(METRICS)}.")

    def __call__(
        self, prompt: Float[torch.Tensor, "P D"], model: SoftPromptModel
    ) -> Float[torch.Tensor, "P D"]:
        """The nearest words' embeddings."""
        return discretised(prompt, model.word_embeddings, self.metric, self.centered)[0]


@dataclass(frozen=True)
class TowardsText:
    """`train(..., penalty=TowardsText(text, gamma))`: a prompt that does the task and looks like a text.

    Adds gamma times the mean over virtual tokens of the squared L2 distance to the text's embeddings. A text that is
    shorter than the prompt is repeated, a longer one cut, as a TEXT start is.

    Khashabi et al. 2022 (arXiv 2112.08348), section 3: cross-entropy plus gamma times a distance. The mean of squares
    is what their program computes; they take gamma from 0 to 0.03 on GPT-2, whose words are a few units long. The
    distance is in the units of the base model's words, so another base model needs other gammas.

    Raises:
        ValueError: gamma is below 0 or not finite.
    """

    text: str
    gamma: float

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma={self.gamma}; it must be 0 or more, and finite.")

    def __call__(
        self, prompt: Float[torch.Tensor, "P D"], model: SoftPromptModel
    ) -> Float[torch.Tensor, ""]:
        """What is added to the loss."""
        target = text_start(self.text, model.tokenizer, model.word_embeddings_module, len(prompt))
        return self.gamma * distance_to(prompt, target)


def distance_to(
    prompt: Float[torch.Tensor, "P D"], target: Float[torch.Tensor, "P D"]
) -> Float[torch.Tensor, ""]:
    """The mean over virtual tokens of the squared L2 distance, the one that `TowardsText` takes."""
    return (prompt - target).square().sum(-1).mean()


# --- what the words are worth -------------------------------------------------------------------------------


def discretisation_gap(
    model: SoftPromptModel,
    task: Task,
    prompt: Float[torch.Tensor, "P D"] | None = None,
    start: Float[torch.Tensor, "P D"] | None = None,
    *,
    others: Mapping[str, Float[torch.Tensor, "_ D"]] | None = None,
    metrics: tuple[Metric, ...] = METRICS,
    split: str = "test",
    limit: int | None = None,
    draws: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure a prompt beside its nearest words: acc(P) - acc(E[NN(P)]), and the same for losses.

    A large gap says that the words do not do what the prompt does, so reading them does not tell what it does. A small
    one says so of this task alone: where random words have a small gap too, the words need mean nothing.

    Args:
        prompt: by default the active prompt.
        start: the prompt before training.
        others: more prompts to compare, by kind, such as one that `train(..., project=OntoWords())` found.
        metrics: of the nearest words; where two give the same words, these are measured once and stand in both rows.
        draws: how many prompts of random words and of random vectors with the prompt's norms.
        limit: the first so many rows of the split only.

    Returns:
        kind ("prompt", "prompt's words", "start", "start's words", the others', "random words", "random vectors",
        "no prompt"), metric of the words, text (empty where the vectors are no words), accuracy with its 95 % interval
        low to high (Wilson), loss, and how much worse that is than what the row is measured `against`, the prompt or
        the start: gap, gap_low, gap_high of accuracy lost, loss_gap, loss_gap_low, loss_gap_high of loss gained (paired
        bootstrap).

    Raises:
        ValueError: as `nearest` and `evaluate`.
    """
    words, mine = model.word_embeddings.detach(), prompt_and_start(model, start)
    rows = [(kind, "", vectors, "prompt") for kind, vectors in mine.items()]
    for kind, vectors in mine.items():
        rows += [
            (f"{kind}'s words", metric, discretised(vectors, words, metric)[0], kind)
            for metric in metrics
        ]
    beside = list((others or {}).items())
    drawn = [controls(mine["prompt"], words, seed=seed * draws + draw) for draw in range(draws)]
    beside += [("random words", each["words"]) for each in drawn]
    beside += [("random vectors", each["random"]) for each in drawn]
    beside.append(("no prompt", mine["prompt"][:0]))
    rows += [(kind, "", vectors.detach(), "prompt") for kind, vectors in beside]
    found = evaluate_each(model, task, split, [vectors for _, _, vectors, _ in rows], limit)
    references = dict(zip(mine, found, strict=False))
    lines = []
    for (kind, metric, vectors, against), one in zip(rows, found, strict=True):
        text = as_text(vectors.float().to(model.device), words, model.tokenizer)
        line = {"kind": kind, "metric": metric, "text": text} | _figures(one) | {"against": ""}
        if kind != against:
            line |= {"against": against} | _lost(references[against], one)
        lines.append(line)
    return pd.DataFrame(lines)


def _figures(found: Evaluation) -> dict[str, float]:
    """Return accuracy, its interval and the loss."""
    low, high = found.confidence_interval
    return {"accuracy": found.accuracy, "low": low, "high": high, "loss": found.loss}


def _lost(reference: Evaluation, found: Evaluation) -> dict[str, float]:
    """Return how much worse than a reference, with intervals: accuracy lost, then loss gained."""
    lost, gained = difference(reference, found), difference(found, reference)
    values = (lost.accuracy, *lost.accuracy_interval, gained.loss, *gained.loss_interval)
    return dict(zip(GAPS, values, strict=True))


def as_text(
    vectors: Float[torch.Tensor, "_ D"],
    word_embeddings: Float[torch.Tensor, "V D"],
    tokenizer: PreTrainedTokenizerBase,
) -> str:
    """The words whose embeddings these vectors are, with a space between tokens; empty where one is no word's."""
    if not len(vectors):
        return ""
    found, ids = discretised(vectors, word_embeddings, "l2")
    return words_of(ids, tokenizer) if torch.equal(found, vectors.detach().float()) else ""


def words_of(ids: Int[torch.Tensor, " P"], tokenizer: PreTrainedTokenizerBase) -> str:
    """Tokens to look at, a space between two, their own space as ·."""
    return " ".join(readable_token(token_id, tokenizer) for token_id in ids.tolist())


# --- what a wayward prompt looks like -----------------------------------------------------------------------


def wayward_table(
    model: SoftPromptModel,
    task: Task,
    text: str,
    prompts: Mapping[float, Float[torch.Tensor, "P D"]],
    *,
    metric: Metric = "l2",
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure prompts that were trained with `TowardsText(text, gamma)`: do they work, and do they look like the text?

    A prompt with the text for its nearest words and the accuracy of the free prompt (gamma 0) shows that nearest words
    need not say what a prompt does. It does not show that they never do.

    Args:
        prompts: by gamma; 0 is the free prompt, which the others are compared with where it is there.
        metric: of the nearest words.

    Returns:
        kind ("gamma", and the controls "text" itself, "random vectors" of the norms of the least gamma's prompt, "no
        prompt"), gamma, accuracy with its 95 % interval low to high, loss, gap, gap_low, gap_high (accuracy lost
        against gamma 0, paired bootstrap), distance (`distance_to` the text), share (of virtual tokens whose nearest
        word is the text's at their place), words.

    Raises:
        ValueError: no prompt, a text without a token, and as `nearest` and `evaluate`.
    """
    if not prompts:
        raise ValueError("prompts is empty; give at least one, by its gamma.")
    words, ordered = model.word_embeddings.detach(), sorted(prompts.items())
    rows = [("gamma", gamma, prompt.detach().float().to(model.device)) for gamma, prompt in ordered]
    free = rows[0][2]
    target = text_start(text, model.tokenizer, model.word_embeddings_module, len(free))
    beside = {"text": target, "random vectors": random_control(free, seed), "no prompt": free[:0]}
    rows += [(kind, math.nan, vectors) for kind, vectors in beside.items()]
    found = evaluate_each(model, task, split, [vectors for _, _, vectors in rows], limit)
    expected = discretised(target, words, metric)[1]
    lines = []
    for (kind, gamma, vectors), one in zip(rows, found, strict=True):
        line = {"kind": kind, "gamma": gamma, "words": ""} | _figures(one)
        if ordered[0][0] == 0:
            line |= _lost(found[0], one)
        if len(vectors):
            ids = discretised(vectors, words, metric)[1]
            line["distance"] = distance_to(vectors, target).item()
            line["share"] = (ids == expected).double().mean().item()
            line["words"] = words_of(ids, model.tokenizer)
        lines.append(line)
    columns = ["kind", "gamma", "accuracy", "low", "high", "loss", *GAPS[:3]]
    return pd.DataFrame(lines).reindex(columns=[*columns, "distance", "share", "words"])
