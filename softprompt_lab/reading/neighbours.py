"""What stands nearest to a virtual token: words by rank, and the controls that give a rank a meaning.

Khashabi et al. 2022 (arXiv 2112.08348) warn that the nearest words of a prompt need not tell what it does:
read every table beside `random_control` and beside the start.
"""

import codecs
from collections.abc import Mapping

import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import percentileofscore
from torch.nn import functional
from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from .search import Metric, nearest

CONTROL_SEED = 7_046_029_254  # far from the seeds that start a prompt
RANDOM, WORDS = "random", "words"  # the kinds of the controls' rows
BYTES = {sign: byte for byte, sign in bytes_to_unicode().items()}  # of byte-level vocabularies


def _in_brackets(error: UnicodeDecodeError) -> tuple[str, int]:
    """Return the bytes that are no character as `<0xE2>`, and where to go on."""
    return "".join(f"<0x{byte:02X}>" for byte in error.object[error.start : error.end]), error.end


codecs.register_error("in brackets", _in_brackets)


def readable_token(token_id: int, tokenizer: PreTrainedTokenizerBase) -> str:
    r"""Return a token as one word to look at, a different one for each token.

    A space becomes ·; a · and a backslash of its own, other white space and control signs become Python's escapes; a
    byte that is no whole character `<0xE2>`; an id behind the tokenizer's last one (many models pad their vocabulary)
    `<id>`.
    """
    piece = tokenizer.convert_ids_to_tokens(token_id)
    if piece is None:
        return f"<{token_id}>"
    text = piece.replace("▁", " ") if "▁" in piece else tokenizer.decode([token_id])
    if (
        "\ufffd" in text or not text
    ):  # part of a character, which a byte-level piece spells in signs
        spelled = BYTES.keys() >= set(piece)
        text = bytes(map(BYTES.get, piece)).decode(errors="in brackets") if spelled else piece
    shown = (
        "·"
        if c == " "
        else c
        if c.isprintable() and c not in r"\·"
        else c.encode("unicode_escape").decode()
        for c in text
    )
    return "".join(shown)


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
    first. `neighbour_table` makes it one row a virtual token, `nearest_tokens_of` holds the controls too.

    `word_embeddings` are those of a `SoftPromptModel`, `model.word_embeddings`: the words as the base model reads them.
    The weight of its embedding layer is not always the same, because some layers scale it.

    Raises:
        ValueError: shapes, numbers, k or metric that cannot be.

    Example:
        >>> from softprompt_lab import load_base_model, nearest_tokens
        >>> base_model, tokenizer = load_base_model("tiny")
        >>> words = base_model.get_input_embeddings().weight
        >>> nearest_tokens(words[[10]], words, tokenizer, k=1)["token"].item()  # a word's nearest is itself
        '·you'
    """
    scores, ids = nearest(prompt, word_embeddings, k, metric, centered)
    index = pd.MultiIndex.from_product(
        [range(len(prompt)), range(1, k + 1)], names=["virtual_token", "rank"]
    )
    return index.to_frame(index=False).assign(
        token_id=ids.flatten().tolist(),
        token=[readable_token(token_id, tokenizer) for token_id in ids.flatten().tolist()],
        score=scores.flatten().tolist(),
    )


def neighbour_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `nearest_tokens` for reading: one row a virtual token, columns 1 to k, cells "token score"."""
    cells = frame["token"] + " " + frame["score"].map("{:.2f}".format)
    wide = frame.assign(cell=cells).pivot(index="virtual_token", columns="rank", values="cell")
    return wide.rename_axis(index="virtual token", columns="rank")


# --- controls and measures ----------------------------------------------------------------------------------


