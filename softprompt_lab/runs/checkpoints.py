"""Checkpoints: one file with everything that a training run needs to go on as if it had never stopped.

A safetensors file: the prompt, what the optimizer remembers and the snapshots as tensors, the rest as JSON in its
metadata. The order of the rows follows from the seed, so the number of steps stands for the sampler; nothing else in a
step is random. No pickle is written or read.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from ..bases.origin import check_base
from ..errors import AdapterError
from ..model import SoftPromptModel
from ..saving import atomic_write, plain_file, user_path
from ..tasks import LABEL_COLUMN, Task
from ..training import State, TrainingHistory

CHECKPOINT_NAME = "checkpoint.safetensors"
MAX_BYTES = 8_000_000_000
SNAPSHOT = "snapshot/"  # before the step of a snapshot
BASE = ("base_model_name_or_path", "revision")  # of a configuration
TOLD = {"losses": list, "penalties": list, "evaluations": list, "seconds": float}  # of a history


class Checkpoint:
    """The checkpoint of a run in a folder.

    Args:
        history: of the run; a checkpoint that is gone on from fills it.
    """

    def __init__(
        self, folder: Path, model: SoftPromptModel, task: Task, history: TrainingHistory
    ) -> None:
        self.path, self.history = user_path(folder) / CHECKPOINT_NAME, history
        self.model = model
        rows = [list(task.train[column]) for column in (task.text_column, LABEL_COLUMN)]
        words = len(model.word_embeddings_module.weight)
        shown = repr((rows, task.template, words, tuple(model.prompt.shape)))
        digest = hashlib.sha256(shown.encode()).hexdigest()
        self._run = history.settings | {"digest of rows, template and sizes": digest}

    def begin(self, resume: bool) -> State | None:
        """Return the state to go on from, None where there is no checkpoint yet.

        Raises:
            AdapterError: there is one and nobody asked to go on from it, it is damaged, or it is another run's.
        """
        if not self.path.exists():
            return None
        if not resume:
            raise AdapterError(
                f"{self.path} is there already; pass resume=True to go on from it, or delete it."
            )
        tensors, values = load_checkpoint(self.path)
        try:
            other = [
                f"{key}={values['run'][key]!r}, now {now!r}"
                for key, now in self._run.items()
                if values["run"][key] != now
            ]
            if other:
                raise AdapterError(f"{self.path} is of another run: {', '.join(other)}.")
            base = dict.fromkeys(BASE) | values.get("base", {})
            made_for = replace(self.model.prompt_config, **base)
            check_base([made_for], self.model.base_model, self.path)
            for name, kind in TOLD.items():
                setattr(self.history, name, kind(values["history"][name]))
            for key in [key for key in tensors if key.startswith(SNAPSHOT)]:
                self.history.snapshots[int(key.removeprefix(SNAPSHOT))] = tensors.pop(key)
            return tensors, values
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AdapterError(
                f"{self.path} lacks what a run needs, or is damaged: {error!r}"
            ) from error

    def save(self, state: State) -> None:
        """Replace the checkpoint by the state after a step, with the history so far.

        Raises:
            AdapterError: it cannot be written; the one before is unharmed.
        """
        tensors, values = state
        kept = {f"{SNAPSHOT}{step}": prompt for step, prompt in self.history.snapshots.items()}
        told = {name: getattr(self.history, name) for name in TOLD}
        base = {field: getattr(self.model.prompt_config, field) for field in BASE}
        told = {"run": self._run, "history": told, "base": base}
        save_checkpoint(self.path, (tensors | kept, values | told))


def save_checkpoint(path: Path, state: State) -> None:
    """Replace a checkpoint in one move.

    Raises:
        AdapterError: it cannot be written; the one before is unharmed.
    """
    tensors, values = state
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        atomic_write(path, save(plain, metadata={"format": "pt", "values": json.dumps(values)}))
    except OSError as error:
        raise AdapterError(
            f"{path} cannot be written: {error}. The checkpoint before it is unharmed."
        ) from error


def load_checkpoint(path: Path) -> State:
    """Return what `save_checkpoint` wrote of a run: its values name the "step".

    Raises:
        AdapterError: there is none, or it is damaged.
    """
    content = plain_file(path, MAX_BYTES).read_bytes()
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        values = json.loads(header["__metadata__"]["values"])
        if type(values["step"]) is not int or values["step"] < 0:
            raise ValueError(f"step={values['step']!r}")
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdapterError(
            f"{path} is no checkpoint of this package or is damaged: {error!r}"
        ) from error
    return tensors, values
