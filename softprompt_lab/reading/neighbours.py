"""What stands nearest to a virtual token: words by rank, and the controls that give a rank a meaning.

Khashabi et al. 2022 (arXiv 2112.08348) warn that the nearest words of a prompt need not tell what it does:
read every table beside `random_control` and beside the start.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from jaxtyping import Float
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from .search import Metric, check_vectors, nearest, scaling

CONTROL_SEED = 7_046_029_254  # far from the seeds that start a prompt
RANDOM, WORDS = "random", "words"  # the kinds of the controls' rows


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
    shown = (
        c if c.isprintable() or c == " " else c.encode("unicode_escape").decode() for c in text
    )
    return "".join(shown).replace(" ", "·")


def nearest_tokens(
    prompt: Float[torch.Tensor, "P D"],
    word_embeddings: Float[torch.Tensor, "V D"],
    tokenizer: PreTrainedTokenizerBase,
    k: int = 5,
    metric: Metric = "cosine",
    centered: bool = False,
    standardised: bool = False,
) -> pd.DataFrame:
    """Return the k nearest tokens of every virtual token as a long table.

    Columns: virtual_token, rank (from 1), token_id, token, score. `metric`: "cosine" and "dot" (larger is
    nearer), "l2" (the distance: smaller is nearer). `centered` takes the vocabulary's mean from both sides
    first; `standardised` divides each dimension by its standard deviation over the vocabulary as well.
    `neighbour_table` makes it one row a virtual token, `nearest_tokens_of` holds the controls too.

    Raises:
        ValueError: shapes, numbers, k or metric that cannot be.

    Example:
        >>> from softprompt_lab import load_base_model, nearest_tokens
        >>> base_model, tokenizer = load_base_model("tiny")
        >>> words = base_model.get_input_embeddings().weight
        >>> nearest_tokens(words[[10]], words, tokenizer, k=1)["token"].item()  # a word's nearest is itself
        '·you'
    """
    scores, ids = nearest(prompt, word_embeddings, k, metric, centered, standardised)
    index = pd.MultiIndex.from_product(
        [range(len(prompt)), range(1, k + 1)], names=["virtual_token", "rank"]
    )
    return index.to_frame(index=False).assign(
        token_id=ids.flatten().tolist(),
        token=[readable_token(token_id, tokenizer) for token_id in ids.flatten().tolist()],
        score=scores.flatten().tolist(),
    )


def neighbour_table(frame: pd.DataFrame, decimals: int = 2) -> pd.DataFrame:
    """Return `nearest_tokens` for reading: one row a virtual token, columns 1 to k, cells "token score"."""
    cells = frame["token"] + " " + frame["score"].map(f"{{:.{decimals}f}}".format)
    wide = frame.assign(cell=cells).pivot(index="virtual_token", columns="rank", values="cell")
    return wide.rename_axis(index="virtual token", columns="rank")


# --- controls and measures ----------------------------------------------------------------------------------


def random_control(
    prompt: Float[torch.Tensor, "P D"],
    seed: int = 0,
    around: Float[torch.Tensor, " D"] | None = None,
    scale: Float[torch.Tensor, " D"] | None = None,
) -> Float[torch.Tensor, "P D"]:
    """Return vectors of random direction whose norms are the prompt's: what chance alone is near to.

    `around` is the point whose distance is kept, zero where it is None. A reading with `centered=True` needs the
    vocabulary's mean: centred, a vector that is random around zero is mostly minus the mean. One with
    `standardised=True` needs the deviations as `scale` too (`vocabulary_statistics` gives both): direction and
    norm are then those after dividing by them.

    The draw is not that of `torch.manual_seed(seed)`, which may have made the prompt's own RANDOM start.
    """
    generator = torch.Generator().manual_seed(CONTROL_SEED + seed)
    directions = functional.normalize(torch.randn(prompt.shape, generator=generator), dim=-1).to(
        prompt.device
    )
    centre = 0.0 if around is None else around.detach().float().to(prompt.device)
    divisor = 1.0 if scale is None else scale.detach().float().to(prompt.device)
    lengths = ((prompt.detach().float() - centre) / divisor).norm(dim=-1, keepdim=True)  # (P, 1)
    return centre + directions * divisor * lengths


def random_controls(
    prompt: Float[torch.Tensor, "P D"], draws: int, seed: int = 0
) -> list[Float[torch.Tensor, "P D"]]:
    """Return several random controls of a prompt.

    Raises:
        ValueError: there would be none.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; at least one random control is needed.")
    return [random_control(prompt, seed + draw) for draw in range(draws)]


