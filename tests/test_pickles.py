"""PyTorch's files read without unpickling: the same tensors as torch's own reader gives, and nothing but tensors."""

import io
import zipfile
from collections import OrderedDict

import pytest
import torch

from softprompt_lab.adapters.pickles import DTYPES, Refused, load_pickled

MOST = 1_000_000


def saved(value) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def numbers() -> torch.Tensor:
    """Not all of it in order, not from the start of its storage."""
    return torch.arange(60, dtype=torch.float32).reshape(6, 10)[1:, 2:].T


@pytest.mark.parametrize(
    "value",
    [
        *({"a": torch.arange(6).reshape(2, 3).to(dtype)} for dtype in DTYPES.values()),
        {
            "a": numbers(),
            "b": numbers().contiguous(),
            "empty": torch.zeros(0, 3),
            "one": torch.tensor(2.5),
        },
        dict.fromkeys("ab", numbers()),
        OrderedDict(a=torch.nn.Parameter(numbers()), b=torch.zeros(300, 300)),
        torch.nn.Linear(3, 2).state_dict(),
        {f"tensor {number}": torch.tensor(float(number)) for number in range(300)},
    ],
    ids=lambda value: f"{type(value).__name__} of {len(value)}, {next(iter(value.values())).dtype}",
)
def test_it_reads_what_torch_reads(value):
    """Every type, views, shared storages, parameters, the dicts of modules, more names than a byte counts."""
    content = saved(value)
    expected = torch.load(io.BytesIO(content), weights_only=True)
    found = load_pickled(content, MOST)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_what_is_no_tensor_comes_as_it_is():
    """It is passed over later, with a warning."""
    value = {
        "a": torch.ones(2),
        "epoch": 3,
        "rates": [0.1, 0.2],
        "size": (1, 2, 3, 4),
        "name": None,
        "done": True,
    }
    found = load_pickled(saved(value), MOST)
    assert torch.equal(found.pop("a"), value.pop("a"))
    assert found == value
    assert load_pickled(saved([1]), MOST) == {}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": {1}}, "a prompt needs no call of __builtin__.set"),
        ({"a": torch.Size([2])}, "a prompt needs no call of torch.Size"),
        (
            {"a": torch.zeros(2).to(torch.float8_e4m3fn)},
            "a prompt needs no torch.storage.UntypedStorage",
        ),
        ({"a": torch.ones(2, dtype=torch.int64)}, "a prompt needs no torch.LongStorage"),
        ({1: torch.ones(2)}, "it is no plain file of tensors"),
        ({"a": torch.ones(300_000)}, "it holds 1,2.* bytes; a saved prompt is small and plain"),
        (
            {str(number): number for number in range(30_000)},
            "its pickle is larger than 200,000 bytes",
        ),
    ],
)
def test_what_is_more_than_tensors_is_refused(value, reason):
    """With its name."""
    with pytest.raises(Refused, match=reason):
        load_pickled(saved(value), MOST)


def test_a_name_is_a_name_and_an_unknown_instruction_is_refused():
    """What is named and never called is not imported; protocol 4 is not what torch.save writes."""
    assert load_pickled(saved({"a": io.BytesIO}), MOST)["a"] == "_io.BytesIO"
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer, pickle_protocol=4)
    with pytest.raises(Refused, match="a prompt needs no FRAME in a pickle"):
        load_pickled(buffer.getvalue(), MOST)


def test_big_endian_numbers_are_refused():
    """They would be read as others."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w") as made,
        zipfile.ZipFile(io.BytesIO(saved({"a": torch.ones(2)}))) as plain,
    ):
        for name in plain.namelist():
            made.writestr(name, b"big" if name.endswith("byteorder") else plain.read(name))
    with pytest.raises(Refused, match="not little-endian"):
        load_pickled(buffer.getvalue(), MOST)
