"""How far to trust a table of nearest tokens: do the metrics agree on it, and are the tokens of one kind?"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd
import torch
from jaxtyping import Float
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from .neighbours import controls, random_control, readable_token, stacked
from .search import METRICS, Metric, check_vectors, nearest, scaling

SCALINGS: dict[str, dict[str, bool]] = {
    "raw": {},
    "centred": {"centered": True},
    "standardised": {"standardised": True},
}
READINGS: tuple[tuple[Metric, str], ...] = tuple(
    (metric, name) for name in SCALINGS for metric in METRICS if (metric, name) != ("l2", "centred")
)  # centring moves both sides of a distance: it is that of the raw vectors


def metric_agreement(
    prompts: Mapping[str, Float[torch.Tensor, "_ D"]],
    word_embeddings: Float[torch.Tensor, "V D"],
    k: int = 10,
    readings: Sequence[tuple[Metric, str]] = READINGS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the share of the k nearest tokens that two readings have in common, for every pair of readings.

    `prompts`: kind -> vectors, the prompt first. `readings`: a metric and "raw", "centred" or "standardised" each.
    Columns: kind, one, other (as "cosine, raw"), agreement (mean over virtual tokens, 0 to 1). Three kinds are added:
    "random" and "random around the mean", of the first one's norm or distance to the vocabulary's mean, and "words",
    drawn from the vocabulary. Two random choices of k tokens share k / V.

    Where readings disagree on the prompt, a table of its nearest tokens shows the metric as much as the prompt. That
    they agree does not make the tokens its meaning: on vectors of equal norm all raw metrics nearly must.

    Raises:
        ValueError: no prompt, an unknown reading, or shapes, numbers or k that cannot be.
    """
    for metric, name in readings:
        if metric not in METRICS or name not in SCALINGS:
            raise ValueError(
                f"reading {(metric, name)!r}; choose a metric of {', '.join(METRICS)} and one of {', '.join(SCALINGS)}."
            )
    stacked(prompts)  # says what is wrong with them
    first = next(iter(prompts.values()))
    added = controls(first, word_embeddings, seed=seed)
    mean, _ = scaling(word_embeddings, centered=True, standardised=False)
    added["random around the mean"] = random_control(first, seed, mean)
    vectors, labels = stacked({**prompts, **added})
    found = {
        f"{metric}, {name}": nearest(vectors, word_embeddings, k, metric, **SCALINGS[name])[1]
        for metric, name in readings
    }
    parts = []
    for one, other in combinations(found, 2):
        shared = (found[one][:, :, None] == found[other][:, None, :]).any(2).float().mean(1)  # (N,)
        parts.append(labels.assign(one=one, other=other, agreement=shared.cpu().numpy()))
    table = pd.concat(parts) if parts else labels.assign(one="", other="", agreement=0.0).head(0)
    return table.groupby(["kind", "one", "other"], sort=False)["agreement"].mean().reset_index()


def cluster_purity(
    prompts: Mapping[str, Float[torch.Tensor, "_ D"]],
    word_embeddings: Float[torch.Tensor, "V D"],
    tokenizer: PreTrainedTokenizerBase,
    k: int = 5,
    metric: Metric = "cosine",
    centered: bool = False,
    standardised: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how much alike the k nearest tokens of every virtual token are.

    Lester et al. 2021, section 7, see that the five nearest tokens of a learned virtual token form tight clusters of
    one meaning ("Technology / technology / Technologies"), those of random vectors none. Columns: kind, virtual_token,
    cosine (mean over all pairs of the k embeddings, scaled as the reading), same_word (share of the k that are the most
    frequent word among them, but for case and a leading space: from 1 / k to 1), tokens (the k themselves). The kinds
    "random" (from below) and "words" (from above: words of the vocabulary and what is nearest to them) are added.

    A start made of words is a cluster before anything is learned, so compare the prompt with its start too.

    Raises:
        ValueError: no prompt, k below 2, or shapes, numbers or metric that cannot be.
    """
    if k < 2:
        raise ValueError(f"k is {k}; two tokens at least make a cluster.")
    stacked(prompts)
    first = next(iter(prompts.values()))
    vectors, labels = stacked(
        {**prompts, **controls(first, word_embeddings, centered, standardised, seed)}
    )
    check_vectors(vectors, word_embeddings, k, metric)
    ids = nearest(vectors, word_embeddings, k, metric, centered, standardised)[1].to(
        word_embeddings.device
    )  # (N, k)
    mean, deviation = scaling(word_embeddings, centered, standardised)
    found = functional.normalize(
        (word_embeddings.detach()[ids].float() - mean) / deviation, dim=-1
    )  # (N, k, D)
    cosines = (found @ found.mT).sum((1, 2)) - found.square().sum(
        (1, 2)
    )  # without each one's cosine with itself
    tokens = [[readable_token(token_id, tokenizer) for token_id in row] for row in ids.tolist()]
    return labels.assign(
        cosine=(cosines / (k * (k - 1))).cpu().numpy(),
        same_word=[_largest_share(row) for row in tokens],
        tokens=[" ".join(row) for row in tokens],
    )


def _largest_share(tokens: Sequence[str]) -> float:
    """Return the share of the most frequent word among tokens, read without case and leading space."""
    words = [token.removeprefix("·").casefold() for token in tokens]
    return max(map(words.count, words)) / len(words)
