"""Accumulating: tasks that add to the same data, one at a time, in whatever order they can."""

from __future__ import annotations

import queue
import threading

import numpy as np
import pytest

import darray.runtime as da


def fill(array, value):
    array[...] = value


def add(array, value):
    array += value


@pytest.mark.usefixtures("engine")
def test_accumulation_is_one_task_at_a_time():
    total = np.zeros(1)
    inside = []

    def accumulate(array, value):
        inside.append(value)
        assert len(inside) == 1
        array += value
        inside.remove(value)

    with da.spawn_datadeps():
        for value in range(50):
            da.spawn(accumulate, da.Accumulate(total), value)
        found = da.spawn(np.sum, total)
    assert found.result() == sum(range(50))


@pytest.mark.usefixtures("threads")
def test_what_accumulates_does_not_wait_for_what_accumulated_before_it():
    total, late = np.zeros(3), np.zeros(3)
    order = []
    gate, other_added = threading.Event(), threading.Event()

    def accumulate(array, name, *_):
        order.append(name)
        array += 1
        if name == "second":
            other_added.set()

    with da.spawn_datadeps():
        da.spawn(fill, da.Out(total), 1)
        held = da.spawn(gate.wait, 60)
        da.spawn(accumulate, da.Accumulate(total), "first", held)
        da.spawn(accumulate, da.Accumulate(total), "second")
        assert other_added.wait(60)
        copied = da.spawn(np.copyto, da.Out(late), total)
        da.spawn(accumulate, da.Accumulate(total), "third")
        assert not copied.done()
        gate.set()
    assert order == ["second", "first", "third"]
    assert late.tolist() == [3, 3, 3]
    assert total.tolist() == [4, 4, 4]


@pytest.mark.usefixtures("threads")
def test_a_task_tells_whose_turn_it_is():
    total = np.zeros(3)
    gate, begun = threading.Event(), threading.Event()

    def hold(array):
        begun.set()
        assert gate.wait(60)
        array += 1

    def body():
        da.spawn(hold, da.Accumulate(total))
        assert begun.wait(60)
        waiting = da.spawn(add, da.Accumulate(total), 1)
        tasks.append((waiting, waiting.explain()))
        assert da.spawn(add, da.Accumulate(total), 1).cancel()
        gate.set()

    tasks = []
    with pytest.raises(da.CancelledError):
        da.spawn_datadeps(body)
    ((waiting, told),) = tasks
    assert "another task adds to the same data now" in told
    assert "hold" in told
    assert waiting.done()
    assert total.tolist() == [2, 2, 2]


def test_cancelling_all_cancels_what_waits_for_a_turn(two_threads):
    gate, ran = threading.Event(), []
    total = np.zeros(1)

    def body():
        for _ in range(6):
            tasks.append(da.spawn(lambda _: ran.append(1), da.Accumulate(total)))
        assert set(tasks) <= set(two_threads.unfinished())
        da.cancel_all()
        gate.set()

    tasks = []

    def hold():
        begun.put(None)
        gate.wait(60)

    begun = queue.SimpleQueue()
    for _ in range(2):
        da.spawn(hold)
    for _ in range(2):
        begun.get(timeout=60)
    with pytest.raises(da.CancelledError):
        da.spawn_datadeps(body)
    assert all(task.cancelled() for task in tasks)
    assert not ran


@pytest.mark.usefixtures("threads")
def test_what_accumulates_in_part_of_what_others_do_keeps_the_order():
    total = np.zeros(4)
    order = []
    gate = threading.Event()

    def accumulate(array, name, *_):
        order.append(name)
        array += 1

    with da.spawn_datadeps():
        held = da.spawn(gate.wait, 60)
        da.spawn(accumulate, da.Accumulate(total), "all", held)
        part = da.spawn(accumulate, da.Accumulate(total[1:3]), "part")
        also = da.spawn(accumulate, da.Accumulate(total), "reads it, too", da.In(total))
        gate.set()
        da.wait([part, also])
        both = da.spawn(accumulate, da.Accumulate(total), "twice", da.Accumulate(total))
    assert order == ["all", "part", "reads it, too", "twice"]
    assert both.done()
    assert total.tolist() == [3, 4, 4, 3]


@pytest.mark.usefixtures("threads")
def test_tasks_that_accumulate_in_several_arrays_take_turns_in_each():
    arrays = [np.zeros(1) for _ in range(3)]
    inside = []

    def accumulate(first, second):
        ids = {id(one.base if one.base is not None else one) for one in (first, second)}
        assert not any(ids & one for one in inside)
        inside.append(ids)
        first += 1
        second += 1
        inside.remove(ids)

    with da.spawn_datadeps():
        for number in range(300):
            pair = arrays[number % 3], arrays[(number + 1 + number % 2) % 3]
            da.spawn(accumulate, *map(da.Accumulate, pair))
    assert sum(int(one[0]) for one in arrays) == 600
