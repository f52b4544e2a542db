"""Traces as Trace Event JSON, held to the rules of the format's description."""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from numbers import Real
from time import perf_counter_ns

import darray.runtime as da
from darray.runtime.consumers.trace_chrome import trace_events
from darray.runtime.consumers.trace_history import History, Run, Wait
from darray.runtime.engine import publish_move

# What an event of each phase must have.
REQUIRED = {
    "X": {"name", "cat", "ts", "dur", "pid", "tid"},
    "M": {"name", "pid", "args"},
    "C": {"name", "ts", "pid", "args"},
    "s": {"name", "cat", "id", "ts", "pid", "tid"},
    "f": {"name", "cat", "id", "ts", "pid", "tid"},
}
NAMING = {
    "process_name": ("name", str),
    "process_sort_index": ("sort_index", int),
    "thread_name": ("name", str),
    "thread_sort_index": ("sort_index", int),
}


def check(found):
    """Assert the rules of the format."""
    named = set()
    for event in found:
        assert event["ph"] in REQUIRED
        assert REQUIRED[event["ph"]] <= event.keys(), event
        assert isinstance(event["pid"], int)
        assert isinstance(event.get("tid", 0), int)
        if event["ph"] == "M":
            key, kind = NAMING[event["name"]]
            assert isinstance(event["args"][key], kind)
            if event["name"] == "thread_name":
                named.add((event["pid"], event["tid"]))
        else:
            assert isinstance(event["ts"], Real)
            assert event["ts"] >= 0
        if event["ph"] == "C":
            assert all(isinstance(value, Real) for value in event["args"].values())
    times = [event["ts"] for event in found if event["ph"] != "M"]
    assert times == sorted(times)
    slices = [event for event in found if event["ph"] == "X"]
    assert all(isinstance(event["dur"], Real) and event["dur"] >= 0 for event in slices)
    assert {(event["pid"], event["tid"]) for event in slices} <= named
    check_nesting(slices)
    check_flows(found, slices)


def check_nesting(slices):
    """Slices of a thread lie apart or within one another."""
    threads = defaultdict(list)
    for event in slices:
        # In whole ns: sums of fractions of us are not exact.
        began = round(event["ts"] * 1000)
        ended = began + round(event["dur"] * 1000)
        threads[event["pid"], event["tid"]].append((began, -ended))
    for some in threads.values():
        open_ends = []
        for began, ended in sorted(some):
            while open_ends and open_ends[-1] <= began:
                open_ends.pop()
            assert not open_ends or -ended <= open_ends[-1]
            open_ends.append(-ended)


def check_flows(found, slices):
    """Each arrow has one beginning and, not before it, one end, both in slices."""
    begins = {event["id"]: event for event in found if event["ph"] == "s"}
    ends = {event["id"]: event for event in found if event["ph"] == "f"}
    assert begins.keys() == ends.keys()
    numbers = [(event["ph"], event["id"]) for event in found if "id" in event]
    assert len(numbers) == len(set(numbers))
    for number, begin in begins.items():
        end = ends[number]
        assert (begin["name"], begin["cat"]) == (end["name"], end["cat"])
        assert begin["ts"] <= end["ts"]
        assert end["bp"] == "e"
        for event in (begin, end):
            assert any(
                (one["pid"], one["tid"]) == (event["pid"], event["tid"])
                and one["ts"] <= event["ts"] <= one["ts"] + one["dur"]
                for one in slices
            )


