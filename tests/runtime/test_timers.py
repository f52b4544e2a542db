"""Timers: calls at a later time, and the thread that makes them."""

from __future__ import annotations

import logging
import threading

import pytest

from darray.runtime import timers
from darray.runtime.timers import Timers


def thread_of(name):
    return next((one for one in threading.enumerate() if one.name == name), None)


@pytest.mark.parametrize("tick", [None, 0.005])
def test_calls_come_in_the_order_of_their_times(tick):
    some, seen, done = Timers("darray-test-order", tick), [], threading.Event()
    some.call_later(0.05, done.set)
    some.call_later(0.02, lambda: seen.append("second"))
    some.call_later(0.001, lambda: seen.append("first"))
    some.call_later(0.01, lambda: seen.append("never")).cancel()
    assert done.wait(60)
    assert seen == ["first", "second"]


@pytest.mark.parametrize("tick", [None, 0.005])
def test_a_call_that_raises_is_logged_and_keeps_none_away(tick, caplog):
    some, done = Timers("darray-test-raising", tick), threading.Event()
    with caplog.at_level(logging.ERROR, "darray"):
        some.call_later(0.001, lambda: 1 // 0)
        some.call_later(0.01, done.set)
        assert done.wait(60)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("tick", [None, 0.005])
def test_the_thread_ends_and_comes_again(tick, monkeypatch):
    monkeypatch.setattr(timers, "LINGER", 0.01)
    some = Timers("darray-test-ending", tick)
    for _ in range(2):
        done = threading.Event()
        some.call_later(0.001, done.set)
        assert done.wait(60)
        thread = thread_of("darray-test-ending")
        if thread is not None:
            thread.join(60)
        assert thread_of("darray-test-ending") is None


def test_the_thread_does_not_wait_for_calls_that_were_cancelled():
    """They were behind one that was still to be made."""
    some, reached, go_on = Timers("darray-test-cancelled"), threading.Event(), threading.Event()

    def hold():
        reached.set()
        assert go_on.wait(60)

    some.call_later(0.0, hold)
    assert reached.wait(60)
    thread = thread_of("darray-test-cancelled")
    seen = threading.Event()
    some.call_later(0.001, seen.set)
    for timer in [some.call_later(1000, int) for _ in range(3)]:
        timer.cancel()
    go_on.set()
    assert seen.wait(60)
    thread.join(60)
    assert not thread.is_alive()


def test_the_thread_does_not_look_by_itself_for_a_call_that_is_far_off(monkeypatch):
    waits = []
    some, done = Timers("darray-test-far", 0.005), threading.Event()
    real = some._changed.wait

    def wait(seconds):
        waits.append(seconds)
        return real(seconds)

    monkeypatch.setattr(some._changed, "wait", wait)
    far = some.call_later(50, done.set)
    some.call_later(0.2, done.set)
    assert done.wait(60)
    assert len(waits) <= 4
    assert max(waits) > 1
    # One that is due soon is made soon all the same.
    soon = threading.Event()
    some.call_later(0.004, soon.set)
    assert soon.wait(10)
    far.cancel()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_no_thread_just_then_keeps_later_calls_from_nothing(monkeypatch, error):
    def refused(*arguments):
        raise error

    some, done, never = Timers(), threading.Event(), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(type(error)):
            some.call_later(0.0, never.set)
    some.call_later(0.001, done.set)
    assert done.wait(60)
    assert not never.is_set()
    some.settle()
