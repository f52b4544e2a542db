"""What a trace costs: ``python benchmarks/trace.py``.

The time of one event, published to nobody and to a trace; of one task, spawned, run and waited
for on two threads, without a trace and in one; and the time and memory of looking at a trace of
100,000 tasks. Minimum and median of the repeats, which take turns. Ends with status 1 where an
event costs 1 us or more.
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable

import darray.runtime as da
from darray.runtime import events

EVENTS = 100_000
TASKS = 10_000
MANY = 100_000
REPEATS = 9
LIMIT_NS = 1000.0

PROCESSOR = da.Processor(worker=0, kind="cpu", index=0)


def number(*_: object) -> int:
    """Do nothing, as far as a task can."""
    return 1


def loop() -> None:
    """Go round as `publish` does, with nothing in the loop."""
    for _ in range(EVENTS):
        pass


def publish() -> None:
    """Make and publish events of the kind of which there are most."""
    for _ in range(EVENTS):
        events.publish(events.TaskEnded(1, "number", PROCESSOR, 1, time.perf_counter_ns()))


def independent() -> None:
    """Run tasks that need nothing."""
    da.wait([da.spawn(number) for _ in range(TASKS)])


def chain() -> None:
    """Run tasks of which each needs the one before."""
    link = da.spawn(number)
    for _ in range(TASKS - 1):
        link = da.spawn(number, link)
    link.result()


def traced(run: Callable[[], None]) -> Callable[[], None]:
    """`run` in a trace."""

    def inside() -> None:
        with da.trace():
            run()

    return inside


def measured(runs: dict[str, tuple[Callable[[], None], int]]) -> dict[str, list[float]]:
    """Times of each run in ns, for each of the things it does."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(REPEATS + 1):
        for name, (run, count) in runs.items():
            gc.collect()
            began = time.perf_counter_ns()
            run()
            passed = time.perf_counter_ns() - began
            if repeat:
                found[name].append(passed / count)
    return found


def report_looking() -> None:
    """Say what it takes to keep a large trace and to look at it."""
    tracemalloc.start()
    with da.trace() as tr:
        da.wait([da.spawn(number) for _ in range(MANY)])
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"\na trace of {MANY:,} tasks: {size / len(tr):.0f} B an event, kept")
    with tempfile.TemporaryDirectory() as folder:
        looks: dict[str, Callable[[], object]] = {
            "summary": tr.summary,
            "gantt .html": lambda: tr.gantt(f"{folder}/t.html"),
            "gantt .svg": lambda: tr.gantt(f"{folder}/t.svg"),
            "chrome": lambda: tr.chrome(f"{folder}/t.json"),
            "graph": tr.graph,
            "events": tr.events,
        }
        for name, look in looks.items():
            began = time.perf_counter()
            look()
            print(f"  {name:<12} {time.perf_counter() - began:6.2f} s")


def main() -> int:
    """Measure, report, and say whether the requirement is met."""
    da.configure(engine="threads", threads=2)
    found = measured(
        {
            "loop": (loop, EVENTS),
            "event, nobody": (publish, EVENTS),
            "event, trace": (traced(publish), EVENTS),
            "independent task, off": (independent, TASKS),
            "independent task, on": (traced(independent), TASKS),
            "chained task, off": (chain, TASKS),
            "chained task, on": (traced(chain), TASKS),
        }
    )
    print(f"{'ns':<24} {'min':>8} {'median':>8}")
    for name, times in found.items():
        print(f"{name:<24} {min(times):8.0f} {statistics.median(times):8.0f}")
    report_looking()
    cost = min(found["event, trace"]) - min(found["loop"])
    met = cost < LIMIT_NS
    print(
        f"\nan event is made, told and kept in {cost:.0f} ns; required: less than 1 us, met: {met}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
