"""Whether two values are equal and how to show them: for the checks of exercises, and for `compare` in cells."""

import re
import textwrap
from typing import Any

import torch

from .verdict import FAILED, PASSED, Verdict

MOST_NUMBERS = 24  # of a tensor that is shown with its numbers
MOST_LETTERS = 300


def compare(name: str, ours: Any, theirs: Any, tolerance: float = 1e-5) -> Verdict:
    """Print whether two tensors are equal exactly, equal up to `tolerance`, and their largest difference.

    Source: the `cmp` of Karpathy's "Neural Networks: Zero to Hero", lecture 5.
    """
    ours, theirs = (torch.as_tensor(value).detach().cpu() for value in (ours, theirs))
    if ours.shape != theirs.shape:
        print(f"{name}: shapes differ, ours {tuple(ours.shape)}, theirs {tuple(theirs.shape)}")
        return FAILED
    largest = (ours.double() - theirs.double()).abs().max().item() if ours.numel() else 0.0
    exact, close = torch.equal(ours, theirs), largest <= tolerance  # a NaN is neither
    yes = {True: "yes", False: "no"}
    near = f"within {tolerance:g} {yes[close]}"
    print(f"{name}: exact {yes[exact]} | {near} | largest difference {largest:.3g}")
    return PASSED if close else FAILED


def difference(found: Any, wanted: Any, tolerance: float) -> str:
    """Return in words how a value differs from the right one by more than `tolerance`, or nothing."""
    if isinstance(wanted, list | tuple) and len(found) != len(wanted):
        return f"That is {len(found)} entries, and {len(wanted)} are right: {show(wanted)}."
    try:
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance, check_dtype=False)
    except (AssertionError, TypeError) as error:
        return f"Right is {show(wanted)}. {error}"
    return ""


def form(value: Any) -> str:
    """Return a tensor's shape, the forms of a list of lists or tensors, or the kind of any other value."""
    if isinstance(value, torch.Tensor):
        return str(tuple(value.shape))
    if isinstance(value, list | tuple):
        nested = any(isinstance(item, list | tuple | torch.Tensor) for item in value)
        return " and ".join(map(form, value)) if nested else "a list"
    return "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"


def holds_tensors(value: Any) -> bool:
    """Tell whether a value is a tensor, or a list or dictionary of tensors."""
    values = list(value.values()) if isinstance(value, dict) else value
    items = values if isinstance(values, list | tuple) else [values]
    return any(isinstance(item, torch.Tensor) for item in items)


def plain(value: Any) -> Any:
    """Return a value with every tensor or array in it as a number or a list."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value


def show(value: Any) -> str:
    """Return a short text of a value: a large tensor by its size alone, a long text by its beginning."""
    if isinstance(value, torch.Tensor) and value.numel() > MOST_NUMBERS:
        return f"a tensor {form(value)}"
    text = re.sub(" at 0x[0-9a-f]+", "", repr(value))  # of a function
    return textwrap.shorten(text, MOST_LETTERS, placeholder=" ...")
