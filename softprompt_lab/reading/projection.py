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
from .comparison import compared, evaluate_each, levels
from .controls import prompt_and_start
from .neighbours import random_control, random_words, readable_token
from .search import METRICS, Metric, nearest


def discretised(
    prompt: Float[torch.Tensor, "P D"],
    word_embeddings: Float[torch.Tensor, "V D"],
    metric: Metric = "cosine",
) -> tuple[Float[torch.Tensor, "P D"], Int[torch.Tensor, " P"]]:
    """Replace each virtual token by the embedding of its nearest word; return the vectors, float32, and the words' ids.

    The prompt's own length and direction are gone: what is left is a text, its special tokens included.

    Raises:
        ValueError: shapes, numbers or metric that cannot be.
    """
    ids = nearest(prompt, word_embeddings, 1, metric)[1][:, 0]
    return word_embeddings.detach()[ids.to(word_embeddings.device)].to(
        prompt.device, torch.float32
    ), ids


@dataclass(frozen=True)
class OntoWords:
    """`train(..., project=OntoWords())`: look for a prompt of words by gradient descent (PEZ).

    In front of the text stand the words nearest to the vectors that move; the gradient found at the words moves the
    vectors. A step that changes no word changes no output. After training the model holds the words' embeddings;
    `history.snapshots` hold the vectors, whose words `discretised` names. Every step compares the prompt with the whole
    vocabulary: half a second for 49,152 words of width 576 on one core.

    Wen et al. 2023 (arXiv 2302.03668), algorithm 1, with their metric, cosine. They keep the best words met on the way:
    pass `evaluate_every=` and `patience=`.
    """

    def __call__(
        self, prompt: Float[torch.Tensor, "P D"], model: SoftPromptModel
    ) -> Float[torch.Tensor, "P D"]:
        """The nearest words' embeddings."""
        return discretised(prompt, model.word_embeddings)[0]


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
    start: Float[torch.Tensor, "P D"] | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    draws: int = 3,
) -> pd.DataFrame:
    """Measure the active prompt beside its nearest words: acc(P) - acc(E[NN(P)]), and the same for losses.

    A large gap says that the words do not do what the prompt does, so reading them does not tell what it does. A small
    one says so of this task alone: where random words have a small gap too, the words need mean nothing.

    Args:
        start: the prompt before training.
        draws: how many prompts of random words and of random vectors with the prompt's norms.
        limit: the first so many rows of the split only.

    Returns:
        kind ("prompt", "prompt's words", "start", "start's words", "random words", "random vectors", "no prompt"),
        metric of the words (where two give the same words, these are measured once and stand in both rows), text (empty
        where the vectors are no words), accuracy with its 95 % interval low to high (Wilson), loss, and how much worse
        that is than what the row is measured `against`, the prompt or the start: gap, gap_low, gap_high of accuracy
        lost, loss_gap, loss_gap_low, loss_gap_high of loss gained (paired bootstrap); n, majority and ceiling of the
        rows (`comparison.levels`).

    Raises:
        ValueError: as `nearest` and `evaluate`.
    """
    words, mine = model.word_embeddings.detach(), prompt_and_start(model, start)
    prompt = mine["prompt"]
    rows = [(kind, "", vectors, "prompt") for kind, vectors in mine.items()]
    for kind, vectors in mine.items():
        rows += [
            (f"{kind}'s words", metric, discretised(vectors, words, metric)[0], kind)
            for metric in METRICS
        ]
    beside = [("random words", random_words(prompt, words, draw)) for draw in range(draws)]
    beside += [("random vectors", random_control(prompt, draw)) for draw in range(draws)]
    beside.append(("no prompt", prompt[:0]))
    rows += [(kind, "", vectors, "prompt") for kind, vectors in beside]
    found = evaluate_each(model, task, split, [vectors for _, _, vectors, _ in rows], limit)
    references = dict(zip(mine, found, strict=False))
    lines = []
    for (kind, metric, vectors, against), one in zip(rows, found, strict=True):
        text = as_text(vectors, words, model.tokenizer)
        line = {"kind": kind, "metric": metric, "text": text} | _figures(one) | {"against": ""}
        if kind != against:
            line |= {"against": against} | _gaps(one, references[against])
        lines.append(line)
    return pd.DataFrame(lines).assign(**levels(task, split, limit))


def _figures(found: Evaluation) -> dict[str, float]:
    """Return accuracy, its interval and the loss."""
    low, high = found.confidence_interval
    return {"accuracy": found.accuracy, "low": low, "high": high, "loss": found.loss}


def _gaps(found: Evaluation, reference: Evaluation) -> dict[str, float]:
    """Return how much worse than a reference, with intervals: accuracy lost, then loss gained."""
    gained, lost = compared(found, reference), compared(reference, found)
    return {
        "gap": lost["accuracy_change"],
        "gap_low": lost["accuracy_low"],
        "gap_high": lost["accuracy_high"],
        "loss_gap": gained["loss_change"],
        "loss_gap_low": gained["loss_low"],
        "loss_gap_high": gained["loss_high"],
    }


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
    split: str = "test",
    limit: int | None = None,
) -> pd.DataFrame:
    """Measure prompts that were trained with `TowardsText(text, gamma)`: do they work, and do they look like the text?

    A prompt with the text for its nearest words and the accuracy of the free prompt (gamma 0) shows that nearest words
    need not say what a prompt does. It does not show that they never do.

    Args:
        prompts: by gamma; 0 is the free prompt.

    Returns:
        kind ("gamma", and the controls "text" itself, "random vectors" of the norms of the least gamma's prompt, "no
        prompt"), gamma, accuracy with its 95 % interval low to high, loss, distance (`distance_to` the text), share (of
        virtual tokens whose nearest word, by L2, is the text's at their place), words; n, majority and ceiling of the
        rows (`comparison.levels`).

    Raises:
        ValueError: a text without a token, and as `nearest` and `evaluate`.
    """
    words, ordered = model.word_embeddings.detach(), sorted(prompts.items())
    rows = [("gamma", gamma, prompt.detach().float().to(model.device)) for gamma, prompt in ordered]
    free = rows[0][2]
    target = text_start(text, model.tokenizer, model.word_embeddings_module, len(free))
    beside = {"text": target, "random vectors": random_control(free), "no prompt": free[:0]}
    rows += [(kind, math.nan, vectors) for kind, vectors in beside.items()]
    found = evaluate_each(model, task, split, [vectors for _, _, vectors in rows], limit)
    expected = discretised(target, words, "l2")[1]
    lines = []
    for (kind, gamma, vectors), one in zip(rows, found, strict=True):
        line = {"kind": kind, "gamma": gamma} | _figures(one)
        line |= {"distance": math.nan, "share": math.nan, "words": ""}
        if len(vectors):
            ids = discretised(vectors, words, "l2")[1]
            line["distance"] = distance_to(vectors, target).item()
            line["share"] = (ids == expected).double().mean().item()
            line["words"] = words_of(ids, model.tokenizer)
        lines.append(line)
    return pd.DataFrame(lines).assign(**levels(task, split, limit))
