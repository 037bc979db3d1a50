"""Exercises of chapter 05: the PEFT folder."""

import json
import struct

import torch
from safetensors.torch import load, save

from .chapter_00 import WRONG_BYTES
from .checks import exercise, normal

# --- 05-1 ---


def submodules_ignored(virtual_tokens, width, submodules=1):
    """An encoder-decoder's tensor has 2P rows: your result does not change with `submodules`."""
    return 4 * virtual_tokens * width


@exercise(
    "05-1",
    cases=[(8, 1_024, 1), (20, 576, 1), (20, 768, 2)],
    wrong=[*WRONG_BYTES, submodules_ignored],
    returns="a whole number",
    passed="8 virtual tokens of width 1024 take 32 KiB; the zip archive of a .bin makes 33K of it.",
)
def saved_bytes(virtual_tokens, width, submodules):
    """Return the bytes that the numbers of a saved prompt take.

    A float32 takes 4 bytes. Count the numbers first: P virtual tokens of D numbers each, once for each
    submodule. The tutorial's case, 8 virtual tokens of width 1024, must give 32,768.
    """
    return 4 * virtual_tokens * width * submodules


# --- 05-2 ---


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


def offsets_from_the_file_start(content):
    """The shape is right and the numbers are not: `data_offsets` begin behind the header, not at the file's start."""
    return read_as(content, start=0)


def offsets_from_the_header_start(content):
    """The shape is right and the numbers are not: `data_offsets` begin behind the header, not at its start."""
    return read_as(content, start=8)


def high_byte_first(content):
    """The shape is right and the numbers are not: the low byte comes first ('<f', not '>f')."""
    return read_as(content, order=">")


def metadata_as_a_tensor(found, content):
    """You return '__metadata__' as if it were a tensor; it is a note of the writer: pass over it."""
    return "__metadata__" in found


def other_number_of_numbers(found, content):
    """A tensor has more or fewer numbers than in the file. `data_offsets` count bytes from the end of the
    header, and a number has 4 bytes."""
    sizes = {name: tensor.numel() for name, tensor in load(content).items()}
    return any(
        torch.as_tensor(found[name]).numel() != sizes[name] for name in sizes if name in found
    )


PROMPT = {"prompt_embeddings": normal(3, 5)}


@exercise(
    "05-2",
    cases=[
        (save(PROMPT),),
        (save(PROMPT, metadata={"format": "pt"}),),
        (save(PROMPT | {"other": torch.arange(4.0).reshape(2, 2)}),),
    ],
    wrong=[offsets_from_the_file_start, offsets_from_the_header_start, high_byte_first],
    faults=[metadata_as_a_tensor, other_number_of_numbers],
    returns="a dictionary of names and tensors",
    passed="In a dozen lines you read what PEFT reads: a header and raw numbers, and nothing that "
    "could run.",
)
def read_safetensors(content):
    """Return the tensors of a safetensors file in float32.

    `(length,) = struct.unpack("<Q", content[:8])`, then `header = json.loads(content[8 : 8 + length])` and
    `data = content[8 + length :]`. For each name but "__metadata__" take `data[begin:end]`, unpack it with
    the format f"<{(end - begin) // 4}f" and reshape the tensor to `entry["shape"]`.
    """
    return load(content)


# --- 05-3 ---


def number_of_faults(result, *case):
    """Return how many faults a result names."""
    return len(result)


SOUND = {
    "peft_type": "PROMPT_TUNING",
    "task_type": "CAUSAL_LM",
    "num_virtual_tokens": 3,
    "token_dim": 4,
}
STACKED = SOUND | {"num_transformer_submodules": 2, "tokenizer_kwargs": None}
REMOTE = SOUND | {"tokenizer_kwargs": {"trust_remote_code": True}}
ONES = torch.ones(3, 4)
NAN, INFINITE = ONES.clone(), ONES.clone()
NAN[1, 2], INFINITE[1, 2] = torch.nan, -torch.inf


@exercise(
    "05-3",
    cases=[
        (SOUND, ONES),
        (STACKED | {"task_type": "SEQ_2_SEQ_LM"}, torch.ones(6, 4)),
        ({key: value for key, value in SOUND.items() if key != "task_type"}, ONES),
        (SOUND | {"peft_type": None}, ONES),
        ({key: value for key, value in SOUND.items() if key != "num_virtual_tokens"}, ONES),
        (SOUND | {"token_dim": 5}, ONES),
        (SOUND, NAN),
        (SOUND, INFINITE),
        (REMOTE, ONES),
        (SOUND | {"tokenizer_kwargs": {"use_fast": True}}, ONES),
        (REMOTE, INFINITE),
    ],
    measure=number_of_faults,
    returns="a list, empty where nothing is wrong",
    passed="Sound folders pass, broken ones do not, and two faults are named as two.",
)
def faults(config, prompt):
    """Return one sentence for each fault of a folder, none for a sound one.

    Begin with `found = [key for key in (...) if config.get(key) is None]`. Compare the shape only where
    `num_virtual_tokens` is there. `torch.isfinite(prompt).all()` covers NaN and both infinities.
    `tokenizer_kwargs` may be missing or None: `(config.get("tokenizer_kwargs") or {})`.
    """
    needed = ("peft_type", "task_type", "num_virtual_tokens")
    rows = (config.get("num_virtual_tokens") or 0) * config.get("num_transformer_submodules", 1)
    shaped = tuple(prompt.shape) == (rows, config.get("token_dim"))
    remote = (config.get("tokenizer_kwargs") or {}).get("trust_remote_code")
    return [
        *(f"{key} is missing" for key in needed if config.get(key) is None),
        *(["the tensor has another shape"] if rows and not shaped else []),
        *([] if prompt.isfinite().all() else ["a number is not finite"]),
        *(["the folder asks for remote code"] if remote else []),
    ]


# --- 05-4 ---


def rank_times_layers(rank, layers):
    """That is r x L: a LoRA has two factors for each matrix, and two matrices in each layer."""
    return rank * layers


def one_factor_missing(rank, layers):
    """One factor of 2 is missing: each of the two matrices in a layer gets r x D *and* D x r numbers."""
    return 2 * rank * layers


def one_factor_too_many(rank, layers):
    """You count a factor of 2 too many: 2 matrices a layer, 2 factors each, r x D numbers in a factor."""
    return 8 * rank * layers


@exercise(
    "05-4",
    cases=[(8, 30), (1, 1), (16, 24)],
    wrong=[rank_times_layers, one_factor_missing, one_factor_too_many],
    returns="a number of virtual tokens: P x D is L x 2 x (r x D + D x r)",
    passed="P = 4 r L: rank 8 on 30 layers weighs as much as 960 virtual tokens; a prompt of 20 has "
    "2.1% of its numbers.",
)
def equal_size_prompt(rank, layers):
    """Return the virtual tokens of the prompt with as many numbers as a LoRA on two matrices a layer.

    Count the LoRA's numbers: one matrix pair has r x D + D x r of them, a layer has two pairs, there are L
    layers. A prompt has P x D. Set the two equal and divide by D.
    """
    return 4 * rank * layers
