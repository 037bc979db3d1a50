"""Exercises of chapter 06: the PEFT folder."""

import json
import struct

import torch
from safetensors.torch import load, save

from .cases import normal, shares_in
from .checks import exercise


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
    "06-1",
    cases=[
        (save(PROMPT),),
        (save(PROMPT, metadata={"format": "pt"}),),
        (save(PROMPT | {"other": torch.arange(4.0).reshape(2, 2)}),),
    ],
)
def read_safetensors(content):
    """Return a dictionary of names and float32 tensors, those of a safetensors file.

    Take the file apart as the chapter does: the length with `struct.unpack`, the header with `json.loads`, the rest.

    For each name but "__metadata__" unpack `data[begin:end]` with the format f"<{(end - begin) // 4}f", and reshape.
    """
    return load(content)


@exercise("06-2")
def size_beforehand():
    """Return a whole number, the bytes of a safetensors file that holds a prompt of 4 x 576 numbers.

    The file has three parts. Which of them becomes half as long?

    The header's text is one character shorter, [0,9216] for [0,18432]. How is it filled up behind the text?
    """
    return 8 + 112 + 4 * 4 * 576


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

    Begin with `found = [key for key in (...) if config.get(key) is None]`; `isfinite` covers NaN and infinities.

    `tokenizer_kwargs` may be missing or None: `(config.get("tokenizer_kwargs") or {}).get("trust_remote_code")`.
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


def folder_like(prompt, base, rows=0, name="prompt_embeddings", **kind):
    """Return the configuration and the tensors of a prompt, with P at one of its dimensions."""
    sizes = {"num_virtual_tokens": prompt.shape[rows], "token_dim": prompt.shape[1 - rows]}
    config = {"peft_type": "PROMPT_TUNING", "base_model_name_or_path": base} | sizes | kind
    return config, {name: prompt}


@exercise(
    "06-4",
    cases=[(normal(3, 5), "smollm2"), (normal(8, 4), "tiny")],
    measure=lambda found, prompt, base: len(faults(found[0], prompt)),
)
def folder_of(prompt, base):
    """Return two dictionaries, the configuration and the tensors of a prompt for a decoder.

    The chapter's own file has the right name, and its section "PEFT reads it" has the silence.

    The name is `prompt_embeddings`, a prompt is (P, D), and the silent one is `"task_type": "CAUSAL_LM"`.
    """
    return folder_like(prompt, base, task_type="CAUSAL_LM")


def supported(answer):
    """Tell whether a sentence says one of the accuracies that were measured."""
    measured = answer["accuracies"].values()
    return any(abs(x - y) < 0.006 for x in shares_in(answer["sentence"]) for y in measured)


def tried(sentence="It falls to 71 %.", n=250, **more):
    """Return an experiment with accuracies of three places, and changes."""
    measured = {"@Acme {text}": 0.9, "@Initech {text}": 0.708, "{text} Initech": 0.82} | more
    return {"accuracies": {k: v for k, v in measured.items() if v}, "n": n, "sentence": sentence}


@exercise("06-5", measure=lambda found: set(found) >= {"accuracies", "n", "sentence"})
def experiment():
    """Return a dictionary with accuracies by place, the number of rows n, and a sentence.

    Keep "{text}" (no name) as a control, and "@Vandelay {text}" to see the leak.

    Loop over the places, and write the sentence last: f"At the end of a tweet the name leaves {end:.1%}."
    """
    return tried()
