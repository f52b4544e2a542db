"""Buffers: memory that a thread uses again and again while it computes chunks."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALIGNMENT", "borrowed"]

# Buffers begin at multiples of this, in bytes, so that no vector lies across two cache lines.
ALIGNMENT = 64

# The largest buffer that a thread keeps, in bytes, and how many: one for a program, one for the
# reduction above it.
_LARGEST = 1 << 22
_MOST = 2


class _Spare(threading.local):
    """Each thread's buffers that nothing is using, those used last at the end."""

    def __init__(self) -> None:
        self.buffers: list[NDArray[np.uint8]] = []


_spare = _Spare()


class borrowed:
    """At least `nbytes` of memory, which holds anything, for the block alone.

    Fresh memory costs more than the arithmetic on it, so a thread keeps what it has used.

    Examples
    --------
    >>> with borrowed(1000) as first, borrowed(1000) as second:
    ...     np.shares_memory(first, second)
    False
    """

    __slots__ = ("_buffer", "_buffers", "_nbytes")

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes

    def __enter__(self) -> NDArray[np.uint8]:
        self._buffers = buffers = _spare.buffers
        nbytes = self._nbytes
        buffer = buffers.pop() if buffers else None
        if buffer is None or len(buffer) < nbytes:
            raw = np.empty(nbytes + ALIGNMENT, np.uint8)
            buffer = raw[-raw.ctypes.data % ALIGNMENT :][:nbytes]
        self._buffer = buffer
        return buffer

    def __exit__(self, *exception: object) -> None:
        if len(self._buffer) <= _LARGEST and len(self._buffers) < _MOST:
            self._buffers.append(self._buffer)