def random_control(
    prompt: Float[torch.Tensor, "P D"],
    seed: int = 0,
    around: Float[torch.Tensor, " D"] | None = None,
) -> Float[torch.Tensor, "P D"]:
    """Return vectors of random direction whose norms are the prompt's: what chance alone is near to.

    `around` is the point whose distance is kept, zero where it is None. A reading with `centered=True` needs the
    vocabulary's mean: centred, a vector that is random around zero is mostly minus the mean.

    The draw is not that of `torch.manual_seed(seed)`, which may have made the prompt's own RANDOM start.
    """
    generator = torch.Generator().manual_seed(CONTROL_SEED + seed)
    drawn = torch.randn(prompt.shape, generator=generator).to(prompt.device)
    centre = 0.0 if around is None else around.detach().float().to(prompt.device)
    lengths = (prompt.detach().float() - centre).norm(dim=-1, keepdim=True)  # (P, 1)
    return centre + functional.normalize(drawn, dim=-1) * lengths


def random_words(
    prompt: Float[torch.Tensor, "P D"], word_embeddings: Float[torch.Tensor, "V D"], seed: int = 0
) -> Float[torch.Tensor, "P D"]:
    """Return word embeddings drawn from the whole vocabulary, as if they were a prompt of the same length."""
    generator = torch.Generator().manual_seed(CONTROL_SEED + seed)
    drawn = torch.randint(len(word_embeddings), (len(prompt),), generator=generator)
    return word_embeddings.detach()[drawn.to(word_embeddings.device)].float().to(prompt.device)


def nearest_tokens_of(
    prompts: Mapping[str, Float[torch.Tensor, "_ D"]],
    word_embeddings: Float[torch.Tensor, "V D"],
    tokenizer: PreTrainedTokenizerBase,
    k: int = 5,
    metric: Metric = "cosine",
    centered: bool = False,
) -> pd.DataFrame:
    """Return the nearest tokens of a prompt beside those of its start, another seed's prompt, random vectors.

    `prompts`: kind -> vectors, the prompt first: {"prompt": ..., "start": ..., "other seed": ...}. Random vectors of
    the first one's norms are added as the kind "random". Columns: kind, then those of `nearest_tokens`.

    It shows where the vectors lie, not what they do: another prompt with the same words near it may behave otherwise,
    and one with other words alike (Khashabi et al. 2022).

    Raises:
        ValueError: shapes, numbers, k or metric that cannot be.
    """
    first = next(iter(prompts.values()))
    mean = word_embeddings.detach().float().mean(0) if centered else None
    every = {**prompts, RANDOM: random_control(first, around=mean)}
    frames = {
        kind: nearest_tokens(vectors, word_embeddings, tokenizer, k, metric, centered)
        for kind, vectors in every.items()
    }
    return pd.concat(frames, names=["kind"]).droplevel(1).reset_index()


def norms(vectors: Float[torch.Tensor, "N D"]) -> Float[torch.Tensor, " N"]:
    """Return the L2 norm of each row."""
    return vectors.detach().float().norm(dim=-1)


def norms_table(
    prompts: Mapping[str, Float[torch.Tensor, "_ D"]], word_embeddings: Float[torch.Tensor, "V D"]
) -> pd.DataFrame:
    """Return the norm of every virtual token and the share of the vocabulary whose norms are no longer.

    Columns: kind, virtual_token, norm, quantile. Two kinds are added: "words", drawn from the vocabulary, whose
    quantiles spread evenly from 0 to 1; and "N(0, 1)", the start that PEFT calls RANDOM. A quantile of 1 says that the
    virtual token is longer than every word: the base model never saw such an input.
    """
    first = next(iter(prompts.values()))
    normal = torch.randn(first.shape, generator=torch.Generator().manual_seed(CONTROL_SEED))
    every = {**prompts, WORDS: random_words(first, word_embeddings), "N(0, 1)": normal}
    vocabulary, parts = norms(word_embeddings).cpu().numpy(), {}
    for kind, vectors in every.items():
        own = norms(vectors).cpu().numpy()
        below = percentileofscore(vocabulary, own * (1 + 1e-6), kind="weak") / 100
        parts[kind] = pd.DataFrame({"norm": own, "quantile": below})
    return pd.concat(parts, names=["kind", "virtual_token"]).reset_index()
