"""The saved folder, in and out: PEFT's files, a model's prompts in them, plain vectors, a model hub."""

from .folder import (
    CARD_NAME,
    MAX_TENSOR_BYTES,
    PENDING,
    PICKLE_NAME,
    SAFE_NAME,
    adapter_card,
    default_folder_name,
    load_adapter,
    load_adapter_with_head,
    save_adapter,
)
from .vectors import export_prompt, import_prompt

__all__ = [
    "CARD_NAME",
    "MAX_TENSOR_BYTES",
    "PENDING",
    "PICKLE_NAME",
    "SAFE_NAME",
    "adapter_card",
    "default_folder_name",
    "export_prompt",
    "import_prompt",
    "load_adapter",
    "load_adapter_with_head",
    "save_adapter",
]
