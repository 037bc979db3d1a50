"""The saved folder: PEFT's `adapter_config.json`, `adapter_model.safetensors` (or `.bin`) and `README.md`.

A save is all or nothing. The new files are written and flushed into a hidden folder first, which is then renamed to
`.pending`: from that moment the save holds. The files are moved to their places one by one; whoever opens the folder
next after a crash finishes the moving, or, where nothing can be written, reads the files where they are. Of several
processes one saves at a time, and none while one reads. What else lies in the folder is left alone.
"""

import contextlib
import html
import io
import json
import os
import re
import shutil
import stat
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from ..config import CONFIG_NAME, MAX_CONFIG_BYTES, PromptTuningConfig, TaskType, read_json_object
from ..durable import folder_lock, sync_folder, write_through
from ..errors import AdapterError
from ..untrusted import plain_file
from .hub import local_folder
from .pickles import Refused, load_pickled

TENSOR_NAME = "prompt_embeddings"
TASK_FACTORS = (
    "prefix_task_cols",
    "prefix_task_rows",
)  # (K, rows, r) and (K, r, D) of MULTITASK_PROMPT_TUNING
HEAD_PREFIX = "base_model."  # before the names of a trained head's weights
SAFE_NAME = "adapter_model.safetensors"
PICKLE_NAME = "adapter_model.bin"
CARD_NAME = "README.md"
PENDING = ".pending"
STAGE = ".stage-"  # before the name of a folder that a save is being written to
REMOVE = "remove"  # the file of a save that names the weights of the other format
MOVED = (SAFE_NAME, PICKLE_NAME, CONFIG_NAME, CARD_NAME)  # in this order
MAX_HEADER_BYTES = 1_000_000  # the names and shapes in a safetensors file: thousands of tensors
MAX_TENSOR_BYTES = (
    250_000_000  # a prompt of 100 tokens and width 16,384 has 6.5 MB; held up to three times
)
MODEL_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
READ_FILES = {
    CONFIG_NAME: MAX_CONFIG_BYTES,
    SAFE_NAME: MAX_TENSOR_BYTES,
    PICKLE_NAME: MAX_TENSOR_BYTES,
}


def default_folder_name(config: PromptTuningConfig) -> str:
    """`{model}_{peft_type}_{task_type}`, the name that the tutorial gives a folder, without slashes of the model."""
    base = (
        (config.base_model_name_or_path or "base").rstrip("/\\").replace("\\", "/").split("/")[-1]
    )
    return f"{base}_{config.peft_type}_{config.task_type}"


# ------------------------------------------------------------------------------------------------------- writing


def save_adapter(
    folder: str | Path,
    config: PromptTuningConfig,
    prompt: Float[torch.Tensor, "rows D"],
    *,
    head: dict[str, torch.Tensor] | None = None,
    safe_serialization: bool = True,
    results: dict[str, Any] | None = None,
) -> Path:
    """Write a prompt as PEFT writes it, all files or none.

    Args:
        prompt: (P, D), or (2P, D) with two submodules; saved in float32.
        head: weights that were trained with it, by their names in the base model.
        safe_serialization: `.safetensors`, or PyTorch's `.bin` on request.
        results: measured figures for the card, such as `{"test accuracy": "0.87 (0.83 to 0.90)"}`.

    Raises:
        ValueError: the prompt's shape is not the configuration's, or it is not finite.
        AdapterError: the folder cannot be written.
    """
    _check_tensor(prompt, config, "the prompt", ValueError)
    named = {TENSOR_NAME: prompt} | {
        HEAD_PREFIX + name: weight for name, weight in (head or {}).items()
    }
    tensors = {
        name: value.detach().to("cpu", torch.float32).contiguous().clone()
        for name, value in named.items()
    }
    saved = PromptTuningConfig(**{**config.to_dict(), "inference_mode": True})
    weights, other = (SAFE_NAME, PICKLE_NAME) if safe_serialization else (PICKLE_NAME, SAFE_NAME)
    files = {
        weights: save_safetensors(tensors, metadata={"format": "pt"})
        if safe_serialization
        else _pickled(tensors),
        CONFIG_NAME: saved.to_json().encode(),
        CARD_NAME: adapter_card(saved, results or {}).encode(),
    }
    folder = Path(folder)
    try:
        _write_all_or_none(folder, files, remove=other)
    except OSError as error:
        raise AdapterError(
            f"{folder} cannot be written: {error}. An earlier adapter there is unharmed."
        ) from error
    return folder


