"""How good is a prompt: rank classification over the labels, with interval, baseline and every prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from jaxtyping import Float
from scipy.stats import binomtest
from sklearn.metrics import f1_score
from torch import nn

from .engine.locks import lock
from .engine.packing import Example, Target
from .engine.scoring import label_logits
from .heads.classify import check_predicts_text
from .model import SoftPromptModel
from .tasks import LABEL_COLUMN, MAX_LENGTH, Task


@dataclass(frozen=True)
class Evaluation:
    """What a model answered on one split.

    Attributes:
        accuracy: share of rows whose true label has the highest score among the labels.
        macro_f1: mean over the labels of F1, so that a rare label counts as much as a common one.
        exact_match: share of rows whose true label is the model's first choice over the *whole vocabulary*; naming
            the candidates, as accuracy does, gives part of the answer away.
        loss: mean cross-entropy of the true labels' tokens and the end token, in nats.
        n: rows.
        confidence_interval: 95 % interval of the accuracy (Wilson), from the number of rows alone.
        majority_baseline: accuracy of always answering the label that is commonest in the training split.
        predictions: one line a row: text, label, prediction, correct, log-probability of each label, and the loss of
            the true label, summed over its tokens, with their number.
    """

    accuracy: float
    macro_f1: float
    exact_match: float
    loss: float
    n: int
    confidence_interval: tuple[float, float]
    majority_baseline: float
    predictions: pd.DataFrame

    def __str__(self) -> str:
        low, high = self.confidence_interval
        return (
            f"accuracy {self.accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}, n = {self.n}), "
            f"macro-F1 {self.macro_f1:.3f}, exact match {self.exact_match:.3f}, loss {self.loss:.3f}, "
            f"majority baseline {self.majority_baseline:.3f}"
        )


def evaluate(
    model: nn.Module,
    task: Task,
    split: str = "test",
    *,
    prompts: Mapping[str, Float[torch.Tensor, "_ D"]] | Sequence[str] | None = None,
    prompt_names: Sequence[str] | None = None,
    tokenizer=None,
    limit: int | None = None,
    max_length: int = MAX_LENGTH,
) -> Any:
    """Rank the labels of a task behind each text of a split by the sum of their tokens' log-probabilities.

    Args:
        model: a `SoftPromptModel`, or a plain transformers model with `tokenizer=`: then no vector stands in front,
            and `task.with_template(...)` holds the hand-written prompt.
        split: "train", "validation" or "test".
        prompts: names of the model's prompts, or vectors by name (lengths may differ; one of length 0 is the bare base
            model). Each stands in front of the same rows, in one pass, and the model stays as it is.
        prompt_names: one for each row that is measured, where rows stand behind different prompts.
        limit: the first so many rows only.
        max_length: tokens of text, template and label; a longer text loses its end, and a warning says so.

    Returns:
        An `Evaluation` of the active prompt (or of `prompt_names`); with `prompts` a dict of them, by name.

    Raises:
        ValueError: an unknown split or prompt, no tokenizer, vectors of another width than the word embeddings, or a
            `max_length` without room for template and label.
    """
    base_model, tokenizer = _parts(model, tokenizer)
    rows = task.split(split)
    rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
    if prompts is not None:
        return _behind_each(model, task, rows, _by_name(model, prompts), max_length)[0]
    vectors, numbers = _prompts_of(model, prompt_names, len(rows))
    examples = _examples(task, tokenizer, rows[task.text_column], max_length)
    examples = [
        replace(example, prompt=number) for example, number in zip(examples, numbers, strict=True)
    ]
    return _evaluation(task, rows, examples, *score_labels(base_model, vectors, examples))


def _by_name(
    model: SoftPromptModel, prompts: Mapping[str, torch.Tensor] | Sequence[str]
) -> dict[str, torch.Tensor]:
    """Vectors by name, as they were given or as the model's prompts of these names."""
    return (
        dict(prompts)
        if isinstance(prompts, Mapping)
        else {n: model.prompt_by_name(n) for n in prompts}
    )


def _behind_each(
    model: SoftPromptModel,
    task: Task,
    rows: Dataset,
    prompts: Mapping[str, torch.Tensor],
    max_length: int,
) -> tuple[dict[str, Evaluation], np.ndarray]:
    """Every prompt's evaluation on the same rows, in one pass, and its labels' scores (prompts, N, K)."""
    base_model, tokenizer = _parts(model, None)
    examples = _examples(task, tokenizer, rows[task.text_column], max_length)
    placed = _placed(model, prompts)
    every = [
        replace(example, prompt=number) for number in range(len(placed)) for example in examples
    ]
    found = [
        part.reshape(len(placed), len(rows), -1) for part in score_labels(base_model, placed, every)
    ]
    members = {
        name: _evaluation(task, rows, examples, *(part[number] for part in found))
        for number, name in enumerate(prompts)
    }
    return members, found[0]


def _evaluation(
    task: Task,
    rows: Dataset,
    examples: Sequence[Example],
    scores: np.ndarray,
    matches: np.ndarray,
    losses: np.ndarray,
) -> Evaluation:
    """The figures of some rows from their labels' scores, (N, K) each."""
    texts, truth = list(rows[task.text_column]), list(rows[LABEL_COLUMN])
    right = np.array([task.labels.index(label) for label in truth])
    every = np.arange(len(rows))
    counts = np.array([[len(target.ids) for target in example.targets] for example in examples])
    answers = [task.labels[index] for index in scores.argmax(axis=1)]
    majority = pd.Series(task.train[LABEL_COLUMN]).mode().iloc[0]
    correct = np.array(answers) == np.array(truth)
    return Evaluation(
        accuracy=float(correct.mean()),
        macro_f1=float(
            f1_score(truth, answers, labels=task.labels, average="macro", zero_division=0)
        ),
        exact_match=float(matches[every, right].mean()),
        loss=float(losses[every, right].sum() / counts[every, right].sum()),
        n=len(rows),
        confidence_interval=wilson_interval(int(correct.sum()), len(rows)),
        majority_baseline=float((np.array(truth) == majority).mean()),
        predictions=_table(texts, truth, answers, correct, scores, task.labels).assign(
            loss=losses[every, right], tokens=counts[every, right]
        ),
    )


