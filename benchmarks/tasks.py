"""What a task costs: ``python benchmarks/tasks.py``.

Against concurrent.futures, dask.threaded.get on a prebuilt graph, and joblib's threads, in one
process on two threads, the contestants taking turns in every repeat. Wall and CPU time a task,
minimum and median of the repeats; the verdicts compare the minima, which other load on the
machine disturbs least. Every answer is checked. Ends with status 1 where a requirement is missed.

A round trip wakes a thread twice, and that takes two to four times as long where the system puts
the two threads on two cores as where they share one, which it goes on with once it has begun. So
the contestants take turns after few trips, under the same habit of the system, and medians are
compared: with the threads where the system puts them, and with all of them on one core. With the
waiting thread on a core of its own, two wakes across cores are nearly all of it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import importlib.util
import os
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator

import psutil

import darray.runtime as da

THREADS = 2
COUNT = 10_000
TREE = 8_192
# Round trips of one contestant before the other's turn, and the turns of each.
TRIPS = 10
TURNS = 1_000
REPEATS = 9

TRIP, TRIP_ON_ONE, TRIP_ON_TWO = "round trip", "  on one core", "  on two"

Run = Callable[[], None]


def number(*_: object) -> int:
    """Do nothing, as far as a task can."""
    return 1


def add(a: int, b: int) -> int:
    """Join two branches of the tree."""
    return a + b


def darray_runs() -> dict[str, Run]:
    """The work as tasks of darray."""

    def independent() -> None:
        tasks = [da.spawn(number) for _ in range(COUNT)]
        da.wait(tasks)
        assert sum(task.result() for task in tasks) == COUNT

    def chain() -> None:
        link = da.spawn(number)
        for _ in range(COUNT - 1):
            link = da.spawn(number, link)
        assert link.result() == 1

    def tree() -> None:
        level = [da.spawn(number) for _ in range(TREE)]
        while len(level) > 1:
            level = [da.spawn(add, *level[i : i + 2]) for i in range(0, len(level), 2)]
        assert level[0].result() == TREE

    return {"independent": independent, "chain": chain, "tree": tree}


def futures_runs(pool: concurrent.futures.ThreadPoolExecutor) -> dict[str, Run]:
    """The work as futures, where futures can do it."""

    def independent() -> None:
        futures = [pool.submit(number) for _ in range(COUNT)]
        assert sum(future.result() for future in futures) == COUNT

    return {"independent": independent}


def dask_runs(pool: concurrent.futures.ThreadPoolExecutor) -> dict[str, Run]:
    """The work as graphs of dask, built beforehand."""
    import dask
    from dask.threaded import get

    independent_graph = {("n", i): (number,) for i in range(COUNT)}
    keys = list(independent_graph)
    chain_graph = {("c", 0): (number,)} | {
        ("c", i): (number, ("c", i - 1)) for i in range(1, COUNT)
    }
    tree_graph: dict[object, object] = {(TREE, i): (number,) for i in range(TREE)}
    width = TREE // 2
    while width:
        for i in range(width):
            tree_graph[width, i] = (add, (2 * width, 2 * i), (2 * width, 2 * i + 1))
        width //= 2

    def independent() -> None:
        with dask.config.set(pool=pool):
            assert sum(get(independent_graph, keys)) == COUNT

    def chain() -> None:
        with dask.config.set(pool=pool):
            assert get(chain_graph, ("c", COUNT - 1)) == 1

    def tree() -> None:
        with dask.config.set(pool=pool):
            assert get(tree_graph, (1, 0)) == TREE

    return {"independent": independent, "chain": chain, "tree": tree}


def joblib_runs() -> dict[str, Run]:
    """The work as calls of joblib's threads."""
    from joblib import Parallel, delayed

    def independent() -> None:
        parallel = Parallel(n_jobs=THREADS, backend="threading")
        assert sum(parallel(delayed(number)() for _ in range(COUNT))) == COUNT

    return {"independent": independent}


def size(shape: str) -> int:
    """Tasks in one run."""
    return {"tree": 2 * TREE - 1}.get(shape, COUNT)


def compare(runs: dict[str, dict[str, Run]]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Wall and CPU microseconds a task of every repeat, by shape and contestant."""
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for repeat in range(REPEATS + 1):
        for shape in ("independent", "chain", "tree"):
            for name, own in runs.items():
                if shape not in own:
                    continue
                gc.collect()
                wall, cpu = time.perf_counter(), time.process_time()
                own[shape]()
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                if repeat:  # the first warms up
                    scale = 1e6 / size(shape)
                    times.setdefault((shape, name), []).append((wall * scale, cpu * scale))
    return times


def round_trips(
    pool: concurrent.futures.ThreadPoolExecutor,
) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU microseconds of a round trip in every turn, by contestant."""

    def darray() -> None:
        for _ in range(TRIPS):
            assert da.spawn(number).result() == 1

    def futures() -> None:
        for _ in range(TRIPS):
            assert pool.submit(number).result() == 1

    times: dict[str, list[tuple[float, float]]] = {"darray": [], "futures": []}
    for _ in range(TURNS):
        for run in (darray, futures):
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            times[run.__name__].append((wall / TRIPS * 1e6, cpu / TRIPS * 1e6))
    return times


@contextlib.contextmanager
def on_cores(own: int, others: int) -> Iterator[None]:
    """Keep the calling thread on one core in the block and all others on one, by their ranks."""
    threads = [thread.id for thread in psutil.Process().threads()]
    cores = os.sched_getaffinity(0)
    ranked = sorted(cores)
    for thread in threads:
        rank = own if thread == threading.get_native_id() else others
        os.sched_setaffinity(thread, {ranked[rank]})
    try:
        yield
    finally:
        for thread in threads:
            # One that has ended is on no core.
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, cores)


