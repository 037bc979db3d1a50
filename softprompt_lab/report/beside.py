"""The prompt beside others of other seeds and tasks."""

from collections.abc import Mapping
from functools import lru_cache

import pandas as pd
import torch

from .. import plots, reading
from ..runs import zoo
from .section import SPLIT, Section, Subject


def similarity(subject: Subject) -> Section:
    """Are prompts of one task near each other?"""
    prompts, starts, task_of = family(subject)
    table = reading.vector_similarity(prompts, subject.words, starts, centered=True)
    mean = _relations(table, task_of, "aligned cosine")
    return Section(
        "Similarity of vectors",
        plots.similarity_matrices(table, "aligned cosine"),
        "their starts, random vectors, and the movements without the starts.",
        f"Two seeds of a task have a mean cosine of {mean['prompt', 'same task']:.2f}, two tasks "
        f"{mean['prompt', 'other task']:.2f}; their movements {mean['movement', 'same task']:.2f} and "
        f"{mean['movement', 'other task']:.2f}.",
        "whether they do the same.",
    )


def behaviour(subject: Subject) -> Section:
    """Do prompts of one task do the same?"""
    _, _, task_of = family(subject)
    table = _next_tokens(subject)
    mean = _relations(table, task_of, "divergence")
    return Section(
        "Similarity of behaviour",
        plots.similarity_matrices(table, "divergence"),
        "their starts, random vectors.",
        f"The next word's distributions of two seeds are {mean['prompt', 'same task']:.2f} bits apart (Jensen-Shannon, "
        f"at most 1), of two tasks {mean['prompt', 'other task']:.2f}.",
        "which of the two is right.",
    )


def vectors_and_behaviour(subject: Subject) -> Section:
    """Does nearness of vectors tell likeness of behaviour?"""
    prompts, starts, task_of = family(subject)
    near = reading.vector_similarity(prompts, subject.words, starts, centered=True)
    found = reading.association(near, _next_tokens(subject), ("aligned cosine", "divergence"))
    names = ("aligned cosine", "divergence of the next word, bits")
    return Section(
        "Vectors against behaviour",
        plots.association_figure(found.pairs, task_of, names, found.spearman, found.p),
        "pairs of starts and of random vectors.",
        f"Over {len(prompts)} prompts the rank correlation of nearness and divergence is {found.spearman:.2f} "
        f"(permutation p = {found.p:.2f}; minus 1 if near prompts always did more alike).",
        "a cause: prompts of one task share their start as well.",
    )


def spot(subject: Subject) -> Section:
    """Is a prompt of another task a better start than words?"""
    curves = pd.read_csv(zoo.SPOT)
    last = curves["step"].max()
    gain = reading.transfer_gain(curves, "from complaint", "text")
    loss = gain[gain["measure"] == "validation_loss"].set_index("step")
    value = curves[curves["measure"] == "validation_loss"].groupby(["step", "kind"])["value"].mean()
    early, end = loss.index.min(), loss.loc[last]
    return Section(
        "Start from another task's prompt (SPoT)",
        plots.transfer_curves(curves, ["loss", "validation_loss", "validation_accuracy"]),
        "a start of words that name the task, a start of random vectors.",
        f"Tone learned from the complaint prompt has a validation loss of {value[early, 'from complaint']:.2f} nats at "
        f"step {early}, from words {value[early, 'text']:.2f}, from random vectors {value[early, 'random']:.2f}. At "
        f"step {last} the gain over words is {-end['mean']:.2f} (standard deviation {end['deviation']:.2f}, "
        f"{end['runs']:.0f} seeds).",
        "much, with so few seeds: the benchmark of transfer has its test accuracies, which are alike.",
    )


def family(
    subject: Subject,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, str]]:
    """All prompts of the subject's shape, their starts and their tasks, by name."""
    runs = {subject.run.name: subject.run, **subject.free}
    prompts = {name: run.model.prompt.detach().float().cpu() for name, run in runs.items()}
    runs = {name: run for name, run in runs.items() if prompts[name].shape == subject.prompt.shape}
    starts = {name: run.start.float() for name, run in runs.items() if run.start is not None}
    return (
        {name: prompts[name] for name in runs},
        starts,
        {name: run.task.name for name, run in runs.items()},
    )


@lru_cache(1)  # two instruments look at it
def _next_tokens(subject: Subject) -> pd.DataFrame:
    """How alike the prompts' next words are, behind the subject's own texts."""
    prompts, starts, _ = family(subject)
    run = subject.run
    return reading.next_token_similarity(
        run.model, run.task, prompts, starts, split=SPLIT, limit=subject.limit
    )


def _relations(table: pd.DataFrame, task_of: Mapping[str, str], measure: str) -> pd.Series:
    """Mean by kind and relation of one measure."""
    found = reading.by_relation(table, task_of)
    return found[found["measure"] == measure].set_index(["kind", "relation"])["mean"]
