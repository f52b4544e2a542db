"""Cancelling what is queued and what runs: who is finished, who goes on, who gets the seat."""

from __future__ import annotations

import random
import re
import threading
import weakref

import pytest

import darray.runtime as da
from darray.runtime import contexts
from darray.runtime.batches import Batch
from darray.runtime.engine import current_engine


class Held:
    """A task that runs until its gate opens, and what came of its function afterwards."""

    def __init__(self, spawn=da.spawn):
        self.began, self.gate, self.ended = (threading.Event() for _ in range(3))
        self.threads = []
        self.task = spawn(self.run)
        self.began.wait()

    def run(self):
        self.threads.append(threading.current_thread())
        self.began.set()
        self.gate.wait()
        self.ended.set()
        return "late"


def whole(engine):
    """Assert that nothing is left behind once every task is finished."""
    da.configure()
    for thread in threading.enumerate():
        # One that was just about to be given a seat finds the engine closed, and ends.
        if re.fullmatch(r"darray-\d+", thread.name):
            thread.join(60)
    engine._check()
    assert len(engine._seats.idle) + len(engine._seats.asleep) == len(engine._seats.every)
    assert engine._schedule.running == engine._schedule.blocked == 0
    assert engine._schedule.outstanding == 0
    assert all(abs(seat.load) < 1e-9 for seat in engine._seats.every)


def join(*held):
    """Let functions that were abandoned return, and wait for their threads to park."""
    for one in held:
        one.gate.set()
        one.ended.wait()


def test_running_task_is_finished_at_once(threads):
    held = Held()
    dependent = da.spawn(abs, held.task)
    seen = []
    held.task.add_done_callback(seen.append)
    assert held.task.cancel() is True
    assert held.task.cancelled()
    assert held.task.done()
    assert seen == [held.task]
    assert not held.ended.is_set()
    for task in (held.task, dependent, da.spawn(abs, held.task)):
        assert task.cancelled()
        with pytest.raises(da.CancelledError, match=r"'Held.run'.*was cancelled while it ran"):
            task.result()
    assert held.task.cancel() is True
    join(held)
    whole(threads)


def test_its_processor_runs_others_at_once(one_thread):
    held = Held()
    other = da.spawn(threading.current_thread)
    assert not other.done()
    held.task.cancel()
    assert other.result() is not held.threads[0]
    join(held)
    assert held.task.cancelled()
    whole(one_thread)


def test_threads_of_abandoned_functions_serve_again(one_thread):
    held = [Held() for _ in range(1)]
    held[0].task.cancel()
    join(*held)
    ran = set()
    for _ in range(50):
        met = threading.Barrier(2)

        def meet(met=met):
            met.wait()
            return threading.current_thread()

        with da.options(occupancy=0):
            ran |= set(da.fetch([da.spawn(meet), da.spawn(meet)]))
    assert held[0].threads[0] in ran
    whole(one_thread)


def test_many_are_abandoned_one_after_another(one_thread):
    held = []
    for _ in range(20):
        held.append(Held())
        held[-1].task.cancel()
    assert da.spawn(int, 3).result() == 3
    join(*held)
    whole(one_thread)


@pytest.mark.parametrize("occupancy", [0.0, 0.5])
def test_a_task_of_small_occupancy_gives_its_share_back(one_thread, occupancy):
    held = [Held(da.spawn.options(occupancy=occupancy)) for _ in range(2)]
    third = da.spawn.options(occupancy=0.5)(int, 3)
    for one in held:
        assert one.task.cancel()
    assert third.result() == 3
    join(*held)
    whole(one_thread)


def test_memory_is_held_until_the_function_returns(threads):
    limit = threads._schedule.budget.limit
    held = Held(da.spawn.options(memory=limit))
    large = da.spawn.options(memory=limit)(int, 3)
    held.task.cancel()
    assert not large.done()
    assert threads._schedule.budget.room() == 0
    join(held)
    assert large.result() == 3
    whole(threads)


def test_what_it_was_given_is_dropped_afterwards(threads):
    class Given:
        pass

    given = Given()
    reference = weakref.ref(given)
    began, gate, kept = threading.Event(), threading.Event(), []

    def hold(value, *, named):
        began.set()
        gate.wait()
        kept.append((value, named) is not None)
        return value

    task = da.spawn(hold, given, named=[da.spawn(lambda: 1)])
    began.wait()
    task.cancel()
    del given
    assert reference() is not None
    gate.set()
    whole(threads)
    while reference() is not None:
        da.spawn(int).result()
    assert kept == [True]
    assert task.cancelled()


