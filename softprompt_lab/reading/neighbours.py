"""What stands nearest to a virtual token: words by rank, controls that give a rank a meaning, the way there.

Khashabi et al. 2022 (arXiv 2112.08348) warn that the nearest words of a prompt need not tell what it does:
read every table beside `random_control` and beside the start.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

Metric = Literal["cosine", "l2", "dot"]
METRICS: tuple[Metric, ...] = ("cosine", "l2", "dot")
CONTROL_SEED = 7_046_029_254  # far from the seeds that start a prompt
CHUNK = 8_192  # rows of the vocabulary that are compared at a time: 16 MB at width 512


def _check(prompt: torch.Tensor, word_embeddings: torch.Tensor, k: int = 1, metric: str = "cosine") -> None:
    """Raise ValueError unless (P, D) and (V, D) fit each other and are finite, and k and metric exist."""
    for name, tensor in (("prompt", prompt), ("word_embeddings", word_embeddings)):
        if tensor.ndim != 2 or 0 in tensor.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must be two-dimensional and not empty.")
        if not torch.isfinite(tensor.sum(dtype=torch.float64)):  # one pass; a sum keeps a NaN or an infinity
            bad = int((~torch.isfinite(tensor)).sum())
            raise ValueError(f"{name} holds {bad} values that are not finite; train with a smaller learning rate.")
    if prompt.shape[1] != word_embeddings.shape[1]:
        raise ValueError(
            f"the prompt is {prompt.shape[1]} wide, the word embeddings {word_embeddings.shape[1]}: "
            "they belong to different base models."
        )
    if not 1 <= k <= word_embeddings.shape[0]:
        raise ValueError(f"k is {k}; it must be from 1 to the vocabulary's size, {word_embeddings.shape[0]}.")
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; choose one of {', '.join(METRICS)}.")


def readable_token(token_id: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a token as one word to look at: a space as ·, other white space and control signs as escapes.

    Ids behind the tokenizer's last one (many models pad their vocabulary) become `<id>`.
    """
    piece = tokenizer.convert_ids_to_tokens(token_id)
    if piece is None:
        return f"<{token_id}>"
    text = piece.replace("▁", " ") if "▁" in piece else tokenizer.decode([token_id])
    if "\ufffd" in text or not text:  # part of a character: show the piece itself
        text = piece
    shown = (c if c.isprintable() or c == " " else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown).replace(" ", "·")


def _chunks(
    prompt: Float[torch.Tensor, "P D"],
    word_embeddings: Float[torch.Tensor, "V D"],
    metric: str,
    centered: bool,
) -> Iterator[Float[torch.Tensor, "P _"]]:
    """Yield the scores of all virtual tokens against the next rows of the vocabulary, in float32."""
    mean = torch.zeros(prompt.shape[1], device=prompt.device)
    if centered:
        mean = sum(chunk.float().sum(0) for chunk in word_embeddings.split(CHUNK)) / len(word_embeddings)
    queries = prompt.float() - mean  # (P, D)
    for chunk in word_embeddings.split(CHUNK):
        words = chunk.float() - mean  # (chunk, D)
        if metric == "l2":
            yield torch.cdist(queries, words, compute_mode="donot_use_mm_for_euclid_dist")
        elif metric == "cosine":
            yield functional.normalize(queries, dim=-1) @ functional.normalize(words, dim=-1).T
        else:
            yield queries @ words.T


def nearest(
    prompt: Float[torch.Tensor, "P D"],
    word_embeddings: Float[torch.Tensor, "V D"],
    k: int = 5,
    metric: Metric = "cosine",
    centered: bool = False,
) -> tuple[Float[torch.Tensor, "P k"], Int[torch.Tensor, "P k"]]:
    """Return scores and ids of the k nearest word embeddings, exactly; of equal scores the lower id is first.

    A vector of zeros has cosine 0 with everything.

    Raises:
        ValueError: shapes, numbers, k or metric that cannot be.
    """
    _check(prompt, word_embeddings, k, metric)
    prompt, word_embeddings = prompt.detach(), word_embeddings.detach().to(prompt.device)
    best = torch.empty(len(prompt), 0, device=prompt.device)
    ids = torch.empty(len(prompt), 0, dtype=torch.long, device=prompt.device)
    first = 0
    for scores in _chunks(prompt, word_embeddings, metric, centered):
        here = torch.arange(first, first + scores.shape[1], device=prompt.device).expand(len(prompt), -1)
        first += scores.shape[1]
        best, order = torch.cat([best, scores], 1).sort(dim=1, descending=metric != "l2", stable=True)
        best, ids = best[:, :k], torch.cat([ids, here], 1).gather(1, order[:, :k])
    return best, ids


def nearest_tokens(
    prompt: Float[torch.Tensor, "P D"],
    word_embeddings: Float[torch.Tensor, "V D"],
    tokenizer: PreTrainedTokenizerBase,
    k: int = 5,
    metric: Metric = "cosine",
    centered: bool = False,
) -> pd.DataFrame:
    """Return the k nearest tokens of every virtual token as a long table.

    Columns: virtual_token, rank (from 1), token_id, token, score. `metric`: "cosine" and "dot" (larger is
    nearer), "l2" (the distance: smaller is nearer). `centered` takes the vocabulary's mean from both sides
    first. `neighbour_table` makes it one row a virtual token.

    Raises:
        ValueError: shapes, numbers, k or metric that cannot be.
    """
    scores, ids = nearest(prompt, word_embeddings, k, metric, centered)
    rows = [
        (virtual_token, rank + 1, token_id, readable_token(token_id, tokenizer), score)
        for virtual_token, (row_ids, row_scores) in enumerate(zip(ids.tolist(), scores.tolist(), strict=True))
        for rank, (token_id, score) in enumerate(zip(row_ids, row_scores, strict=True))
    ]
    return pd.DataFrame(rows, columns=["virtual_token", "rank", "token_id", "token", "score"])