def label_probabilities(
    model: nn.Module,
    task: Task,
    texts: Sequence[str],
    *,
    prompts: Mapping[str, Float[torch.Tensor, "_ D"]] | Sequence[str] | None = None,
    tokenizer=None,
    max_length: int = MAX_LENGTH,
) -> pd.DataFrame:
    """The labels' probabilities for texts of any origin, normalised over the labels; one line a text.

    With `prompts` (as in `evaluate`) one line for each prompt and text, with both in the index.
    """
    base_model, tokenizer = _parts(model, tokenizer)
    examples = _examples(task, tokenizer, texts, max_length)
    index = pd.Index(texts, name="text")
    if prompts is None:
        vectors, _ = _prompts_of(model, None, len(texts))
    else:
        named = _by_name(model, prompts)
        vectors = _placed(model, named)
        examples = [replace(e, prompt=number) for number in range(len(named)) for e in examples]
        index = pd.MultiIndex.from_product([named, texts], names=["prompt", "text"])
    scores, _, _ = score_labels(base_model, vectors, examples)
    shares = torch.from_numpy(scores).softmax(dim=1).numpy()
    return pd.DataFrame(shares, index=index, columns=list(task.labels))


def _placed(
    model: SoftPromptModel, prompts: Mapping[str, torch.Tensor]
) -> list[Float[torch.Tensor, "_ D"]]:
    """Vectors as the engine takes them.

    Raises:
        ValueError: another width than the word embeddings have.
    """
    width = model.word_embeddings.shape[1]
    for name, prompt in prompts.items():
        if prompt.ndim != 2 or prompt.shape[1] != width:
            raise ValueError(
                f"{name!r} has shape {tuple(prompt.shape)}; it must be (P, {width}) for this base model."
            )
    return [prompt.detach().to(model.device, torch.float32) for prompt in prompts.values()]


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927), the one that stays inside 0 to 1 on few rows."""
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


@torch.no_grad()
def score_labels(
    base_model: nn.Module,
    prompts: torch.Tensor | Sequence[torch.Tensor],
    examples: Sequence[Example],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each example and target, (N, K): log-probability without the end token, exact match, summed loss."""
    shape = (len(examples), max(len(example.targets) for example in examples))
    scores, losses, matches = np.zeros(shape), np.zeros(shape), np.ones(shape, dtype=bool)
    seen = np.zeros(shape, dtype=int)
    with lock(base_model):
        for part in label_logits(base_model, prompts, examples):
            chosen = (
                part.logits.log_softmax(dim=-1).gather(1, part.label_ids[:, None])[:, 0].tolist()
            )
            first = (part.logits.argmax(dim=-1) == part.label_ids).tolist()
            for owner, value, hit in zip(part.owners, chosen, first, strict=True):
                losses[owner] -= value
                seen[owner] += 1
                if seen[owner] < len(examples[owner[0]].targets[owner[1]].ids):  # not the end token
                    scores[owner] += value
                    matches[owner] &= hit
    return scores, matches, losses


def _parts(model: nn.Module, tokenizer) -> tuple[nn.Module, Any]:
    """Base model and tokenizer."""
    if isinstance(model, SoftPromptModel):
        check_predicts_text(model.prompt_config.task_type)
        model, tokenizer = model.base_model, tokenizer or model.tokenizer
    if tokenizer is None:
        raise ValueError("there is no tokenizer; pass tokenizer= here or to SoftPromptModel.")
    return model, tokenizer


def _prompts_of(
    model: nn.Module, names: Sequence[str] | None, rows: int
) -> tuple[list[Float[torch.Tensor, "_ D"]], list[int]]:
    """The prompts at work, and for each row the number of its own; a plain model has one of length 0."""
    if isinstance(model, SoftPromptModel):
        return model.prompts_of(names, rows)
    words = model.get_input_embeddings().weight
    return [words.new_zeros(0, words.shape[1], dtype=torch.float32)], [0] * rows


def _examples(task: Task, tokenizer, texts: Sequence[str], max_length: int) -> list[Example]:
    """Each text with every label of the task as a target; the longest label decides how much text there is room for."""
    task.warn_of_cut_texts(tokenizer, texts, max_length, stacklevel=3)
    targets = {label: task.encode(tokenizer, "", label, max_length)[1] for label in task.labels}
    longest = max(targets, key=lambda label: len(targets[label]))
    contexts = [task.encode(tokenizer, text, longest, max_length)[0] for text in texts]
    return [Example(context, [Target.of(ids) for ids in targets.values()]) for context in contexts]


def _table(
    texts: list[str],
    truth: list[str],
    answers: list[str],
    correct: np.ndarray,
    scores: np.ndarray,
    labels: Sequence[str],
) -> pd.DataFrame:
    """The predictions, one line a row."""
    table = pd.DataFrame({"text": texts, "label": truth, "prediction": answers, "correct": correct})
    return table.join(pd.DataFrame(scores, columns=[f"log p({label})" for label in labels]))
