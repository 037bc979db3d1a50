"""What a learner's machine needs, found or missing, with the way to get it."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import psutil
import torch
from packaging.requirements import Requirement

from ..bases import fetching
from ..bases.loading import choose_device

PACKAGE = "softprompt-lab"
INSTALL = 'pip install -c constraints.txt -e ".[course]"'
MEMORY_GB = 3.0  # smollm2 in float32, its activations and a notebook's kernel


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `remedy` says how to get it where it is not in order."""

    name: str
    found: str
    ok: bool
    remedy: str = INSTALL


def examine() -> list[Finding]:
    """Look at Python, packages, device, memory, base models and rated texts."""
    python = Finding("Python", platform.python_version(), True)  # pip installs on no other
    return [python, *_packages(), _device(), _memory(), *_fetched()]


def missing(findings: list[Finding]) -> list[Finding]:
    """Return what is not there."""
    return [finding for finding in findings if not finding.ok]


def _packages() -> Iterator[Finding]:
    """Compare every package that the lab and its chapters require with what is installed."""
    for requirement in map(Requirement, requires(PACKAGE) or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": "course"}):
            try:
                found = version(requirement.name)
            except PackageNotFoundError:
                found = "not installed"
            wanted, number = requirement.specifier, found.split("+")[0]
            ok = found != "not installed" and wanted.contains(number, prereleases=True)
            yield Finding(requirement.name, found if ok else f"{found}, needed {wanted}", ok)


def _device() -> Finding:
    """Look where tensors will live, and how many cores share the work."""
    device = choose_device()
    card = f" ({torch.cuda.get_device_name()})" if device.type == "cuda" else ""
    threads = torch.get_num_threads()
    return Finding("device", f"{device}{card}, {os.cpu_count()} cores, {threads} threads", True)


def _memory() -> Finding:
    """Look at the memory that is free now."""
    free = psutil.virtual_memory().available / 1e9
    remedy = "close other programs, or work with the base model tiny"
    return Finding("memory", f"{free:.1f} GB free", free >= MEMORY_GB, remedy)


def _fetched() -> Iterator[Finding]:
    """Look at the fetched base models and texts."""
    for name in (*fetching.SOURCES, "tweets"):
        ok = fetching.is_fetched(name)
        found = f"in {fetching.source_of(name)[1]}" if ok else "not fetched, or incomplete"
        yield Finding(name, found, ok, f"softprompt-lab fetch {name}")
