"""The saved folder: PEFT's `adapter_config.json`, `adapter_model.safetensors` (or `.bin`) and `README.md`.

A save is all or nothing. The new files are written and flushed into a hidden folder first, which is then renamed to
`.pending`: from that moment the save holds. The files are moved to their places one by one, the weights last; whoever
opens the folder next after a crash finishes the moving, or, where nothing can be written, reads the files where they
are. Of several processes one saves at a time, and none while one reads. What else lies in the folder is left alone.

What is read may come from a stranger: a plain file of a sane size, in the folder where it was looked for, whose every
number is checked, and nothing of which is executed.
"""

import contextlib
import io
import json
import os
import secrets
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from . import room
from .config import (
    BASE_PREFIX,
    CONFIG_NAME,
    DEFAULT_NAME,
    PROMPT_NAME,
    PromptTuningConfig,
    TaskType,
)
from .errors import AdapterError, LabError

if TYPE_CHECKING:
    from .model import SoftPromptModel

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

TENSOR_NAME = "prompt_embeddings"
TASK_FACTORS = ("prefix_task_cols", "prefix_task_rows")  # of MULTITASK_PROMPT_TUNING
SAFE_NAME = "adapter_model.safetensors"
PICKLE_NAME = "adapter_model.bin"
CARD_NAME = "README.md"
PENDING = ".pending"
STAGE = ".softprompt_lab-"  # before the name of a folder that a save is being written to
WEIGHTS = {SAFE_NAME, PICKLE_NAME}
MOVED = (CARD_NAME, CONFIG_NAME, SAFE_NAME, PICKLE_NAME)  # in this order
READERS = {".bin": "adapters.pickles:read"}  # of weights in another format than safetensors
MAX_CONFIG_BYTES = 1_000_000  # a real one has about 500 bytes
MAX_HEADER_BYTES = 1_000_000  # the names and shapes in a safetensors file: thousands of tensors
MAX_TENSOR_BYTES = 250_000_000  # a prompt of 100 tokens and width 16,384 has 6.5 MB
READ_FILES = {CONFIG_NAME: MAX_CONFIG_BYTES} | dict.fromkeys(MOVED[2:], MAX_TENSOR_BYTES)

# --------------------------------------------------------------------------------------------------------- files


def user_path(path: str | Path) -> Path:
    """Return the path that a user means: ~ is the home folder; that of a user who is not there stays as it is."""
    return Path(os.path.expanduser(path))


def plain_file(
    path: Path,
    most_bytes: int,
    *,
    error: type[LabError] = AdapterError,
    missing: str = "give a folder that an adapter was saved to",
) -> Path:
    """`path` itself, once it is known to be safe to read whole; `missing` says what to do where it is not there.

    Raises:
        AdapterError: or another `error`: it does not exist, is no plain file (a pipe or a device would never end), is
            a link that leaves its folder, or is larger than `most_bytes`.
    """
    try:
        found = path.stat()
        inside = path.resolve().is_relative_to(path.parent.resolve())
    except FileNotFoundError:
        raise error(f"{path} does not exist; {missing}.") from None
    except (OSError, RuntimeError, ValueError) as cause:
        raise error(f"{path} cannot be opened: {cause}") from cause
    if not inside:
        raise error(
            f"{path} is a link that leaves its folder, to {path.resolve()}; copy the file there."
        )
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path} is no plain file.")
    if found.st_size > most_bytes:
        raise error(
            f"{path}: {found.st_size:,} bytes is too large; at most {most_bytes:,} are read."
        )
    return path


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of at most 1 MB.

    Raises:
        AdapterError: no plain file of its folder, too large, not UTF-8, not JSON, or not an object.
    """
    try:
        values = json.loads(plain_file(path, MAX_CONFIG_BYTES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise AdapterError(f"{path} holds a {type(values).__name__}, not a JSON object.")
    return values


def atomic_write(path: Path, content: bytes) -> None:
    """Replace a file in one move: whoever reads it finds the old content or the new, and after a return the new.

    What killed writers left behind of the same file is cleared away.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}-"
    with folder_lock(path.parent):
        for left in [found for found in path.parent.iterdir() if found.name.startswith(prefix)]:
            with contextlib.suppress(OSError):
                left.unlink()
        stage = path.parent / f"{prefix}{secrets.token_hex(8)}"  # tempfile's are for their owner
        try:
            with stage.open("xb") as file:
                write_through(file, content)
            os.replace(stage, path)
        except BaseException:
            stage.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_through(file, content: bytes) -> None:
    """Write and wait until the device has it."""
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames durable where the system can (Windows has no such call)."""
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def folder_lock(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Wait until a folder is free, and keep it to oneself, or with `shared` to readers, against other processes.

    The lock is the system's, on the folder itself: no file is made, a read-only folder has it too, and it ends with
    the process. Where there is none (Windows, some network drives) nothing is held.
    """
    with contextlib.ExitStack() as held:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY)
                held.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
                held.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)  # a forked child may have it
        yield


