"""How far to trust a table of nearest tokens: do the metrics agree on it, and are the tokens of one kind?"""

from collections.abc import Mapping
from itertools import combinations

import pandas as pd
import torch
from jaxtyping import Float
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from .neighbours import RANDOM, WORDS, nearest_tokens, random_control, random_words
from .search import METRICS, Metric, nearest

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
) -> pd.DataFrame:
    """Return the share of the k nearest tokens that two readings have in common, for every pair of `READINGS`.

    A reading is a metric and "raw", "centred" or "standardised". `prompts`: kind -> vectors, the prompt first. Columns:
    kind, one, other (as "cosine, raw"), agreement (mean over virtual tokens, 0 to 1). Three kinds are added: "random"
    and "random around the mean", of the first one's norm or distance to the vocabulary's mean, and "words", drawn from
    the vocabulary. Two random choices of k tokens share k / V.

    Where readings disagree on the prompt, a table of its nearest tokens shows the metric as much as the prompt. That
    they agree does not make the tokens its meaning: on vectors of equal norm all raw metrics nearly must.

    Raises:
        ValueError: shapes, numbers or k that cannot be.
    """
    first = next(iter(prompts.values()))
    mean = word_embeddings.detach().float().mean(0)
    every = {
        **prompts,
        RANDOM: random_control(first),
        WORDS: random_words(first, word_embeddings),
        "random around the mean": random_control(first, around=mean),
    }
    kinds = [kind for kind, vectors in every.items() for _ in vectors]
    vectors = torch.cat([each.detach().float() for each in every.values()])  # (N, D)
    found = {
        f"{metric}, {name}": nearest(vectors, word_embeddings, k, metric, **SCALINGS[name])[1]
        for metric, name in READINGS
    }
    parts = []
    for (one, ids), (other, others) in combinations(found.items(), 2):
        shared = (ids[:, :, None] == others[:, None]).any(2).float().mean(1).cpu().numpy()  # (N,)
        parts.append(pd.DataFrame({"kind": kinds, "one": one, "other": other, "agreement": shared}))
    groups = pd.concat(parts).groupby(["kind", "one", "other"], sort=False)
    return groups["agreement"].mean().reset_index()


def cluster_purity(
    prompts: Mapping[str, Float[torch.Tensor, "_ D"]],
    word_embeddings: Float[torch.Tensor, "V D"],
    tokenizer: PreTrainedTokenizerBase,
    k: int = 5,
) -> pd.DataFrame:
    """Return how much alike the k nearest tokens of every virtual token are, by cosine.

    Lester et al. 2021, section 7, see that the five nearest tokens of a learned virtual token form tight clusters of
    one meaning ("Technology / technology / Technologies"), those of random vectors none. Columns: kind, virtual_token,
    cosine (mean over all pairs of the k embeddings), same_word (share of the k that are the most frequent word among
    them, but for case and a leading space: from 1 / k to 1), tokens (the k themselves). The kinds "random" (from below)
    and "words" (from above: words of the vocabulary and what is nearest to them) are added.

    A start made of words is a cluster before anything is learned, so compare the prompt with its start too.

    Raises:
        ValueError: shapes, numbers or k that cannot be.
    """
    first = next(iter(prompts.values()))
    words = random_words(first, word_embeddings)
    every = {**prompts, RANDOM: random_control(first), WORDS: words}
    frames = {
        kind: nearest_tokens(vectors, word_embeddings, tokenizer, k)
        for kind, vectors in every.items()
    }
    table = pd.concat(frames, names=["kind"])
    found = word_embeddings.detach()[table["token_id"].tolist()].float().cpu()
    found = functional.normalize(found, dim=-1).unflatten(0, (-1, k))  # (N, k, D)
    alike = (found @ found.mT).sum((1, 2)) - found.square().sum((1, 2))  # not each with itself
    tokens = table.groupby(["kind", "virtual_token"], sort=False)["token"]
    purity = tokens.agg(same_word=_largest_share, tokens=" ".join).reset_index()
    return purity.assign(cosine=alike.numpy() / (k * (k - 1)))


def _largest_share(tokens: pd.Series) -> float:
    """Return the share of the most frequent word among tokens, read without case and leading space."""
    words = tokens.str.removeprefix("·").str.casefold()
    return words.value_counts(normalize=True).iloc[0]
