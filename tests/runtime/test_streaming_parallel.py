"""What runs at once in streams: calls in parallel, and the time of batches."""

from __future__ import annotations

import itertools
import threading

import pytest

import darray.runtime as da
from darray.runtime.spaces import register_handle

pytestmark = pytest.mark.usefixtures("threads")


class Gauge:
    """Counts the calls that run at once; the first of them wait until `together` do."""

    def __init__(self, together):
        self._changed = threading.Condition()
        self._together = together
        self._now = self.most = 0

    def __call__(self, x):
        with self._changed:
            self._now += 1
            self.most = max(self.most, self._now)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self.most >= self._together, 60)
        for _ in range(2000):
            pass
        with self._changed:
            self._now -= 1
        return x


# Every worker counts in the same one.
register_handle(Gauge)


@pytest.mark.parametrize("parallel", [2, 3, 5])
def test_so_many_calls_run_at_once_and_no_more(parallel):
    gauge = Gauge(parallel)
    with da.spawn_streaming() as s:
        # They wait for one another, so they must not wait for processors.
        spawn = da.spawn.options(parallel=parallel, occupancy=0.0)
        out = s.output(spawn(gauge, da.spawn(iter(range(60)))))
    assert list(out) == list(range(60))
    assert s.wait(60)
    assert gauge.most == parallel


def test_async_calls_run_at_once():
    import asyncio

    async def meet(x):
        # Each of three waits for the two others, by the time of the loop that they share.
        arrived.append(x)
        while len(arrived) < 3 * (x // 3 + 1):
            await asyncio.sleep(0)
        return x

    arrived = []
    with da.spawn_streaming() as s:
        spawn = da.spawn.options(parallel=3, scope=da.scope(worker=0))
        out = s.output(spawn(meet, da.spawn(iter(range(30)))))
    assert list(out) == list(range(30))


def test_cancelling_cancels_calls_that_have_not_begun():
    begun, gate = threading.Semaphore(0), threading.Event()
    calls = []

    def work(x):
        calls.append(x)
        begun.release()
        gate.wait(60)
        return x

    with da.spawn_streaming() as s:
        options = da.spawn.options(parallel=20, scope=da.scope(worker=0))
        task = options(work, da.spawn(itertools.count()))
    for _ in range(2):
        assert begun.acquire(timeout=60)
    s.cancel()
    assert task.cancelled()
    gate.set()
    with pytest.raises(da.CancelledError):
        s.wait(60)
    engine = da.engine.current_engine()
    assert engine.wait(engine.unfinished(), 60)
    assert len(calls) <= 4


def test_a_batch_is_given_when_its_time_is_over():
    seen = threading.Event()

    def source():
        yield 1
        yield 2
        # Nothing comes until the batch has: it is given for its time alone.
        assert seen.wait(60)
        yield 3

    def note(values):
        seen.set()
        return values

    with da.spawn_streaming() as s:
        out = s.output(da.spawn(note, da.batch(da.spawn(source), 100, seconds=0.02)))
    values = list(out)
    assert [one for batch in values for one in batch] == [1, 2, 3]
    assert 2 <= len(values) <= 3
    assert s.wait(60)
