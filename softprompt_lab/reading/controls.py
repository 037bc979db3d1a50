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


def prompt_and_start(
    model: SoftPromptModel, start: Float[torch.Tensor, "P D"] | None = None
) -> dict[str, Float[torch.Tensor, "P D"]]:
    """Return the vectors to read, in float32: "prompt", the active one, and "start" where it is given.

    Raises:
        ValueError: a start of another shape than the prompt.
    """
    prompt = model.prompt
    if start is not None and start.shape != prompt.shape:
        raise ValueError(
            f"the start has shape {tuple(start.shape)}, the prompt {tuple(prompt.shape)}."
        )
    kinds = {"prompt": prompt} | ({} if start is None else {"start": start})
    return {kind: each.detach().float().to(model.device) for kind, each in kinds.items()}


def prompt_and_controls(
    model: SoftPromptModel, start: Float[torch.Tensor, "P D"] | None = None
) -> dict[str, Float[torch.Tensor, "P D"]]:
    """Return the vectors to read by kind: those of `prompt_and_start`, "random", and "words".

    "random" has the prompt's norms and chance's directions. "words" are the embeddings of as many tokens of an ordinary
    sentence; a model without a tokenizer has none.

    Raises:
        ValueError: as `prompt_and_start`.
    """
    kinds = prompt_and_start(model, start)
    read = kinds["prompt"]
    kinds["random"] = random_control(read)
    if model.tokenizer is not None:
        module = model.word_embeddings_module
        kinds["words"] = text_start(ORDINARY, model.tokenizer, module, len(read))
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
