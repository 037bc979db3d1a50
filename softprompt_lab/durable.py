"""Files that are there whole or not at all, whatever stops the machine and whoever writes beside us."""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

PATIENCE = 60  # seconds that a writer waits for another; a save takes milliseconds


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
        stage = (
            path.parent / f"{prefix}{secrets.token_hex(8)}"
        )  # not tempfile's, which nobody else may read
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
    """Keep a folder to oneself, or with `shared` to readers, against other processes that ask for it here.

    The lock is the system's, on the folder itself: no file is made, a read-only folder has it too, and it ends with
    the process. Where there is none (Windows, some network drives) nothing is held.

    Raises:
        TimeoutError: another process holds the folder for longer than `PATIENCE`.
    """
    descriptor = None
    try:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY) if fcntl else None
        end = time.monotonic() + PATIENCE
        while descriptor is not None and not _locked(descriptor, shared):
            if time.monotonic() > end:
                raise TimeoutError(f"another process has been writing there for {PATIENCE} seconds")
            time.sleep(0.002)
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may have the descriptor too
            os.close(descriptor)


def _locked(descriptor: int, shared: bool) -> bool:
    """Try to take the lock; False where another process has it, True too where there are no locks."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
