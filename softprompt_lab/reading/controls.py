"""What is read beside a prompt, and behind which text: the start, random vectors of its norms, ordinary words."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import nn

from ..embedding import concatenate_prompt, text_start
from ..evaluation import check_predicts_text
from ..model import SoftPromptModel
from .neighbours import random_control

ORDINARY = "The shop on the corner opens at nine, and in the evening the lights along the river are switched on."


def check_decoder(model: SoftPromptModel) -> nn.Module:
    """The base model, if it is a decoder that predicts text.

    Raises:
        ValueError: it is an encoder-decoder or a classifier.
    """
    check_predicts_text(model.prompt_config.task_type)
    if model.base_model.config.is_encoder_decoder:
        raise ValueError("this instrument reads decoders; the base model is an encoder-decoder.")
    return model.base_model


def text_ids(model: SoftPromptModel, text: str | Sequence[int]) -> list[int]:
    """The token ids of a text; ids stay as they are.

    Raises:
        ValueError: there is no token, or no tokenizer for a text.
    """
    if isinstance(text, str) and model.tokenizer is None:
        raise ValueError("there is no tokenizer; pass token ids, or tokenizer= to SoftPromptModel.")
    ids = (
        model.tokenizer(text)["input_ids"]
        if isinstance(text, str)
        else [int(token) for token in text]
    )
    if not ids:
        raise ValueError(f"the text {text!r} has no token; give at least one word.")
    return ids


def prompt_and_start(
    model: SoftPromptModel,
    prompt: Float[torch.Tensor, "P D"] | None = None,
    start: Float[torch.Tensor, "P D"] | None = None,
) -> dict[str, Float[torch.Tensor, "P D"]]:
    """Return the vectors to read, in float32: "prompt", by default the active one, and "start" where it is given.

    Raises:
        ValueError: vectors of another width than the word embeddings, or a start of another shape than the prompt.
    """
    read = model.prompt if prompt is None else prompt
    width = model.word_embeddings.shape[1]
    if not len(read) or read.shape[1] != width:
        raise ValueError(
            f"the prompt has shape {tuple(read.shape)}; it must be (P, {width}) with at least one row."
        )
    if start is not None and start.shape != read.shape:
        raise ValueError(
            f"the start has shape {tuple(start.shape)}, the prompt {tuple(read.shape)}."
        )
    kinds = {"prompt": read} | ({} if start is None else {"start": start})
    return {kind: each.detach().float().to(model.device) for kind, each in kinds.items()}


def prompt_and_controls(
    model: SoftPromptModel,
    prompt: Float[torch.Tensor, "P D"] | None = None,
    start: Float[torch.Tensor, "P D"] | None = None,
    words: str = ORDINARY,
    seed: int = 0,
) -> dict[str, Float[torch.Tensor, "P D"]]:
    """Return the vectors to read by kind: those of `prompt_and_start`, "random", and "words".

    "random" has the prompt's norms and chance's directions. "words" are the embeddings of as many tokens of an ordinary
    sentence; a model without a tokenizer has none.

    Raises:
        ValueError: as `prompt_and_start`.
    """
    kinds = prompt_and_start(model, prompt, start)
    read = kinds["prompt"]
    kinds["random"] = random_control(read, seed)
    if model.tokenizer is not None:
        kinds["words"] = text_start(words, model.tokenizer, model.word_embeddings_module, len(read))
    return kinds


def behind_each(
    base_model: nn.Module, prompts: Mapping[str, Float[torch.Tensor, "P D"]], ids: Sequence[int]
) -> Float[torch.Tensor, "K N D"]:
    """One text behind each of K prompts of one length: the rows of one call, N = P + T, without pads."""
    words = base_model.get_input_embeddings()
    embedded = words(torch.tensor([list(ids)], device=words.weight.device))  # (1, T, D)
    return concatenate_prompt(
        embedded.expand(len(prompts), -1, -1), torch.stack(list(prompts.values()))
    )
