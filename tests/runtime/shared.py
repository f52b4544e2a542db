"""What tasks on several workers share in tests: signals and notes, as sockets and files are."""

from __future__ import annotations

import threading

import darray.runtime as da
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


def on(worker):
    """Spawn tasks that run on `worker`."""
    return da.spawn.options(scope=da.scope(worker=worker))


def where(*_):
    """The worker that the calling task runs on."""
    return da.current_task().processor.worker
