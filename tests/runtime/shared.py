"""What tasks on several workers share in tests: signals and notes, as sockets and files are."""

from __future__ import annotations

import threading

from darray.runtime.spaces import register_handle


class Notes(list):
    """A list that every worker sees."""


class Board(dict):
    """A dict that every worker sees."""


for kind in (
    Notes,
    Board,
    threading.Event,
    threading.Barrier,
    threading.Semaphore,
    type(threading.Lock()),
    type(threading.RLock()),
):
    register_handle(kind)
