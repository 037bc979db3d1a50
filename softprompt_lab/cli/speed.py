"""Seconds of a training step here and in PEFT: same rows, same type, alternating in one run.

PEFT is the reference and no part of the package: these functions import it when they are called.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from ..batch import IGNORE
from ..config import PromptTuningConfig
from ..errors import LabError
from ..model import SoftPromptModel
from ..tasks import LABEL_COLUMN, Task

OURS = "softprompt_lab"
TUTORIAL_LENGTH = 64  # to which the tutorial pads every row
Pair = tuple[Sequence[int], Sequence[int]]  # ids of a context and of its label


def pairs_of(task: Task, tokenizer, rows: int) -> list[Pair]:
    """Return the first training rows at the tutorial's length, from the beginning again where there are too few."""
    texts, labels = task.train[task.text_column], task.train[LABEL_COLUMN]
    chosen = [number % len(texts) for number in range(rows)]
    return [task.encode(tokenizer, texts[n], labels[n], max_length=TUTORIAL_LENGTH) for n in chosen]


def padded_batch(pairs: Sequence[Pair], width: int) -> dict[str, torch.Tensor]:
    """Return `input_ids`, `attention_mask` and `labels` (B, width), pads at the right, -100 at the context."""
    shape = (len(pairs), width)
    ids, mask = torch.zeros(2, *shape, dtype=torch.long)
    labels = torch.full(shape, IGNORE)
    for row, (context, label) in enumerate(pairs):
        end = len(context) + len(label)
        ids[row, :end] = torch.tensor([*context, *label])
        mask[row, :end] = 1
        labels[row, len(context) : end] = torch.tensor(label)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def step_functions(
    base_model: nn.Module, virtual_tokens: int, pairs: Sequence[Pair]
) -> dict[str, Callable[[], float]]:
    """Return functions that each do one step's forward and backward on a decoder and return its loss.

    PEFT padded to the tutorial's length where the rows fit in, PEFT padded to the longest row, and ours. PEFT pads on
    the right here, where its numbers are right; the tutorial's left pads cost it the same time.
    """
    try:
        import peft
    except ImportError as error:
        raise LabError(
            "this compares with PEFT, which is not installed: pip install peft"
        ) from error
    ours = SoftPromptModel(base_model, PromptTuningConfig(virtual_tokens)).train()
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=virtual_tokens)
    theirs = peft.get_peft_model(base_model, config).eval()
    weight = theirs.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        weight.copy_(ours.prompt)
    longest = max(len(context) + len(label) for context, label in pairs)

    def step(
        width: int, loss_of: Callable[..., torch.Tensor], weight: nn.Parameter
    ) -> Callable[[], float]:
        batch = {name: part.to(ours.device) for name, part in padded_batch(pairs, width).items()}

        def run() -> float:
            weight.grad = None
            loss = loss_of(**batch)
            loss.backward()
            return loss.item()

        return run

    def peft_loss(**batch: torch.Tensor) -> torch.Tensor:
        return theirs(**batch).loss

    functions = (
        {f"PEFT, padded to {TUTORIAL_LENGTH}": step(TUTORIAL_LENGTH, peft_loss, weight)}
        if longest <= TUTORIAL_LENGTH
        else {}
    )
    own = ours.prompts[ours.active_prompt].embedding.weight
    return functions | {
        "PEFT, padded to the longest": step(longest, peft_loss, weight),
        OURS: step(longest, ours.loss, own),
    }


def alternate(
    functions: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, float]:
    """Return the median seconds of each function, called in turn, so that a noisy minute is everyone's.

    Each must wait for what it computes on an accelerator, as `.item()` does; `warm_up` rounds are not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(warm_up + rounds):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(found[warm_up:]) for name, found in seconds.items()}