# ------------------------------------------------------------------------------------------------------- writing


def default_folder_name(config: PromptTuningConfig) -> str:
    """`{model}_{peft_type}_{task_type}`, the name that the tutorial gives a folder, without slashes of the model."""
    base = Path((config.base_model_name_or_path or "base").replace("\\", "/")).name
    return f"{base}_{config.peft_type}_{config.task_type}"


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

    Example:
        >>> import torch
        >>> from softprompt_lab import PromptTuningConfig, load_adapter, save_adapter
        >>> folder = save_adapter("my_prompt", PromptTuningConfig(4, token_dim=8), torch.zeros(4, 8))
        >>> sorted(path.name for path in folder.iterdir())
        ['README.md', 'adapter_config.json', 'adapter_model.safetensors']
    """
    _check_tensor(prompt, config, "the prompt", ValueError)
    weights = {BASE_PREFIX + name: weight for name, weight in (head or {}).items()}
    for name, weight in weights.items():
        check_numbers(weight, name, ValueError)
    tensors = {
        name: value.detach().to("cpu", torch.float32).contiguous().clone()
        for name, value in ({TENSOR_NAME: prompt} | weights).items()
    }
    saved = PromptTuningConfig(**{**config.to_dict(), "inference_mode": True})
    if safe_serialization:
        weights = {SAFE_NAME: save_safetensors(tensors, metadata={"format": "pt"})}
    else:
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        weights = {PICKLE_NAME: buffer.getvalue()}
    card = room("adapters.card:adapter_card", default=lambda *_: "")(saved, results or {})
    texts = {CARD_NAME: card.encode(), CONFIG_NAME: saved.to_json().encode()}
    folder = user_path(folder)
    try:
        _write_all_or_none(folder, texts | weights)
    except OSError as error:
        raise AdapterError(
            f"{folder} cannot be written: {error}. It holds the earlier adapter or the new one, whole."
        ) from error
    return folder


def _write_all_or_none(folder: Path, files: dict[str, bytes]) -> None:
    """Stage every file, rename the stage to `.pending` (the moment that counts), then move the files out."""
    folder.mkdir(parents=True, exist_ok=True)
    sync_folder(folder.parent)
    with folder_lock(folder):
        finish_pending(folder)
        for left in folder.glob(f"{STAGE}*"):  # of a save that was killed
            shutil.rmtree(left, ignore_errors=True)
        stage = folder / f"{STAGE}{secrets.token_hex(8)}"
        try:
            stage.mkdir()
            for name, content in files.items():
                with open(stage / name, "wb") as file:
                    write_through(file, content)
            sync_folder(stage)
            os.rename(stage, folder / PENDING)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        sync_folder(folder)
        finish_pending(folder)


def finish_pending(folder: Path) -> None:
    """Move the files of a save that was interrupted after it was complete to their places, the weights last."""
    for name in _pending_files(folder):
        if name in WEIGHTS:  # only one format is in use
            for other in WEIGHTS - {name}:
                (folder / other).unlink(missing_ok=True)
        os.replace(folder / PENDING / name, folder / name)
    if os.path.lexists(folder / PENDING):
        (folder / PENDING).rmdir()
        sync_folder(folder)


def settle(folder: Path) -> None:
    """Finish an interrupted save, if there is one; a folder that cannot be written to stays as it is."""
    if os.path.lexists(folder / PENDING):
        with contextlib.suppress(OSError), folder_lock(folder):
            finish_pending(folder)


def _pending_files(folder: Path) -> list[str]:
    """Return the files of an interrupted save in the order in which they are moved; empty where there is none.

    Raises:
        AdapterError: what lies there is no save of this package.
    """
    pending = folder / PENDING
    if not os.path.lexists(pending):
        return []
    plain = pending.is_dir() and not pending.is_symlink()
    found = {path.name: path.lstat().st_mode for path in pending.iterdir()} if plain else {"": 0}
    if not found.keys() <= set(MOVED) or not all(map(stat.S_ISREG, found.values())):
        raise AdapterError(
            f"{pending} is no interrupted save of this package; delete it if you trust the folder."
        )
    return [name for name in MOVED if name in found]


# ------------------------------------------------------------------------------------------------------- reading


def load_adapter(
    folder: str | Path, *, task_id: int | None = None, revision: str | None = None
) -> tuple[PromptTuningConfig, Float[torch.Tensor, "rows D"]]:
    """Read a folder that this package or PEFT has saved; nothing in it is executed.

    Besides PROMPT_TUNING, P_TUNING folders are read, whose saved vectors are a plain prompt, and
    MULTITASK_PROMPT_TUNING folders, one task at a time.

    Args:
        folder: where it lies, or the id `user/name` of a repository on a model hub (`adapters.hub.local_folder`).
        task_id: which of the K tasks of a MULTITASK_PROMPT_TUNING folder, from 0.
        revision: a branch, tag or commit of that repository.

    Returns:
        The checked configuration and the prompt in float32, (P, D) or (2P, D).

    Raises:
        AdapterError: a file is missing or damaged, or tensor and configuration disagree.

    Example:
        >>> import torch
        >>> from softprompt_lab import PromptTuningConfig, load_adapter, save_adapter
        >>> folder = save_adapter("my_prompt", PromptTuningConfig(4, token_dim=8), torch.zeros(4, 8))
        >>> config, prompt = load_adapter(folder)
        >>> config.num_virtual_tokens, prompt.shape
        (4, torch.Size([4, 8]))
    """
    with local_folder(folder, revision) as place:
        config, prompt, _ = load_adapter_with_head(place, task_id=task_id)
    return config, prompt


def local_folder(
    source: str | Path, revision: str | None = None, sub_folders: bool = False
) -> contextlib.AbstractContextManager[Path]:
    """Return a context with the folder that `source` names, brought from the model hub if it is an id there."""
    if isinstance(source, Path) or (revision is None and user_path(source).is_dir()):
        return contextlib.nullcontext(user_path(source))
    return room("adapters.hub:local_folder")(source, revision, READ_FILES, sub_folders)


def adapters_below(folder: Path) -> list[str]:
    """Return the sub-folders that hold an adapter: PEFT saves one that is not called "default" in one of its name."""
    whole = [path.parent for path in folder.glob(f"*/{CONFIG_NAME}")]
    pending = [path.parent.parent for path in folder.glob(f"*/{PENDING}/{CONFIG_NAME}")]
    found = {place.name for place in whole + pending if not place.is_symlink()}
    return sorted(name for name in found if not name.startswith("."))  # of a save that was killed


def load_adapter_with_head(
    folder: str | Path, *, task_id: int | None = None
) -> tuple[PromptTuningConfig, Float[torch.Tensor, "rows D"], dict[str, torch.Tensor]]:
    """`load_adapter`, and the weights of a head that was trained with the prompt, by their names in the base model."""
    folder = user_path(folder)
    if not folder.is_dir():
        raise AdapterError(
            f"{folder} is no folder; give the one that an adapter was saved to, or a hub id, user/name."
        )
    try:
        config, path, tensors = _read_save(folder)
    except OSError as error:
        raise AdapterError(f"{folder} cannot be read: {error}") from error
    prompt = tensors.pop(TENSOR_NAME)
    factors = {name: tensors.pop(name) for name in TASK_FACTORS if name in tensors}
    if factors or task_id is not None:
        prompt = room("adapters.kinds:prompt_of_task")(prompt, factors, task_id, path)
    config.token_dim = config.token_dim or next(reversed(prompt.shape), 0)
    if config.task_type is TaskType.SEQ_2_SEQ_LM and prompt.shape[:1] == (
        config.num_virtual_tokens,
    ):
        config.num_transformer_submodules = 1
    _check_tensor(prompt, config, str(path), AdapterError)
    for name, tensor in tensors.items():
        check_numbers(tensor, f"{path}: {name}", AdapterError)
    head = {name.removeprefix(BASE_PREFIX): value.float() for name, value in tensors.items()}
    return config, prompt.to(torch.float32), head


def _read_save(folder: Path) -> tuple[PromptTuningConfig, Path, dict[str, torch.Tensor]]:
    """Return configuration and tensors of one save, whoever saves meanwhile, and the path of the tensors."""
    settle(folder)
    with folder_lock(folder, shared=True):
        pending = _pending_files(folder)
        places = [folder / PENDING / name for name in pending]
        places += [folder / name for name in MOVED if os.path.lexists(folder / name)]
        where = next((path for path in places if path.name == CONFIG_NAME), None)
        if where is None:
            raise AdapterError(_no_adapter(folder))
        config = PromptTuningConfig.from_dict(read_json_object(where), where)
        path = next((path for path in places if path.name in WEIGHTS), None)
        if path is None:
            raise AdapterError(f"{folder} holds neither {SAFE_NAME} nor {PICKLE_NAME}.")
        return config, path, _read_tensors(path)


def _no_adapter(folder: Path) -> str:
    """Return what to say of a folder without a configuration."""
    names = adapters_below(folder)
    listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    found = f"its sub-folders do: {listed}. Give one of them"
    found = found if names else "give a folder that an adapter was saved to"
    return f"{folder} holds no {CONFIG_NAME}; {found}."


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The prompt and what belongs to a head in a file."""
    content = plain_file(path, MAX_TENSOR_BYTES).read_bytes()
    tensors = _unpacked(path, content)
    if not isinstance(tensors.get(TENSOR_NAME), torch.Tensor):
        raise AdapterError(f"{path} has no tensor called {TENSOR_NAME!r}.")
    used = {name: value for name, value in tensors.items() if _is_used(name, value)}
    if len(used) < len(tensors):
        names = ", ".join(sorted(repr(name) for name in tensors if name not in used))
        warnings.warn(f"{path}: {names} belong to no prompt and are passed over.", stacklevel=5)
    return used


