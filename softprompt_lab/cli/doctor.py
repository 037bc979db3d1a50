"""What a learner's machine needs, found or missing, with the way to get it."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from ..bases import fetching

PACKAGE = "softprompt-lab"
INSTALL = 'pip install -c constraints.txt -e ".[course]"'
SUPPORTED = ((3, 11), (3, 14))  # from the first up to, not including, the second
MEMORY_GB = 3.0  # smollm2 in float32, its activations and a notebook's kernel


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `remedy` says how to get it where it is missing.

    `needed` things must be `ok` for the chapters to run; of the others the reader should know.
    """

    name: str
    found: str
    ok: bool
    remedy: str = ""
    needed: bool = True


def examine() -> list[Finding]:
    """Look at Python, packages, device, cores, memory, disk, base models and JupyterLab's kernel."""
    return [_python(), *_packages(), _device(), _memory(), _disk(), *_models(), _kernel()]


def missing(findings: list[Finding]) -> list[Finding]:
    """What is needed and not there."""
    return [finding for finding in findings if finding.needed and not finding.ok]


def _python() -> Finding:
    """The version that runs this."""
    low, end = SUPPORTED
    found = ".".join(map(str, sys.version_info[:3]))
    ok = low <= sys.version_info[:2] < end
    return Finding(
        "Python", found, ok, "install Python 3.11, 3.12 or 3.13, delete .venv and install again"
    )


def _packages() -> Iterator[Finding]:
    """Every package that the lab and its chapters require, with its version against the range."""
    try:
        lines = requires(PACKAGE) or []
    except PackageNotFoundError:
        yield Finding(PACKAGE, "not installed", False, INSTALL)
        return
    yield Finding(PACKAGE, version(PACKAGE), True)
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate({"extra": "course"}):
            yield _package(requirement)


def _package(requirement: Requirement) -> Finding:
    """One requirement against what is installed."""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return Finding(requirement.name, "not installed", False, INSTALL)
    ok = requirement.specifier.contains(found.split("+")[0], prereleases=True)
    shown = found if ok else f"{found}, needed {requirement.specifier}"
    return Finding(requirement.name, shown, ok, INSTALL)


def _device() -> Finding:
    """Where tensors will live, and how many cores share the work."""
    try:
        import torch

        from ..bases.loading import choose_device
    except ImportError as error:
        return Finding("device", f"torch cannot be imported: {error}", False, INSTALL)
    device = choose_device()
    card = f" ({torch.cuda.get_device_name()})" if device.type == "cuda" else ""
    found = f"{device}{card}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return Finding("device", found, True)


def _memory() -> Finding:
    """Memory that is free now."""
    free = psutil.virtual_memory().available / 1e9
    remedy = "close other programs, or work with the base model tiny"
    return Finding("memory", f"{free:.1f} GB free", free >= MEMORY_GB, remedy, needed=False)


def _disk() -> Finding:
    """Room in the folder of fetched models; enough once smollm2 is there."""
    folder = fetching.cache_folder()
    present = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(present).free
    ok = free >= fetching.NEEDED_BYTES or not fetching.problems("smollm2")
    remedy = f"make {fetching.NEEDED_BYTES / 1e9:.0f} GB of room, or set SOFTPROMPT_LAB_CACHE to another disk"
    return Finding("disk", f"{free / 1e9:.1f} GB free in {folder}", ok, remedy)


def _models() -> Iterator[Finding]:
    """The base models that need no hub; smollm2's files are read whole and compared with their sums."""
    for name in ("tiny", "tiny-seq2seq"):
        there = (Path(__file__).parents[1] / "assets" / name / "model.safetensors").is_file()
        yield Finding(name, "shipped" if there else "missing from the package", there, INSTALL)
    for name in fetching.SOURCES:
        wrong = fetching.problems(name, full=True)
        found = wrong[0] if wrong else f"in {fetching.cache_folder() / name}"
        force = " --force" if wrong and not fetching.problems(name) else ""
        yield Finding(name, found, not wrong, f"softprompt-lab fetch {name}{force}")


def _kernel() -> Finding:
    """The Python kernel that JupyterLab starts for a notebook."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager

        kernels = KernelSpecManager().find_kernel_specs()
    except ImportError:
        return Finding("Jupyter kernel", "not installed", False, INSTALL)
    there = "python3" in kernels
    return Finding("Jupyter kernel", kernels.get("python3", "missing"), there, INSTALL)
