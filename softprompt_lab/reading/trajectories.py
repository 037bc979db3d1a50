"""The way a prompt took through training: what it says at each snapshot, how far it went, where it lies in a plane.

A prompt that stays near its start may have had no time to leave: `random_walk_control` goes steps of the same lengths
in random directions and says how near chance would have stayed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from .neighbours import CONTROL_SEED, nearest_tokens, norms

RANDOM_WALK = "random walk"  # the kind of the control's rows
WORDS_DRAWN = 500  # behind the way in two dimensions


def _stacked(
    snapshots: Mapping[int, torch.Tensor],
) -> tuple[Float[torch.Tensor, "S P D"], pd.DataFrame]:
    """Return snapshots by step in float32, and the step and virtual_token of each vector."""
    steps = sorted(snapshots)
    vectors = torch.stack([snapshots[step].detach().float() for step in steps])
    names = ["step", "virtual_token"]
    labels = pd.MultiIndex.from_product([steps, range(vectors.shape[1])], names=names)
    return vectors, labels.to_frame(index=False)


def similarity_to_start(snapshots: Mapping[int, Float[torch.Tensor, "P D"]]) -> pd.DataFrame:
    """Return step, virtual_token, cosine with and L2 distance from the first snapshot, for every snapshot."""
    vectors, labels = _stacked(snapshots)
    cosines = functional.cosine_similarity(vectors, vectors[:1], dim=-1)  # (S, P)
    distances = (vectors - vectors[0]).norm(dim=-1)
    return labels.assign(
        cosine=cosines.flatten().cpu().numpy(), distance=distances.flatten().cpu().numpy()
    )


def random_walk_control(
    snapshots: Mapping[int, Float[torch.Tensor, "P D"]], seed: int = 0
) -> dict[int, Float[torch.Tensor, "P D"]]:
    """Return a walk from the same start whose every step is as long as the prompt's, virtual token by virtual token.

    The directions are random. In D dimensions they hardly meet, so after steps of lengths s the walk is about
    sqrt(sum of s squared) away from its start, a prompt that always goes the same way sum of s. A step is the way
    between two snapshots: with more of them the walk has more turns and stays nearer.
    """
    vectors, _ = _stacked(snapshots)
    generator = torch.Generator().manual_seed(CONTROL_SEED + seed)
    drawn = [torch.randn(vectors.shape[1:], generator=generator) for _ in vectors[1:]]
    walk = [vectors[0]]
    for directions, moved in zip(drawn, vectors.diff(dim=0), strict=True):
        directions = functional.normalize(directions, dim=-1).to(vectors.device)
        walk.append(walk[-1] + directions * moved.norm(dim=-1, keepdim=True))
    return dict(zip(sorted(snapshots), walk, strict=True))


def trajectory(
    snapshots: Mapping[int, Float[torch.Tensor, "P D"]],
    word_embeddings: Float[torch.Tensor, "V D"],
    tokenizer: PreTrainedTokenizerBase,
) -> pd.DataFrame:
    """Return for every snapshot and virtual token the nearest token by cosine, the norm, and how far the start is.

    Columns: step, virtual_token, token_id, token, score, norm, cosine and distance (both to the start).
    """
    vectors, labels = _stacked(snapshots)
    every = vectors.flatten(0, 1)  # (S*P, D): one pass over the vocabulary for all of them
    frame = nearest_tokens(every, word_embeddings, tokenizer, 1)
    frame = frame[["token_id", "token", "score"]].assign(norm=norms(every).cpu().numpy())
    way = similarity_to_start(snapshots)[["cosine", "distance"]]
    return pd.concat([labels, frame, way], axis=1)


def trajectories_of(
    runs: Mapping[str, Mapping[int, Float[torch.Tensor, "_ D"]]],
    word_embeddings: Float[torch.Tensor, "V D"],
    tokenizer: PreTrainedTokenizerBase,
) -> pd.DataFrame:
    """Return the trajectories of several runs and of a random walk beside the first of them, as one long table.

    `runs`: kind -> snapshots, as {"prompt": history.snapshots, "other seed": other.snapshots}. Columns: kind, then
    those of `trajectory`; the walk's kind is "random walk". What can be seen: whether a prompt goes farther, and keeps
    the words of its start longer, than chance of the same step lengths. Not: whether the way made it better.
    """
    every = {**runs, RANDOM_WALK: random_walk_control(next(iter(runs.values())))}
    frames = {kind: trajectory(each, word_embeddings, tokenizer) for kind, each in every.items()}
    return pd.concat(frames, names=["kind"]).droplevel(1).reset_index()


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
) -> Projection:
    """Project snapshots and a sample of `WORDS_DRAWN` words on the two directions in which the prompt moves most.

    The directions are the first two singular vectors of all ways from the start (PCA without centring). The
    words are seen along them too, so two points that look near in the picture need not be near.
    """
    vectors, labels = _stacked(snapshots)
    vectors = vectors.double().cpu()
    _, spread, directions = torch.linalg.svd(
        (vectors - vectors[0]).flatten(0, 1), full_matrices=False
    )
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    axes = (directions * largest.sign())[:2]  # (2, D); one of the two mirror images of each
    shares = spread.square() / spread.square().sum().clamp(min=1e-30)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randperm(len(word_embeddings), generator=generator)[:WORDS_DRAWN]
    sampled = word_embeddings.detach()[ids.to(word_embeddings.device)].double().cpu()
    x, y = (vectors.flatten(0, 1) @ axes.T).T.numpy()  # (2, S*P)
    words_x, words_y = (sampled @ axes.T).T.numpy()
    return Projection(
        labels.assign(x=x, y=y),
        pd.DataFrame({"token_id": ids.numpy(), "x": words_x, "y": words_y}),
        tuple(shares[:2].tolist()),
    )
