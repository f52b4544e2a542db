"""The collector rests while plans are made, and does afterwards what it did before."""

from __future__ import annotations

import gc
import threading

import pytest

from darray.lowering.collector import paused


def fail_while_paused():
    with paused():
        with paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise KeyError


@pytest.mark.parametrize("enabled", [True, False])
def test_as_before_after_nested_blocks_and_errors(enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(KeyError):
            fail_while_paused()
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_blocks_of_threads_overlap():
    entered, leave = threading.Event(), threading.Event()
    seen = []

    def plan():
        with paused():
            entered.set()
            assert leave.wait(30)
            seen.append(gc.isenabled())

    thread = threading.Thread(target=plan)
    thread.start()
    assert entered.wait(30)
    with paused():
        pass
    seen.append(gc.isenabled())
    leave.set()
    thread.join()
    assert seen == [False, False]
    assert gc.isenabled()
