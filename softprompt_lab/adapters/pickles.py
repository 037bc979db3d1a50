"""PyTorch's `.bin` files, read without unpickling.

`torch.save` writes an archive: a pickle that describes a dict of tensors, and the numbers of each storage in a record
of its own. A pickle is a program for a small machine. This one knows the instructions that a dict of tensors needs and
calls nothing; torch's own restricted reader still lets 60 bytes ask for gigabytes (`torch.FloatTensor(2**30)`,
`bytearray(2**32)`) or for a hash that takes years (a tuple of tuples of tuples as a key).
"""

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..errors import AdapterError
from ..saving import MAX_TENSOR_BYTES

MAX_PROGRAM_BYTES = 200_000  # of the pickle: a thousand tensors; a prompt's has 182
DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
DAMAGE = (
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,  # an encrypted archive, a kind of compression that is not known
    OverflowError,
    RuntimeError,
    TypeError,
    UnicodeError,
    ValueError,
)


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
            folder = program.removesuffix("data.pkl")
            if (
                f"{folder}byteorder" in archive.namelist()
                and archive.read(f"{folder}byteorder") != b"little"
            ):
                raise Refused("its numbers are not little-endian")
            found = _Machine(archive, folder).run(archive.read(program))
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


class _Machine:
    """A stack, a memory, and what `torch.save` does with them."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self.archive, self.folder = archive, folder
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}
        self.storages: dict[tuple, torch.Tensor] = {}

    def run(self, program: bytes) -> Any:
        """What is left when the program stops."""
        for instruction, argument, _ in pickletools.genops(program):
            if instruction.name == "STOP":
                return self.stack.pop()
            step = STEPS.get(instruction.name)
            if step is None:
                raise Refused(f"a prompt needs no {instruction.name} in a pickle")
            step(self, argument)
        raise EOFError

    def after_mark(self) -> list[Any]:
        """Take what was put on the stack since the last mark."""
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def tuple_of(self, count: int) -> None:
        """Put the last `count` values together."""
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def set_items(self, items: list[Any]) -> None:
        """Fill the dict below; a key is a string, so that none takes long to hash."""
        keys, target = items[::2], self.stack[-1]
        if type(target) is not dict or not all(type(key) is str for key in keys):
            raise TypeError(f"items of {type(target)}")
        target.update(zip(keys, items[1::2], strict=True))

    def extend(self, items: list[Any]) -> None:
        """Fill the list below."""
        if type(self.stack[-1]) is not list:
            raise TypeError(f"more of {type(self.stack[-1])}")
        self.stack[-1].extend(items)

    def storage(self) -> None:
        """The numbers of a record, one-dimensional; each record is read once."""
        _, kind, key, _, count = self.stack.pop()
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
        self.stack.append(self.storages[kind, key])

    def call(self) -> None:
        """The three calls in the pickle of a dict of tensors, made here; any other is refused by its name."""
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


def _push(make: Callable[[Any], Any]) -> Callable[[_Machine, Any], None]:
    """An instruction that puts a value on the stack."""
    return lambda machine, argument: machine.stack.append(make(argument))


PLAIN = (
    "BINUNICODE",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
)  # the value stands in the pickle
STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    **{name: _push(lambda value: value) for name in PLAIN},
    "NONE": _push(lambda _: None),
    "NEWTRUE": _push(lambda _: True),
    "NEWFALSE": _push(lambda _: False),
    "EMPTY_TUPLE": _push(lambda _: ()),
    "EMPTY_DICT": _push(lambda _: {}),
    "EMPTY_LIST": _push(lambda _: []),
    "GLOBAL": _push(lambda name: _Name(name.replace(" ", "."))),
    "PROTO": lambda machine, _: None,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.after_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "BINPUT": lambda machine, place: machine.memory.update({place: machine.stack[-1]}),
    "LONG_BINPUT": lambda machine, place: machine.memory.update({place: machine.stack[-1]}),
    "BINGET": lambda machine, place: machine.stack.append(machine.memory[place]),
    "LONG_BINGET": lambda machine, place: machine.stack.append(machine.memory[place]),
    "BINPERSID": lambda machine, _: machine.storage(),
    "REDUCE": lambda machine, _: machine.call(),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.after_mark()),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.after_mark()),
    "BUILD": lambda machine, _: (
        machine.stack.pop()
    ),  # the attributes of an OrderedDict: versions of torch's modules
}
