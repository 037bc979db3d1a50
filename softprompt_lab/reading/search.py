"""Exact search of a vocabulary: the k nearest word embeddings of every virtual token, by any metric.

The scores are one matrix product in float64, a part of the vocabulary at a time.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int

Metric = Literal["cosine", "l2", "dot"]
METRICS: tuple[Metric, ...] = ("cosine", "l2", "dot")
CHUNK = 512  # rows of the vocabulary at a time: 4 MB at width 1,024 in float64, which stay in the processor's cache
TINY = 1e-12  # a vector shorter than this has cosine 0 with everything


def check_vectors(prompt: torch.Tensor, word_embeddings: torch.Tensor, k: int, metric: str) -> None:
    """Raise ValueError unless (P, D) and (V, D) fit each other, the prompt is finite, and k and metric exist."""
    shapes = tuple(prompt.shape), tuple(word_embeddings.shape)
    if [*map(len, shapes)] != [2, 2] or not len(prompt) or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            f"the prompt has shape {shapes[0]}, the word embeddings {shapes[1]}; they must be (P, D) and (V, D) of one "
            "base model."
        )
    if not prompt.isfinite().all():
        raise ValueError(
            "the prompt holds values that are not finite; train with a smaller learning rate."
        )
    if not 1 <= k <= shapes[1][0]:
        raise ValueError(f"k is {k}; it must be from 1 to the vocabulary's size, {shapes[1][0]}.")
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; choose one of {', '.join(METRICS)}.")


def nearest(
    prompt: Float[torch.Tensor, "P D"],
    word_embeddings: Float[torch.Tensor, "V D"],
    k: int = 5,
    metric: Metric = "cosine",
    centered: bool = False,
    standardised: bool = False,
) -> tuple[Float[torch.Tensor, "P k"], Int[torch.Tensor, "P k"]]:
    """Return scores and ids of the k nearest word embeddings, exactly; of equal scores the lower id is first.

    Exactly: the order is that of scores computed in float64 and rounded to float32. A vector of zeros has cosine 0 with
    everything. `centered` takes the vocabulary's mean from both sides first; `standardised` divides by each dimension's
    standard deviation over the vocabulary as well, so it is centred already (Timkey and van Schijndel 2021, arXiv
    2109.04404: a few dimensions with a large mean or spread decide every cosine).

    Raises:
        ValueError: shapes, numbers, k or metric that cannot be.
    """
    check_vectors(prompt, word_embeddings, k, metric)
    words = word_embeddings.detach()
    words = words.cpu() if words.device.type == "mps" else words  # Apple GPUs have no float64
    chunks, mean, deviation = words.split(CHUNK), 0.0, 1.0
    if centered or standardised:
        mean = sum(chunk.double().sum(0) for chunk in chunks) / len(words)  # (D,)
    if standardised:
        square = sum((chunk.double() - mean).square().sum(0) for chunk in chunks) / len(words)
        deviation = square.sqrt().where(square > 0, 1.0)  # (D,), 1 where all words are the same

    def scaled(vectors: torch.Tensor) -> torch.Tensor:
        vectors = vectors.to(words.device, torch.float64)
        vectors = vectors - mean if centered or standardised else vectors
        return vectors / deviation if standardised else vectors

    queries, ids = scaled(prompt.detach()), torch.arange(len(words), device=words.device)
    best, found = queries.new_zeros(len(prompt), 0).float(), ids.new_zeros(len(prompt), 0)
    for chunk, numbers in zip(chunks, ids.split(CHUNK), strict=True):
        scores = _closeness(queries, scaled(chunk), metric)
        if best.shape[1] == k:  # of equal scores the earlier id stays
            better = (scores > best[:, -1:]).any(dim=0)
            scores, numbers = scores[:, better], numbers[better]
        best, order = torch.cat([best, scores], dim=1).sort(dim=1, descending=True, stable=True)
        best, order = best[:, :k], order[:, :k]
        found = torch.cat([found, numbers.expand(len(prompt), -1)], dim=1).gather(1, order)
    return (-best if metric == "l2" else best).to(prompt.device), found.to(prompt.device)


def _closeness(
    queries: Float[torch.Tensor, "P D"], words: Float[torch.Tensor, "C D"], metric: str
) -> Float[torch.Tensor, "P C"]:
    """Return how near each word is to each query, in float32, nearer ones larger: a distance with its sign changed."""
    if metric == "l2":
        return -torch.cdist(queries, words, compute_mode="use_mm_for_euclid_dist").float()
    products = queries @ words.T
    if metric == "cosine":
        products /= queries.norm(dim=1, keepdim=True).clamp(min=TINY)
        products /= words.norm(dim=1).clamp(min=TINY)
    return products.float().nan_to_num_(-torch.inf, neginf=-torch.inf)  # infinite words say nothing
