"""One call of a base model at a time, because a packed call sets the model's attention until it has ended.

A training dashboard computes in a thread of its own, while a cell below it asks the same base model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from weakref import WeakKeyDictionary

import torch
from torch import nn

_locks: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()
_making = RLock()


@contextmanager
def lock(base_model: nn.Module) -> Iterator[None]:
    """Wait until no other thread is inside a call of this base model; calls within a call pass at once."""
    if torch.compiler.is_compiling():
        yield
        return
    with _making:
        lock = _locks.setdefault(base_model, RLock())
    with lock:
        yield
