"""What transformers' Trainer and pipelines, and Accelerate, ask of a model beyond `forward` and `generate`."""

from collections.abc import Set
from typing import Any

from torch import nn
from transformers import GenerationConfig, PretrainedConfig

from .config import HEAD_MODULES, PromptTuningConfig, TaskType

BASE = "base_model."  # before the base model's names in a SoftPromptModel


class TransformersInterface(nn.Module):
    """Answers for a frozen `base_model` behind a prompt with a `prompt_config`.

    `state_dict` holds what can be trained: every prompt and head, and what somebody has set free in the base model (a
    LoRA's weights). The frozen rest is left out, and not missed when a state is loaded, so a checkpoint of Trainer or
    Accelerate is as small as a saved prompt.
    """

    base_model: nn.Module
    prompt_config: PromptTuningConfig

    def __init__(self) -> None:
        super().__init__()
        self.register_state_dict_post_hook(_leave_out_frozen)
        self.register_load_state_dict_post_hook(_miss_no_frozen)

    @property
    def config(self) -> PretrainedConfig:
        """The base model's configuration, as in PEFT; the prompt's is `prompt_config`."""
        return self.base_model.config

    @property
    def generation_config(self) -> GenerationConfig | None:
        """The base model's defaults for `generate`."""
        return getattr(self.base_model, "generation_config", None)

    @property
    def hf_device_map(self) -> dict[str, Any]:
        """Where the parts of a base model that is spread over devices are; a model in one piece has none."""
        return self.base_model.hf_device_map

    @property
    def accepts_loss_kwargs(self) -> bool:
        """True where `forward` takes `num_items_in_batch`, by which Trainer divides when it accumulates gradients."""
        return self.prompt_config.task_type is TaskType.CAUSAL_LM

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Let the base model's layers compute their activations again in the backward pass, to save memory."""
        older = (
            self.base_model.gradient_checkpointing_enable
        )  # its only name before transformers 5.23
        enable = getattr(self.base_model, "activation_checkpointing_enable", older)
        enable(activation_checkpointing_kwargs, **options)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """`activation_checkpointing_enable` by its older name."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **options)

    def can_generate(self) -> bool:
        """True if the task is one of writing text."""
        return self.prompt_config.task_type not in HEAD_MODULES


def out_of_peft(base_model: nn.Module) -> nn.Module:
    """The model inside a `PeftModel`, with the layers (LoRA and the like) that PEFT has put into it.

    Raises:
        ValueError: PEFT has put a prompt in front of it.
    """
    if not hasattr(base_model, "get_base_model"):
        return base_model
    if base_model.active_peft_config.is_prompt_learning:
        kind = base_model.active_peft_config.peft_type.value
        raise ValueError(
            f"the base model stands behind PEFT's {kind} already; pass base_model.get_base_model()."
        )
    return base_model.get_base_model()


def _trained_names(model: TransformersInterface) -> Set[str]:
    """Names of the base model's weights that are not frozen."""
    named = model.base_model.named_parameters(remove_duplicate=False)
    return {name for name, weight in named if weight.requires_grad}


def _leave_out_frozen(
    model: TransformersInterface, state: dict[str, Any], prefix: str, _: dict
) -> None:
    """Take the frozen base model out of a state that is about to be returned."""
    trained = _trained_names(model)
    for key in [key for key in state if key.startswith(prefix + BASE)]:
        if key.removeprefix(prefix + BASE) not in trained:
            del state[key]


def _miss_no_frozen(model: TransformersInterface, keys: Any) -> None:
    """Weights that no state holds are not missing from one; `keys` are those of `load_state_dict`."""
    trained = _trained_names(model)
    keys.missing_keys[:] = [
        key for key in keys.missing_keys if BASE not in key or key.split(BASE, 1)[1] in trained
    ]
