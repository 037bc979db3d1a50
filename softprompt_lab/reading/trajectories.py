"""The way a prompt took through training: what it says at each snapshot, how far it went, where it lies in a plane.

A prompt that stays near its start may have had no time to leave: `random_walk_control` goes steps of the same lengths
in random directions and says how near chance would have stayed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd
import torch
from jaxtyping import Float
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from .neighbours import CONTROL_SEED, nearest_tokens, norms
from .search import Metric, check_vectors

RANDOM_WALK = "random walk"  # the kind of the control's rows


def _ordered(snapshots: Mapping[int, torch.Tensor]) -> list[tuple[int, torch.Tensor]]:
    """Return snapshots by step as float32, or raise ValueError when there is none or their shapes differ."""
    ordered = [(step, snapshots[step].detach().float()) for step in sorted(snapshots)]
    shapes = {tuple(tensor.shape) for _, tensor in ordered}
    if len(shapes) != 1:
        raise ValueError(
            f"snapshots must be one or more prompts of one shape (P, D); got {sorted(shapes)}."
        )
    return ordered


def similarity_to_start(snapshots: Mapping[int, Float[torch.Tensor, "P D"]]) -> pd.DataFrame:
    """Return step, virtual_token, cosine with and L2 distance from the first snapshot, for every snapshot."""
    ordered = _ordered(snapshots)
    start = ordered[0][1]
    parts = [
        pd.DataFrame(
            {
                "step": step,
                "virtual_token": range(len(prompt)),
                "cosine": functional.cosine_similarity(prompt, start, dim=-1).cpu().numpy(),
                "distance": (prompt - start).norm(dim=-1).cpu().numpy(),
            }
        )
        for step, prompt in ordered
    ]
    return pd.concat(parts, ignore_index=True)


def random_walk_control(
    snapshots: Mapping[int, Float[torch.Tensor, "P D"]], seed: int = 0
) -> dict[int, Float[torch.Tensor, "P D"]]:
    """Return a walk from the same start whose every step is as long as the prompt's, virtual token by virtual token.

    The directions are random. In D dimensions they hardly meet, so after steps of lengths s the walk is about
    sqrt(sum of s squared) away from its start, a prompt that always goes the same way sum of s. A step is the way
    between two snapshots: with more of them the walk has more turns and stays nearer.
    """
    ordered = _ordered(snapshots)
    generator = torch.Generator().manual_seed(CONTROL_SEED + seed)
    (first, here), walk = ordered[0], {}
    walk[first] = here
    for (_, before), (step, after) in pairwise(ordered):
        directions = functional.normalize(
            torch.randn(before.shape, generator=generator), dim=-1
        ).to(before.device)
        here = here + directions * (after - before).norm(dim=-1, keepdim=True)
        walk[step] = here
    return walk


def trajectory(
    snapshots: Mapping[int, Float[torch.Tensor, "P D"]],
    word_embeddings: Float[torch.Tensor, "V D"],
    tokenizer: PreTrainedTokenizerBase,
    metric: Metric = "cosine",
    centered: bool = False,
    standardised: bool = False,
) -> pd.DataFrame:
    """Return for every snapshot and virtual token the nearest token, the norm, and how far the start is.

    Columns: step, virtual_token, token_id, token, score, norm, cosine and distance (both to the start).
    """
    ordered = _ordered(snapshots)
    every = torch.cat(
        [prompt for _, prompt in ordered]
    )  # (S*P, D): one pass over the vocabulary for all of them
    frame = nearest_tokens(every, word_embeddings, tokenizer, 1, metric, centered, standardised)
    rows = len(ordered[0][1])
    frame["virtual_token"] %= rows
    frame.insert(0, "step", [step for step, _ in ordered for _ in range(rows)])
    frame = frame.drop(columns="rank").assign(norm=norms(every).cpu().numpy())
    return frame.merge(similarity_to_start(snapshots), on=["step", "virtual_token"])


def trajectories_of(
    runs: Mapping[str, Mapping[int, Float[torch.Tensor, "_ D"]]],
    word_embeddings: Float[torch.Tensor, "V D"],
    tokenizer: PreTrainedTokenizerBase,
    metric: Metric = "cosine",
    centered: bool = False,
    standardised: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the trajectories of several runs and of a random walk beside the first of them, as one long table.

    `runs`: kind -> snapshots, as {"prompt": history.snapshots, "other seed": other.snapshots}. Columns: kind, then
    those of `trajectory`; the walk's kind is "random walk". What can be seen: whether a prompt goes farther, and keeps
    the words of its start longer, than chance of the same step lengths. Not: whether the way made it better.

    Raises:
        ValueError: no run, or snapshots of several shapes.
    """
    if not runs:
        raise ValueError("there is no run; give at least one, as {'prompt': history.snapshots}.")
    walk = random_walk_control(next(iter(runs.values())), seed)
    reading = (word_embeddings, tokenizer, metric, centered, standardised)
    parts = [
        trajectory(each, *reading).assign(kind=kind)
        for kind, each in {**runs, RANDOM_WALK: walk}.items()
    ]
    frame = pd.concat(parts, ignore_index=True)
    return frame[["kind", *frame.columns.drop("kind")]]


# --- in two dimensions --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Projection:
    """Snapshots and words in two dimensions."""

    points: pd.DataFrame  # step, virtual_token, x, y
    backdrop: pd.DataFrame  # token_id, x, y of sampled word embeddings
    explained: tuple[float, float]  # share of the prompt's (squared) movement in each direction


def project(
    snapshots: Mapping[int, Float[torch.Tensor, "P D"]],
    word_embeddings: Float[torch.Tensor, "V D"],
    words: int = 500,
    seed: int = 0,
) -> Projection:
    """Project snapshots and a sample of words on the two directions in which the prompt moves most.

    The directions are the first two singular vectors of all ways from the start (PCA without centring). The
    words are seen along them too, so two points that look near in the picture need not be near.
    """
    ordered = _ordered(snapshots)
    check_vectors(ordered[0][1], word_embeddings)
    every = torch.cat([prompt for _, prompt in ordered]).double().cpu()  # (S*P, D)
    moves = every - ordered[0][1].double().cpu().repeat(len(ordered), 1)  # (S*P, D)
    _, spread, directions = torch.linalg.svd(moves, full_matrices=False)
    axes = functional.pad(directions, (0, 0, 0, 2))[
        :2
    ]  # (2, D), zeros where there are fewer directions
    shares = functional.pad(spread.square(), (0, 2))[:2] / max(float(spread.square().sum()), 1e-30)
    axes = (
        axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    )  # one of the two mirror images
    ids = torch.randperm(len(word_embeddings), generator=torch.Generator().manual_seed(seed))[
        :words
    ]
    sampled = (
        word_embeddings.detach()[ids.to(word_embeddings.device)].double().cpu() @ axes.T
    )  # (words, 2)
    flat = every @ axes.T  # (S*P, 2)
    labels = [
        (step, virtual_token) for step, prompt in ordered for virtual_token in range(len(prompt))
    ]
    points = pd.DataFrame(labels, columns=["step", "virtual_token"])
    return Projection(
        points.assign(x=flat[:, 0].numpy(), y=flat[:, 1].numpy()),
        pd.DataFrame(
            {"token_id": ids.numpy(), "x": sampled[:, 0].numpy(), "y": sampled[:, 1].numpy()}
        ),
        (float(shares[0]), float(shares[1])),
    )