def _pickled(tensors: dict[str, torch.Tensor]) -> bytes:
    """PyTorch's own format, for readers that know no safetensors."""
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def _write_all_or_none(folder: Path, files: dict[str, bytes], remove: str) -> None:
    """Stage every file, rename the stage to `.pending` (the moment that counts), then move the files out."""
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder):
        finish_pending(folder)
        for left in [path for path in folder.iterdir() if path.name.startswith(STAGE)]:
            _clear_stage(left)
        stage = Path(tempfile.mkdtemp(prefix=STAGE, dir=folder))
        try:
            for name, content in (files | {REMOVE: remove.encode()}).items():
                with open(stage / name, "wb") as file:
                    write_through(file, content)
            sync_folder(stage)
            os.rename(stage, folder / PENDING)
        except BaseException:
            _clear_stage(stage)
            raise
        sync_folder(folder)
        finish_pending(folder)


def _clear_stage(stage: Path) -> None:
    """Delete what a save that broke off has written; anything else in there stays, and so does its folder."""
    with contextlib.suppress(OSError):
        if not stage.is_symlink():
            for name in (*MOVED, REMOVE):
                (stage / name).unlink(missing_ok=True)
            stage.rmdir()


def finish_pending(folder: Path) -> None:
    """Move the files of a save that was interrupted after it was complete to their places."""
    pending, outdated = folder / PENDING, _outdated(folder)
    if outdated is None:
        return
    for name in MOVED:
        if (pending / name).exists():
            os.replace(pending / name, folder / name)
    if outdated:
        (folder / outdated).unlink(missing_ok=True)
    shutil.rmtree(pending)
    sync_folder(folder)


def _outdated(folder: Path) -> str | None:
    """The weights that an interrupted save puts out of use ("" for none); None where there is no such save.

    Raises:
        AdapterError: what lies there is no save of this package.
    """
    pending = folder / PENDING
    if not os.path.lexists(pending):
        return None
    allowed = {pending / name for name in (*MOVED, REMOVE)}
    found = set(pending.iterdir()) if pending.is_dir() and not pending.is_symlink() else {pending}
    if not found <= allowed or not all(stat.S_ISREG(path.lstat().st_mode) for path in found):
        raise AdapterError(
            f"{pending} is no interrupted save of this package; delete it if you trust the folder."
        )
    order = pending / REMOVE
    name = plain_file(order, 100).read_bytes().decode("utf-8", "replace") if order in found else ""
    return name if name in (SAFE_NAME, PICKLE_NAME) else ""


# ------------------------------------------------------------------------------------------------------- reading


def load_adapter(
    folder: str | Path, *, task_id: int | None = None, revision: str | None = None
) -> tuple[PromptTuningConfig, Float[torch.Tensor, "rows D"]]:
    """Read a folder that this package or PEFT has saved; nothing in it is executed.

    Besides PROMPT_TUNING, P_TUNING folders are read, whose saved vectors are a plain prompt, and
    MULTITASK_PROMPT_TUNING folders, one task at a time.

    Args:
        folder: where it lies, or the id `user/name` of a repository on a model hub (`hub.local_folder`).
        task_id: which of the K tasks of a MULTITASK_PROMPT_TUNING folder, from 0.
        revision: a branch, tag or commit of that repository.

    Returns:
        The checked configuration and the prompt in float32, (P, D) or (2P, D).

    Raises:
        AdapterError: a file is missing or damaged, or tensor and configuration disagree.
    """
    with local_folder(folder, revision, READ_FILES) as place:
        config, prompt, _ = load_adapter_with_head(place, task_id=task_id)
    return config, prompt


def adapters_below(folder: Path) -> list[str]:
    """The sub-folders that hold an adapter: PEFT saves one that is not called "default" in a folder of its name."""
    whole = [path.parent for path in folder.glob(f"*/{CONFIG_NAME}")]
    pending = [
        path.parent.parent for path in folder.glob(f"*/{PENDING}/{CONFIG_NAME}")
    ]  # finished when it is read
    return sorted({place.name for place in whole + pending if not place.is_symlink()})


