"""Seconds of a training step here and in PEFT: same rows, same type, alternating in one run.

PEFT is the reference and no part of the package: these functions import it when they are called.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

<<<<<<< HEAD
from ..bases import machine
from ..batch import IGNORE, Example, Target
from ..config import PromptTuningConfig
from ..engine.packing import unique_tokens
from ..errors import LabError
from ..model import SoftPromptModel
from ..tasks import LABEL_COLUMN, Task
from ..training import as_tensors
=======
from ..config import PromptTuningConfig
from ..errors import LabError
from ..model import SoftPromptModel
from ..tasks import LABEL_COLUMN, Task
>>>>>>> r-shell

OURS = "softprompt_lab"
IGNORED = -100  # as a label
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
    labels = torch.full(shape, IGNORED)
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
<<<<<<< HEAD
    peft = _peft()
    model = SoftPromptModel(
        base_model, PromptTuningConfig(num_virtual_tokens=virtual_tokens)
    ).train()
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=virtual_tokens)
    theirs = peft.get_peft_model(base_model, config).eval()
    weight = theirs.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        weight.copy_(model.prompt)
    rows = as_tensors(pairs, model)
    longest = max(len(context) + len(label) for context, label in pairs)

    def peft_step(width: int) -> Callable[[], float]:
        batch = {name: part.to(model.device) for name, part in padded_batch(pairs, width).items()}

        def step() -> float:
            weight.grad = None
            loss = theirs(**batch).loss
            loss.backward()
            return loss.item()

        return step

    own = model.prompts[model.active_prompt].embedding.weight

    def step() -> float:
        own.grad = None
        loss = model.loss(*rows)
        loss.backward()
        return loss.item()

    padded = (
        {}
        if longest > TUTORIAL_LENGTH
        else {f"PEFT, padded to {TUTORIAL_LENGTH}": peft_step(TUTORIAL_LENGTH)}
    )
    return padded | {"PEFT, padded to the longest": peft_step(longest), OURS: step}


def alternate(
    functions: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, Measured]:
    """Call each function in turn, `rounds` times over, so that a noisy minute is everyone's, after `warm_up` rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(warm_up + rounds):
        for name, function in functions.items():
            gc.collect()
            _synchronize()
            began = time.perf_counter()
            function()
            _synchronize()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return {name: Measured(tuple(values)) for name, values in seconds.items()}


def floor_operations(base_model: nn.Module, virtual_tokens: int, pairs: Sequence[Pair]) -> float:
    """The least work of a step: every weight of the layers times every unique token, forward and backward.

    The label's projection and attention come on top.
    """
    words, head = base_model.get_input_embeddings(), base_model.get_output_embeddings()
    outside = {id(part.weight): part.weight.numel() for part in (words, head) if part is not None}
    weights = sum(weight.numel() for weight in base_model.parameters()) - sum(outside.values())
    examples = [Example(context, [Target.of(label)]) for context, label in pairs]
    return 2 * 2 * weights * (virtual_tokens + unique_tokens(examples))


def matrix_products(base_model: nn.Module, operations: float) -> Callable[[], None]:
    """So much work as plain matrix products in the base model's type and on its device: what a step stands beside."""
    words = base_model.get_input_embeddings().weight
    side = machine.SIDE.get(words.device.type, machine.SIDE_ELSEWHERE)
    a, b = (torch.ones(side, side, dtype=words.dtype, device=words.device) for _ in range(2))
    times = max(1, round(operations / (2 * side**3)))

    def multiply() -> None:
        for _ in range(times):
            a @ b

    return multiply


def peak_memory(function: Callable[[], object], device: str = "cpu") -> int:
    """Bytes that a call needs above what is there before it, at its peak. On a CPU: resident memory (Linux).

    Raises:
        LabError: this system does not tell.
    """
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        raise LabError("the peak of resident memory can be read on Linux only.")
    reset.write_text("5")
    before = _resident("VmRSS")
    function()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    """A line of this process's status, in bytes."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", text)[1])


def _synchronize() -> None:
    """Wait for an accelerator."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peft():
    """PEFT, or an error that says how to get it."""
=======
>>>>>>> r-shell
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
