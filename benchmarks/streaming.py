"""How fast values flow: ``python benchmarks/streaming.py``.

Small values through 1, 3 and 10 stages that add one, arrays of 1 MB through one, and a value at a
time to and fro; against threads joined by ``queue.Queue(64)``, asyncio tasks joined by
``asyncio.Queue(64)``, and streamz where it is installed; in one process, the contenders taking
turns in every repeat. Besides, how a pipeline that computes shares processors with ordinary tasks,
and what goes between two workers. Wall and CPU time, minimum and median of the repeats; the
verdicts compare the minima, which other load on the machine disturbs least. Every answer is
checked. Ends with status 1 where a requirement is missed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import queue
import statistics
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

import darray.runtime as da

THREADS = 2
STAGES = (1, 3, 10)
COUNT = 100_000
ARRAYS = 300
TRIPS = 200
# Seconds between lone values: longer than anything but a wait.
PAUSE = 0.005
REPEATS = 5
END = object()

Run = Callable[[], None]


def add_one(value: int) -> int:
    """Do next to nothing."""
    return value + 1


def same(value: np.ndarray) -> np.ndarray:
    """Give an array on."""
    return value


class Total:
    """A sink that counts and checks."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0

    def __call__(self, value: int) -> None:
        self.count += 1
        self.total += value


