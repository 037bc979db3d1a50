"""PyTorch's `.bin` files, read without importing or calling anything that they name.

`torch.save` writes an archive: a pickle that describes a dict of tensors, and the numbers of each storage in a record
of its own. A pickle is a program for a small machine. Here Python's own machine runs it, with the instructions that a
dict of tensors needs and no others, and what it would import is a name. torch's restricted reader still lets 60 bytes
ask for gigabytes (`torch.FloatTensor(2**30)`, `bytearray(2**32)`) or for a hash that takes years (a tuple of tuples of
tuples as a key).
"""

import io
import pickle
import pickletools
import struct
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..errors import AdapterError
from ..saving import MAX_TENSOR_BYTES

MAX_PROGRAM_BYTES = 200_000  # of the pickle: a thousand tensors; a prompt's has 182
DTYPES = {  # what is learned is floating point
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
}
# The instructions that do here what they do everywhere: they put together strings, numbers, tuples, lists and dicts.
PLAIN = """
    PROTO STOP MARK NONE NEWTRUE NEWFALSE BINUNICODE BININT BININT1 BININT2 LONG1 BINFLOAT GLOBAL BINPERSID
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT BINPUT LONG_BINPUT BINGET LONG_BINGET
"""
# What damage raises; RuntimeError also where a record is encrypted or compressed in an unknown way.
DAMAGE = (EOFError, LookupError, OverflowError, RuntimeError, TypeError, ValueError, AttributeError)
DAMAGE += (zipfile.BadZipFile, struct.error, pickle.UnpicklingError)


class Refused(Exception):
    """A file that holds, or may hold, something else than tensors; the message says what."""


class _Name(str):
    """What a pickle would import: its name, never the thing."""


def read(path: Path, content: bytes) -> dict[str, Any]:
    """Return the tensors in PyTorch's own format, without running anything of it.

    Raises:
        AdapterError: it is damaged, or it holds something else than a dict of tensors.
    """
    try:
        return load_pickled(content, MAX_TENSOR_BYTES)
    except Refused as error:
        raise AdapterError(f"{path} was refused, and nothing in it was run: {error}.") from error


def load_pickled(content: bytes, most_bytes: int) -> dict[str, Any]:
    """The dict that `torch.save` wrote; values that are no tensors come as whatever they are.

    Raises:
        Refused: no such file, larger inside than `most_bytes`, or a pickle that wants to call something.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_records(archive.infolist(), most_bytes)
            (program,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if archive.getinfo(program).file_size > MAX_PROGRAM_BYTES:
                raise Refused(f"its pickle is larger than {MAX_PROGRAM_BYTES:,} bytes")
            order = f"{program.removesuffix('data.pkl')}byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise Refused("its numbers are not little-endian")
            found = _Reader(archive, program).load()
    except DAMAGE as error:
        raise Refused("it is no plain file of tensors") from error
    return found if isinstance(found, dict) else {}


def _check_records(records: list[zipfile.ZipInfo], most_bytes: int) -> None:
    """Refuse an archive that unpacks to more than it holds; torch writes its own uncompressed."""
    packed = [record.filename for record in records if record.compress_type != zipfile.ZIP_STORED]
    size = sum(record.file_size for record in records)
    if packed or size > most_bytes:
        what = f"{packed[0]} is compressed" if packed else f"it holds {size:,} bytes"
        raise Refused(f"{what}; a saved prompt is small and plain")


class _Instructions(dict):
    """What the instructions of a pickle do, by their codes; any other is refused by its name."""

    def __missing__(self, code: int) -> None:
        """Refuse an instruction."""
        raise Refused(f"a prompt needs no {pickletools.code2op[chr(code)].name} in a pickle")


class _Reader(pickle._Unpickler):
    """Python's own reader with the few instructions of a dict of tensors, in which a name stands for nothing."""

    def __init__(self, archive: zipfile.ZipFile, program: str) -> None:
        super().__init__(io.BytesIO(archive.read(program)))
        self.archive, self.folder = archive, program.removesuffix("data.pkl")
        self.storages: dict[tuple, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> _Name:
        """Return the name of what would be imported."""
        return _Name(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """Return the numbers of a record, one-dimensional; each record is read once."""
        _, kind, key, _, count = pid
        if not (isinstance(kind, _Name) and type(key) is str and type(count) is int):
            raise TypeError("no description of a storage")
        if kind not in DTYPES:
            raise Refused(f"a prompt needs no {kind}")
        if (kind, key) not in self.storages:
            content, dtype = bytearray(self.archive.read(f"{self.folder}data/{key}")), DTYPES[kind]
            if len(content) != count * dtype.itemsize:
                raise ValueError(f"{len(content)} bytes for {count} numbers")
            numbers = (
                torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            )
            self.storages[kind, key] = numbers
        return self.storages[kind, key]

    def fill(self, items: list[Any]) -> None:
        """Fill the dict on the stack; a key is a string, so that none takes long to hash."""
        keys, target = items[::2], self.stack[-1]
        if type(target) is not dict or not all(type(key) is str for key in keys):
            raise TypeError(f"items of {type(target)}")
        target.update(zip(keys, items[1::2], strict=True))

    def call(self) -> None:
        """Make the three calls in the pickle of a dict of tensors here; any other is refused by its name."""
        arguments, called = self.stack.pop(), self.stack.pop()
        if called == "torch._utils._rebuild_tensor_v2":
            storage, offset, size, stride, *_ = arguments
            made = torch.as_strided(storage, size, stride, offset)
        elif called == "torch._utils._rebuild_parameter":
            made = arguments[0]
        elif called == "collections.OrderedDict" and arguments == ():
            made = {}
        else:
            raise Refused(
                f"a prompt needs no call of {called}"
                if isinstance(called, _Name)
                else "it calls a value"
            )
        self.stack.append(made)

    dispatch = _Instructions(
        {
            code[0]: pickle._Unpickler.dispatch[code[0]]
            for code in map(partial(getattr, pickle), PLAIN.split())
        }
        | {
            pickle.REDUCE[0]: call,
            pickle.SETITEM[0]: lambda self: self.fill([self.stack.pop(-2), self.stack.pop()]),
            pickle.SETITEMS[0]: lambda self: self.fill(self.pop_mark()),
            pickle.BUILD[0]: lambda self: (
                self.stack.pop()
            ),  # attributes: versions of torch's modules
        }
    )
