"""Failures: who fails, with what, and what the exception says and keeps alive."""

from __future__ import annotations

import threading
import traceback
import weakref

import numpy as np
import pytest

import darray.runtime as da


class Broken(Exception):
    """An error of the user's own, with a signature of its own."""

    def __init__(self, *, part):
        super().__init__(f"part {part} is broken")
        self.part = part


def broken(*_):
    raise Broken(part=3)


def frames(exception):
    return [frame.name for frame in traceback.extract_tb(exception.__traceback__)]


def caught(task):
    with pytest.raises(Broken) as info:
        task.result(timeout=60)
    return info.value


def test_diamond_fails_as_one(engine):
    top = da.spawn(broken)
    left, right = da.spawn(abs, top), da.spawn(abs, top)
    bottom = da.spawn(max, left, right)
    errors = [caught(task) for task in (top, left, right, bottom)]
    assert {id(error) for error in errors} == {id(errors[0])}
    assert errors[0].part == 3


def test_fan_in_of_a_thousand(engine):
    tasks = [da.spawn(broken if i == 500 else int) for i in range(1000)]
    assert caught(da.spawn(len, tasks)).part == 3
    assert sum(task.exception() is None for task in tasks) == 999


def test_chain_of_a_hundred_fails_at_once(threads):
    gate, began = threading.Event(), threading.Event()

    def held():
        began.set()
        gate.wait()
        broken()

    root = link = da.spawn(held)
    chain = []
    for _ in range(100):
        link = da.spawn(abs, link)
        chain.append(link)
    began.wait()
    gate.set()
    root.wait()
    assert all(one.done() for one in chain)
    assert {id(one.exception()) for one in chain} == {id(root.exception())}
    assert caught(da.spawn(abs, chain[-1])) is root.exception()


def test_unrelated_tasks_go_on(engine):
    tasks = [da.spawn(broken if i % 2 else int) for i in range(40)]
    assert [task.exception() is None for task in tasks] == [i % 2 == 0 for i in range(40)]


def test_traceback_leads_to_user_code_and_notes_say_where(engine):
    spawned = da.spawn.options(name="mill")
    task = spawned(lambda: broken())
    error = caught(da.spawn(abs, task))
    names = frames(error)
    assert names[-2:] == ["<lambda>", "broken"]
    assert names[:-2][-1] == "result"
    assert not any(name in ("_call", "called", "_run", "_live") for name in names)
    (note,) = error.__notes__
    line = test_traceback_leads_to_user_code_and_notes_say_where.__code__.co_firstlineno + 2
    assert "in task 'mill' on Processor(" in note
    assert note.endswith(f"test_failures.py:{line}")


def test_wrong_call_has_no_frames_of_the_runtime(engine):
    with pytest.raises(TypeError) as info:
        da.spawn(lambda a: a, 1, 2).result()
    assert frames(info.value)[-1] == "result"
    assert "spawned at" in info.value.__notes__[0]


def test_failure_inside_loading_has_no_frames_of_the_runtime(engine):
    unhashable = da.spawn(list)
    with pytest.raises(TypeError, match="unhashable") as info:
        da.spawn(len, {unhashable}).result()
    assert frames(info.value)[-1] == "result"


def test_a_thousand_raises_keep_the_traceback(engine):
    task = da.spawn(broken)
    first = frames(caught(task))
    for _ in range(1000):
        last = frames(caught(task))
    assert last == first
    assert len(task.exception().__notes__) == 1


def test_raising_again_chains_nothing_to_the_stored_exception(engine):
    task = da.spawn(broken)
    try:
        raise KeyError("handled")
    except KeyError:
        error = caught(task)
    assert error.__context__ is None


def test_cause_and_context_are_kept(engine):
    def chained():
        try:
            broken()
        except Broken as error:
            raise RuntimeError("outer") from error

    with pytest.raises(RuntimeError, match="outer") as info:
        da.spawn(chained).result()
    assert isinstance(info.value.__cause__, Broken)
    assert isinstance(info.value.__context__, Broken)


def test_frames_keep_no_arrays_alive(engine):
    references = []

    def hold(given):
        array = np.zeros(1000)
        references.append(weakref.ref(array))
        try:
            inner(array.copy())
        except Broken as error:
            raise ExceptionGroup("several", [error, ValueError("other")]) from None

    def inner(copy):
        references.append(weakref.ref(copy))
        broken()

    given = np.ones(1000)
    references.append(weakref.ref(given))
    task = da.spawn(hold, given)
    dependent = da.spawn(abs, task)
    with pytest.raises(ExceptionGroup):
        dependent.result()
    del given
    assert [reference() is None for reference in references] == [True] * 3


def test_finished_tasks_keep_what_they_were_given_no_longer(engine):
    given = np.ones(10)
    reference = weakref.ref(given)
    tasks = [da.spawn(lambda *_: None, given, [given], k=given)]
    failed = da.spawn(broken)
    tasks.append(da.spawn(print, failed, given))
    da.wait(tasks)
    da.configure()
    del given
    assert reference() is None


def test_dropping_what_a_task_was_given_may_spawn(threads):
    spawned = []

    class Spawning:
        def __del__(self):
            spawned.append(da.spawn(int, 5))

    da.spawn(lambda _: None, Spawning()).result()
    da.configure()
    assert da.fetch(spawned) == [5]


def test_notes_of_a_passed_on_exception_are_few(engine):
    task = da.spawn(broken)
    passing = [da.spawn(lambda: task.result()) for _ in range(100)]
    da.wait(passing)
    assert len(task.exception().__notes__) < 20


def test_raising_from_two_threads_keeps_the_stored_frames(threads):
    task = da.spawn(lambda: broken())
    task.wait()
    met = threading.Barrier(2)
    ends = []

    def raise_often():
        met.wait()
        for _ in range(500):
            try:
                task.result()
            except Broken as error:
                ends.append(frames(error)[-2:])

    both = [threading.Thread(target=raise_often) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert ends == [["<lambda>", "broken"]] * 1000
    assert len(frames(caught(task))) < 8


def test_exceptions_that_end_programs_end_only_the_task(threads):
    for error in (SystemExit, KeyboardInterrupt, GeneratorExit):

        def end(error=error):
            raise error("from a task")

        assert type(da.spawn(end).exception()) is error
    assert da.spawn(int, 3).result() == 3


def test_failure_is_raised_inside_a_waiting_task(engine):
    def parent():
        try:
            da.spawn(broken).result()
        except Broken as error:
            return error.part
        return None

    assert da.spawn(parent).result() == 3
