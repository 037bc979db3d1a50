"""Exercises of chapter 06: the PEFT folder."""

import json
import struct

import torch
from safetensors.torch import load, save

from .cases import normal
from .checks import exercise


@exercise("06-1", cases=[(8, 1_024, 1), (20, 576, 1), (20, 768, 2)])
def saved_bytes(virtual_tokens, width, submodules):
    """Return a whole number, the bytes that the numbers of a saved prompt take.

    A float32 takes 4 bytes. Count the numbers first: P virtual tokens of D numbers each, once for each
    submodule. The tutorial's case, 8 virtual tokens of width 1024, must give 32,768.
    """
    return 4 * virtual_tokens * width * submodules


def read_as(content, order="<", start=None):
    """Read safetensors with a byte order, and with offsets that count from `start`."""
    (length,) = struct.unpack("<Q", content[:8])
    data = content[8 + length if start is None else start :]
    tensors = {}
    for name, entry in json.loads(content[8 : 8 + length]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            numbers = struct.unpack(f"{order}{(end - begin) // 4}f", data[begin:end])
            tensors[name] = torch.tensor(numbers).reshape(entry["shape"])
    return tensors


PROMPT = {"prompt_embeddings": normal(3, 5)}


@exercise(
    "06-2",
    cases=[
        (save(PROMPT),),
        (save(PROMPT, metadata={"format": "pt"}),),
        (save(PROMPT | {"other": torch.arange(4.0).reshape(2, 2)}),),
    ],
)
def read_safetensors(content):
    """Return a dictionary of names and float32 tensors, those of a safetensors file.

    `(length,) = struct.unpack("<Q", content[:8])`, then `header = json.loads(content[8 : 8 + length])` and
    `data = content[8 + length :]`. For each name but "__metadata__" take `data[begin:end]`, unpack it with
    the format f"<{(end - begin) // 4}f" and reshape the tensor to `entry["shape"]`.
    """
    return load(content)


def folder(**changes):
    """Return the configuration of a sound folder of 3 virtual tokens of width 4, with changes."""
    sizes = {"num_virtual_tokens": 3, "token_dim": 4}
    return {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM"} | sizes | changes


REMOTE = folder(tokenizer_kwargs={"trust_remote_code": True})
STACKED = folder(num_transformer_submodules=2, tokenizer_kwargs=None, task_type="SEQ_2_SEQ_LM")
ONES = torch.ones(3, 4)
NAN, INFINITE = (ONES.index_fill(1, torch.tensor(2), value) for value in (torch.nan, -torch.inf))


@exercise(
    "06-3",
    cases=[
        (folder(), ONES),
        (STACKED, torch.ones(6, 4)),
        ({key: value for key, value in folder().items() if key != "task_type"}, ONES),
        (folder(peft_type=None), ONES),
        ({key: value for key, value in folder().items() if key != "num_virtual_tokens"}, ONES),
        (folder(token_dim=5), ONES),
        (folder(), NAN),
        (folder(), INFINITE),
        (REMOTE, ONES),
        (folder(tokenizer_kwargs={"use_fast": True}), ONES),
        (REMOTE, INFINITE),
    ],
    measure=lambda result, config, prompt: len(result),
)
def faults(config, prompt):
    """Return a list with one sentence for each fault of a folder, empty for a sound one.

    Begin with `found = [key for key in (...) if config.get(key) is None]`. Compare the shape only where
    `num_virtual_tokens` is there. `torch.isfinite(prompt).all()` covers NaN and both infinities.
    `tokenizer_kwargs` may be missing or None: `(config.get("tokenizer_kwargs") or {})`.
    """
    needed = ("peft_type", "task_type", "num_virtual_tokens")
    rows = (config.get("num_virtual_tokens") or 0) * config.get("num_transformer_submodules", 1)
    checks = {
        "the tensor has another shape": rows and prompt.shape != (rows, config.get("token_dim")),
        "a number is not finite": not prompt.isfinite().all(),
        "remote code": (config.get("tokenizer_kwargs") or {}).get("trust_remote_code"),
    }
    missing = [f"{key} is missing" for key in needed if config.get(key) is None]
    return missing + [fault for fault, wrong in checks.items() if wrong]


@exercise("06-4", cases=[(8, 30), (1, 1), (16, 24)])
def equal_size_prompt(rank, layers):
    """Return the virtual tokens of the prompt with as many numbers as a LoRA: P x D is L x 2 x (r x D + D x r).

    Count the LoRA's numbers: one matrix pair has r x D + D x r of them, a layer has two pairs, there are L
    layers. A prompt has P x D. Set the two equal and divide by D.
    """
    return 4 * rank * layers
