"""How good is a prompt: labels ranked or answers written, with interval, baseline and every prediction."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from jaxtyping import Bool, Float
from scipy.stats import binomtest
from sklearn.metrics import f1_score
from torch import nn
from transformers import GenerationConfig

from .batch import (
    IGNORE,
    Example,
    PlainEngine,
    Target,
    distinct_prompts,
    pad_rows,
    positions_of,
)
from .config import HEAD_MODULES, TaskType
from .model import SoftPromptModel, ask_about_vectors, default_engine
from .tasks import (
    LABEL_COLUMN,
    MAX_LENGTH,
    Task,
    end_token,
    forced_tokens,
    remember_base_model,
)

ROWS_PER_CALL = 64  # that are generated together
BEGINNING = ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id")  # of what is written
MORE_TOKENS = 4  # than the longest answer has: the same words may be other tokens


@dataclass(frozen=True)
class Evaluation:
    """What a model answered on one split.

    Attributes:
        accuracy: share of rows whose true label has the highest score among the labels. Where answers are free text,
            share of rows whose answer, written greedily, is the right one, whatever follows on a new line.
        macro_f1: mean over the labels of F1, so that a rare label counts as much as a common one; None where answers
            are free text.
        exact_match: share of rows whose true label is the model's first choice over the *whole vocabulary*; naming
            the candidates, as accuracy does, gives part of the answer away. Of free answers it is the accuracy.
        loss: mean cross-entropy of the true labels' tokens and the end token, in nats.
        n: rows.
        confidence_interval: 95 % interval of the accuracy (Wilson), from the number of rows alone.
        majority_baseline: accuracy of always answering the label that is commonest in the training split.
        predictions: one line a row: text, label, prediction, correct, log-probability of each label (of the true
            answer where answers are free text), and the loss of the true label, summed over its tokens, with their
            number.
        end_scored: whether a label's score, and its exact match, includes the end token. It does where one label's
            tokens begin another's ("1" and "10"): the longer one could never win otherwise.
    """

    accuracy: float
    macro_f1: float | None
    exact_match: float
    loss: float
    n: int
    confidence_interval: tuple[float, float]
    majority_baseline: float
    predictions: pd.DataFrame
    end_scored: bool = False

    def __repr__(self) -> str:
        return f"Evaluation: {self}\n  .predictions has a line for each row"

    def __str__(self) -> str:
        low, high = self.confidence_interval
        ranked = "" if self.macro_f1 is None else f"macro-F1 {self.macro_f1:.3f}, "
        return (
            f"accuracy {self.accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}, n = {self.n}), "
            f"{ranked}exact match {self.exact_match:.3f}, loss {self.loss:.3f}, "
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

    The end token is part of the sum only where one label's tokens begin another's (`Evaluation.end_scored`). Where
    answers are free text (`task.labels` is empty) the model writes one behind each text, greedily.

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
    given = None if task.labels else [*rows[LABEL_COLUMN]]
    short = task.cut(tokenizer, rows[task.text_column], max_length, stacklevel=2)
    examples = _examples(task, tokenizer, short, given)
    names, vectors, behind = _behind(model, examples, prompts, prompt_names)
    parts = score_labels(model, vectors, behind)
    if given:
        contexts = [ids for ids, _ in task.encode_whole(tokenizer, short, [None] * len(short))]
        longest = max(len(example.targets[0].ids) for example in examples) + MORE_TOKENS
        asked = [(row.prompt, ids) for row, ids in zip(behind, contexts * len(names), strict=True)]
        written = write_answers(model, vectors, asked, tokenizer, longest)
        ids = [example.targets[0].ids for example in examples] * len(names)
        can = tokenizer.batch_decode(ids, skip_special_tokens=True)  # all that it could write
        parts += (written, [*map(same_answer, written, given * len(names), can)])
    cut = zip(*(np.split(np.array(part), len(names)) for part in parts), strict=True)
    evaluations = {
        name: _evaluation(task, rows, examples, *scored)
        for name, scored in zip(names, cut, strict=True)
    }
    return evaluations[""] if prompts is None else evaluations


def _evaluation(
    task: Task,
    rows: Dataset,
    examples: Sequence[Example],
    scores: Float[np.ndarray, "N K"],
    matches: Bool[np.ndarray, "N K"],
    losses: Float[np.ndarray, "N K"],
    written: np.ndarray | None = None,
    same: np.ndarray | None = None,
) -> Evaluation:
    """Return the figures of some rows from what `score_labels` found, and the answers written where they are free."""
    truth, every = np.array(rows[LABEL_COLUMN]), np.arange(len(rows))
    macro_f1 = None
    if written is None:
        right = np.array([task.labels.index(label) for label in truth])
        answers = np.array(task.labels)[scores.argmax(axis=1)]
        correct, exact = answers == truth, matches[every, right]
        macro_f1 = f1_score(truth, answers, labels=task.labels, average="macro", zero_division=0)
    else:
        right, answers, correct, exact = np.zeros(len(rows), dtype=int), written, same, same
    tokens = [len(e.targets[n].supervised) for e, n in zip(examples, right, strict=True)]
    figures = {"label": truth, "prediction": answers, "correct": correct}
    table = pd.DataFrame({"text": rows[task.text_column], **figures})
    table[[f"log p({label})" for label in task.labels or ("answer",)]] = scores
    return Evaluation(
        accuracy=float(correct.mean()),
        macro_f1=None if macro_f1 is None else float(macro_f1),
        exact_match=float(exact.mean()),
        loss=float(losses[every, right].sum() / sum(tokens)),
        n=len(rows),
        confidence_interval=wilson_interval(int(correct.sum()), len(rows)),
        majority_baseline=float((truth == pd.Series(task.train[LABEL_COLUMN]).mode()[0]).mean()),
        predictions=table.assign(loss=losses[every, right], tokens=tokens),
        end_scored=labels_begin_alike(examples),
    )


def same_answer(written: str, *answers: str) -> bool:
    """Return whether a written text begins with all lines of one of some answers.

    Spaces, quotation marks around and a full stop at the end do not count.
    """

    def words(text: str) -> str:
        text = " ".join(unicodedata.normalize("NFC", text).split())
        return text.strip("\"'").removesuffix(".").strip("\"'")

    def lines(answer: str) -> str:
        return "\n".join(written.strip().split("\n")[: 1 + answer.strip().count("\n")])

    return any(words(lines(answer)) == words(answer) for answer in answers)


@torch.no_grad()
def write_answers(
    model: nn.Module,
    prompts: Sequence[Float[torch.Tensor, "_ D"]],
    asked: Sequence[tuple[int, list[int]]],
    tokenizer,
    max_new_tokens: int,
) -> list[str]:
    """Return what the model writes, greedily, until its end token; the base model's own ways to generate do not count.

    Args:
        asked: of each row the number of its prompt, and its context as token ids.
    """
    base_model, engine = _served(model)
    own, apart = base_model.generation_config, base_model.config.is_encoder_decoder
    end = {"eos_token_id": end_token(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    begin = {name: getattr(own, name, None) for name in BEGINNING}
    answers: dict[int, str] = {}
    order = sorted(range(len(asked)), key=lambda row: len(asked[row][1]))
    for first in range(0, len(order), ROWS_PER_CALL):
        part = order[first : first + ROWS_PER_CALL]
        numbers, contexts = zip(*(asked[row] for row in part), strict=True)
        ids, mask = pad_rows(contexts, base_model.device)
        fronts = [prompts[number] for number in numbers]
        read = 0 if apart else max(map(len, fronts)) + ids.shape[1]
        room = (positions_of(base_model) or read + max_new_tokens) - read + 1
        options = {"max_new_tokens": max(1, min(max_new_tokens, room)), "do_sample": False}
        with engine.inside(base_model):
            base_model.generation_config = GenerationConfig(**begin, **end)
            try:
                tokens = engine.generate(base_model, fronts, ids, mask, **options)
            finally:
                base_model.generation_config = own
        new = tokens if apart else tokens[:, ids.shape[1] :]
        answers |= zip(part, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True)
    return [answers[row].strip() for row in range(len(asked))]


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

    Raises:
        ValueError: as `evaluate`, or answers are free text.
    """
    if not task.labels:
        raise ValueError(f"{task.name!r} has free answers: there are no labels to compare.")
    tokenizer = tokenizer_of(model, tokenizer)
    short = task.cut(tokenizer, texts, max_length, stacklevel=2)
    examples = _examples(task, tokenizer, short)
    names, vectors, behind = _behind(model, examples, prompts)
    scores, _, _ = score_labels(model, vectors, behind)
    shares = np.split(torch.from_numpy(scores).softmax(dim=1).numpy(), len(names))
    index = pd.Index(texts, name="text")
    tables = {
        name: pd.DataFrame(share, index, [*task.labels])
        for name, share in zip(names, shares, strict=True)
    }
    return tables[""] if prompts is None else pd.concat(tables, names=["prompt"])


def _behind(
    model: nn.Module,
    examples: Sequence[Example],
    prompts: Mapping[str, torch.Tensor] | Sequence[str] | None,
    prompt_names: Sequence[str] | None = None,
) -> tuple[list[str], list[torch.Tensor], list[Example]]:
    """Return names, vectors, and the examples behind each named prompt in turn; "" is the one at work."""
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
    return [*named], vectors, behind


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
    base_model, engine = _served(model)
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


def _served(model: nn.Module) -> tuple[nn.Module, PlainEngine]:
    """Return the base model and the engine that serves it."""
    if isinstance(model, SoftPromptModel):
        return model.base_model, model.engine
    return model, default_engine()


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


def _examples(
    task: Task, tokenizer, short: Sequence[str], given: Sequence[str] | None = None
) -> list[Example]:
    """Return each text with every label of the task, or its own answer of those `given`, as a target.

    A token that `generate` forces is not measured.
    """
    count = 1 if given else len(task.labels)
    repeated = [text for text in short for _ in range(count)]
    rows = task.encode_whole(tokenizer, repeated, given or [*task.labels] * len(short))
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