def test_a_task_can_ask_whether_it_is_to_stop(engine):
    told = []

    def work():
        me = da.current_task()
        me.check()
        told.append(me.cancelling())
        assert me.cancel()
        told.append(me.cancelling())
        me.check()
        told.append("not reached")

    task = da.spawn(work)
    with pytest.raises(da.CancelledError, match=r"'.*work'.*was cancelled while it ran"):
        task.result()
    assert task.cancelled()
    assert current_engine()._schedule.outstanding == 0
    da.configure()
    assert told == [False, True]


def test_check_ends_an_abandoned_function(threads):
    began, gate, ended = (threading.Event() for _ in range(3))
    said = []

    def work():
        began.set()
        gate.wait()
        try:
            da.current_task().check()
        except da.CancelledError as error:
            said.append(str(error))
            ended.set()
            raise

    task = da.spawn(work)
    began.wait()
    task.cancel()
    gate.set()
    ended.wait()
    whole(threads)
    assert "is to stop" in said[0]


def test_waits_of_an_abandoned_task_raise(threads):
    gate, seen = threading.Event(), []

    def work():
        child, me = da.spawn(gate.wait), da.current_task()
        me.cancel()
        for wait in (
            child.result,
            child.exception,
            lambda: child.wait(timeout=1000),
            lambda: da.fetch([child, da.spawn(int, 1)]),
            lambda: da.wait([child], return_when=da.FIRST_COMPLETED),
            lambda: list(da.as_completed([child])),
        ):
            try:
                seen.append(wait())
            except da.CancelledError:
                seen.append("cancelled")
        gate.set()

    with pytest.raises(da.CancelledError):
        da.spawn(work).result()
    gate.wait()
    whole(threads)
    assert seen == ["cancelled"] * 6


@pytest.mark.parametrize("how", ["result", "wait", "timeout", "first", "completed"])
def test_a_wait_ends_when_its_task_is_cancelled(one_thread, how):
    gate, waiting, raised = (threading.Event() for _ in range(3))

    def work():
        child = da.spawn.options(occupancy=0)(lambda: (waiting.set(), gate.wait()))
        try:
            if how == "result":
                child.result()
            elif how == "wait":
                da.wait([child])
            elif how == "timeout":
                child.wait(timeout=1000)
            elif how == "first":
                da.wait([child, da.current_task()], return_when=da.FIRST_COMPLETED)
            else:
                list(da.as_completed([child]))
        except da.CancelledError:
            raised.set()
            raise

    task = da.spawn(work)
    waiting.wait()
    assert da.spawn(int, 3).result() == 3
    task.cancel()
    assert raised.wait(60)
    gate.set()
    whole(one_thread)


def test_cancel_of_a_task_run_inside_the_wait_of_another(one_thread):
    began, gate, done = threading.Event(), threading.Event(), []

    def inner():
        began.set()
        gate.wait()
        done.append("inner")
        return "late"

    def outer():
        child = da.spawn(inner)
        failure = child.exception()
        done.append(type(failure))
        return da.spawn(int, 7).result()

    task = da.spawn(outer)
    began.wait()
    child = next(one for one in one_thread._seats.running() if one is not task)
    child.cancel()
    assert da.spawn(int, 3).result() == 3
    assert task.running()
    gate.set()
    assert task.result() == 7
    assert done == ["inner", da.CancelledError]
    whole(one_thread)


def test_cancel_of_a_task_that_runs_another_inside_its_wait(one_thread):
    began, gate, seen = threading.Event(), threading.Event(), []

    def inner():
        began.set()
        gate.wait()
        return da.spawn(int, 7).result()

    def outer():
        seen.append(da.spawn(inner))
        try:
            seen[0].result()
        except da.CancelledError:
            seen.append("cancelled")

    task = da.spawn(outer)
    began.wait()
    task.cancel()
    blocked = da.spawn(int, 3)
    assert not blocked.done()
    gate.set()
    assert seen[0].result() == 7
    assert blocked.result() == 3
    whole(one_thread)
    while len(seen) < 2:
        da.spawn(int).result()
    assert seen[1] == "cancelled"


def test_a_task_that_keeps_its_processor_only_sees_the_flag(engine):
    def keep(stop):
        me = da.current_task()
        assert me.cancel() is False
        assert me.cancelling()
        assert me.running()
        assert da.spawn(int, 3).result() == 3
        if stop:
            me.check()
        return "kept"

    with contexts.entered({"keeps": True}):
        kept, stopped = da.spawn(keep, False), da.spawn(keep, True)
    assert kept.result() == "kept"
    assert not kept.cancelled()
    assert stopped.wait()
    assert stopped.cancelled()
    with pytest.raises(da.CancelledError, match="is to stop"):
        da.spawn(abs, stopped).result()


