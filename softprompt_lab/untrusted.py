"""Files from strangers: what is opened is a plain file of a sane size, in the folder where it was looked for."""

import stat
from pathlib import Path

from .errors import AdapterError, LabError


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
