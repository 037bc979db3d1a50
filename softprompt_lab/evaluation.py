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

from .batch import IGNORE, Example, Target, distinct_prompts
from .config import HEAD_MODULES, TaskType
from .model import SoftPromptModel, ask_about_vectors, default_engine
from .tasks import LABEL_COLUMN, MAX_LENGTH, Task, forced_tokens, remember_base_model


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
        end_scored: whether a label's score, and its exact match, includes the end token. It does where one label's
            tokens begin another's ("1" and "10"): the longer one could never win otherwise.
    """

    accuracy: float
    macro_f1: float
    exact_match: float
    loss: float
    n: int
    confidence_interval: tuple[float, float]
    majority_baseline: float
    predictions: pd.DataFrame
    end_scored: bool = False

    def __str__(self) -> str:
        low, high = self.confidence_interval
        return (
            f"accuracy {self.accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}, n = {self.n}), "
            f"macro-F1 {self.macro_f1:.3f}, exact match {self.exact_match:.3f}, loss {self.loss:.3f}, "
            f"majority baseline {self.majority_baseline:.3f}"
            f"{', labels scored with their end token' if self.end_scored else ''}"
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

    The end token is part of the sum only where one label's tokens begin another's (`Evaluation.end_scored`).

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

    Example:
        >>> from softprompt_lab import evaluate, load_base_model, load_task
        >>> base_model, tokenizer = load_base_model("tiny")
        >>> evaluate(base_model, load_task("shop"), tokenizer=tokenizer, limit=20).n
        20
    """
    tokenizer = tokenizer_of(model, tokenizer)
    rows = task.split(split)
    rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
    if not len(rows):
        raise ValueError(
            f"there is nothing to measure: {split!r} of {task.name!r}, limit={limit}, has no rows."
        )
    examples = _examples(task, tokenizer, rows[task.text_column], max_length)
    found = _scores(model, examples, prompts, prompt_names)
    evaluations = {
        name: _evaluation(task, rows, examples, scored) for name, scored in found.items()
    }
    return evaluations[""] if prompts is None else evaluations


def _evaluation(
    task: Task, rows: Dataset, examples: Sequence[Example], scored: Sequence[np.ndarray]
) -> Evaluation:
    """Return the figures of some rows from what `score_labels` found, (N, K) each."""
    scores, matches, losses = scored
    truth, labels = np.array(rows[LABEL_COLUMN]), np.array(task.labels)
    right = np.array([task.labels.index(label) for label in truth])
    every = np.arange(len(rows))
    tokens = [len(e.targets[n].supervised) for e, n in zip(examples, right, strict=True)]
    answers = labels[scores.argmax(axis=1)]
    correct = answers == truth
    figures = {"label": truth, "prediction": answers, "correct": correct}
    table = pd.DataFrame({"text": rows[task.text_column], **figures})
    table[[f"log p({label})" for label in labels]] = scores
    return Evaluation(
        accuracy=float(correct.mean()),
        macro_f1=float(
            f1_score(truth, answers, labels=task.labels, average="macro", zero_division=0)
        ),
        exact_match=float(matches[every, right].mean()),
        loss=float(losses[every, right].sum() / sum(tokens)),
        n=len(rows),
        confidence_interval=wilson_interval(int(correct.sum()), len(rows)),
        majority_baseline=float((truth == pd.Series(task.train[LABEL_COLUMN]).mode()[0]).mean()),
        predictions=table.assign(loss=losses[every, right], tokens=tokens),
        end_scored=labels_begin_alike(examples),
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
    examples = _examples(task, tokenizer_of(model, tokenizer), texts, max_length)
    tables = {}
    for name, (scores, _, _) in _scores(model, examples, prompts).items():
        shares = torch.from_numpy(scores).softmax(dim=1).numpy()
        tables[name] = pd.DataFrame(shares, pd.Index(texts, name="text"), [*task.labels])
    return tables[""] if prompts is None else pd.concat(tables, names=["prompt"])


def _scores(
    model: nn.Module,
    examples: Sequence[Example],
    prompts: Mapping[str, torch.Tensor] | Sequence[str] | None,
    prompt_names: Sequence[str] | None = None,
) -> dict[str, tuple[np.ndarray, ...]]:
    """Return what `score_labels` finds behind each of the prompts, by name; "" is the one at work."""
    given = [argument for argument in (prompts, prompt_names) if argument is not None]
    most = 1 if isinstance(model, SoftPromptModel) else 0
    if len(given) > most:
        raise ValueError("pass prompts or prompt_names, not both, and neither with a plain model.")
    if prompts is not None:
        named = _vectors(model, prompts)
        vectors, rows = [*named.values()], [*examples] * len(named)
        numbers = [number for number in range(len(named)) for _ in examples]
    elif isinstance(model, SoftPromptModel):
        named, rows = {"": None}, examples
        at_work = model.prompts_of_rows(prompt_names, len(examples))
        vectors, numbers = distinct_prompts(at_work, len(examples))
    else:  # a plain model: a prompt of length 0
        named, rows, numbers = {"": None}, examples, [0] * len(examples)
        with torch.no_grad(), default_engine().inside(model):
            ask_about_vectors(model, True)
        vectors = [model.get_input_embeddings().weight[:0].float()]
    behind = [replace(row, prompt=number) for row, number in zip(rows, numbers, strict=True)]
    parts = [np.split(part, len(named)) for part in score_labels(model, vectors, behind)]
    return dict(zip(named, zip(*parts, strict=True), strict=True))


def _vectors(
    model: SoftPromptModel, prompts: Mapping[str, torch.Tensor] | Sequence[str]
) -> dict[str, Float[torch.Tensor, "_ D"]]:
    """Return vectors by name, as they were given or as the model's prompts of these names.

    Raises:
        ValueError: an unknown name, or another width than the word embeddings have.
    """
    if not isinstance(prompts, Mapping):
        prompts = {name: model.prompt_by_name(name) for name in prompts}
    width = model.word_embeddings_module.weight.shape[1]
    for name, prompt in prompts.items():
        if prompt.ndim != 2 or prompt.shape[1] != width:
            raise ValueError(
                f"{name!r} has shape {tuple(prompt.shape)}; it must be (P, {width}) for this base model."
            )
    return {
        name: prompt.detach().to(model.device, torch.float32) for name, prompt in prompts.items()
    }


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927), the one that stays inside 0 to 1 on few rows."""
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


@torch.no_grad()
def score_labels(
    model: nn.Module, prompts: Sequence[torch.Tensor], examples: Sequence[Example]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (N, K) for each example and target: log-probability, exact match, summed loss.

    The end token belongs to the loss; to the others only where `labels_begin_alike`.

    Args:
        model: a `SoftPromptModel` or a plain transformers model.
        prompts: the vectors that the examples' prompt numbers name.
    """
    shape = (len(examples), max(len(example.targets) for example in examples))
    scores, losses, matches = np.zeros(shape), np.zeros(shape), np.ones(shape, dtype=bool)
    found: dict[tuple[int, int], list[tuple[float, bool]]] = {}
    prompted = isinstance(model, SoftPromptModel)
    base_model, engine = (model.base_model, model.engine) if prompted else (model, default_engine())
    for part in engine.label_logits(base_model, prompts, examples):
        chosen = part.logits.log_softmax(dim=-1).gather(1, part.label_ids[:, None])[:, 0].tolist()
        first = (part.logits.argmax(dim=-1) == part.label_ids).tolist()
        for owner, value, hit in zip(part.owners, chosen, first, strict=True):
            found.setdefault(owner, []).append((value, hit))
    unscored = 0 if labels_begin_alike(examples) else 1
    for owner, tokens in found.items():  # of a target, in their order
        values, hits = zip(*tokens, strict=True)
        kept = len(tokens) - unscored
        losses[owner], scores[owner] = -sum(values), sum(values[:kept])
        matches[owner] = all(hits[:kept])
    return scores, matches, losses


