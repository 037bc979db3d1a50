"""The prompt itself: P trainable vectors, four ways to start them, and the concatenation in front of the input."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import nn

from .config import UNKNOWN, PromptTuningConfig, PromptTuningInit

TOP_VOCABULARY = 5_000  # Lester et al. 2021, section 3.2: sample from the 5,000 most common tokens


def concatenate_prompt(
    input_embeddings: Float[torch.Tensor, "B T D"], prompt: Float[torch.Tensor, "*B P _"]
) -> Float[torch.Tensor, "B P+T D"]:
    """Put the same prompt in front of every row: the one operation that prompt tuning is made of.

    A prompt of shape (B, P, D) gives each row its own. Built in chapter 02. The prompt is cast to the embeddings' type,
    as PEFT does. Source: Lester et al. 2021 (arXiv 2104.08691), section 2, `[P_e; X_e]`.

    Raises:
        ValueError: the widths differ.

    Example:
        >>> import torch
        >>> from softprompt_lab import concatenate_prompt
        >>> concatenate_prompt(torch.zeros(2, 5, 8), torch.ones(3, 8)).shape
        torch.Size([2, 8, 8])
    """
    if prompt.shape[-1] != input_embeddings.shape[-1]:
        raise ValueError(
            f"the prompt is {prompt.shape[-1]} wide, the input {input_embeddings.shape[-1]}."
        )
    rows = prompt.to(input_embeddings.dtype).expand(input_embeddings.shape[0], -1, -1)  # (B, P, D)
    return torch.cat([rows, input_embeddings], dim=1)  # (B, P+T, D)


def _embed(ids: Sequence[int], word_embeddings: nn.Module) -> Float[torch.Tensor, "N D"]:
    """The word embeddings of some token ids, detached and in float32."""
    device = next(word_embeddings.parameters()).device
    return (
        word_embeddings(torch.tensor(ids, dtype=torch.long, device=device))
        .detach()
        .clone()
        .to(torch.float32)
    )


@torch.no_grad()
def words_of(layer: nn.Module) -> Float[torch.Tensor, "V D"]:
    """Return what an embedding layer gives for every token: its weight itself, unless the layer does more (a scale)."""
    weight = layer.weight
    ids = torch.arange(len(weight), device=weight.device)
    some = ids[:: max(1, len(ids) // 64)]
    return weight if torch.equal(layer(some), weight[some]) else layer(ids)


def random_start(
    rows: int, width: int, generator: torch.Generator | None = None
) -> Float[torch.Tensor, "rows D"]:
    """N(0, 1), PEFT's RANDOM: its scale is that of `torch.nn.Embedding`, not that of the base model's words.

    A word of a trained model is often 10 to 50 times shorter, so the prompt starts off the words' scale and the
    learning rate has to carry it back: start there only to see it (chapter 03).
    """
    return torch.randn(rows, width, generator=generator)


def text_start(
    text: str, tokenizer, word_embeddings: nn.Module, rows: int
) -> Float[torch.Tensor, "rows D"]:
    """The embeddings of a text, trimmed or repeated until they fill `rows` (PEFT's TEXT).

    Special tokens that a tokenizer adds ([CLS], </s>, ...) are left out: PEFT keeps and repeats them.

    Raises:
        ValueError: the text has no token.
    """
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise ValueError(f"the start text {text!r} has no token; give at least one word.")
    repeated = ids * math.ceil(rows / len(ids))
    return _embed(repeated[:rows], word_embeddings)


def sample_vocab_start(
    word_embeddings: nn.Module,
    rows: int,
    generator: torch.Generator | None = None,
    top: int | None = None,
) -> Float[torch.Tensor, "rows D"]:
    """The embeddings of tokens drawn from the vocabulary (PEFT's SAMPLE_VOCAB).

    With `top=5000` they come from the 5,000 lowest ids, as in Lester et al. 2021: byte-pair vocabularies are numbered
    in the order of their merges, so low ids are the common tokens.
    """
    size = word_embeddings.num_embeddings
    ids = torch.randint(0, min(top or size, size), (rows,), generator=generator)
    return _embed(ids.tolist(), word_embeddings)


def class_label_start(
    labels: Sequence[str],
    tokenizer,
    word_embeddings: nn.Module,
    rows: int,
    generator: torch.Generator | None = None,
) -> Float[torch.Tensor, "rows D"]:
    """One row for each label that there is room for, the mean of its tokens' embeddings; the rest sampled.

    Source: Lester et al. 2021 (arXiv 2104.08691), section 3.2.

    Raises:
        ValueError: there is no label, or one without a token.
    """
    ids = [
        tokenizer(" " + label.strip(), add_special_tokens=False)["input_ids"] for label in labels
    ]
    if not ids or not all(ids):
        raise ValueError(
            f"labels={list(labels)!r}; give at least one label, each with at least one token."
        )
    means = [_embed(row, word_embeddings).mean(dim=0) for row in ids[:rows]]
    rest = sample_vocab_start(word_embeddings, rows - len(means), generator, top=TOP_VOCABULARY)
    return torch.cat([torch.stack(means), rest.to(means[0].device)])


def configured_start(
    config: PromptTuningConfig, word_embeddings: nn.Module, tokenizer=None
) -> Float[torch.Tensor, "rows D"]:
    """The start that `config.prompt_tuning_init` asks for; sampling uses torch's global random state, as PEFT does."""
    rows = config.total_virtual_tokens
    if config.prompt_tuning_init is PromptTuningInit.RANDOM:
        return random_start(rows, config.token_dim)
    if config.prompt_tuning_init is PromptTuningInit.SAMPLE_VOCAB:
        return sample_vocab_start(word_embeddings, rows)
    if tokenizer is None:
        tokenizer = _tokenizer_named_by(config)
    return text_start(config.prompt_tuning_init_text, tokenizer, word_embeddings, rows)


def _tokenizer_named_by(config: PromptTuningConfig):
    """The tokenizer that a configuration *written by the caller* names; never reached when a folder is loaded."""
    if config.tokenizer_name_or_path in (None, UNKNOWN):
        raise ValueError(
            "prompt_tuning_init=TEXT needs a tokenizer; pass tokenizer= or set tokenizer_name_or_path."
        )
    from transformers import AutoTokenizer

    name, bases = config.tokenizer_name_or_path, {config.base_model_name_or_path: config.revision}
    return AutoTokenizer.from_pretrained(name, revision=bases.get(name), trust_remote_code=False)


class PromptEmbedding(nn.Module):
    """P trainable vectors, looked up by index (PEFT's `PromptEmbedding`). Built in chapter 03.

    Attributes:
        embedding: `torch.nn.Embedding` of `num_virtual_tokens * num_transformer_submodules` rows by D, in float32.

    Shapes: `(B, rows)` indices -> `(B, rows, D)`.

    Raises:
        ValueError: the width differs from that of the words, or the start has the wrong shape or is not finite.

    Example:
        >>> import torch
        >>> from softprompt_lab import PromptEmbedding, PromptTuningConfig
        >>> prompt = PromptEmbedding(PromptTuningConfig(num_virtual_tokens=4), torch.nn.Embedding(100, 8))
        >>> prompt(torch.arange(4).expand(2, -1)).shape
        torch.Size([2, 4, 8])
    """

    def __init__(
        self,
        config: PromptTuningConfig,
        word_embeddings: nn.Module,
        *,
        tokenizer=None,
        start: Float[torch.Tensor, "rows D"] | None = None,
    ) -> None:
        super().__init__()
        width = next(word_embeddings.parameters()).shape[-1]
        config = replace(config, token_dim=config.token_dim or width)
        if config.token_dim != width:
            raise ValueError(
                f"token_dim={config.token_dim}, but the base model's words are {width} wide."
            )
        if start is None:
            start = configured_start(config, word_embeddings, tokenizer)
        rows = config.total_virtual_tokens
        if tuple(start.shape) != (rows, width):
            raise ValueError(
                f"the start has shape {tuple(start.shape)}; this configuration needs ({rows}, {width})."
            )
        if not torch.isfinite(start).all():
            raise ValueError("the start holds values that are not finite (NaN or infinity).")
        self.embedding = nn.Embedding.from_pretrained(
            start.detach().clone().to(torch.float32), freeze=False
        )

    def forward(self, indices: Int[torch.Tensor, "B rows"]) -> Float[torch.Tensor, "B rows D"]:
        """The vectors at the given indices; nothing else happens here."""
        return self.embedding(indices)
