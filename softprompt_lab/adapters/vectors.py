"""A prompt as nothing but its vectors: a `.safetensors`, `.npy` or `.json` file, for tools that know no adapters."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from ..durable import atomic_write
from ..errors import AdapterError
from ..untrusted import plain_file
from .folder import MAX_TENSOR_BYTES, TENSOR_NAME, check_numbers

MAX_JSON_BYTES = 64_000_000  # numbers as text take up to ten times that in memory


def export_prompt(prompt: Float[torch.Tensor, "P D"], file: str | Path) -> Path:
    """Write the vectors of a prompt, (P, D) in float32, in the format that the file's ending names.

    `.safetensors` holds one tensor called `prompt_embeddings`, `.npy` an array, `.json` a list of P lists of D numbers;
    each reads back as the same float32. What else an adapter has (its configuration, a trained head) is not in it.

    Raises:
        ValueError: another ending, or a prompt that is not (P, D), floating point and finite.
        AdapterError: the file cannot be written; an earlier one is unharmed.
    """
    file = Path(file)
    write = _of_ending(file, WRITERS)
    _check(prompt, "the prompt", ValueError)
    content = write(prompt.detach().to("cpu", torch.float32).contiguous())
    if len(content) > _most_bytes(file):
        raise ValueError(f"{file} would have {len(content):,} bytes; write .safetensors instead.")
    try:
        atomic_write(file, content)
    except OSError as error:
        raise AdapterError(f"{file} cannot be written: {error}.") from error
    return file


def import_prompt(file: str | Path) -> Float[torch.Tensor, "P D"]:
    """Read vectors that `export_prompt` or another tool wrote: a start for `SoftPromptModel(..., start=vectors)`.

    A `.safetensors` file holds one tensor, or one called `prompt_embeddings` among others. Nothing is executed, and a
    file that claims to be larger than it is is refused before memory is taken for it.

    Returns:
        (P, D) in float32, whatever floating-point type the file has.

    Raises:
        ValueError: another ending than `.safetensors`, `.npy` or `.json`.
        AdapterError: the file is missing, damaged, too large, or holds no finite floating-point numbers (P, D).
    """
    file = Path(file)
    read = _of_ending(file, READERS)
    plain_file(file, _most_bytes(file))
    try:
        prompt = read(file)
    except AdapterError:
        raise
    except Exception as error:  # whatever a damaged file provokes in three parsers
        raise AdapterError(
            f"{file} is damaged or no {file.suffix} file of vectors: {error}"
        ) from error
    _check(prompt, str(file), AdapterError)
    return prompt.to(torch.float32)


def _of_ending(file: Path, formats: dict[str, Callable]) -> Callable:
    """The function for a file's ending."""
    if file.suffix not in formats:
        raise ValueError(
            f"{file} ends in {file.suffix!r}; vectors are kept in: {', '.join(formats)}."
        )
    return formats[file.suffix]


def _most_bytes(file: Path) -> int:
    """The largest file of a format that is read."""
    return MAX_JSON_BYTES if file.suffix == ".json" else MAX_TENSOR_BYTES


def _check(prompt: torch.Tensor, source: str, error: Callable) -> None:
    """(P, D) with neither 0, floating point, finite in float32."""
    if prompt.dim() != 2 or not prompt.numel():
        raise error(
            f"{source} has shape {tuple(prompt.shape)}; a prompt is (P, D), a row for each virtual token."
        )
    check_numbers(prompt, source, error)


# ------------------------------------------------------------------------------------------------------- formats


def _to_npy(prompt: torch.Tensor) -> bytes:
    """NumPy's format for one array."""
    buffer = io.BytesIO()
    np.save(buffer, prompt.numpy(), allow_pickle=False)
    return buffer.getvalue()


def _from_safetensors(file: Path) -> torch.Tensor:
    """The only tensor, or the one with PEFT's name."""
    tensors = load_safetensors(file.read_bytes())
    if TENSOR_NAME not in tensors and len(tensors) != 1:
        raise SafetensorError(f"it holds {sorted(tensors)}, and none is called {TENSOR_NAME!r}")
    return tensors.get(TENSOR_NAME, next(iter(tensors.values())))


def _from_npy(file: Path) -> torch.Tensor:
    """An array of floats, mapped first: what the header claims must be there, and Python objects cannot be mapped."""
    with np.errstate(
        over="ignore"
    ):  # what float32 cannot hold becomes infinite, and is refused as such
        array = np.lib.format.open_memmap(file, mode="r")
        if array.dtype.kind != "f":
            raise AdapterError(f"{file} holds {array.dtype}; what is learned is floating point.")
        return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def _from_json(file: Path) -> torch.Tensor:
    """A list of equally long lists of numbers; one bare list is refused, since a prompt has rows."""
    rows = json.loads(file.read_text(encoding="utf-8"))
    lengths = (
        {len(row) if isinstance(row, list) else -1 for row in rows}
        if isinstance(rows, list)
        else set()
    )
    if len(lengths) != 1 or lengths == {-1}:
        raise AdapterError(f"{file} holds no list of equally long lists of numbers.")
    strange = [number for row in rows for number in row if type(number) not in (int, float)]
    if strange:
        raise AdapterError(f"{file} holds {str(strange[0])[:40]!r} where a number is expected.")
    return torch.tensor(rows, dtype=torch.float32)


WRITERS = {
    ".safetensors": lambda prompt: save_safetensors(
        {TENSOR_NAME: prompt.clone()}, metadata={"format": "pt"}
    ),
    ".npy": _to_npy,
    ".json": lambda prompt: json.dumps(prompt.tolist()).encode(),
}
READERS = {".safetensors": _from_safetensors, ".npy": _from_npy, ".json": _from_json}
