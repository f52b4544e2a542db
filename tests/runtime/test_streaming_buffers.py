"""Buffers: what they hold, what becomes of values for which there is no room, and memory."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

import darray.runtime as da
from tests.runtime.shared import Notes

HUNDRED = 100


def given_while_blocked(when_full, buffer):
    """What a consumer gets of 100 values, all but one of which come during its first call."""
    begun, given = threading.Event(), threading.Event()
    got = Notes()

    def source():
        yield 0
        assert begun.wait(60)
        yield from range(1, HUNDRED)
        given.set()

    def take(x):
        if x == 0:
            begun.set()
            assert given.wait(60)
        got.append(x)

    with da.spawn_streaming() as s:
        stream = da.buffered(da.spawn(source), buffer, when_full)
        da.spawn(take, stream)
    assert s.wait(60)
    edge = s._edges[0]
    edge._check()
    assert (edge.sent, edge.dropped) == (HUNDRED, HUNDRED - len(got))
    return got


@pytest.mark.usefixtures("threads")
class TestPolicies:
    def test_drop_oldest(self):
        assert given_while_blocked("drop oldest", 3) == [0, 97, 98, 99]

    def test_drop_newest(self):
        assert given_while_blocked("drop newest", 3) == [0, 1, 2, 3]

    def test_latest(self):
        assert given_while_blocked("latest", 3) == [0, 99]

    def test_block(self):
        assert given_while_blocked("block", 200) == list(range(HUNDRED))

    def test_of_the_region_and_of_the_output(self):
        given = threading.Event()

        def source():
            yield from range(HUNDRED)
            given.set()

        with da.spawn_streaming(when_full="drop oldest", buffer=5) as s:
            stream = da.spawn(source)
            five, latest = s.output(stream), s.output(stream, when_full="latest")
            newest = s.output(stream, buffer=2, when_full="drop newest")
        assert given.wait(60)
        assert s.wait(60)
        assert list(five) == [95, 96, 97, 98, 99]
        assert list(latest) == [99]
        assert list(newest) == [0, 1]


@pytest.mark.usefixtures("engine")
def test_a_policy_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="when_full= is one of 'block', 'drop oldest'"):
        da.spawn_streaming(when_full="burst")


# Back-pressure


def lead(buffer=None, value=int, **region):
    """By how many calls a source was ahead of what its consumer had been given, at most."""
    made, ahead = Notes(), Notes()

    def source():
        made.append(None)
        return value()

    def take(_):
        ahead.append(len(made) - len(ahead))
        for _ in range(200):
            pass

    with da.spawn_streaming(**region) as s:
        stream = da.spawn.options(max_evals=300)(source)
        da.spawn(take, stream if buffer is None else da.buffered(stream, buffer))
    assert s.wait(60)
    assert len(made) == len(ahead) == 300
    return max(ahead)


@pytest.mark.usefixtures("engine")
class TestBackPressure:
    @pytest.mark.parametrize("buffer", [1, 2, 10])
    def test_of_a_region(self, buffer):
        # In the buffer, the one that is taken, and the one that is being made.
        assert lead(buffer, value=lambda: 1) <= buffer + 2
        assert lead(value=lambda: 1, buffer=buffer) <= buffer + 2

    def test_by_default(self):
        assert lead() <= 64 + 2

    def test_of_bytes(self):
        # They reach a megabyte with the fourth.
        assert lead("1MB", value=lambda: np.zeros(300_000, np.uint8)) <= 4 + 2

    def test_of_values_that_are_no_numbers(self):
        assert lead(3, value=lambda: "text") <= 3 + 2

    def test_of_one_task(self):
        made, ahead = Notes(), Notes()

        def source():
            made.append(None)
            return 1

        with da.spawn_streaming() as s:
            stream = da.spawn.options(max_evals=100)(source)
            da.spawn.options(buffer=2)(lambda x: ahead.append(len(made) - len(ahead)), stream)
        assert s.wait(60)
        assert max(ahead) <= 2 + 2

    def test_of_an_output(self):
        made = Notes()

        def source():
            made.append(None)
            return len(made)

        with da.spawn_streaming() as s:
            out = s.output(da.spawn(source), buffer=3)
        for expected in range(1, 30):
            assert next(out) == expected
            assert len(made) <= expected + 3 + 1
        out.close()
        assert s.wait(60)

    def test_the_slowest_consumer_holds_the_producer(self):
        made, fast = Notes(), Notes()

        def source():
            made.append(None)
            return 1

        with da.spawn_streaming(buffer=4) as s:
            stream = da.spawn(source)
            da.spawn(fast.append, stream)
            out = s.output(stream)
        for taken in range(1, 50):
            assert next(out) == 1
            assert len(made) <= taken + 4 + 1
        s.cancel()


# Memory


def test_arrays_go_through_without_being_copied(one_worker):
    arrays = [np.arange(1000.0) + number for number in range(20)]
    with da.spawn_streaming() as s:
        same = da.spawn(lambda a: a, da.spawn(iter(arrays)))
        out, batches = s.output(same), s.output(da.batch(same, 4))
    values, lists = list(out), list(batches)
    assert len(values) == 20
    batched = [one for batch in lists for one in batch]
    for array, one, other in zip(arrays, values, batched, strict=True):
        assert np.shares_memory(array, one)
        assert np.shares_memory(array, other)


PROLOGUE = """
import sys
import numpy as np
import darray.runtime as da
da.configure(engine=sys.argv[1], threads=2)

def peak():
    line = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
    return int(line.split()[1]) // 1024

def slow(x):
    global seen
    for _ in range(20):
        pass
    seen += 1

def run(source, count):
    global seen
    seen = 0
    # Buffers of eight values: how full they ever are is no matter then.
    few = da.spawn.options(buffer=8)
    with da.spawn_streaming() as s:
        few(slow, few(lambda x: x, da.spawn.options(max_evals=count)(source)))
    assert s.wait(500) and seen == count
"""

NUMBERS = """
run(lambda: 1.5, 20_000)
before = peak()
run(lambda: 1.5, int(sys.argv[2]))
print(peak() - before)
"""

ARRAYS = """
run(lambda: np.ones(125_000), 100)
before = peak()
run(lambda: np.ones(125_000), int(sys.argv[2]))
print(peak() - before)
"""


def growth(program, engine, count):
    """By how many megabytes the memory of a process grew while so many values went through."""
    result = subprocess.run(
        [sys.executable, "-c", PROLOGUE + program, engine, str(count)],
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_memory_is_flat_over_many_numbers(engine):
    assert growth(NUMBERS, engine, 10**6) <= 4


def test_memory_is_flat_over_many_arrays():
    assert growth(ARRAYS, "threads", 2_000) <= 40


@pytest.mark.slow
def test_memory_is_flat_over_very_many_numbers():
    assert growth(NUMBERS, "threads", 10**7) <= 4