def neighbour_table(frame: pd.DataFrame, decimals: int = 2) -> pd.DataFrame:
    """Return `nearest_tokens` for reading: one row a virtual token, columns 1 to k, cells "token score"."""
    cells = frame["token"] + " " + frame["score"].map(f"{{:.{decimals}f}}".format)
    wide = frame.assign(cell=cells).pivot(index="virtual_token", columns="rank", values="cell")
    return wide.rename_axis(index="virtual token", columns="rank")


# --- controls and measures ----------------------------------------------------------------------------------


def random_control(
    prompt: Float[torch.Tensor, "P D"], seed: int = 0, around: Float[torch.Tensor, " D"] | None = None
) -> Float[torch.Tensor, "P D"]:
    """Return vectors of random direction whose norms are the prompt's: what chance alone is near to.

    `around` is the point whose distance is kept, zero where it is None. A reading with `centered=True` needs the
    vocabulary's mean: centred, a vector that is random around zero is mostly minus the mean.

    The draw is not that of `torch.manual_seed(seed)`, which may have made the prompt's own RANDOM start.
    """
    generator = torch.Generator().manual_seed(CONTROL_SEED + seed)
    directions = functional.normalize(torch.randn(prompt.shape, generator=generator), dim=-1).to(prompt.device)
    centre = 0.0 if around is None else around.detach().float().to(prompt.device)
    return centre + directions * (prompt.detach().float() - centre).norm(dim=-1, keepdim=True)


def norms(vectors: Float[torch.Tensor, "N D"]) -> Float[torch.Tensor, " N"]:
    """Return the L2 norm of each row."""
    return vectors.detach().float().norm(dim=-1)


def vocabulary_norms(
    word_embeddings: Float[torch.Tensor, "V D"],
    quantiles: Sequence[float] = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0),
) -> pd.Series:
    """Return quantiles of the norms of all word embeddings: the scale that a start should have."""
    values = pd.Series(norms(word_embeddings).cpu().numpy(), name="norm").quantile(list(quantiles))
    return values.rename_axis("quantile")


def _ordered(snapshots: Mapping[int, torch.Tensor]) -> list[tuple[int, torch.Tensor]]:
    """Return snapshots by step as float32, or raise ValueError when there is none or their shapes differ."""
    ordered = [(step, snapshots[step].detach().float()) for step in sorted(snapshots)]
    shapes = {tuple(tensor.shape) for _, tensor in ordered}
    if len(shapes) != 1:
        raise ValueError(f"snapshots must be one or more prompts of one shape (P, D); got {sorted(shapes)}.")
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


# --- through training ---------------------------------------------------------------------------------------


def trajectory(
    snapshots: Mapping[int, Float[torch.Tensor, "P D"]],
    word_embeddings: Float[torch.Tensor, "V D"],
    tokenizer: PreTrainedTokenizerBase,
    metric: Metric = "cosine",
    centered: bool = False,
) -> pd.DataFrame:
    """Return for every snapshot and virtual token the nearest token, the norm, and how far the start is.

    Columns: step, virtual_token, token_id, token, score, norm, cosine and distance (both to the start).
    """
    parts = []
    for step, prompt in _ordered(snapshots):
        frame = nearest_tokens(prompt, word_embeddings, tokenizer, 1, metric, centered).drop(columns="rank")
        frame.insert(0, "step", step)
        parts.append(frame.assign(norm=norms(prompt).cpu().numpy()))
    return pd.concat(parts, ignore_index=True).merge(similarity_to_start(snapshots), on=["step", "virtual_token"])


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
    _check(ordered[0][1], word_embeddings)
    every = torch.cat([prompt for _, prompt in ordered]).double().cpu()  # (S*P, D)
    moves = every - ordered[0][1].double().cpu().repeat(len(ordered), 1)  # (S*P, D)
    _, spread, directions = torch.linalg.svd(moves, full_matrices=False)
    axes = functional.pad(directions, (0, 0, 0, 2))[:2]  # (2, D), zeros where there are fewer directions
    shares = functional.pad(spread.square(), (0, 2))[:2] / max(float(spread.square().sum()), 1e-30)
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()  # one of the two mirror images
    ids = torch.randperm(len(word_embeddings), generator=torch.Generator().manual_seed(seed))[:words]
    sampled = word_embeddings.detach()[ids.to(word_embeddings.device)].double().cpu() @ axes.T  # (words, 2)
    flat = every @ axes.T  # (S*P, 2)
    labels = [(step, virtual_token) for step, prompt in ordered for virtual_token in range(len(prompt))]
    points = pd.DataFrame(labels, columns=["step", "virtual_token"])
    return Projection(
        points.assign(x=flat[:, 0].numpy(), y=flat[:, 1].numpy()),
        pd.DataFrame({"token_id": ids.numpy(), "x": sampled[:, 0].numpy(), "y": sampled[:, 1].numpy()}),
        (float(shares[0]), float(shares[1])),
    )