def load_adapter_with_head(
    folder: str | Path, *, task_id: int | None = None
) -> tuple[PromptTuningConfig, Float[torch.Tensor, "rows D"], dict[str, torch.Tensor]]:
    """`load_adapter`, and the weights of a head that was trained with the prompt, by their names in the base model."""
    folder = Path(folder)
    if not folder.is_dir():
        raise AdapterError(
            f"{folder} is no folder; give the one that an adapter was saved to, or a hub id, user/name."
        )
    try:
        config, path, tensors = _read_save(folder)
    except OSError as error:
        raise AdapterError(f"{folder} cannot be read: {error}") from error
    factors = [tensors.pop(name, None) for name in TASK_FACTORS]
    prompt = _of_task(tensors.pop(TENSOR_NAME), factors, task_id, path)
    if config.token_dim is None:
        config.token_dim = prompt.shape[-1]
    if config.task_type is TaskType.SEQ_2_SEQ_LM and len(prompt) == config.num_virtual_tokens:
        config.num_transformer_submodules = 1
    _check_tensor(prompt, config, str(path), AdapterError)
    for name, tensor in tensors.items():
        check_numbers(tensor, f"{path}: {name}", AdapterError)
    head = {
        name.removeprefix(HEAD_PREFIX): tensor.to(torch.float32) for name, tensor in tensors.items()
    }
    return config, prompt.to(torch.float32), head


def _read_save(folder: Path) -> tuple[PromptTuningConfig, Path, dict[str, torch.Tensor]]:
    """Configuration and tensors of one save, whoever saves meanwhile, and the path that the tensors came from."""
    if os.path.lexists(folder / PENDING):
        with contextlib.suppress(OSError), folder_lock(folder):  # a read-only folder stays as it is
            finish_pending(folder)
    with folder_lock(folder, shared=True):
        outdated = _outdated(folder)
        where = _find(folder, (CONFIG_NAME,), outdated)
        if where is None:
            raise AdapterError(_no_adapter(folder))
        config = PromptTuningConfig.from_dict(read_json_object(where), where)
        path = _find(folder, (SAFE_NAME, PICKLE_NAME), outdated)
        if path is None:
            raise AdapterError(f"{folder} holds neither {SAFE_NAME} nor {PICKLE_NAME}.")
        return config, path, _read_tensors(path)


def _no_adapter(folder: Path) -> str:
    """What to say of a folder without a configuration."""
    names = adapters_below(folder)
    listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    found = (
        f"its sub-folders do: {listed}. Give one of them"
        if names
        else "give a folder that an adapter was saved to"
    )
    return f"{folder} holds no {CONFIG_NAME}; {found}."


def _find(folder: Path, names: Sequence[str], outdated: str | None) -> Path | None:
    """Where the first of these files is: in an interrupted save, if there is one, else in the folder."""
    places = [folder / PENDING / name for name in names] if outdated is not None else []
    places += [folder / name for name in names if name != outdated]
    return next((place for place in places if os.path.lexists(place)), None)


def _of_task(
    prompt: torch.Tensor, factors: list[torch.Tensor | None], task_id: int | None, path: Path
) -> torch.Tensor:
    """A prompt as it is, or what the shared prompt of several tasks becomes for one: times its low-rank matrix.

    Wang et al. 2023 (arXiv 2303.02861), section 3; PEFT's `MultitaskPromptEmbedding`.
    """
    columns, rows = factors
    if columns is None or rows is None:
        if task_id is not None:
            raise AdapterError(
                f"{path} holds one prompt; task_id={task_id} is for MULTITASK_PROMPT_TUNING."
            )
        return prompt
    for name, factor in zip(TASK_FACTORS, factors, strict=True):
        check_numbers(factor, f"{path}: {name}", AdapterError)
    tasks = len(columns) if columns.dim() == 3 else 0
    if rows.dim() != 3 or (*columns.shape[::2], *prompt.shape) != (
        *rows.shape[:2],
        *columns.shape[1:2],
        rows.shape[2],
    ):
        raise AdapterError(
            f"{path}: {tuple(columns.shape)} and {tuple(rows.shape)} do not fit {tuple(prompt.shape)}."
        )
    if task_id is None or not 0 <= task_id < tasks:
        raise AdapterError(
            f"{path} holds prompts of {tasks} tasks; pass task_id=, a number from 0 to {tasks - 1}."
        )
    return prompt.float() * (columns[task_id].float() @ rows[task_id].float())


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The prompt and what belongs to a head in a file."""
    content = plain_file(path, MAX_TENSOR_BYTES).read_bytes()
    tensors = _unpacked(path, content)
    if not isinstance(tensors.get(TENSOR_NAME), torch.Tensor):
        raise AdapterError(f"{path} has no tensor called {TENSOR_NAME!r}.")
    used = {
        name: value
        for name, value in tensors.items()
        if _is_head(name, value) or _is_prompt(name, value)
    }
    if len(used) < len(tensors):
        names = ", ".join(sorted(repr(name) for name in tensors if name not in used))
        warnings.warn(f"{path}: {names} belong to no prompt and are passed over.", stacklevel=5)
    return used


def _unpacked(path: Path, content: bytes) -> dict[str, Any]:
    """What is in a file of either format; nothing in it is run."""
    if path.name == PICKLE_NAME:
        try:
            return load_pickled(content, MAX_TENSOR_BYTES)
        except Refused as error:
            raise AdapterError(
                f"{path} was refused, and nothing in it was run: {error}."
            ) from error
    if int.from_bytes(content[:8], "little") > MAX_HEADER_BYTES:
        raise AdapterError(
            f"{path} is damaged or no tensor file: the header has over {MAX_HEADER_BYTES:,} bytes."
        )
    try:
        return load_safetensors(content)
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{path} is damaged or no tensor file: {error}") from error


def _is_prompt(name: Any, value: Any) -> bool:
    """True for the prompt and the factors that make it one task's."""
    return name in (TENSOR_NAME, *TASK_FACTORS) and isinstance(value, torch.Tensor)


