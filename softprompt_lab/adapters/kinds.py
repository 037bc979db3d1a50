"""Other methods of PEFT whose saved vectors are a plain soft prompt."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float

from ..errors import AdapterError
from ..saving import TASK_FACTORS, check_numbers

# The keys of each method that describe how its vectors were trained.
TRAINING_KEYS = {
    "P_TUNING": {
        "encoder_reparameterization_type",
        "encoder_hidden_size",
        "encoder_num_layers",
        "encoder_dropout",
    },
    "MULTITASK_PROMPT_TUNING": {
        "prompt_tuning_init",
        "prompt_tuning_init_state_dict_path",
        "prompt_tuning_init_task",
        "num_ranks",
        "num_tasks",
    },
}


def as_prompt_tuning(values: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of such a configuration that describe its saved vectors, a PROMPT_TUNING prompt."""
    dropped = TRAINING_KEYS[values["peft_type"]] | {"peft_type"}
    kept = {key: value for key, value in values.items() if key not in dropped}
    return kept | {"peft_type": "PROMPT_TUNING"}


def prompt_of_task(
    prompt: Float[torch.Tensor, "rows D"],
    factors: dict[str, torch.Tensor],
    task_id: int | None,
    path: Path,
) -> Float[torch.Tensor, "rows D"]:
    """Return what the shared prompt of K tasks becomes for one: times its low-rank matrix.

    Source: Wang et al. 2023 (arXiv 2303.02861), section 3; PEFT's `MultitaskPromptEmbedding`.

    Args:
        factors: (K, rows, r) and (K, r, D) by their names, or nothing.
        path: named in errors.

    Raises:
        AdapterError: the file holds one prompt only, the factors do not fit it, or there is no such task.
    """
    if factors.keys() != set(TASK_FACTORS):
        if task_id is not None:
            raise AdapterError(
                f"{path} holds one prompt; task_id={task_id} is for MULTITASK_PROMPT_TUNING."
            )
        return prompt
    for name, factor in factors.items():
        check_numbers(factor, f"{path}: {name}", AdapterError)
    columns, rows = (factors[name] for name in TASK_FACTORS)
    shapes = tuple(columns.shape), tuple(rows.shape)
    tasks, rank = (shapes[0][0], shapes[0][2]) if columns.dim() == 3 else (0, 0)
    if prompt.dim() != 2 or shapes != ((tasks, len(prompt), rank), (tasks, rank, prompt.shape[1])):
        raise AdapterError(f"{path}: {shapes[0]} and {shapes[1]} do not fit {tuple(prompt.shape)}.")
    if task_id is None or not 0 <= task_id < tasks:
        raise AdapterError(
            f"{path} holds prompts of {tasks} tasks; pass task_id=, a number from 0 to {tasks - 1}."
        )
    return prompt.float() * (columns[task_id].float() @ rows[task_id].float())
