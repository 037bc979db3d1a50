"""The card of a saved folder: `README.md` with PEFT's front matter."""

import html
import re
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from ..config import PromptTuningConfig, TaskType

TEMPLATE = Path(__file__).with_name("card.md")
MODEL_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def adapter_card(config: PromptTuningConfig, results: dict[str, Any]) -> str:
    """Return what the folder is, how to load it, and what was measured."""
    base = config.base_model_name_or_path or ""
    known = MODEL_ID.fullmatch(base) is not None  # a hub refuses a card that names a folder
    front = ModelCardData(
        base_model=base if known else None,
        library_name="peft",
        pipeline_tag="text-generation" if config.task_type is TaskType.CAUSAL_LM else None,
        tags=[*([f"base_model:adapter:{base}"] if known else []), "transformers"],
    )
    rows = "".join(f"| {_one_line(key)} | {_one_line(value)} |\n" for key, value in results.items())
    body = TEMPLATE.read_text(encoding="utf-8").format(
        tokens=config.num_virtual_tokens,
        width=config.token_dim,
        shown=base if known else "unknown",
        name=repr(base if known else "folder of the base model")
        + (f", revision={config.revision!r}" if config.revision else ""),
        task=config.task_type,
        measured=f"## Measured\n\n| figure | value |\n|---|---|\n{rows}\n" if rows else "",
        peft=config.peft_version,
    )
    return f"---\n{front}\n---\n\n{body}"


def _one_line(text: Any) -> str:
    """Return somebody's text within a line of Markdown, its HTML and table borders shown as they are written."""
    escaped = html.escape(" ".join(str(text).split()), quote=False)
    return escaped.replace("|", r"\|").replace("`", r"\`")
