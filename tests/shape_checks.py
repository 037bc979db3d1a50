"""What checks the shapes that jaxtyping declares: beartype, once for each function in the source."""

from beartype import beartype

_known = {}


def checked(function):
    """Return the function with its arguments and its result checked.

    Jaxtyping gives it stand-ins, which hold the hints of a function and nothing else of it. A function in a function is
    defined anew at every call, with the same hints: to read them each time would take longer than all that it does.
    """
    if "<locals>" not in function.__qualname__:
        return beartype(function)
    key = (function.__module__, function.__qualname__, *function.__annotations__.items())
    key += (len(function.__defaults__ or ()), len(function.__kwdefaults__ or ()))
    if key not in _known:
        _known[key] = beartype(function)
    return _known[key]
