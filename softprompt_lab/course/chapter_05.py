"""Checks of chapter 05: the PEFT folder."""

from collections.abc import Callable

import torch
from safetensors.torch import save

from .checks import Wrong, exercise

SOUND = {
    "peft_type": "PROMPT_TUNING",
    "task_type": "CAUSAL_LM",
    "num_virtual_tokens": 3,
    "token_dim": 4,
}


@exercise(
    "05-1",
    hint="""
    A float32 takes 4 bytes. Count the numbers first: P virtual tokens of D numbers each, once for each
    submodule. The tutorial's case, 8 virtual tokens of width 1024, must give 32,768.
    """,
)
def size_of_the_numbers(prompt_bytes: Callable[..., int]) -> str:
    """Check `prompt_bytes(virtual_tokens, width, submodules=1)`: 4 P D submodules."""
    given = prompt_bytes(8, 1_024)
    if given == 8 * 1_024:
        raise Wrong(
            f"{given:,} is how many *numbers* there are; each takes 4 bytes, so the file is four times that."
        )
    if given == 2 * 8 * 1_024:
        raise Wrong(
            f"{given:,} bytes would be right for 16-bit numbers; PEFT saves float32, 4 bytes each."
        )
    if given == 8 * 8 * 1_024 * 4:
        raise Wrong(f"{given:,} is the size in bits; a byte has 8 of them.")
    if given != 32_768:
        raise Wrong(
            f"for P=8, D=1024 you say {given}; the numbers of the tutorial's prompt take 32,768 bytes."
        )
    if prompt_bytes(20, 576) != 46_080:
        raise Wrong(
            f"P=8, D=1024 is right, but for P=20, D=576 you say {prompt_bytes(20, 576)}; it is 46,080."
        )
    if prompt_bytes(20, 768, 2) == 4 * 20 * 768:
        raise Wrong(
            "an encoder-decoder's tensor has 2P rows: your result does not change with `submodules`."
        )
    if prompt_bytes(20, 768, 2) != 2 * 4 * 20 * 768:
        raise Wrong(
            f"for P=20, D=768, 2 submodules you say {prompt_bytes(20, 768, 2)}; 40 rows of 768 take 122,880."
        )
    return "8 virtual tokens of width 1024 take 32 KiB; the zip archive of a .bin makes 33K of it."


@exercise(
    "05-2",
    hint="""
    `(length,) = struct.unpack("<Q", content[:8])`, then `header = json.loads(content[8 : 8 + length])` and
    `data = content[8 + length :]`. For each name but "__metadata__" take `data[begin:end]`, unpack it with
    the format f"<{(end - begin) // 4}f" and reshape the tensor to `entry["shape"]`.
    """,
)
def safetensors_by_hand(read: Callable[[bytes], dict[str, torch.Tensor]]) -> str:
    """Check `read(content)`: the tensors of a safetensors file in float32."""
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randn(3, 5, generator=generator)
    _compare(
        {"prompt_embeddings": prompt},
        read(save({"prompt_embeddings": prompt})),
        "a file of one tensor",
    )
    found = read(save({"prompt_embeddings": prompt}, metadata={"format": "pt"}))
    if "__metadata__" in found:
        raise Wrong(
            "you return '__metadata__' as if it were a tensor; it is a note of the writer: pass over it."
        )
    _compare({"prompt_embeddings": prompt}, found, "a file with metadata")
    pair = {"prompt_embeddings": prompt, "other": torch.arange(4.0).reshape(2, 2)}
    _compare(pair, read(save(pair)), "a file of two tensors")
    return "In a dozen lines you read what PEFT reads: a header and raw numbers, and nothing that could run."


def _compare(wanted: dict[str, torch.Tensor], found: object, what: str) -> None:
    """Raise Wrong unless a reader found the wanted tensors."""
    if not isinstance(found, dict) or set(found) != set(wanted):
        names = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise Wrong(f"{what} holds {sorted(wanted)}; your function returns {names}.")
    for name, tensor in wanted.items():
        given = found[name]
        if not isinstance(given, torch.Tensor):
            raise Wrong(
                f"{what}: {name!r} comes back as {type(given).__name__}; make a tensor of it."
            )
        if given.numel() != tensor.numel():
            raise Wrong(
                f"{what}: {name!r} has {given.numel()} numbers for you and {tensor.numel()} in the file. "
                "`data_offsets` count bytes from the end of the header, and a number has 4 bytes."
            )
        if given.shape != tensor.shape:
            raise Wrong(
                f"{what}: {name!r} has shape {tuple(given.shape)}; the header says {tuple(tensor.shape)}."
            )
        if not torch.equal(given.float(), tensor):
            raise Wrong(
                f"{what}: {name!r} has the right shape and other numbers: its first is "
                f"{tensor.flatten()[0]:.4f} and yours {given.flatten()[0]:.4g}. `data_offsets` begin behind "
                "the header, not at the file's start; and the low byte comes first ('<f', not '>f')."
            )