def _is_head(name: Any, value: Any) -> bool:
    """True for a weight of the base model."""
    return (
        isinstance(name, str) and name.startswith(HEAD_PREFIX) and isinstance(value, torch.Tensor)
    )


def _check_tensor(
    tensor: torch.Tensor, config: PromptTuningConfig, source: str, error: Callable
) -> None:
    """Shape as configured, floating point, finite."""
    expected = (config.total_virtual_tokens, config.token_dim)
    if tuple(tensor.shape) != expected:
        raise error(f"{source} has shape {tuple(tensor.shape)}; the configuration says {expected}.")
    check_numbers(tensor, source, error)


def check_numbers(tensor: torch.Tensor, source: str, error: Callable) -> None:
    """Floating point, as many numbers as are stored, not too many, finite."""
    if not tensor.is_floating_point():
        raise error(f"{source} holds {tensor.dtype}; what is learned is floating point.")
    if tensor.layout is not torch.strided or tensor.numel() > max(
        1, tensor.untyped_storage().nbytes()
    ):
        raise error(f"{source} is no plain tensor: {tensor.layout}, shape {tuple(tensor.shape)}.")
    if 4 * tensor.numel() > MAX_TENSOR_BYTES:
        raise error(
            f"{source} holds {tensor.numel():,} numbers; as float32 they take more than {MAX_TENSOR_BYTES:,} bytes."
        )
    if not torch.isfinite(tensor.to(torch.float32)).all():
        raise error(f"{source} holds values that are not finite (NaN or infinity).")


# ---------------------------------------------------------------------------------------------------- the card


def _one_line(text: Any) -> str:
    """Somebody's text within a line of Markdown, its HTML and its table borders shown as they are written."""
    return (
        html.escape(" ".join(str(text).split()), quote=False)
        .replace("|", r"\|")
        .replace("`", r"\`")
    )


def adapter_card(config: PromptTuningConfig, results: dict[str, Any]) -> str:
    """`README.md`: PEFT's front matter, what the folder is, how to load it, and what was measured."""
    base = config.base_model_name_or_path or ""
    pipeline = ["pipeline_tag: text-generation"] if config.task_type is TaskType.CAUSAL_LM else []
    known = (
        MODEL_ID.fullmatch(base) is not None
    )  # a hub refuses a card that names a folder of somebody's machine
    name = base if known else "folder of the base model"
    front = [
        "---",
        *([f"base_model: {json.dumps(base)}"] if known else []),
        "library_name: peft",
        *pipeline,
        "tags:",
        *([f"- {json.dumps(f'base_model:adapter:{base}')}"] if known else []),
        "- transformers",
        "---",
    ]
    rows = [f"| {_one_line(key)} | {_one_line(value)} |" for key, value in results.items()]
    table = ["## Measured", "", "| figure | value |", "|---|---|", *rows, ""] if rows else []
    start = config.prompt_tuning_init.value + (
        f" ({_one_line(config.prompt_tuning_init_text)})" if config.prompt_tuning_init_text else ""
    )
    body = [
        "",
        "# A soft prompt",
        "",
        f"{config.num_virtual_tokens} trained vectors of width {config.token_dim} that stand in front of the input of",
        f"the frozen base model `{name if known else 'unknown'}` ({config.task_type}). Start: {start}.",
        "",
        "```python",
        "from softprompt_lab import SoftPromptModel, load_base_model",
        "",
        f"base_model, tokenizer = load_base_model({name!r})",
        'model = SoftPromptModel.from_pretrained(base_model, "this folder", tokenizer=tokenizer)',
        "```",
        "",
        "Hugging Face PEFT loads it too: `PeftModel.from_pretrained(base_model, folder)`.",
        "",
        *table,
        "### Framework versions",
        "",
        f"- PEFT {config.peft_version}",
        "",
    ]
    return "\n".join(front + body)
