"""Keeping: how many bytes computations have left with expressions, asked to or not."""

from __future__ import annotations

import weakref
from functools import partial

from darray.lowering.plans import Kept

__all__ = ["count", "held"]

# Results of at most this many bytes are not counted.
SMALL = 2**16

# Bytes of each result that somebody still holds, by identity, and what tells of its end.
_held: dict[int, tuple[int, weakref.ref[Kept]]] = {}


def count(kept: Kept, nbytes: int) -> None:
    """Count `kept`, whose chunks have `nbytes`, until nobody holds it."""
    if nbytes > SMALL:
        key = id(kept)
        _held[key] = (nbytes, weakref.ref(kept, partial(_forget, key)))


def _forget(key: int, _: object) -> None:
    _held.pop(key, None)


def held() -> int:
    """Bytes of all that is counted."""
    # A copy, since other threads may add to it.
    return sum([nbytes for nbytes, _ in _held.copy().values()])