def by_queues(source: Callable[[], object], stages: int, step: Run, sink: Run) -> None:
    """A pipeline of threads, each joined to the next by a queue of 64."""
    queues: list[queue.Queue[object]] = [queue.Queue(64) for _ in range(stages + 1)]

    def produce() -> None:
        for value in source():
            queues[0].put(value)
        queues[0].put(END)

    def work(place: int) -> None:
        taken, given = queues[place], queues[place + 1]
        while (value := taken.get()) is not END:
            given.put(step(value))
        given.put(END)

    def consume() -> None:
        while (value := queues[-1].get()) is not END:
            sink(value)

    threads = [threading.Thread(target=produce), threading.Thread(target=consume)]
    threads += [threading.Thread(target=work, args=(place,)) for place in range(stages)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def by_asyncio(source: Callable[[], object], stages: int, step: Run, sink: Run) -> None:
    """A pipeline of coroutines, each joined to the next by a queue of 64."""

    async def everything() -> None:
        queues: list[asyncio.Queue[object]] = [asyncio.Queue(64) for _ in range(stages + 1)]

        async def produce() -> None:
            for value in source():
                await queues[0].put(value)
            await queues[0].put(END)

        async def work(place: int) -> None:
            while (value := await queues[place].get()) is not END:
                await queues[place + 1].put(step(value))
            await queues[place + 1].put(END)

        async def consume() -> None:
            while (value := await queues[-1].get()) is not END:
                sink(value)

        await asyncio.gather(produce(), consume(), *map(work, range(stages)))

    asyncio.run(everything())


def by_streamz(source: Callable[[], object], stages: int, step: Run, sink: Run) -> None:
    """A pipeline of streamz: a chain of calls, without buffers."""
    from streamz import Stream

    first = last = Stream()
    for _ in range(stages):
        last = last.map(step)
    last.sink(sink)
    for value in source():
        first.emit(value)


def by_darray(source: Callable[[], object], stages: int, step: Run, sink: Run) -> None:
    """A streaming region."""
    with da.spawn_streaming() as region:
        last = da.spawn(iter(source()))
        for _ in range(stages):
            last = da.spawn(step, last)
        da.spawn(sink, last)
    region.wait()


def contenders() -> dict[str, Callable[..., None]]:
    """Those that there are here."""
    found = {"darray": by_darray, "queue.Queue": by_queues, "asyncio": by_asyncio}
    if importlib.util.find_spec("streamz") is not None:
        found["streamz"] = by_streamz
    return found


def small(pipeline: Callable[..., None], stages: int) -> None:
    """So many small numbers through so many stages."""
    sink = Total()
    count = COUNT // stages
    pipeline(lambda: range(count), stages, add_one, sink)
    assert (sink.count, sink.total) == (count, count * (count - 1) // 2 + count * stages)


def large(pipeline: Callable[..., None]) -> None:
    """So many arrays of 1 MB through one stage; all show the same memory."""
    array = np.ones(125_000)
    seen = []
    pipeline(lambda: (array for _ in range(ARRAYS)), 1, same, seen.append)
    assert len(seen) == ARRAYS
    assert all(np.shares_memory(one, array) for one in seen[:3])


def lone_by_queues() -> list[float]:
    """Seconds that lone values take to a thread and to the next by queues, one after a pause."""
    first: queue.Queue[object] = queue.Queue(64)
    second: queue.Queue[object] = queue.Queue(64)

    def work() -> None:
        while (value := first.get()) is not END:
            second.put(value)

    thread = threading.Thread(target=work)
    thread.start()
    return arrivals(first.put, second.get, thread.join)


def lone_by_darray() -> list[float]:
    """The same, from a queue through a source and a sink to a queue."""
    first: queue.Queue[object] = queue.Queue(64)
    second: queue.Queue[object] = queue.Queue(64)

    def source() -> object:
        value = first.get()
        return da.finish_stream() if value is END else value

    with da.spawn_streaming() as region:
        da.spawn(second.put, da.spawn(source))
    return arrivals(first.put, second.get, region.wait)


def arrivals(put: Run, get: Run, wait: Run) -> list[float]:
    """Seconds from the put of each value to its arrival."""
    times = []
    for number in range(TRIPS):
        time.sleep(PAUSE)
        began = time.perf_counter()
        put(number)
        assert get() == number
        times.append(time.perf_counter() - began)
    put(END)
    wait()
    return times


def idle(streams: int) -> float:
    """The share of a processor that so many streams take which wait for something."""
    gate = threading.Event()
    regions = []
    for _ in range(streams):
        with da.spawn_streaming() as region:
            da.spawn(add_one, da.spawn.options(max_evals=1)(gate.wait))
        regions.append(region)
    # The thread of the timers, if it was in use, stays for a second after the last call.
    time.sleep(1.5)
    wall, cpu = time.perf_counter(), time.process_time()
    time.sleep(2)
    share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    gate.set()
    for region in regions:
        region.wait()
    return share


def spin(value: int) -> int:
    """Compute for some 100 microseconds."""
    for _ in range(2_000):
        pass
    return value


def shared(seconds: float = 1.0) -> tuple[float, float]:
    """How much of what each does alone a pipeline and ordinary tasks do beside one another.

    Both compute without a pause: the pipeline of two tasks, so that it can use all processors, and
    as many ordinary tasks as there are threads, each of which spawns the next.
    """
    counts = {"stream": 0, "tasks": 0}
    ended = threading.Event()

    def count_stream(value: int) -> None:
        counts["stream"] += 1
        spin(value)

    def again() -> None:
        counts["tasks"] += 1
        spin(0)
        if not ended.is_set():
            da.spawn(again)

    def measured(streams: bool, tasks: bool) -> dict[str, float]:
        counts.update(stream=0, tasks=0)
        ended.clear()
        began = time.perf_counter()
        with da.spawn_streaming() as region:
            if streams:
                da.spawn(count_stream, da.spawn(spin, da.spawn(itertools.count())))
        for _ in range(THREADS * tasks):
            da.spawn(again)
        time.sleep(seconds)
        region.cancel()
        ended.set()
        elapsed = time.perf_counter() - began
        return {name: count / elapsed for name, count in counts.items()}

    streams, tasks, both = measured(True, False), measured(False, True), measured(True, True)
    return both["stream"] / streams["stream"], both["tasks"] / tasks["tasks"]


def crossing() -> float:
    """Bytes a second of arrays of 1 MB from one worker of this process to another."""
    da.configure(engine="workers", workers=2, threads=1)
    array = np.ones(125_000)
    there = da.spawn.options(scope=da.scope(worker=1))
    began = time.perf_counter()
    with da.spawn_streaming() as region:
        there(np.size, da.spawn.options(max_evals=ARRAYS)(lambda: array))
    region.wait()
    return ARRAYS * array.nbytes / (time.perf_counter() - began)


def timed(call: Run) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def verdict(what: str, ratio: float, required: float, aim: float) -> bool:
    """Print a ratio with what it reaches; whether that is what is required."""
    word = "aim" if ratio >= aim else "required" if ratio >= required else "short"
    print(f"{what:<58}{ratio:8.2f} x  {word:<9} (required {required:g}, aim {aim:g})")
    return ratio >= required


def main() -> int:
    """Measure, print, and tell whether all requirements are met."""
    da.configure(threads=THREADS)
    print(
        f"{'us a value, 64 in a buffer':<30}{'wall min':>9}{'median':>9}{'CPU min':>9}{'median':>9}"
    )
    good = True
    for stages in STAGES:
        least = report(f"{stages} stages", COUNT // stages, lambda run, n=stages: small(run, n))
        good &= verdict(
            f"{stages} stages, against queue.Queue", least["queue.Queue"] / least["darray"], 3, 8
        )
    least = report("1 MB arrays", ARRAYS, large)
    for name, seconds in least.items():
        print(f"1 MB arrays, {name:<20} {ARRAYS / 1e3 / seconds:8.1f} GB/s without copies")
    lone = [(lone_by_queues(), lone_by_darray()) for _ in range(REPEATS)]
    queues, ours = (
        statistics.median(itertools.chain.from_iterable(times)) for times in zip(*lone, strict=True)
    )
    print(f"a lone value: by queues {queues * 1e6:.0f} us, by darray {ours * 1e6:.0f} us (medians)")
    good &= verdict("a lone value, the queues' time over ours", queues / ours, 0.5, 1)
    share = idle(200)
    print(f"200 idle streams take {100 * share:.2f} % of a processor")
    ours, others = shared()
    print(
        f"beside one another a pipeline does {100 * ours:.0f} %, ordinary tasks "
        f"{100 * others:.0f} %, of what each does alone"
    )
    print(f"1 MB arrays between two workers {crossing() / 1e9:.2f} GB/s, copied by pickle")
    return 0 if good & (share < 0.005) else 1


def report(what: str, count: int, work: Callable[[Callable[..., None]], None]) -> dict[str, float]:
    """Print what a value costs each contender; the least wall times of all values."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders()}
    for _ in range(REPEATS):
        for name, pipeline in contenders().items():
            times[name].append(timed(lambda pipeline=pipeline: work(pipeline)))
    for name, some in times.items():
        columns = zip(*some, strict=True)
        figures = [f(column) / count * 1e6 for column in columns for f in (min, statistics.median)]
        print(f"{what:<14}{name:<16}" + "".join(f"{figure:9.2f}" for figure in figures))
    return {name: min(wall for wall, _ in some) for name, some in times.items()}


if __name__ == "__main__":
    sys.exit(main())
