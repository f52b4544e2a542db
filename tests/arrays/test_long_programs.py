"""Programs of many steps: what is started by itself, let go, and computed again."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref

import numpy as np
import pytest

import darray as da
from darray.lowering.computing import DEEPEST
from darray.runtime import engine as engines
from darray.runtime import settings
from darray.runtime.events import TaskEnded

pytestmark = pytest.mark.usefixtures("engine")


def tasks_of(action):
    """How many tasks end while `action` runs."""
    count = 0
    guard = threading.Lock()

    def note(event):
        nonlocal count
        with guard:
            count += isinstance(event, TaskEnded)

    with da.subscribe(note):
        action()
        da.wait([da.spawn(int)])
    return count


def test_many_steps_in_place_are_right_and_bounded():
    x = da.arange(1000, blocks=300)
    deepest = 0
    for step in range(3 * DEEPEST):
        x += 1
        deepest = max(deepest, x.expression.depth)
        if step % 100 == 99:
            assert int(x[7]) == 8 + step
    assert deepest <= DEEPEST
    assert x.collect().tolist() == list(range(3 * DEEPEST, 3 * DEEPEST + 1000))


def test_many_assignments_are_right_and_bounded():
    theirs, ours = np.zeros((40, 5)), da.zeros((40, 5), blocks=da.Blocks(7, 5))
    for step in range(2 * DEEPEST):
        for x in (theirs, ours):
            x[step % 40] += x[(step * 7) % 40] * 0.5 + 1
        assert ours.expression.depth <= DEEPEST
    assert (ours.collect() == theirs).all()


def test_reductions_of_each_step():
    theirs = np.arange(60.0)
    ours = da.distribute(theirs, 25)
    for _ in range(100):
        theirs = theirs - np.round(theirs.max()) / 2
        ours = ours - np.round(ours.max()) / 2
        assert ours.expression.depth <= DEEPEST
    assert (ours.collect() == theirs).all()


def test_a_write_costs_tasks_for_what_it_touches_alone():
    x = da.zeros(10_000, blocks=100).persist()
    x.wait()

    def write():
        for i in range(30):
            x[i] = i
        assert int(x[29]) == 29

    assert tasks_of(write) <= 32


def test_what_was_computed_from_is_let_go():
    source = da.ones(1000, blocks=250) * 3
    x = source.persist()
    x.wait()
    seen = []
    for _ in range(5):
        array = np.arange(1000)
        seen.append(weakref.ref(array))
        # What the expression captures is the very array, which nobody can write to.
        array.flags.writeable = False
        x = (x + da.distribute(array, 250)).persist()
        del array
        x.wait()
    gc.collect()
    assert [one() for one in seen] == [None] * 5
    assert (x.collect() == 3 + 5 * np.arange(1000)).all()


def test_what_was_cancelled_is_computed_again(threads):
    entered, go_on = threading.Event(), threading.Event()

    def hold(block):
        entered.set()
        assert go_on.wait(30)
        return block

    x = da.zeros(8, blocks=1).map_blocks(hold).persist()
    assert entered.wait(30)
    waiting = [ref for ref in (x.blocks[i] for i in range(8))]
    for ref in waiting:
        ref.task.cancel()
    go_on.set()
    y = x + 1
    assert y.collect().tolist() == [1] * 8


def test_a_failure_is_raised_at_every_read():
    def fail(block):
        raise KeyError("lost")

    x = da.zeros(10, blocks=5).map_blocks(fail)
    for _ in range(DEEPEST + 50):
        x += 1
    for _ in range(2):
        with pytest.raises(KeyError, match="lost"):
            x.collect()


def test_warnings_of_what_was_started_come_where_it_is_collected():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = da.zeros(10, blocks=5)
        x /= 0
        for _ in range(DEEPEST + 50):
            x += 1
        first = x.persist()
        second = (x + 1).persist()
    with pytest.warns(RuntimeWarning, match="invalid value encountered in divide"):
        second.collect()
    assert np.isnan(first.collect()).all()


@pytest.fixture
def little_memory():
    before = settings.current()
    da.configure(memory_limit="200MB")
    yield
    engines.close()
    settings._current = before


def test_a_large_array_is_not_kept_by_itself(little_memory):
    x = da.zeros(20_000_000)
    for _ in range(DEEPEST + 10):
        x += 1
    assert x.expression.depth > DEEPEST
    assert float(x[123]) == DEEPEST + 10
