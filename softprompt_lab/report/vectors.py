"""The vectors alone: nearest words, norms, the way through training."""

from functools import lru_cache

import pandas as pd

from .. import plots, reading
from .section import Section, Subject


def neighbours(subject: Subject) -> Section:
    """Which words are nearest to the virtual tokens?"""
    tokenizer = subject.run.model.tokenizer
    table = reading.nearest_tokens_of(subject.kinds, subject.words, tokenizer, k=3)
    frames = {kind: frame.drop(columns="kind") for kind, frame in table.groupby("kind", sort=False)}
    first = table[table["rank"] == 1].set_index(["kind", "virtual_token"])
    mean = first["score"].groupby("kind").mean()
    kept = (first.loc["prompt", "token_id"] == first.loc["start", "token_id"]).sum()
    return Section(
        "Nearest words",
        plots.neighbour_figure(frames, k=3 if len(frames) < 4 else 2),
        "the start, another seed's prompt, random vectors of the same norms.",
        f"{kept} of {len(subject.prompt)} virtual tokens still have the word of their start for their nearest; the "
        f"mean cosine is {mean['prompt']:.2f}, that of random vectors {mean['random']:.2f}.",
        "that these words do what the prompt does: see the discretisation gap.",
    )


def metric_agreement(subject: Subject) -> Section:
    """Do the nearest words depend on the metric?"""
    table = reading.metric_agreement(subject.kinds, subject.words)
    mean = table[table["one"] != table["other"]].groupby("kind", sort=False)["agreement"].mean()
    rest = ", ".join(f"{kind} {value:.0%}" for kind, value in mean.items() if kind != "prompt")
    return Section(
        "Agreement of metrics",
        plots.metric_agreement_figure(table),
        "the start, random vectors, words of the vocabulary.",
        f"Two metrics share {mean['prompt']:.0%} of the ten nearest words of this prompt on average ({rest}).",
        "which metric is right: there is no such thing.",
    )


def purity(subject: Subject) -> Section:
    """Do the nearest words of a virtual token belong together?"""
    table = reading.cluster_purity(subject.kinds, subject.words, subject.run.model.tokenizer)
    mean = table.groupby("kind", sort=False)["cosine"].mean()
    rest = ", ".join(f"{kind} {value:.2f}" for kind, value in mean.items() if kind != "prompt")
    return Section(
        "Cluster purity",
        plots.cluster_purity_figure(table),
        "the start, random vectors (from below), words and their own neighbours (from above).",
        f"The five nearest words of a virtual token have a mean cosine of {mean['prompt']:.2f} with each other "
        f"({rest}).",
        "that training made the clusters: a start of words has them too.",
    )


def norm_quantiles(subject: Subject) -> Section:
    """Are the virtual tokens as long as words?"""
    table = reading.norms_table(subject.kinds, subject.words)
    own, start = (table[table["kind"] == kind] for kind in ("prompt", "start"))
    longer = (own["quantile"] >= 1).sum()
    return Section(
        "Norms",
        plots.norms_figure(table),
        "the start, words of the vocabulary, PEFT's N(0, 1) start.",
        f"The mean norm went from {start['norm'].mean():.2f} to {own['norm'].mean():.2f}; {longer} of {len(own)} "
        "virtual tokens are longer than every word.",
        "whether the length matters: see scaling.",
    )


def way(subject: Subject) -> Section:
    """How far did training move them?"""
    table = _trajectories(subject)
    last = (
        table[table["step"] == table["step"].max()].groupby("kind")[["distance", "cosine"]].median()
    )
    return Section(
        "Movement",
        plots.movement_figure(table),
        "a random walk whose steps are as long as the prompt's.",
        f"At the end a virtual token is {last.loc['prompt', 'distance']:.2f} away from its start (median), the random "
        f"walk {last.loc['random walk', 'distance']:.2f}; the cosine with the start is "
        f"{last.loc['prompt', 'cosine']:.2f}, the walk's {last.loc['random walk', 'cosine']:.2f}.",
        "that a longer way is a better one.",
    )


def way_in_words(subject: Subject) -> Section:
    """When did their nearest words change?"""
    table = _trajectories(subject)
    ends = table[table["step"].isin([table["step"].min(), table["step"].max()])]
    changed = (
        ends.groupby(["kind", "virtual_token"])["token_id"].nunique().gt(1).groupby("kind").sum()
    )
    return Section(
        "Nearest words through training",
        plots.trajectory_words_figure(table),
        "the random walk of the same step lengths.",
        f"{changed['prompt']} of {len(subject.prompt)} virtual tokens end nearest to another word than they began "
        f"with; in the random walk {changed['random walk']}.",
        "what happened between two snapshots.",
    )


@lru_cache(1)  # two instruments look at it
def _trajectories(subject: Subject) -> pd.DataFrame:
    """The prompt's way, the other seed's and the random walk's."""
    runs = {"prompt": subject.run.snapshots}
    if subject.other_seed is not None:
        runs["other seed"] = subject.other_seed.snapshots
    return reading.trajectories_of(runs, subject.words, subject.run.model.tokenizer)


def animation(subject: Subject) -> Section:
    """What does the way look like in two dimensions?"""
    seen = reading.project(subject.run.snapshots, subject.words)
    return Section(
        "The way in two dimensions",
        plots.animate_trajectory(seen.points, seen.backdrop),
        "500 words of the vocabulary in the same two directions.",
        f"The two directions hold {sum(seen.explained):.0%} of the prompt's movement.",
        f"nearness: the other {1 - sum(seen.explained):.0%} is not drawn, and of the words nearly nothing is.",
    )
