"""Exact search of a vocabulary: the k nearest word embeddings of every virtual token, by any metric, in one pass.

One matrix product in float32 gives every score with an error that has a bound; what could be among the nearest by that
bound, a handful of words, is scored again in float64. So it is as fast as a product and as right as float64.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch.nn import functional

Metric = Literal["cosine", "l2", "dot"]
METRICS: tuple[Metric, ...] = ("cosine", "l2", "dot")
CHUNK = 512  # rows of the vocabulary at a time: 2 MB at width 1,024, which stay in the processor's cache
TINY = 1e-12  # a vector shorter than this has cosine 0 with everything


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
    near = (
        words[:CHUNK].float().mean(0)
    )  # not far from the mean, so that little is lost in the squares
    ones = torch.ones(1, CHUNK, device=words.device)
    sums = torch.zeros(2, words.shape[1], dtype=torch.float64)
    for chunk in words.split(CHUNK):
        moved = chunk.float() - near
        own = ones[:, : len(chunk)]  # as a product: faster than a sum down the columns
        sums += torch.cat([own @ moved, own @ moved.square_()]).cpu()
    mean, square = sums / len(words)
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    constant = deviation <= 1e-6 * (near.double().cpu().abs() + 1e-30)
    deviation = torch.where(constant, 1.0, deviation)
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
    prompt, words = prompt.detach(), word_embeddings.detach().to(prompt.device)
    mean, deviation = scaling(words, centered, standardised)
    queries = (prompt.cpu().double() - mean.cpu()) / deviation.cpu()  # (P, D)
    subtracted = mean if centered or standardised else None
    factor = 1 / deviation if standardised else None
    rows, ids = _candidates(queries, words, k, metric, subtracted, factor)
    scores = _scores(queries, words, rows, ids, metric, mean, deviation)  # (M,)
    order = scores.sort(stable=True, descending=metric != "l2").indices
    order = order[rows[order].sort(stable=True).indices]  # by row, then by score, then by id
    counts = rows.bincount(minlength=len(prompt))
    best = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k)]  # (P, k)
    return scores[best].to(prompt.device), ids[best].to(prompt.device)


def _candidates(
    queries: torch.Tensor,
    words: torch.Tensor,
    k: int,
    metric: str,
    subtracted: torch.Tensor | None,
    factor: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows and ids of all pairs that may be among a row's k nearest; ids ascend within a row.

    A dot product of D numbers in float32 is wrong by at most about D * 2**-24 of the product of the norms, in whatever
    order it is summed (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1). A word is left out
    when its score, too high by that bound, is below the k-th best of the scores that are too low by it.
    """
    bound = (words.shape[1] + 8) * 2.0**-24
    if torch.get_float32_matmul_precision() != "highest":  # factors may be rounded to bfloat16
        bound += 2.0**-7
    lengths = queries.norm(
        dim=1, keepdim=True
    )  # (P, 1); the order by cosine or dot product does not depend on it
    if metric != "l2":
        queries = queries / lengths.clamp(min=TINY)
    queries, lengths = (
        queries.to(words.device, torch.float32),
        lengths.to(words.device, torch.float32),
    )
    lower = torch.full(
        (len(queries), k), -torch.inf, device=words.device
    )  # the best so far, too low
    found = []
    for first, chunk in enumerate(words.split(CHUNK)):
        chunk = chunk.float() if subtracted is None else chunk.float() - subtracted
        chunk = chunk if factor is None else chunk.mul_(factor)
        norm = chunk.norm(dim=1)  # (C,)
        scores = queries @ chunk.T  # (P, C)
        if metric == "cosine":
            scores, error = scores / norm.clamp(min=TINY), 2 * bound
        elif metric == "dot":
            error = 2 * bound * norm
        else:
            scores, error = 2 * scores - norm.square(), 2 * bound * norm * (norm + lengths)
        low = (scores - error).nan_to_num_(nan=-torch.inf)  # a score that overflows says nothing
        lower = (
            torch.cat([lower, low.topk(min(k, low.shape[1]), dim=1).values], 1)
            .topk(k, dim=1)
            .values
        )
        upper = scores + error
        row, column = (~(upper < lower[:, -1:])).nonzero(as_tuple=True)
        found.append((row, column + CHUNK * first, upper[row, column]))
    rows, ids, upper = (torch.cat(each) for each in zip(*found, strict=True))
    stay = ~(upper < lower[rows, -1])
    return rows[stay].cpu(), ids[stay].cpu()


def _scores(
    queries: torch.Tensor,
    words: torch.Tensor,
    rows: torch.Tensor,
    ids: torch.Tensor,
    metric: str,
    mean: torch.Tensor,
    deviation: torch.Tensor,
) -> torch.Tensor:
    """Return the score of every pair of a row and an id, computed in float64, as float32."""
    mean, deviation = mean.cpu().double(), deviation.cpu().double()
    parts = []
    for row, word_id in zip(rows.split(CHUNK), ids.split(CHUNK), strict=True):
        query = queries[row]  # (M, D)
        word = (words[word_id.to(words.device)].cpu().double() - mean) / deviation
        if metric == "l2":
            part = (query - word).norm(dim=1)
        elif metric == "dot":
            part = (query * word).sum(1)
        else:
            part = (
                functional.normalize(query, eps=TINY) * functional.normalize(word, eps=TINY)
            ).sum(1)
        parts.append(part.float())
    return torch.cat(parts)