def written(trace, folder):
    path = trace.chrome(folder / "t.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    check(document["traceEvents"])
    return document


def test_program_of_all_kinds_of_events(engine, tmp_path):
    def fails(number):
        raise ValueError(number)

    def loads(number):
        began = perf_counter_ns()
        publish_move(100 + number, "store", "memory", began)
        return number

    def nested():
        return sum(task.result() for task in da.map(loads, range(5)))

    with da.trace() as tr:
        numbers = da.map(loads, range(10))
        total = da.spawn.options(memory=1000)(sum, numbers)
        bad = da.spawn(fails, total)
        da.wait([total, da.spawn(abs, bad), *[da.spawn(nested) for _ in range(5)]])
        publish_move(7, "memory", "store", perf_counter_ns() - 1000)
    found = written(tr, tmp_path)["traceEvents"]
    names = Counter(event["name"].rpartition(".")[2] for event in found if event["ph"] == "X")
    assert names["loads"] == 35
    moves = [event["args"] for event in found if event["ph"] == "X" and event["cat"] == "move"]
    # Others are from worker to worker.
    own = [one["nbytes"] for one in moves if one["source"] in ("store", "memory")]
    assert len(own) == 36
    assert sum(own) == sum(range(100, 110)) + 5 * sum(range(100, 105)) + 7
    assert (names["sum"], names["fails"], names["nested"], names["abs"]) == (1, 1, 5, 0)
    assert sum(event["ph"] == "s" for event in found) == 11
    (failed,) = [event for event in found if "failed" in event.get("cat", "")]
    assert failed["args"]["failure"] == f"ValueError: {total.result()}"
    counters = defaultdict(list)
    for event in found:
        if event["ph"] == "C":
            counters[event["name"], event["pid"]] += event["args"].values()
    ends = defaultdict(int)
    for (name, _), counted in counters.items():
        ends[name] += counted[-1]
    assert ends["running tasks"] == 0
    (declared,) = [one for (name, _), one in counters.items() if name.startswith("memory")]
    assert declared == [1000, 0]
    assert ends["moved"] == sum(one["nbytes"] for one in moves)
    threads = {e["args"]["name"] for e in found if e["name"] == "thread_name"}
    assert {"cpu 0", "outside tasks"} <= threads
    assert {e["args"]["name"] for e in found if e["name"] == "process_name"} == {
        f"worker {number}" for number in da.workers()
    }


def test_nothing_happened(engine, tmp_path):
    with da.trace() as tr:
        pass
    assert {event["ph"] for event in written(tr, tmp_path)["traceEvents"]} == {"M"}


def test_task_that_is_not_over(threads, tmp_path):
    gate, began = threading.Event(), threading.Event()

    def waits():
        began.set()
        gate.wait(60)

    with da.trace() as tr:
        task = da.spawn(waits)
        assert began.wait(60)
    gate.set()
    task.wait()
    (found,) = [one for one in written(tr, tmp_path)["traceEvents"] if one["ph"] == "X"]
    assert found["args"]["not over"]


def test_oldest_events_are_missing(engine, tmp_path):
    with da.trace(limit=50) as tr:
        task = da.spawn(abs, 0)
        for _ in range(100):
            task = da.spawn(abs, task)
        task.wait()
    assert written(tr, tmp_path)["otherData"] == {"dropped events": tr.dropped}


def test_names_of_all_characters(engine, tmp_path):
    name = 'ü "\\ </script> \ud800 \x00'
    with da.trace() as tr:
        da.spawn.options(name=name)(abs, 1).wait()
    found = written(tr, tmp_path)["traceEvents"]
    assert name in {event["name"] for event in found}


def test_tasks_beside_each_other_stand_in_lanes_of_their_own():
    cpu = da.Processor(worker=0, kind="cpu", index=0)
    runs = tuple(
        Run(number, "f", processor=cpu, began=began, ended=ended)
        for number, (began, ended) in enumerate([(0, 100), (10, 20), (50, 150), (60, 70)])
    )
    # This wait lies neither within the third task nor apart from it.
    waits = (Wait(0, cpu, 40, 90),)
    found = trace_events(History(runs, (), waits, (cpu,), 200, 0))
    check(found)
    tids = {event["args"].get("task"): event["tid"] for event in found if event["name"] == "f"}
    assert tids[1] == tids[0] != tids[2]


def test_workers_are_processes():
    processors = tuple(da.Processor(worker=one, kind="cpu", index=0) for one in (0, 3))
    runs = tuple(
        Run(number, "f", needs=(0,) * number, processor=processor, began=number, ended=number + 1)
        for number, processor in enumerate(processors)
    )
    found = trace_events(History(runs, (), (), processors, 10, 0))
    check(found)
    assert [event["pid"] for event in found if event["ph"] in "sf"] == [0, 3]
