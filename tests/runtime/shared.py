"""What tasks on several workers share in tests: signals and notes, as sockets and files are."""

from __future__ import annotations

import threading

import darray.runtime as da
from darray.runtime import engine as engines
from darray.runtime import limits, settings
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


def with_room(nbytes, **changes):
    """Yield an engine with other settings and so much memory for values, as a fixture does."""
    before = settings.current()
    da.configure(**changes)
    engine = engines.current_engine()
    engine._schedule.budget.limit = limits._fixed = nbytes
    yield engine
    engines.close()
    settings._current = before
