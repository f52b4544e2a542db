"""The pool of arrays' memory when a signal or the collector breaks in at any moment."""

from __future__ import annotations

import itertools
import sys
import threading

import numpy as np
import pytest

from darray.runtime.devices import host_buffers
from darray.runtime.devices.host_buffers import LARGE, Buffer, Lease, empty

MIB = 2**20


class Interrupted(BaseException):
    """As Ctrl-C raises it."""


def interrupted_after(number, work):
    """Call ``work()``, and raise at the `number`-th begin or end of a call in the pool; if any."""
    returned = itertools.count(1)

    def profile(frame, event, _):
        code = frame.f_code
        is_inside = code.co_filename == host_buffers.__file__
        # Where a buffer's finaliser does not even begin, it goes on counting as used.
        is_end = event == "call" and code is Buffer.__del__.__code__
        is_one = is_inside and not is_end and event in ("call", "c_return")
        if is_one and next(returned) == number:
            raise Interrupted

    sys.setprofile(profile)
    try:
        work()
    except Interrupted:
        pass
    finally:
        sys.setprofile(None)
    return next(returned) > number


@pytest.mark.parametrize("what", ["drop", "lend", "lend kept", "trim", "counted"])
def test_an_interrupt_after_any_call_leaves_the_pool_whole(pool, monkeypatch, what):
    # What a finaliser raises is printed, else.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    arrays = []
    work = {
        "drop": arrays.clear,
        "lend": lambda: empty(3 * MIB, np.uint8),
        "lend kept": lambda: empty(20 * MIB, np.uint8),
        "trim": lambda: pool.trim(MIB),
        "counted": pool.counted,
    }[what]
    number, was_interrupted = 0, True
    while was_interrupted:
        number += 1
        # More than is kept, and some that is left for later.
        arrays += [empty(20 * MIB, np.uint8) for _ in range(4)]
        if what != "drop":
            with pool._lock:
                arrays.clear()
        was_interrupted = interrupted_after(number, work)
        is_held = pool._lock.locked()
        if is_held:
            # For the test to end.
            pool._lock.release()
        assert not is_held, f"after call {number}"
        arrays.clear()
        pool._check()
        pool.trim()
        assert pool.counted() == (0, 0), f"after call {number}"
    assert number > 10


def test_a_finaliser_that_makes_arrays_may_run_under_the_lock(pool):
    made = []

    class Writer:
        def __del__(self):
            made.append((empty(MIB, np.uint8), pool.trim(), pool.counted()))
            empty(3 * LARGE, np.uint8)

    def collected(limit):
        Writer()
        return pool._take_back(limit)

    kept = empty(MIB, np.uint8)
    del kept
    assert pool.counted() == (0, MIB)
    worker = threading.Thread(target=pool._alone, args=(collected,), daemon=True)
    worker.start()
    worker.join(2)
    is_alive = worker.is_alive()
    if is_alive:
        # A lock that is free, for the test to end.
        pool.after_fork()
    assert not is_alive, "the finaliser waits for its own thread"
    ((array, freed, counted),) = made
    assert (freed, counted) == (0, (0, MIB))
    made.clear()
    del array
    assert pool.counted() == (0, MIB)


def test_a_buffer_that_comes_while_idle_ones_are_looked_for_is_looked_for_as_well(pool):
    pool._watch()
    arrays = []

    def settle():
        # Called after the look found that nothing is in use, and before it ends.
        pool.settle = bool
        arrays.append(empty(MIB, np.uint8))

    pool.settle = settle
    pool._look()
    del pool.settle
    assert isinstance(arrays[0].base, Lease)
    assert pool._timer is not None