def _unpacked(path: Path, content: bytes) -> dict[str, Any]:
    """Return what is in a file of either format; nothing in it is run."""
    if path.suffix in READERS:
        return room(READERS[path.suffix])(path, content)
    if int.from_bytes(content[:8], "little") > MAX_HEADER_BYTES:
        raise AdapterError(
            f"{path} is damaged or no tensor file: the header has over {MAX_HEADER_BYTES:,} bytes."
        )
    try:
        return load_safetensors(content)
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{path} is damaged or no tensor file: {error}") from error


def _is_used(name: Any, value: Any) -> bool:
    """Return whether a tensor is the prompt, a factor of a MULTITASK prompt, or a weight of a head."""
    known = (TENSOR_NAME, *TASK_FACTORS)
    named = isinstance(name, str) and (name in known or name.startswith(BASE_PREFIX))
    return named and isinstance(value, torch.Tensor)


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
    strided = tensor.layout is torch.strided
    if not strided or tensor.nbytes > max(1, tensor.untyped_storage().nbytes()):
        raise error(f"{source} is no plain tensor: {tensor.layout}, shape {tuple(tensor.shape)}.")
    if 4 * tensor.numel() > MAX_TENSOR_BYTES:
        raise error(
            f"{source} holds {tensor.numel():,} numbers; as float32 they take more than {MAX_TENSOR_BYTES:,} bytes."
        )
    if not torch.isfinite(tensor.to(torch.float32)).all():
        raise error(f"{source} holds values that are not finite (NaN or infinity).")


