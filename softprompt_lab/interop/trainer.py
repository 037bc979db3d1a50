"""transformers' Trainer: an adapter folder in each of its checkpoints."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..model import SoftPromptModel


class AdapterCallback(TrainerCallback):
    """Saves the prompt into each checkpoint's folder: `Trainer(..., callbacks=[AdapterCallback()])`.

    Without it a checkpoint holds what Trainer needs to resume, and `SoftPromptModel.from_pretrained` cannot read it.
    """

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: SoftPromptModel,
        **kwargs: Any,
    ) -> None:
        """Called when a checkpoint has been written."""
        if state.is_world_process_zero:
            model.save_pretrained(Path(args.output_dir, f"checkpoint-{state.global_step}"))