def labels_begin_alike(examples: Sequence[Example]) -> bool:
    """Return whether a target's tokens, but for its end, begin another target of the same example."""
    for example in examples:
        ids = {tuple(target.ids[:-1]) for target in example.targets}
        if any(ids_of[:n] in ids for ids_of in ids for n in range(len(ids_of))):
            return True
    return False


def check_predicts_text(task_type: TaskType) -> None:
    """Raise ValueError for a model that scores no label words, which `train` and `evaluate` need."""
    if task_type in HEAD_MODULES:
        raise ValueError(
            f"task_type={task_type} predicts no text, and train and evaluate compare label words; use transformers' "
            "Trainer, or a loop over model(input_ids, attention_mask, labels).loss.backward()."
        )


def tokenizer_of(model: nn.Module, tokenizer=None) -> Any:
    """Return the tokenizer that was given, or the model's own, as that of the base model."""
    base_model = model
    if isinstance(model, SoftPromptModel):
        check_predicts_text(model.prompt_config.task_type)
        tokenizer, base_model = tokenizer or model.tokenizer, model.base_model
    if tokenizer is None:
        raise ValueError("there is no tokenizer; pass tokenizer= here or to SoftPromptModel.")
    remember_base_model(tokenizer, base_model)
    return tokenizer


def _examples(task: Task, tokenizer, texts: Sequence[str], max_length: int) -> list[Example]:
    """Return each text with every label of the task as a target; a token that `generate` forces is not measured."""
    short = task.cut(tokenizer, texts, max_length, stacklevel=3)
    count = len(task.labels)
    repeated = [text for text in short for _ in task.labels]
    rows = task.encode_whole(tokenizer, repeated, [*task.labels] * len(short))
    forced = len(forced_tokens(tokenizer))
    examples = []
    for first in range(0, len(rows), count):
        pairs = rows[first : first + count]
        start = min(
            len(context) for context, _ in pairs
        )  # a label may change a context's last token
        context = pairs[0][0][:start]
        ids = [[*own[start:], *label] for own, label in pairs]
        targets = [Target(row, [IGNORE] * forced + row[forced:]) for row in ids]
        examples.append(Example(context, targets))
    return examples
