"""Options of a task: defaults by function, time limits, retries, occupancy."""

from __future__ import annotations

import logging
import threading
import time

import pytest

import darray.runtime as da
from darray.runtime.defaults import by_function
from tests.runtime.shared import Notes
from tests.runtime.test_cancelling import whole


@pytest.fixture(autouse=True)
def no_defaults_afterwards():
    yield
    by_function.clear()


def seen():
    options = da.current_task()._options
    return None if options is None else (options.name, options.priority, options.occupancy)


def parent():
    return seen(), da.spawn(lambda: da.current_task()._options).result()


def test_defaults_by_function(engine):
    assert da.spawn(seen).result() is None
    da.register_default(seen, priority=1, occupancy=0.5)
    assert da.spawn(seen).result() == (None, 1, 0.5)
    with da.options(priority=2):
        assert da.spawn(seen).result() == (None, 2, 0.5)
        assert da.spawn.options(priority=3, name="x")(seen).result() == ("x", 3, 0.5)
    assert da.spawn.options(occupancy=1.0)(seen).result() == (None, 1, 1.0)
    with da.options(occupancy=1.0), da.spawn_bulk():
        task = da.spawn(seen)
    assert task.result() == (None, 1, 1.0)
    da.register_default(seen, name="again")
    assert da.fetch(da.map(lambda x: x, [1])) == [1]
    assert da.spawn(seen).result() == ("again", 0, 1.0)
    da.register_default(seen)
    assert da.spawn(seen).result() is None


def test_defaults_are_for_the_task_alone(engine):
    da.register_default(parent, priority=1)
    assert da.spawn(parent).result() == ((None, 1, 1.0), None)


def test_unhashable_functions_have_no_defaults(engine):
    class Callable:
        __hash__ = None

        def __call__(self):
            return 3

    da.register_default(seen, priority=1)
    assert da.spawn(Callable()).result() == 3


def test_wrong_defaults_are_refused():
    with pytest.raises(TypeError, match="no option 'speed'"):
        da.register_default(seen, speed=1)
    with pytest.raises(ValueError, match="occupancy="):
        da.register_default(seen, occupancy=3)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": "1s"}, ValueError),
        ({"retries": -1}, ValueError),
        ({"retries": 1.5}, ValueError),
        ({"retry_on": ValueError}, TypeError),
        ({"retry_on": (3,)}, TypeError),
    ],
)
def test_wrong_limits_are_refused_at_once(options, error):
    with pytest.raises(error, match=f"{next(iter(options))}="):
        da.spawn.options(**options)


def test_task_that_runs_too_long_fails(one_thread):
    gate, ended, told = threading.Event(), threading.Event(), []

    def work():
        me = da.current_task()
        gate.wait()
        told.append(me.cancelling())
        ended.set()
        return "late"

    task = da.spawn.options(timeout=0.02, name="slow")(work)
    dependent = da.spawn(abs, task)
    for one in (task, dependent):
        with pytest.raises(TimeoutError, match=r"'slow'.*longer than its timeout of 0.02 seconds"):
            one.result()
    assert not task.cancelled()
    assert da.spawn(int, 3).result() == 3
    gate.set()
    ended.wait()
    assert told == [True]
    whole(one_thread)


def test_task_that_runs_too_long_can_see_it(engine):
    def work():
        me = da.current_task()
        while not me.cancelling():
            time.sleep(0.001)
        me.check()

    with pytest.raises(TimeoutError, match="longer than its timeout"):
        da.spawn.options(timeout=0.01)(work).result()


def test_tasks_that_end_in_time(engine):
    tasks = [da.spawn.options(timeout=1000 - i)(int, i) for i in range(50)]
    assert da.fetch(tasks) == list(range(50))
    da.configure()
    for thread in threading.enumerate():
        if thread.name == "darray-timers":
            thread.join(60)
            assert not thread.is_alive()


def test_time_in_the_queue_does_not_count(one_thread):
    gate = threading.Event()
    held = da.spawn(gate.wait)
    task = da.spawn.options(timeout=0.02)(int, 3)
    assert not task.wait(timeout=0.05)
    gate.set()
    assert da.fetch([held, task]) == [True, 3]


class Flaky:
    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, value):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return value


def test_retries_call_again(engine, caplog):
    flaky = Flaky(OSError("one"), ConnectionError("two"))
    with caplog.at_level(logging.INFO, "darray"):
        task = da.spawn.options(retries=2, retry_on=(OSError,))(flaky, da.spawn(int, 3))
        assert task.result() == 3
    assert flaky.calls == 3
    assert caplog.text.count("is called again") == 2
    assert "two" in caplog.text


def test_retries_end(engine):
    flaky = Flaky(*(OSError(str(i)) for i in range(5)))
    task = da.spawn.options(retries=3, retry_on=(OSError,))(flaky, 3)
    with pytest.raises(OSError, match="3") as info:
        task.result()
    assert flaky.calls == 4
    assert info.value.__context__ is None
    assert len(info.value.__notes__) == 1


@pytest.mark.parametrize("options", [{"retries": 3}, {"retries": 3, "retry_on": (KeyError,)}])
def test_other_failures_are_not_retried(engine, options):
    flaky = Flaky(OSError("one"))
    with pytest.raises(OSError, match="one"):
        da.spawn.options(**options)(flaky, 3).result()
    assert flaky.calls == 1


def test_cancelled_tasks_are_not_retried(engine):
    calls = Notes()

    def work():
        calls.append(1)
        da.current_task().cancel()
        raise OSError

    assert da.spawn.options(retries=3, retry_on=(OSError,))(work).wait()
    da.configure()
    assert calls == [1]


@pytest.mark.alone
def test_blocking_tasks_of_no_occupancy_run_together(threads):
    began = time.perf_counter()
    with da.options(occupancy=0):
        tasks = [da.spawn(time.sleep, 0.1) for _ in range(100)]
    da.wait(tasks)
    assert time.perf_counter() - began < 0.3
