"""A model behind a prompt, ours and PEFT's: what tests compare."""

import copy

import peft
import torch
from families import SCALE, WIDTH, base_of
from transformers import PreTrainedModel

from softprompt_lab import PromptTuningConfig, SoftPromptModel

P = 4
OUTPUTS = {
    "QUESTION_ANS": ("start_logits", "end_logits"),
    "FEATURE_EXTRACTION": ("last_hidden_state",),
}


def random_start(rows: int = P, seed: int = 1) -> torch.Tensor:
    """Vectors of the words' scale."""
    return SCALE * torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))


def with_prompt(base: PreTrainedModel, task: str | None = None) -> SoftPromptModel:
    """A base model behind P random vectors; without a task the one of its text."""
    task = task or ("SEQ_2_SEQ_LM" if base.config.is_encoder_decoder else "CAUSAL_LM")
    return SoftPromptModel(base, PromptTuningConfig(P, task_type=task), start=random_start())


def model_of(family: str, task: str) -> SoftPromptModel:
    """The same of an encoder or decoder with the head of a task."""
    return with_prompt(base_of(family, task), task)


def as_peft(model: SoftPromptModel) -> peft.PeftModel:
    """PEFT's model over a copy of the same base, behind the same prompt; PEFT changes the base that it wraps."""
    config = peft.PromptTuningConfig(
        task_type=model.prompt_config.task_type.value,
        num_virtual_tokens=model.prompt_config.num_virtual_tokens,
        num_transformer_submodules=model.prompt_config.num_transformer_submodules,
        token_dim=model.prompt_config.token_dim,  # PEFT does not find DistilBERT's sizes
        num_layers=model.prompt_config.num_layers,
        num_attention_heads=model.prompt_config.num_attention_heads,
    )
    wrapped = peft.get_peft_model(copy.deepcopy(model.base_model), config).eval()
    with torch.no_grad():
        wrapped.prompt_encoder["default"].embedding.weight.copy_(
            model.prompts[model.active_prompt].embedding.weight
        )
    return wrapped


def outputs(task: str, output) -> list[torch.Tensor]:
    """What a task is asked for."""
    return [output[name] for name in OUTPUTS.get(task, ("logits",))]
