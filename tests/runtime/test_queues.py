"""Queues of a block: bulk, sequential, wait_all, the user's own, one inside another."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

import darray as arrays
import darray.runtime as da
from darray.runtime.engine import current_engine
from tests.runtime.shared import Notes


class Line:
    """Notes which tasks run together, and never lets more than `width` do so."""

    def __init__(self, width=1):
        self.width = width
        self.order = Notes()
        self.running = 0
        self.most = 0
        self.lock = threading.Lock()

    def step(self, number):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.order.append(number)
        with self.lock:
            self.running -= 1


def test_without_a_queue_tasks_run_as_they_are_waited_for(engine):
    line = Line()
    for number in range(3):
        da.spawn(line.step, number).wait()
        assert line.order == list(range(number + 1))


def test_bulk_submits_at_the_end(engine):
    done = Notes()
    with da.spawn_bulk():
        tasks = [da.spawn(done.append, number) for number in range(10)]
        two, three = da.spawn(int, "2"), da.spawn(int, "3")
        power = da.spawn(pow, two, da.spawn(max, [three, 1]))
        item = da.spawn(dict, a=5)["a"]
        assert "held by a queue" in repr(power)
        assert not any(task.done() or task.running() for task in tasks)
        assert done == []
    assert power.result() == 8
    assert item.result() == 5
    da.wait(tasks)
    assert sorted(done) == list(range(10))


def waits(task):
    async def awaiting():
        await task

    return [
        task.result,
        task.exception,
        task.wait,
        lambda: task.wait(timeout=0),
        lambda: da.fetch([1, task]),
        lambda: da.wait([task]),
        lambda: da.wait([task], return_when=da.FIRST_COMPLETED),
        lambda: da.as_completed([task]),
        lambda: da.race([task]),
        lambda: asyncio.run(awaiting()),
    ]


def test_waiting_for_a_held_task_is_refused(engine):
    with da.spawn_bulk():
        task = da.spawn.options(name="load")(int, 3)
        for wait in waits(task):
            with pytest.raises(
                da.SchedulingError, match=r"'load'.*test_queues.*held by a queue.*after the block"
            ):
                wait()
    assert task.result() == 3
    assert task._watchers is None


def test_waiting_for_what_needs_a_held_task_is_refused(engine):
    with da.spawn_bulk():
        held = da.spawn(int, 3)
        free = contextvars.Context().run(da.spawn, abs, held)
        with pytest.raises(da.SchedulingError, match="held by a queue"):
            free.result()
    assert free.result() == 3


def test_waiting_for_other_tasks_in_a_bulk(engine):
    before = da.spawn(int, 3)
    with da.spawn_bulk():
        assert before.result() == 3
        da.spawn(int)
        assert contextvars.Context().run(da.spawn, int, 4).result() == 4


def test_bulk_that_raises_submits_nothing(engine):
    done, tasks, seen = Notes(), [], Notes()

    def program():
        with da.spawn_bulk():
            tasks.append(da.spawn(done.append, 1))
            tasks[0].add_done_callback(seen.append)
            raise KeyError("body")

    with pytest.raises(KeyError, match="body"):
        program()
    assert tasks[0].cancelled()
    assert seen == tasks
    with pytest.raises(da.CancelledError, match="before it ran"):
        tasks[0].result()
    da.configure()
    assert done == []


def test_held_task_can_be_cancelled(engine):
    with da.spawn_bulk():
        task = da.spawn(int, 3)
        dependent, other = da.spawn(abs, task), da.spawn(int, 4)
        assert task.cancel()
        assert task.cancelled()
    assert dependent.wait()
    assert dependent.cancelled()
    assert other.result() == 4
    da.configure()
    assert current_engine()._schedule.outstanding == 0


def test_empty_blocks(engine):
    with da.wait_all(), da.spawn_bulk(), da.spawn_sequential():
        pass


def test_sequential_runs_in_order(threads):
    line, gate = Line(), threading.Event()
    with da.spawn_sequential():
        first = da.spawn(gate.wait)
        tasks = [da.spawn(line.step, number) for number in range(50)]
    assert not tasks[0].wait(timeout=0.05)
    gate.set()
    da.wait(tasks)
    assert first.result() is True
    assert line.order == list(range(50))
    assert line.most == 1


def test_sequential_of_failures(engine):
    with da.spawn_sequential():
        first, second, third = da.spawn(int, 1), da.spawn(int, "x"), da.spawn(int, 3)
        assert first.result() == 1
    for task in (second, third):
        with pytest.raises(ValueError, match="'x'"):
            task.result()


def test_sequential_keeps_its_own_needs(engine):
    with da.spawn_sequential():
        a = da.spawn(int, 2)
        b = da.spawn(pow, a, da.spawn(int, 3))
        c = da.spawn(sum, [a, b])
    assert c.result() == 10


def test_bulk_inside_sequential_is_a_step(threads):
    met, order = threading.Barrier(5), Notes()

    def together(batch):
        met.wait()
        order.append(batch)

    with da.options(occupancy=0), da.spawn_sequential():
        with da.spawn_bulk():
            first = [da.spawn(together, 0) for _ in range(5)]
        with da.spawn_bulk():
            second = [da.spawn(together, 1) for _ in range(5)]
        single = da.spawn(order.append, 2)
        with da.spawn_bulk():
            third = [da.spawn(together, 3) for _ in range(5)]
    da.wait([*first, *second, single, *third])
    assert order == [0] * 5 + [1] * 5 + [2] + [3] * 5


def test_sequential_inside_bulk_starts_at_its_end(engine):
    line = Line()
    with da.spawn_bulk():
        with da.spawn_sequential():
            tasks = [da.spawn(line.step, number) for number in range(20)]
        free = da.spawn(int, 3)
        with pytest.raises(da.SchedulingError):
            tasks[0].wait()
        assert line.order == []
    da.wait([*tasks, free])
    assert line.order == list(range(20))
    assert line.most == 1


def test_bulk_inside_bulk_inside_sequential(engine):
    order = Notes()
    with da.spawn_sequential(), da.spawn_bulk():
        with da.spawn_bulk():
            inner = da.spawn(order.append, 0)
        with pytest.raises(da.SchedulingError):
            inner.result()
        last = da.spawn(lambda _: order.append(1), inner)
    da.wait([inner, last])
    assert order == [0, 1]


def test_queues_do_not_reach_into_tasks(engine):
    def parent():
        child = da.spawn(int, 3)
        assert child._options is None
        return child.result()

    with da.spawn_sequential(), da.spawn_bulk():
        tasks = [da.spawn(parent), da.spawn.options(name="named")(parent)]
    assert da.fetch(tasks) == [3, 3]
    assert tasks[0]._options is None
    assert tasks[1]._options.queue is None


def test_other_options_do(engine):
    def priorities():
        return da.spawn(lambda: da.current_task()._options.priority).result()

    with da.options(priority=2), da.spawn_bulk(), da.options(occupancy=0.5):
        task = da.spawn(priorities)
        own = da.spawn.options(priority=7)(priorities)
    assert da.fetch([task, own]) == [2, 2]
    assert task._options.occupancy == 0.5
    assert task._options.queue is own._options.queue is own._options.outer.queue is None


def test_wait_all_waits_for_what_was_spawned_in_it(threads):
    gate, done = threading.Event(), Notes()

    def nested():
        da.spawn.options(name="nested")(gate.wait)
        done.append("nested")

    with da.wait_all():
        da.spawn(nested)
        with da.spawn_sequential():
            da.map(done.append, range(5))
        with da.spawn_bulk():
            da.map(done.append, range(5))
    assert sorted(map(str, done)) == sorted([*"0123401234", "nested"])
    gate.set()


def test_wait_all_raises_the_failure_spawned_first(engine):
    done = Notes()

    def program():
        with da.wait_all():
            for name in ("first", "second"):
                da.spawn({}.__getitem__, name)
            da.spawn(done.append, 1)

    with pytest.raises(KeyError, match="first"):
        program()
    assert done == [1]


def test_wait_all_whose_body_raises(engine):
    done = Notes()

    def program(outer):
        with outer(), da.wait_all():
            da.map(done.append, range(5))
            da.spawn(int, "x")
            raise KeyError("body")

    with pytest.raises(KeyError, match="body"):
        program(da.wait_all)
    assert sorted(done) == list(range(5))
    with pytest.raises(KeyError, match="body"):
        program(da.spawn_bulk)
    with pytest.raises(KeyError, match="body"):
        program(lambda: da.sync())
    assert len(done) == 10


@pytest.mark.parametrize("block", [da.wait_all, da.sync])
def test_blocks_that_wait_inside_a_bulk(engine, block):
    tasks = []

    def program():
        with da.spawn_bulk(), block():
            tasks.append(da.spawn(int, 3))

    with pytest.raises(da.SchedulingError, match="held by a queue"):
        program()
    assert tasks[0].cancelled()


@pytest.mark.parametrize("block", [da.wait_all, da.sync])
def test_bulk_inside_blocks_that_wait(engine, block):
    done = Notes()
    with block():
        with da.spawn_bulk():
            da.map(done.append, range(5))
        da.spawn(done.append, 5)
    assert sorted(done) == list(range(6))


class Reversed:
    """Passes tasks on in the wrong order, three at a time."""

    def __init__(self):
        self.held = []

    def enqueue(self, submissions, outside):
        self.held += submissions
        if len(self.held) == 3:
            held, self.held = self.held[::-1], []
            outside(held)


def test_queue_of_ones_own(engine):
    queue = Reversed()
    assert isinstance(da.TaskQueue, type)
    with da.options(queue=queue):
        a = da.spawn(int, 1)
        b = da.spawn(lambda x: x + 1, a)
        c = da.spawn(lambda x: x + 1, b)
        assert c.result() == 3
        left = da.spawn(int, 5)
    (one,) = queue.held
    assert one.task is left
    with pytest.raises(da.SchedulingError):
        left.result()
    current_engine().submit_all(queue.held)
    assert left.result() == 5


def test_queue_inside_a_queue(engine):
    order = Notes()

    class Noting:
        def __init__(self, name):
            self.name = name

        def enqueue(self, submissions, outside):
            order.append((self.name, len(submissions)))
            outside(submissions)

    with da.options(queue=Noting("outer")), da.spawn_bulk(), da.options(queue=Noting("inner")):
        tasks = da.map(int, range(3))
    assert da.fetch(tasks) == [0, 1, 2]
    assert order == [("inner", 1)] * 3 + [("outer", 3)]


def test_queue_that_raises(engine):
    class Broken:
        def enqueue(self, submissions, outside):
            held.extend(submissions)
            raise LookupError("full")

    held = []
    with da.sync():
        with pytest.raises(LookupError, match="full"), da.options(queue=Broken()):
            da.spawn(int)
        da.spawn(int)
    assert held[0].task.cancelled()
    with (
        pytest.raises(TypeError, match="queue= takes an object with a method enqueue"),
        da.options(queue=3),
    ):
        pass


def test_arrays_are_computed_past_the_queues(engine):
    with da.spawn_sequential(), da.spawn_bulk():
        task = da.spawn(int, 3)
        total = float((arrays.arange(1000, blocks=100) + 1).sum())
        assert total == 500500
    assert task.result() == 3


def test_blocks_of_two_threads_do_not_mix(threads):
    met, tasks = threading.Barrier(2), {}

    def block(name):
        with da.spawn_bulk():
            met.wait()
            tasks[name] = da.spawn(int, 3)
            met.wait()
            with pytest.raises(da.SchedulingError):
                tasks[1 - name].result()
            met.wait()

    both = [threading.Thread(target=block, args=(name,)) for name in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert da.fetch(tasks) == {0: 3, 1: 3}


def test_context_that_outlives_its_bulk(engine):
    with da.spawn_bulk():
        context = contextvars.copy_context()
    assert context.run(da.spawn, int, 3).result() == 3