def controls(
    prompt: Float[torch.Tensor, "P D"],
    word_embeddings: Float[torch.Tensor, "V D"],
    centered: bool = False,
    standardised: bool = False,
    seed: int = 0,
) -> dict[str, Float[torch.Tensor, "P D"]]:
    """Return what a reading of a prompt is held against: "random" and "words", each of the prompt's shape.

    "random", from below: `random_control` for a reading that is raw, centred or standardised. "words", from above: word
    embeddings drawn from the whole vocabulary, put in as if they were a prompt.

    Raises:
        ValueError: vectors that do not fit each other.
    """
    check_vectors(prompt, word_embeddings)
    mean, deviation = scaling(word_embeddings, centered, standardised)
    generator = torch.Generator().manual_seed(CONTROL_SEED + seed)
    drawn = torch.randint(len(word_embeddings), (len(prompt),), generator=generator)
    words = word_embeddings.detach()[drawn.to(word_embeddings.device)].float().to(prompt.device)
    return {RANDOM: random_control(prompt, seed, mean, deviation), WORDS: words}


def stacked(prompts: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, pd.DataFrame]:
    """Return prompts of one width below each other, (N, D), and the kind and virtual_token of each row.

    Raises:
        ValueError: there is none, or their widths differ.
    """
    shapes = {kind: tuple(vectors.shape) for kind, vectors in prompts.items()}
    widths = {shape[1:] for shape in shapes.values()}
    if len(widths) != 1 or len(widths.pop()) != 1:
        raise ValueError(f"prompts must be one or more tensors (P, D) of one width; got {shapes}.")
    labels = [(kind, row) for kind, (rows, _) in shapes.items() for row in range(rows)]
    device = next(iter(prompts.values())).device
    rows = torch.cat([vectors.detach().float().to(device) for vectors in prompts.values()])
    return rows, pd.DataFrame(labels, columns=["kind", "virtual_token"])


def nearest_tokens_of(
    prompts: Mapping[str, Float[torch.Tensor, "_ D"]],
    word_embeddings: Float[torch.Tensor, "V D"],
    tokenizer: PreTrainedTokenizerBase,
    k: int = 5,
    metric: Metric = "cosine",
    centered: bool = False,
    standardised: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the nearest tokens of a prompt beside those of its start, another seed's prompt, random vectors.

    `prompts`: kind -> vectors, the prompt first: {"prompt": ..., "start": ..., "other seed": ...}. Random vectors of
    the first one's norms are added as the kind "random". Columns: kind, then those of `nearest_tokens`.

    It shows where the vectors lie, not what they do: another prompt with the same words near it may behave otherwise,
    and one with other words alike (Khashabi et al. 2022).

    Raises:
        ValueError: no prompt, or shapes, numbers, k or metric that cannot be.
    """
    stacked(prompts)  # says what is wrong with them
    first = next(iter(prompts.values()))
    random = controls(first, word_embeddings, centered, standardised, seed)[RANDOM]
    vectors, labels = stacked({**prompts, RANDOM: random})
    frame = nearest_tokens(vectors, word_embeddings, tokenizer, k, metric, centered, standardised)
    labels = labels.loc[frame["virtual_token"]].reset_index(drop=True)
    return pd.concat([labels, frame.drop(columns="virtual_token")], axis=1)


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


def norms_table(
    prompts: Mapping[str, Float[torch.Tensor, "_ D"]],
    word_embeddings: Float[torch.Tensor, "V D"],
    seed: int = 0,
) -> pd.DataFrame:
    """Return the norm of every virtual token and the share of the vocabulary whose norms are no longer.

    Columns: kind, virtual_token, norm, quantile. Two kinds are added: "words", drawn from the vocabulary, whose
    quantiles spread evenly from 0 to 1; and "N(0, 1)", the start that PEFT calls RANDOM. A quantile of 1 says that the
    virtual token is longer than every word: the base model never saw such an input.

    Raises:
        ValueError: no prompt, or shapes and numbers that cannot be.
    """
    stacked(prompts)
    first = next(iter(prompts.values()))
    words = controls(first, word_embeddings, seed=seed)[WORDS]
    normal = torch.randn(first.shape, generator=torch.Generator().manual_seed(CONTROL_SEED + seed))
    vectors, labels = stacked({**prompts, WORDS: words, "N(0, 1)": normal})
    check_vectors(vectors, word_embeddings)
    values = norms(vectors).cpu()
    ordered = norms(word_embeddings).cpu().sort().values
    below = torch.searchsorted(ordered, values * (1 + 1e-6), right=True) / len(ordered)
    return labels.assign(norm=values.numpy(), quantile=below.numpy())
