"""Whether two values are equal and how to show them: for the checks of exercises, and for `compare` in cells."""

import math
from typing import Any

import torch

from .verdict import FAILED, PASSED, Verdict


def compare(name: str, ours: Any, theirs: Any, tolerance: float = 1e-5) -> Verdict:
    """Print whether two tensors are equal exactly, equal up to `tolerance`, and their largest difference.

    Source: the `cmp` of Karpathy's "Neural Networks: Zero to Hero", lecture 5.
    """
    ours, theirs = (torch.as_tensor(value).detach().cpu() for value in (ours, theirs))
    if ours.shape != theirs.shape:
        print(f"{name}: shapes differ, ours {tuple(ours.shape)}, theirs {tuple(theirs.shape)}")
        return FAILED
    difference = (ours.double() - theirs.double()).abs().max().item() if ours.numel() else 0.0
    exact, close = torch.equal(ours, theirs), difference <= tolerance  # a NaN is neither
    yes = {True: "yes", False: "no"}
    near = f"within {tolerance:g} {yes[close]}"
    print(f"{name}: exact {yes[exact]} | {near} | largest difference {difference:.3g}")
    return PASSED if close else FAILED


def equal(found: Any, wanted: Any, tolerance: float) -> bool:
    """Tell whether two values have the same form and the same numbers, floats up to `tolerance`."""
    if form(found) != form(wanted):
        return False
    if isinstance(wanted, torch.Tensor):
        return torch.allclose(found.double(), wanted.double(), rtol=tolerance, atol=tolerance)
    if isinstance(wanted, dict):
        names = found.keys() == wanted.keys()
        return names and all(equal(found[name], wanted[name], tolerance) for name in wanted)
    if isinstance(wanted, list | tuple):
        pairs = zip(found, wanted, strict=False)
        return len(found) == len(wanted) and all(equal(*pair, tolerance) for pair in pairs)
    if isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=tolerance, abs_tol=tolerance)
    return plain(found) == plain(wanted)


def difference(found: Any, wanted: Any) -> str:
    """Return a sentence about how a value of the right form differs from the right one."""
    if isinstance(wanted, torch.Tensor):
        farthest = (found.double() - wanted.double()).abs().nan_to_num(torch.inf).argmax()
        place = [int(index) for index in torch.unravel_index(farthest, wanted.shape)]
        ours, theirs = (value.flatten()[farthest].item() for value in (found, wanted))
        return f"The largest difference is at {place}: yours is {ours:.4g}, right is {theirs:.4g}."
    if isinstance(wanted, dict) and found.keys() == wanted.keys():
        pairs = {name: (found[name], wanted[name]) for name in wanted}
        name = next(name for name, pair in pairs.items() if not equal(*pair, 1e-4))
        forms = tuple(map(form, pairs[name]))
        if forms[0] != forms[1]:
            return f"{name!r} is {forms[0]}; right is {forms[1]}."
        return f"In {name!r}: {difference(*pairs[name])}"
    if isinstance(wanted, list | tuple | dict) and len(found) != len(wanted):
        return f"That is {len(found)} entries, and {len(wanted)} are right: {show(wanted)}."
    return f"Right is {show(wanted)}."


def form(value: Any) -> str:
    """Return a tensor's shape, the forms of a list of lists or tensors, or the kind of any other value."""
    if isinstance(value, torch.Tensor):
        return str(tuple(value.shape))
    if isinstance(value, list | tuple):
        if any(isinstance(item, list | tuple | torch.Tensor) for item in value):
            return " and ".join(map(form, value))
        return "a list"
    return "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"


def holds_tensors(value: Any) -> bool:
    """Tell whether a value is a tensor or a list of tensors."""
    items = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(item, torch.Tensor) for item in items)


def plain(value: Any) -> Any:
    """Return a value with every tensor or array in it as a number or a list."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


def show(value: Any, most: int = 24) -> str:
    """Return a short text of a value: a tensor or list of more than `most` entries by its size alone."""
    if isinstance(value, torch.Tensor):
        return show(value.tolist()) if value.numel() <= most else f"a tensor {form(value)}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {show(item)}' for name, item in value.items())}}}"
    if isinstance(value, list | tuple | bytes) and len(value) > most:
        return f"{len(value)} {'bytes' if isinstance(value, bytes) else 'entries'}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(show, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
