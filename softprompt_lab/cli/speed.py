"""Seconds of a training step here and in PEFT: same rows, same type, alternating in one run.

PEFT is the reference and no part of the package: these functions import it when they are called.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn.functional import pad

from ..batch import IGNORE
from ..config import PromptTuningConfig
from ..model import SoftPromptModel
from ..training import as_tensors

OURS = "softprompt_lab"
TUTORIAL_LENGTH = 64  # to which the tutorial pads every row
Pair = tuple[list[int], list[int]]  # ids of a context and of its label


def step_functions(
    base_model: nn.Module, virtual_tokens: int, pairs: Sequence[Pair]
) -> dict[str, Callable[[], float]]:
    """Return functions that each do one step's forward and backward on a decoder and return its loss.

    PEFT padded to the tutorial's length where the rows fit in, PEFT padded to the longest row, and ours. PEFT pads on
    the right here, where its numbers are right; the tutorial's left pads cost it the same time.
    """
    import peft

    ours = SoftPromptModel(base_model, PromptTuningConfig(virtual_tokens)).train()
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=virtual_tokens)
    theirs = peft.get_peft_model(base_model, config).eval()
    weight = theirs.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        weight.copy_(ours.prompt)
    ids, mask, labels = as_tensors(pairs, ours)
    longest = ids.shape[1]

    def step(loss_of: Callable[[], torch.Tensor], prompt: nn.Parameter) -> Callable[[], float]:
        def run() -> float:
            prompt.grad = None
            loss = loss_of()
            loss.backward()
            return loss.item()

        return run

    def peft_step(width: int) -> Callable[[], float]:
        more = (0, width - longest)
        batch = {"input_ids": pad(ids, more), "attention_mask": pad(mask, more)}
        batch["labels"] = pad(labels, more, value=IGNORE)
        return step(lambda: theirs(**batch).loss, weight)

    functions = {}
    if longest <= TUTORIAL_LENGTH:
        functions[f"PEFT, padded to {TUTORIAL_LENGTH}"] = peft_step(TUTORIAL_LENGTH)
    functions["PEFT, padded to the longest"] = peft_step(longest)
    own = ours.prompts[ours.active_prompt].embedding.weight
    return functions | {OURS: step(lambda: ours.loss(ids, mask, labels), own)}


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
