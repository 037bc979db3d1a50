"""The vectors alone: nearest words, norms, the way through training."""

from functools import lru_cache

import pandas as pd
import torch

from .. import plots, reading
from .section import DRAWS, Mark, Measured, Subject, instrument


@instrument
def neighbours(subject: Subject) -> Measured:
    """Which words are nearest to the virtual tokens?"""
    tokenizer = subject.run.model.tokenizer
    table = reading.nearest_tokens_of(subject.kinds, subject.words, tokenizer, k=3)
    frames = dict(iter(table.groupby("kind", sort=False)))
    first = table[table["rank"] == 1].set_index(["kind", "virtual_token"])
    kept = (first.loc["prompt", "token_id"] == first.loc["start", "token_id"]).sum()
    figure = plots.neighbour_figure(frames, k=3 if len(frames) < 4 else 2)
    mean = first["score"].groupby("kind").mean()
    drawn = torch.cat([reading.random_control(subject.prompt, draw) for draw in range(DRAWS)])
    chance = reading.nearest(drawn, subject.words)[0][:, 0].reshape(DRAWS, -1).mean(dim=1)
    mark = Mark.of(mean["prompt"] > max(mean["start"], chance.max()))
    return figure, {"kept": kept, "mean": mean, "mark": mark}


@instrument
def norm_quantiles(subject: Subject) -> Measured:
    """Are the virtual tokens as long as words?"""
    table = reading.norms_table(subject.kinds, subject.words)
    longer = (table.loc[table["kind"] == "prompt", "quantile"] >= 1).sum()
    mean = table.groupby("kind")["norm"].mean()
    shares = {"quantile": "share of the word embeddings that are no longer"}
    return plots.marks_figure(table, shares), {"mean": mean, "longer": longer}


@instrument
def way(subject: Subject) -> Measured:
    """How far did training move them?"""
    table = _trajectories(subject)
    last = table[table["step"] == table["step"].max()]
    median = last.groupby("kind")[["distance", "cosine"]].median()
    start, walks = _walks(subject)
    farthest = (walks - start).norm(dim=-1).quantile(0.5, dim=1).max()
    mark = Mark.of(median.loc["prompt", "distance"] > farthest)
    return plots.movement_figure(table), {"last": median, "mark": mark}


@instrument
def way_in_words(subject: Subject) -> Measured:
    """When did their nearest words change?"""
    table = _trajectories(subject)
    ends = table[table["step"].isin([table["step"].min(), table["step"].max()])]
    changed = ends.groupby(["kind", "virtual_token"])["token_id"].nunique().gt(1)
    changed = changed.groupby("kind").sum()
    start, walks = _walks(subject)
    words = reading.nearest(torch.cat([start[None], walks]).flatten(0, 1), subject.words)[1]
    first, *others = words.reshape(-1, len(start))
    mark = Mark.of(changed["prompt"] > max((other != first).sum() for other in others))
    return plots.trajectory_words_figure(table), {"changed": changed, "mark": mark}


@lru_cache(1)  # two instruments look at it
def _walks(subject: Subject) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the prompt's way begins, (P, D), and where random walks of its steps end, (DRAWS, P, D)."""
    way = subject.run.snapshots
    walks = [reading.random_walk_control(way, draw) for draw in range(DRAWS)]
    return way[min(way)].float(), torch.stack([walk[max(way)] for walk in walks])


@lru_cache(1)  # two instruments look at it
def _trajectories(subject: Subject) -> pd.DataFrame:
    """Return the prompt's way, the other seed's and the random walk's."""
    runs = {"prompt": subject.run.snapshots}
    if subject.other_seed is not None:
        runs["other seed"] = subject.other_seed.snapshots
    return reading.trajectories_of(runs, subject.words, subject.run.model.tokenizer)


@instrument
def animation(subject: Subject) -> Measured:
    """What does the way look like in two dimensions?"""
    plane = reading.project(subject.run.snapshots, subject.words)
    seen = sum(plane.explained)
    return plots.animate_trajectory(plane.points, plane.backdrop), {"seen": seen, "rest": 1 - seen}