# ------------------------------------------------------------------------------------------- a model's prompts


def place_of(folder: Path, name: str) -> Path:
    """Where the prompt called `name` lies."""
    return folder if name == DEFAULT_NAME else folder / name


def save_prompts(
    model: "SoftPromptModel",
    folder: str | Path,
    safe_serialization: bool,
    results: dict[str, Any] | None,
) -> Path:
    """Write every prompt with its head, the default one last; each folder is written whole or not at all.

    A sub-folder of an earlier save stays, as whatever else lies there.
    """
    for name in sorted(model.prompts, key=DEFAULT_NAME.__eq__):
        save_adapter(
            place_of(user_path(folder), name),
            model.configs[name],
            model.prompts[name].embedding.weight,
            head=model.head_weights([name]),
            safe_serialization=safe_serialization,
            results=results if name == model.active_prompt else None,
        )
    return user_path(folder)


def load_prompts(
    model_class: type["SoftPromptModel"],
    base_model: nn.Module,
    source: str | Path,
    *,
    tokenizer,
    task_id: int | None,
    revision: str | None,
    prompt_names: Sequence[str] | None,
) -> "SoftPromptModel":
    """`SoftPromptModel.from_pretrained`: the folder is read and checked before a model is made."""
    if prompt_names is None and task_id is not None:  # the number of a task is of one prompt
        prompt_names = []
    sub_folders = prompt_names is None or any(prompt_names)
    with local_folder(source, revision, sub_folders) as folder:
        if prompt_names is None:
            prompt_names = [name for name in adapters_below(folder) if _is_a_prompts(name)]
        names = [DEFAULT_NAME, *prompt_names]
        places = {name: place_of(folder, name) for name in names}
        saved = {name: load_adapter_with_head(places[name], task_id=task_id) for name in names}
    configs = [config for config, _, _ in saved.values()]
    room("bases.origin:check_base", default=lambda *_: None)(configs, base_model, source)
    config, start, head = saved.pop(DEFAULT_NAME)
    with _fitting(source):
        model = model_class(base_model, config, tokenizer=tokenizer, start=start, head=head)
    for name, (config, start, head) in saved.items():
        # A name that no prompt can have is the folder's fault.
        with _fitting(place_of(Path(source), name)):
            model.add_prompt(name, config, start=start, head=head)
    return model


def load_prompt(
    model: "SoftPromptModel",
    source: str | Path,
    name: str,
    *,
    task_id: int | None,
    revision: str | None,
) -> None:
    """`SoftPromptModel.load_prompt`: the folder's own prompt; the model is as it was where it does not fit."""
    with local_folder(source, revision) as folder:
        config, start, head = load_adapter_with_head(folder, task_id=task_id)
    room("bases.origin:check_base", default=lambda *_: None)([config], model.base_model, source)
    with _fitting(source):
        model.add_prompt(name, config, start=start, head=head)


@contextlib.contextmanager
def _fitting(source: str | Path) -> Iterator[None]:
    """Turn a ValueError about a prompt that was read into an AdapterError that names its folder."""
    try:
        yield
    except ValueError as error:
        raise AdapterError(f"{source} does not fit this base model: {error}") from error


def _is_a_prompts(name: str) -> bool:
    """Return whether `save_prompts` may have made a sub-folder with this name."""
    return PROMPT_NAME.fullmatch(name) is not None and name != DEFAULT_NAME
