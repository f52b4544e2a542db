"""Streams on the serial engine: in one thread, without nesting calls deeper and deeper."""

from __future__ import annotations

import sys
import threading

import pytest

import darray.runtime as da


@pytest.fixture(autouse=True)
def serial():
    da.configure(engine="serial")


def test_a_long_stream_runs_in_the_calling_thread_and_no_deeper():
    depths, threads = set(), set()

    def look(x):
        depth, frame = 0, sys._getframe()
        while frame is not None:
            depth, frame = depth + 1, frame.f_back
        depths.add(depth)
        threads.add(threading.current_thread())

    before = len(depths)
    with da.spawn_streaming() as s:
        stage = da.spawn(lambda x: x, da.spawn(iter(range(30_000))))
        da.spawn(look, stage)
    assert s.wait()
    assert threads == {threading.current_thread()}
    assert before < len(depths) <= 8


@pytest.mark.parametrize("waiting", [1, 3])
def test_a_call_that_waits_for_another_stream_has_it_run(waiting):
    tasks = {}
    seen = []

    def wait_for_it(_):
        seen.append(da.fetch(tasks["later"]))

    def generate():
        yield from range(100)
        return "through"

    with da.spawn_streaming() as s:
        for _ in range(waiting):
            da.spawn(wait_for_it, da.spawn(iter([0])))
        tasks["later"] = da.spawn(generate)
        out = s.output(da.spawn(lambda x: 2 * x, da.buffered(tasks["later"], 100)))
    assert seen == ["through"] * waiting
    assert list(out) == list(range(0, 200, 2))
    assert s.wait(60)
    assert not s._engine.waits._listeners


def test_a_call_may_wait_for_what_gives_it_values():
    got = []

    def take(x):
        got.append(source.exception() if x == 3 else x)

    with da.spawn_streaming() as s:
        source = da.spawn(iter(range(50)))
        sink = da.spawn(take, source)
    assert s.wait(60)
    assert sink.result() is None
    assert got == [0, 1, 2, None, *range(4, 50)]


def test_ctrl_c_in_a_stage_leaves_other_streams_of_the_region_able_to_end():
    def press(x):
        if x == 3:
            raise KeyboardInterrupt
        return x

    with da.spawn_streaming(buffer=1) as s:
        out = s.output(da.spawn(press, da.spawn(iter(range(10)))))
    assert [next(out) for _ in range(2)] == [0, 1]
    with pytest.raises(KeyboardInterrupt):
        list(out)
    with pytest.raises(da.CancelledError):
        s.wait(60)
    for task in s.tasks:
        lane = task._stage.lane
        lane._check()
        assert lane._drivers == 0
    assert da.spawn(abs, -1).result() == 1