def best(times: dict[tuple[str, str], list[tuple[float, float]]], shape: str, name: str) -> float:
    """Least wall time a task."""
    return min(wall for wall, _ in times[shape, name])


def by_medians(times: dict[tuple[str, str], list[tuple[float, float]]], shape: str) -> float:
    """How many times what darray takes futures take."""
    futures, own = (
        statistics.median(wall for wall, _ in times[shape, name]) for name in ("futures", "darray")
    )
    return futures / own


def flatness() -> dict[int, float]:
    """CPU microseconds a task, half of them independent and half chained, by their number."""
    found = {}
    for count in (10**3, 10**4, 10**5, 10**6):
        costs = []
        for _ in range(max(2, min(20, 10**5 // count))):
            gc.collect()
            cpu = time.process_time()
            tasks = [da.spawn(number) for _ in range(count // 2)]
            link = tasks[-1]
            for _ in range(count // 2):
                link = da.spawn(number, link)
            assert link.result() == 1
            da.wait(tasks)
            costs.append((time.process_time() - cpu) / count * 1e6)
            del tasks, link
        found[count] = min(costs)
    return found


def pending_bytes() -> float:
    """Bytes of a task that waits for another."""
    gate = threading.Event()
    root = da.spawn(gate.wait)
    tracemalloc.start()
    tasks = [da.spawn(number, root) for _ in range(COUNT)]
    nbytes = tracemalloc.get_traced_memory()[0] / COUNT
    tracemalloc.stop()
    gate.set()
    da.wait(tasks)
    return nbytes


def growth() -> float:
    """MiB of resident memory gained from the 5th to the 20th of repeats of 100,000 tasks."""
    resident = []
    for _ in range(20):
        tasks = [da.spawn(number, i) for i in range(100_000)]
        da.wait(tasks)
        del tasks
        gc.collect()
        resident.append(psutil.Process().memory_info().rss)
    return (resident[-1] - resident[4]) / 2**20


def verdict(what: str, value: float, required: float, aim: float | None, unit: str) -> bool:
    """Print a figure beside what it should be; whether the requirement is met.

    A requirement with unit "x" is a least ratio, any other a greatest figure.
    """

    def meets(limit: float) -> bool:
        return value >= limit if unit == "x" else value <= limit

    word = "short" if not meets(required) else "required"
    if aim is not None and meets(aim):
        word = "aim"
    wanted = f"required {required:g}" + ("" if aim is None else f", aim {aim:g}")
    print(f"{what:58} {value:9.2f} {unit:3} {word:9} ({wanted})")
    return word != "short"


def judge(times: dict[tuple[str, str], list[tuple[float, float]]]) -> bool:
    """Print the verdicts; whether every requirement is met."""
    met = True
    for shape in ("independent", "chain"):
        met &= verdict(f"a task, {shape}", best(times, shape, "darray"), 4, 2, "us")
    for shape in ("independent", "chain", "tree"):
        if (shape, "dask.threaded") in times:
            ratio = best(times, shape, "dask.threaded") / best(times, shape, "darray")
            met &= verdict(f"cheaper than dask.threaded.get, {shape}", ratio, 8, 15, "x")
    ratio = best(times, "independent", "futures") / best(times, "independent", "darray")
    met &= verdict("cheaper than futures' submit and result", ratio, 2, 4, "x")
    for shape in (TRIP, TRIP_ON_ONE, TRIP_ON_TWO):
        if (shape, "futures") in times:
            ratio = by_medians(times, shape)
            met &= verdict(f"{shape}, cheaper than futures'", ratio, 1, None, "x")
    flat = flatness()
    for count, cost in flat.items():
        print(f"{f'a task of {count:,}':58} {cost:9.2f} us CPU")
    met &= verdict(
        "dearest over cheapest, 10^3 to 10^6", max(flat.values()) / min(flat.values()), 2, 1.5, ""
    )
    met &= verdict("a pending task", pending_bytes(), 1000, None, "B")
    met &= verdict("growth over 15 repeats of 100,000 tasks", growth(), 8, None, "MiB")
    return met


def main() -> int:
    """Print the times and the verdicts."""
    da.configure(engine="threads", threads=THREADS)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        runs = {"darray": darray_runs(), "futures": futures_runs(pool)}
        if importlib.util.find_spec("dask"):
            runs["dask.threaded"] = dask_runs(pool)
        if importlib.util.find_spec("joblib"):
            runs["joblib"] = joblib_runs()
        times = compare(runs)
        for name, pairs in round_trips(pool).items():
            times[TRIP, name] = pairs
        if hasattr(os, "sched_setaffinity"):
            with on_cores(0, 0):
                for name, pairs in round_trips(pool).items():
                    times[TRIP_ON_ONE, name] = pairs
            if len(os.sched_getaffinity(0)) > 1:
                with on_cores(0, 1):
                    for name, pairs in round_trips(pool).items():
                        times[TRIP_ON_TWO, name] = pairs
    print(f"{'us a task':12} {'':14} {'wall min':>9} {'median':>9} {'CPU min':>9} {'median':>9}")
    for (shape, name), pairs in times.items():
        walls, cpus = zip(*pairs, strict=True)
        figures = (min(walls), statistics.median(walls), min(cpus), statistics.median(cpus))
        print(f"{shape:12} {name:14} " + " ".join(f"{figure:9.2f}" for figure in figures))
    return int(not judge(times))


if __name__ == "__main__":
    sys.exit(main())
