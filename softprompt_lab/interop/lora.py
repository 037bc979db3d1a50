"""Base models that PEFT has given a LoRA or the like."""

from torch import nn


def out_of_peft(base_model: nn.Module) -> nn.Module:
    """Return the model inside a `PeftModel`, with the layers (LoRA and the like) that PEFT has put into it.

    Raises:
        ValueError: PEFT has put a prompt in front of it.
    """
    if base_model.active_peft_config.is_prompt_learning:
        kind = base_model.active_peft_config.peft_type.value
        raise ValueError(
            f"the base model stands behind PEFT's {kind} already; pass base_model.get_base_model()."
        )
    return base_model.get_base_model()