def test_a_kept_processor_is_not_given_to_others(one_thread):
    with contexts.entered({"keeps": True}):
        held = Held()
    assert held.task.cancel() is False
    other = da.spawn(int, 3)
    assert not other.wait(timeout=0.05)
    held.gate.set()
    assert held.task.result() == "late"
    assert other.result() == 3


def test_cancel_takes_a_graph(threads):
    held = [Held(), Held()]
    middle = da.spawn(max, held[0].task, held[1].task)
    last, other = da.spawn(abs, middle), da.spawn(abs, middle)
    unrelated = da.spawn(int, 3)
    da.cancel({"tasks": [last, da.Ref(last)]})
    assert all(one.cancelled() for one in (held[0].task, held[1].task, middle, last, other))
    assert unrelated.result() == 3
    da.cancel(unrelated)
    da.cancel([])
    assert unrelated.result() == 3
    join(*held)
    whole(threads)


def test_cancel_all_and_go_on(threads):
    held = [Held() for _ in da.processors()]
    queued = [da.spawn(int, i) for i in range(10)]
    waiting = da.spawn(sum, [one.task for one in held])
    da.cancel_all()
    assert all(task.cancelled() for task in (*queued, waiting, *(one.task for one in held)))
    assert da.fetch([da.spawn(int, i) for i in range(10)]) == list(range(10))
    join(*held)
    whole(threads)


def test_cancel_all_inside_a_task_cancels_it_too(engine):
    def work():
        da.cancel_all()
        da.current_task().check()

    task = da.spawn(work)
    assert task.wait()
    assert task.cancelled()
    assert da.spawn(int, 3).result() == 3


def test_race_gives_the_first_that_succeeds(threads):
    held = Held()
    waiting = da.spawn(abs, held.task)
    assert da.race([held.task, da.spawn(int, "x"), da.spawn(int, 7), waiting]) == 7
    assert held.task.cancelled()
    assert waiting.cancelled()
    join(held)
    whole(threads)


def test_race_of_failures_raises_the_first(engine):
    with pytest.raises(ValueError, match="'x'"):
        da.race([da.spawn(int, "x")])
    first = da.spawn(int, "x")
    first.wait()
    with pytest.raises(ValueError, match="'x'"):
        da.race([first, da.spawn({}.__getitem__, "y")])
    with pytest.raises(ValueError, match="at least one"):
        da.race([])


def test_race_on_any_engine(engine):
    assert da.race([da.spawn(int, "x"), da.spawn(int, 7)]) == 7


def test_cancelled_right_after_spawning(threads):
    for _ in range(300):
        task = da.spawn(int, 3)
        assert task.cancel() == task.cancelled()
        assert task.cancelled() or task.result() == 3
    whole(threads)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_cancelling_at_random_leaves_seats_whole(count):
    da.configure(engine="threads", threads=count)
    engine = current_engine()
    rng = random.Random(count)
    every = []

    def work(depth):
        options = {}
        if rng.random() < 0.3:
            options["occupancy"] = rng.choice([0.0, 0.5])
        if rng.random() < 0.1:
            options["memory"] = 1000
        children = [da.spawn.options(**options)(work, depth - 1) for _ in range(2 * (depth > 0))]
        every.extend(children)
        if rng.random() < 0.3 and every:
            rng.choice(every).cancel()
        if rng.random() < 0.5:
            engine.occupy()
        return 1 + sum(da.fetch(children))

    for _ in range(30):
        roots = [da.spawn(work, 5) for _ in range(4)]
        every.extend(roots)
        for _ in range(20):
            rng.choice(every).cancel()
        da.wait(roots)
        if rng.random() < 0.5:
            da.cancel_all()
        every.clear()
    assert da.spawn(int, 3).result() == 3
    whole(engine)


def test_closing_does_not_wait_for_an_abandoned_function(threads):
    held = Held()
    held.task.cancel()
    threads.close()
    assert held.threads[0].is_alive()
    join(held)
    held.threads[0].join(60)
    assert not held.threads[0].is_alive()


def test_a_signal_while_many_tasks_are_taken_in_leaves_none_of_them_counted(threads):
    class Interrupted:
        """What a task needs, where Ctrl-C comes as it is looked at."""

        _engine = threads
        _dependents = None

        @property
        def _state(self):
            raise KeyboardInterrupt

    held = Held()
    batch = Batch(threads)
    first = batch.spawn(None, int, (3,), [])
    batch.spawn(None, int, (first,), [first, Interrupted()])
    with pytest.raises(KeyboardInterrupt):
        batch.submit()
    held.gate.set()
    held.task.result()
    assert threads._schedule.outstanding == 0
