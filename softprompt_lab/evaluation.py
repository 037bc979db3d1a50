"""How good is a prompt: rank classification over the labels, with interval, baseline and every prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest
from sklearn.metrics import f1_score
from torch import nn

from .model import SoftPromptModel
from .packing import Example, Target
from .scoring import label_logits
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
        predictions: one line a row: text, label, prediction, correct, and log-probability of each label.
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
    tokenizer=None,
    limit: int | None = None,
    max_length: int = MAX_LENGTH,
) -> Evaluation:
    """Rank the labels of a task behind each text of a split by the sum of their tokens' log-probabilities.

    Args:
        model: a `SoftPromptModel`, or a plain transformers model with `tokenizer=`: then no vector stands in front,
            and `task.with_template(...)` holds the hand-written prompt.
        split: "train", "validation" or "test".
        limit: the first so many rows only.
        max_length: tokens of text, template and label; a longer text loses its end, and a warning says so.

    Raises:
        ValueError: an unknown split, no tokenizer, or a `max_length` without room for template and label.
    """
    base_model, prompt, tokenizer = _parts(model, tokenizer)
    rows = task.split(split)
    if limit is not None:
        rows = rows.select(range(min(limit, len(rows))))
    texts, truth = list(rows[task.text_column]), list(rows[LABEL_COLUMN])
    examples = _examples(task, tokenizer, texts, max_length)
    scores, matches, losses = score_labels(base_model, prompt, examples)
    right = np.array([task.labels.index(label) for label in truth])
    every = np.arange(len(rows))
    counts = np.array([[len(target.ids) for target in example.targets] for example in examples])
    answers = [task.labels[index] for index in scores.argmax(axis=1)]
    majority = pd.Series(task.train[LABEL_COLUMN]).mode().iloc[0]
    correct = np.array(answers) == np.array(truth)
    return Evaluation(
        accuracy=float(correct.mean()),
        macro_f1=float(f1_score(truth, answers, labels=task.labels, average="macro", zero_division=0)),
        exact_match=float(matches[every, right].mean()),
        loss=float(losses[every, right].sum() / counts[every, right].sum()),
        n=len(rows),
        confidence_interval=wilson_interval(int(correct.sum()), len(rows)),
        majority_baseline=float((np.array(truth) == majority).mean()),
        predictions=_table(texts, truth, answers, correct, scores, task.labels),
    )


def label_probabilities(
    model: nn.Module, task: Task, texts: Sequence[str], *, tokenizer=None, max_length: int = MAX_LENGTH
) -> pd.DataFrame:
    """The labels' probabilities for texts of any origin, normalised over the labels; one line a text."""
    base_model, prompt, tokenizer = _parts(model, tokenizer)
    scores, _, _ = score_labels(base_model, prompt, _examples(task, tokenizer, texts, max_length))
    shares = torch.from_numpy(scores).softmax(dim=1).numpy()
    return pd.DataFrame(shares, index=pd.Index(texts, name="text"), columns=list(task.labels))


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927), the one that stays inside 0 to 1 on few rows."""
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


@torch.no_grad()
def score_labels(
    base_model: nn.Module, prompt: torch.Tensor, examples: Sequence[Example]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each example and target, (N, K): log-probability without the end token, exact match, summed loss."""
    shape = (len(examples), max(len(example.targets) for example in examples))
    scores, losses, matches = np.zeros(shape), np.zeros(shape), np.ones(shape, dtype=bool)
    seen = np.zeros(shape, dtype=int)
    for part in label_logits(base_model, prompt, examples):
        chosen = part.logits.log_softmax(dim=-1).gather(1, part.label_ids[:, None])[:, 0].tolist()
        first = (part.logits.argmax(dim=-1) == part.label_ids).tolist()
        for owner, value, hit in zip(part.owners, chosen, first, strict=True):
            losses[owner] -= value
            seen[owner] += 1
            if seen[owner] < len(examples[owner[0]].targets[owner[1]].ids):  # not the end token
                scores[owner] += value
                matches[owner] &= hit
    return scores, matches, losses


def _parts(model: nn.Module, tokenizer) -> tuple[nn.Module, torch.Tensor, object]:
    """Base model, prompt (P = 0 for a plain model) and tokenizer."""
    if isinstance(model, SoftPromptModel):
        base_model, prompt, tokenizer = model.base_model, model.prompt.detach(), tokenizer or model.tokenizer
    else:
        words = model.get_input_embeddings().weight
        base_model, prompt = model, words.new_zeros(0, words.shape[1], dtype=torch.float32)
    if tokenizer is None:
        raise ValueError("there is no tokenizer; pass tokenizer= here or to SoftPromptModel.")
    return base_model, prompt, tokenizer


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
