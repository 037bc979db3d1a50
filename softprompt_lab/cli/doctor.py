"""What a learner's machine needs, found or missing, with the way to get it."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ..bases import fetching

PACKAGE = "softprompt-lab"
INSTALL = 'pip install -c constraints.txt -e ".[course]"'
PYTHON = SpecifierSet(">=3.11,<3.14")
MEMORY_GB = 3.0  # smollm2 in float32, its activations and a notebook's kernel


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `remedy` says how to get it where it is missing.

    `needed` things must be `ok` for the chapters to run; of the others the reader should know.
    """

    name: str
    found: str
    ok: bool
    remedy: str = INSTALL
    needed: bool = True


def examine() -> list[Finding]:
    """Look at Python, packages, device, memory, base models and JupyterLab's kernel."""
    return [_python(), *_packages(), _device(), _memory(), *_models(), _kernel()]


def missing(findings: list[Finding]) -> list[Finding]:
    """Return what is needed and not there."""
    return [finding for finding in findings if finding.needed and not finding.ok]


def _python() -> Finding:
    """Look at the version that runs this."""
    found = platform.python_version()
    remedy = "install Python 3.11, 3.12 or 3.13, delete .venv and install again"
    return Finding("Python", found, PYTHON.contains(found, prereleases=True), remedy)


def _packages() -> Iterator[Finding]:
    """Look at every package that the lab and its chapters require, with its version against the range."""
    try:
        lines = requires(PACKAGE) or []
    except PackageNotFoundError:
        lines = [PACKAGE]
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate({"extra": "course"}):
            yield _package(requirement)


def _package(requirement: Requirement) -> Finding:
    """Compare one requirement with what is installed."""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return Finding(requirement.name, "not installed", False)
    ok = requirement.specifier.contains(found.split("+")[0], prereleases=True)
    return Finding(
        requirement.name, found if ok else f"{found}, needed {requirement.specifier}", ok
    )


def _device() -> Finding:
    """Look where tensors will live, and how many cores share the work."""
    try:
        import torch

        from ..bases.loading import choose_device
    except ImportError as error:
        return Finding("device", f"torch cannot be imported: {error}", False)
    device = choose_device()
    card = f" ({torch.cuda.get_device_name()})" if device.type == "cuda" else ""
    threads = torch.get_num_threads()
    return Finding("device", f"{device}{card}, {os.cpu_count()} cores, {threads} threads", True)


def _memory() -> Finding:
    """Look at the memory that is free now."""
    free = psutil.virtual_memory().available / 1e9
    remedy = "close other programs, or work with the base model tiny"
    return Finding("memory", f"{free:.1f} GB free", free >= MEMORY_GB, remedy, needed=False)


def _models() -> Iterator[Finding]:
    """Look at the fetched base models; their files are read whole and compared with their sums."""
    for name in fetching.SOURCES:
        wrong = fetching.problems(name, full=True)
        force = " --force" if wrong and not fetching.problems(name) else ""
        found = wrong[0] if wrong else f"in {fetching.cache_folder() / name}"
        yield Finding(name, found, not wrong, f"softprompt-lab fetch {name}{force}")


def _kernel() -> Finding:
    """Look for the Python kernel that JupyterLab starts for a notebook."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager
    except ImportError:
        return Finding("Jupyter kernel", "not installed", False)
    kernels = KernelSpecManager().find_kernel_specs()
    return Finding("Jupyter kernel", kernels.get("python3", "missing"), "python3" in kernels)
