"""Exact search of a vocabulary: the k nearest word embeddings of every virtual token, by any metric.

The scores are one matrix product in float64, a part of the vocabulary at a time.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

Metric = Literal["cosine", "l2", "dot"]
METRICS: tuple[Metric, ...] = ("cosine", "l2", "dot")
CHUNK = 512  # rows of the vocabulary at a time: 4 MB at width 1,024 in float64, which stay in the processor's cache
TINY = 1e-12  # a vector shorter than this has cosine 0 with everything
# Of a squared distance, relative to the squared norms: nearer vectors are equal in float32.
RESOLUTION = 2.0**-44


def check_vectors(
    prompt: torch.Tensor, word_embeddings: torch.Tensor, k: int = 1, metric: str = "cosine"
) -> None:
    """Raise ValueError unless (P, D) and (V, D) fit each other and are finite, and k and metric exist."""
    for name, tensor in (("prompt", prompt), ("word_embeddings", word_embeddings)):
        if tensor.ndim != 2 or 0 in tensor.shape:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; it must be two-dimensional and not empty."
            )
        if not all(
            map(torch.isfinite, torch.aminmax(tensor.detach()))
        ):  # one pass that makes no copy
            bad = int((~torch.isfinite(tensor)).sum())
            raise ValueError(
                f"{name} holds {bad} values that are not finite; train with a smaller learning rate."
            )
    if prompt.shape[1] != word_embeddings.shape[1]:
        raise ValueError(
            f"the prompt is {prompt.shape[1]} wide, the word embeddings {word_embeddings.shape[1]}: "
            "they belong to different base models."
        )
    if not 1 <= k <= word_embeddings.shape[0]:
        raise ValueError(
            f"k is {k}; it must be from 1 to the vocabulary's size, {word_embeddings.shape[0]}."
        )
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; choose one of {', '.join(METRICS)}.")


def vocabulary_statistics(
    word_embeddings: Float[torch.Tensor, "V D"],
) -> tuple[Float[torch.Tensor, " D"], Float[torch.Tensor, " D"]]:
    """Return mean and standard deviation of every dimension over the vocabulary, in float32.

    A dimension that is the same in all words has deviation 1: dividing by it changes nothing.
    """
    words = word_embeddings.detach()
    near = words[:CHUNK].float().mean(0)  # taken off, so that little is lost in the squares
    sums = torch.zeros(2, words.shape[1], dtype=torch.float64)  # on the CPU, which has float64
    for chunk in words.split(CHUNK):
        moved = chunk.float() - near
        ones = moved.new_ones(1, len(moved))  # as a product: faster than a sum down the columns
        sums += torch.cat([ones @ moved, ones @ moved.square_()]).cpu()
    mean, square = sums / len(words)
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    constant = deviation <= 1e-6 * (near.cpu().abs() + 1e-30)
    deviation = deviation.masked_fill(constant, 1.0)
    return (near + mean.to(near)), deviation.to(near)


def scaling(
    word_embeddings: Float[torch.Tensor, "V D"], centered: bool, standardised: bool
) -> tuple[Float[torch.Tensor, " D"], Float[torch.Tensor, " D"]]:
    """Return what a reading takes off every vector and what it then divides by: zeros and ones where it is raw."""
    width, device = word_embeddings.shape[1], word_embeddings.device
    mean, deviation = torch.zeros(width, device=device), torch.ones(width, device=device)
    if centered or standardised:
        mean, found = vocabulary_statistics(word_embeddings)
        deviation = found if standardised else deviation
    return mean, deviation


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
    mean, deviation = (part.to(words.device) for part in scaling(words, centered, standardised))

    def scaled(vectors: torch.Tensor) -> torch.Tensor:
        vectors = vectors.to(words.device, torch.float64)
        return (vectors - mean).div_(deviation) if centered or standardised else vectors

    queries = scaled(prompt.detach())  # (P, D)
    best = queries.new_full((len(queries), k), -torch.inf, dtype=torch.float32)
    candidates = []  # what is no worse than the k-th best so far; topk itself would take any of equal scores
    for number, chunk in enumerate(words.split(CHUNK)):
        scores = _closeness(queries, scaled(chunk), metric)
        best = torch.cat([best, scores], dim=1).topk(k, dim=1).values
        rows, columns = (scores >= best[:, -1:]).nonzero(as_tuple=True)
        candidates.append((rows, columns + CHUNK * number, scores[rows, columns]))
    rows, ids, scores = (torch.cat(part).cpu().numpy() for part in zip(*candidates, strict=True))
    order = np.lexsort((ids, -scores, rows))  # by row, then by score, then by id
    first = np.searchsorted(rows[order], np.arange(len(prompt)))
    chosen = order[first[:, None] + np.arange(k)]  # (P, k)
    scores, ids = (torch.from_numpy(part[chosen]).to(prompt.device) for part in (scores, ids))
    return (-scores if metric == "l2" else scores), ids


def _closeness(
    queries: Float[torch.Tensor, "P D"], words: Float[torch.Tensor, "C D"], metric: str
) -> Float[torch.Tensor, "P C"]:
    """Return how near each word is to each query, in float32, nearer ones larger: a distance with its sign changed."""
    products = queries @ words.T
    if metric == "dot":
        return products.float()
    lengths, norms = queries.norm(dim=1, keepdim=True), words.norm(dim=1)  # (P, 1), (C,)
    if metric == "cosine":
        return (products / lengths.clamp(min=TINY) / norms.clamp(min=TINY)).float()
    squares = lengths.square() + norms.square()
    distances = squares - 2 * products
    return -distances.where(distances > RESOLUTION * squares, 0.0).sqrt().float()