@exercise(
    "05-3",
    hint="""
    Begin with `found = [key for key in (...) if config.get(key) is None]`. Compare the shape only where
    `num_virtual_tokens` is there. `torch.isfinite(prompt).all()` covers NaN and both infinities.
    `tokenizer_kwargs` may be missing or None: `(config.get("tokenizer_kwargs") or {})`.
    """,
)
def doorkeeper(faults: Callable[[dict, torch.Tensor], list[str]]) -> str:
    """Check `faults(config, prompt)`: one sentence for each fault, none for a sound folder."""
    sound = torch.ones(3, 4)
    _expect(faults(dict(SOUND), sound), 0, "a sound folder")
    stacked = SOUND | {
        "task_type": "SEQ_2_SEQ_LM",
        "num_transformer_submodules": 2,
        "tokenizer_kwargs": None,
    }
    _expect(
        faults(stacked, torch.ones(6, 4)), 0, "a sound folder of an encoder-decoder (2 x 3 rows)"
    )
    without_task = {key: value for key, value in SOUND.items() if key != "task_type"}
    _expect(
        faults(without_task, sound), 1, "a folder without task_type, with which PEFT uses no prompt"
    )
    _expect(faults(SOUND | {"peft_type": None}, sound), 1, "a folder whose peft_type is None")
    without_count = {key: value for key, value in SOUND.items() if key != "num_virtual_tokens"}
    _expect(faults(without_count, sound), 1, "a folder without num_virtual_tokens")
    _expect(
        faults(SOUND | {"token_dim": 5}, sound),
        1,
        "a folder that says width 5 where the tensor has 4",
    )
    for value, what in ((float("nan"), "a NaN"), (float("-inf"), "minus infinity")):
        broken = sound.clone()
        broken[1, 2] = value
        _expect(faults(dict(SOUND), broken), 1, f"a tensor that holds {what}")
    remote = SOUND | {"tokenizer_kwargs": {"trust_remote_code": True}}
    _expect(faults(remote, sound), 1, "a folder that asks for remote code")
    _expect(
        faults(SOUND | {"tokenizer_kwargs": {"use_fast": True}}, sound),
        0,
        "a harmless tokenizer option",
    )
    both = sound.clone()
    both[0, 0] = float("inf")
    _expect(faults(remote, both), 2, "a folder with remote code *and* an infinity")
    return "Sound folders pass, broken ones do not, and two faults are named as two."


def _expect(found: object, count: int, what: str) -> None:
    """Raise Wrong unless `found` is a list of `count` faults."""
    if not isinstance(found, list):
        raise Wrong(
            f"your function returns a {type(found).__name__}; return a list, empty where nothing is wrong."
        )
    if len(found) != count:
        said = "; ".join(map(str, found)) or "nothing"
        raise Wrong(f"{what} has faults: {count}. You found: {len(found)} ({said}).")


@exercise(
    "05-4",
    hint="""
    Count the LoRA's numbers: one matrix pair has r x D + D x r of them, a layer has two pairs, there are L
    layers. A prompt has P x D. Set the two equal and divide by D.
    """,
)
def lora_of_equal_size(equal_size_prompt: Callable[[int, int], int]) -> str:
    """Check `equal_size_prompt(rank, layers)`: P = 4 r L."""
    given = equal_size_prompt(8, 30)
    factors = {
        1: "that is r x L: a LoRA has two factors for each matrix, and two matrices in each layer",
        2: "one factor of 2 is missing: each of the two matrices in a layer gets r x D *and* D x r numbers",
        8: "you count a factor of 2 too many: 2 matrices a layer, 2 factors each, r x D numbers in a factor",
    }
    for factor, says in factors.items():
        if given == factor * 8 * 30:
            raise Wrong(f"for r=8, L=30 you say {given}; {says}.")
    for rank, layers in ((8, 30), (1, 1), (16, 24)):
        if equal_size_prompt(rank, layers) != 4 * rank * layers:
            raise Wrong(
                f"for r={rank}, L={layers} you say {equal_size_prompt(rank, layers)}: with that many virtual "
                "tokens P x D is not L x 2 x (r x D + D x r)."
            )
    return (
        f"P = 4 r L: rank 8 on 30 layers weighs as much as {4 * 8 * 30} virtual tokens; "
        f"a prompt of 20 has {20 / (4 * 8 * 30):.1%} of its numbers."
    )
