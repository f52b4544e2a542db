"""Python's cyclic collector, paused while a plan is made."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["paused"]

# Guards `_pauses` and `_was_enabled`; taken last, held for a few instructions.
_lock = threading.Lock()
_pauses = 0
_was_enabled = False


@contextmanager
def paused() -> Iterator[None]:
    """Let the collector rest in a block that makes many objects, none of them garbage.

    It would walk all of them again and again, which takes as long as making them. Blocks of
    several threads may overlap; what the program itself said of the collector holds after the
    last of them.

    Examples
    --------
    >>> with paused():
    ...     gc.isenabled()
    False
    """
    global _pauses, _was_enabled
    with _lock:
        if _pauses == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if _pauses == 0 and _was_enabled:
                gc.enable()
