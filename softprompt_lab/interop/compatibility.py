"""PEFT's own numbers, for whoever must reproduce a result that was made with it.

PEFT lays a row out as `[prompt | the row as it came, pads included]`. Where that is another thing than a row alone,
this package is right and differs; README.md lists each difference with its test.
"""

from typing import Any

import torch
from jaxtyping import Int
from transformers.utils import ModelOutput

from ..batch import IGNORE
from ..config import TaskType
from ..embedding import concatenate_prompt
from ..heads.classify import call_with
from ..model import SoftPromptModel


def forward_like_peft(
    model: SoftPromptModel,
    input_ids: Int[torch.Tensor, "B T"],
    attention_mask: Int[torch.Tensor, "B T"] | None = None,
    labels: torch.Tensor | None = None,
    **kwargs: Any,
) -> ModelOutput:
    """The active prompt in PEFT's layout: ones in front of the mask, no position ids, -100 in front of text labels.

    Returns:
        The base model's output as it is: per-token outputs keep the P places of the prompt, a classifier of texts reads
        where the base model reads, span positions count from the prompt.

    Raises:
        ValueError: labels for TOKEN_CLS, with which PEFT itself raises.
    """
    prompt, ones = model.prompt, input_ids.new_ones(len(input_ids), len(model.prompt))
    if model.prompt_config.task_type is TaskType.CAUSAL_LM and labels is not None:
        labels = torch.cat([torch.full_like(ones, IGNORE), labels], dim=1)
    if attention_mask is not None:
        attention_mask = torch.cat([ones, attention_mask], dim=1)
    if (types := kwargs.get("token_type_ids")) is not None:
        kwargs["token_type_ids"] = torch.cat([torch.zeros_like(ones), types], dim=1)
    if labels is not None:
        kwargs["labels"] = labels
    words = model.word_embeddings_module(input_ids)
    inputs = {
        "inputs_embeds": concatenate_prompt(words, prompt),
        "attention_mask": attention_mask,
        **kwargs,
    }
    return call_with(model.base_model, model.head_weights(), inputs)
