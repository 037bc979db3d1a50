"""The prompt beside others of other seeds and tasks."""

from functools import lru_cache

import pandas as pd

from .. import plots, reading
from .section import Mark, Measured, Subject, instrument

TEXTS = 16  # behind which the next words of all prompts are compared


@instrument
def similarity(subject: Subject) -> Measured:
    """Are prompts of one task near each other?"""
    measure = "aligned cosine"
    table = _nearness(subject)
    found = _relations(subject, table, measure)
    own = found["lowest"].loc["same task", "movement"]
    mark = Mark.of(own > found["highest"].loc["other task", "movement"])
    return plots.similarity_matrices(table, measure), found | {"mark": mark}


@instrument
def behaviour(subject: Subject) -> Measured:
    """Do prompts of one task do the same?"""
    table = _next_tokens(subject)
    numbers = _relations(subject, table, "divergence") | {"texts": min(TEXTS, subject.rows)}
    return plots.similarity_matrices(table, "divergence"), numbers


def _nearness(subject: Subject) -> pd.DataFrame:
    """Return how near the prompts' vectors are."""
    family = subject.family
    return reading.vector_similarity(family.prompts, family.starts, subject.words)


@lru_cache(1)  # two instruments look at it
def _next_tokens(subject: Subject) -> pd.DataFrame:
    """Return how alike the prompts' next words are, behind the subject's own texts."""
    family = subject.family
    texts = {"split": "test", "limit": min(TEXTS, subject.rows)}
    run, given = subject.run, (family.prompts, family.starts)
    return reading.next_token_similarity(run.model, run.task, *given, **texts)


def _relations(subject: Subject, table: pd.DataFrame, measure: str) -> dict[str, pd.DataFrame]:
    """Return mean, lowest and highest of one measure, each by relation (rows) and kind (columns)."""
    found = reading.by_relation(table, subject.family.tasks)
    found = found[found["measure"] == measure]
    found = found.set_index(["relation", "kind"])
    return {name: found[name].unstack() for name in ("mean", "lowest", "highest")}
