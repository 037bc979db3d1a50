"""Files from strangers: what is opened is a plain file of a sane size, in the folder where it was looked for."""

import stat
import zipfile
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
        raise error(f"{path} is a link that leaves its folder, to {path.resolve()}; copy the file there.")
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path} is no plain file.")
    if found.st_size > most_bytes:
        raise error(f"{path}: {found.st_size:,} bytes is too large; at most {most_bytes:,} are read.")
    return path


def check_archive(path: Path, most_bytes: int) -> None:
    """Refuse an archive that unpacks to more than it holds; torch writes its own uncompressed.

    Raises:
        AdapterError: it is no archive, is compressed, or is larger inside than `most_bytes`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise AdapterError(f"{path} was refused, and nothing in it was run: it is no plain file of tensors.") from error
    packed = [part.filename for part in parts if part.compress_type != zipfile.ZIP_STORED]
    size = sum(part.file_size for part in parts)
    if packed or size > most_bytes:
        what = f"{packed[0]} is compressed" if packed else f"it holds {size:,} bytes"
        raise AdapterError(f"{path} was refused, and nothing in it was run: {what}; a saved prompt is small and plain.")
