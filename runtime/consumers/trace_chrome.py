"""A trace in the Trace Event Format, which Perfetto and Chrome's about:tracing open.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from darray.runtime.consumers.trace_chart import Lanes
from darray.runtime.consumers.trace_history import History, Move, Run, Wait, processor_text
from darray.runtime.processor import Processor

__all__ = ["chrome", "trace_events"]

_Event: TypeAlias = dict[str, Any]
# The "thread" of what happens outside tasks, and how many numbers each processor has for its own:
# one for each lane, for what stands in one "thread" must not overlap but by lying within.
_OUTSIDE, _LANES = 0, 1000


def chrome(history: History, path: str | PathLike[str]) -> Path:
    """Write `history` to `path`."""
    import json

    path = Path(path)
    text = json.dumps(
        {
            "traceEvents": trace_events(history),
            "displayTimeUnit": "ms",
            "otherData": {"dropped events": history.dropped},
        },
        separators=(",", ":"),
    )
    path.write_text(text, encoding="utf-8")
    return path


def trace_events(history: History) -> list[_Event]:
    """The events: first what names processes and threads, then the others by their time."""
    rows = _Rows(history)
    timed = [*_slices(history, rows), *_flows(history, rows), *_counters(history)]
    timed.sort(key=lambda event: event["ts"])
    return [*rows.names(), *timed]


class _Rows:
    """Where each task, move and wait stands: a "thread" of a "process", which is a worker."""

    def __init__(self, history: History) -> None:
        self.place: dict[int, tuple[int, int]] = {}
        # Of moves and waits, by their own identity: many of them belong to one task.
        self.part_place: dict[int, tuple[int, int]] = {}
        self._order = {one: number for number, one in enumerate(history.processors)}
        self._lanes = {one: Lanes(nested=True) for one in history.processors}
        self._outside = Lanes(nested=True)
        spans: list[tuple[int, int, Run | Move | Wait]] = [
            *((one.began, one.ended, one) for one in history.moves),
            *((one.began, one.ended, one) for one in history.waits),
        ]
        for run in history.runs:
            stretch = history.stretch(run)
            if stretch is not None:
                spans.append((*stretch, run))
        # Of the same stretch, the task comes before what is part of it.
        spans.sort(key=lambda span: (span[0], -span[1], not isinstance(span[2], Run)))
        lane: dict[int, int] = {}
        for began, ended, one in spans:
            if isinstance(one, Run):
                assert one.processor is not None
                lane[one.number] = self._lanes[one.processor].place(began, ended)
                self.place[one.number] = self._row(one.processor, lane[one.number])
            elif one.processor is None:
                self._outside.place(began, ended)
                self.part_place[id(one)] = (0, _OUTSIDE)
            else:
                wish = lane.get(-1 if one.task is None else one.task, 0)
                found = self._lanes[one.processor].place(began, ended, wish)
                self.part_place[id(one)] = self._row(one.processor, found)

    def _row(self, processor: Processor, lane: int) -> tuple[int, int]:
        return processor.worker, 1 + self._order[processor] * _LANES + lane

    def names(self) -> Iterator[_Event]:
        """The events that name and order processes and threads."""
        for worker in sorted({one.worker for one in self._order}):
            yield _named("process_name", worker, 0, {"name": f"worker {worker}"})
            yield _named("process_sort_index", worker, 0, {"sort_index": worker})
        for processor, lanes in self._lanes.items():
            for lane in range(max(1, len(lanes))):
                pid, tid = self._row(processor, lane)
                text = processor_text(processor) + (f" ({lane + 1})" if lane else "")
                yield _named("thread_name", pid, tid, {"name": text})
                yield _named("thread_sort_index", pid, tid, {"sort_index": tid})
        if self._outside:
            yield _named("thread_name", 0, _OUTSIDE, {"name": "outside tasks"})


def _named(name: str, pid: int, tid: int, args: _Event) -> _Event:
    return {"ph": "M", "name": name, "pid": pid, "tid": tid, "args": args}


def _us(time: float) -> float:
    return time / 1000


def _slice(
    name: str, category: str, stretch: tuple[int, int], row: tuple[int, int], args: _Event
) -> _Event:
    began, ended = stretch
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "ts": _us(began),
        "dur": _us(ended - began),
        "pid": row[0],
        "tid": row[1],
        "args": args,
    }


def _slices(history: History, rows: _Rows) -> Iterator[_Event]:
    for run in history.runs:
        stretch = history.stretch(run)
        if stretch is None:
            continue
        args: _Event = {"task": run.number, "spawned at": run.spawned_at, "needs": list(run.needs)}
        if run.memory:
            args["memory"] = run.memory
        if run.ended is None:
            args["not over"] = True
        category = "task" if run.failure is None else "task,failed"
        event = _slice(run.name, category, stretch, rows.place[run.number], args)
        if run.failure is not None:
            args["failure"] = run.failure
            event["cname"] = "terrible"
        yield event
    for move in history.moves:
        args = {"nbytes": move.nbytes, "source": move.source, "destination": move.destination}
        row = rows.part_place[id(move)]
        yield _slice("move", "move", (move.began, move.ended), row, args)
    for wait in history.waits:
        row = rows.part_place[id(wait)]
        yield _slice("wait", "wait", (wait.began, wait.ended), row, {"task": wait.task})


def _flows(history: History, rows: _Rows) -> Iterator[_Event]:
    """Arrows from the end of each task to the beginnings of those that needed it."""
    runs = {run.number: run for run in history.runs}
    numbers = itertools.count(1)
    for run in history.runs:
        for number in run.needs:
            need = runs.get(number)
            if run.began is None or need is None or need.began is None or need.ended is None:
                continue
            flow = {"name": "needs", "cat": "dependency", "id": next(numbers)}
            # An arrow begins at the slice that is there at its time: the end is not in it.
            last = max(need.began, min(need.ended - 1, run.began))
            pid, tid = rows.place[number]
            yield {"ph": "s", **flow, "ts": _us(last), "pid": pid, "tid": tid}
            pid, tid = rows.place[run.number]
            begin = _us(max(run.began, last))
            yield {"ph": "f", "bp": "e", **flow, "ts": begin, "pid": pid, "tid": tid}


def _counters(history: History) -> Iterator[_Event]:
    """How many tasks run, how much memory they declared, and how much was moved, over time."""
    running: dict[int, list[tuple[int, int]]] = {}
    memory: dict[int, list[tuple[int, int]]] = {}
    moved: dict[int, list[tuple[int, int]]] = {}
    for run in history.runs:
        stretch = history.stretch(run)
        if stretch is None or run.processor is None:
            continue
        for time, sign in zip(stretch, (1, -1), strict=True):
            running.setdefault(run.processor.worker, []).append((time, sign))
            if run.memory:
                memory.setdefault(run.processor.worker, []).append((time, sign * run.memory))
    for move in history.moves:
        worker = 0 if move.processor is None else move.processor.worker
        moved.setdefault(worker, []).append((move.ended, move.nbytes))
    yield from _counter("running tasks", "tasks", running)
    yield from _counter("memory declared by running tasks", "bytes", memory)
    yield from _counter("moved", "bytes", moved)
    for edge in history.edges:
        yield {
            "ph": "C",
            "name": f"{edge.producer} -> {edge.consumer}",
            "ts": _us(edge.time),
            "pid": 0,
            "args": {"taken": edge.received, "buffered": edge.buffered, "dropped": edge.dropped},
        }


def _counter(name: str, unit: str, changes: dict[int, list[tuple[int, int]]]) -> Iterator[_Event]:
    for worker, some in changes.items():
        total = 0
        for time, group in itertools.groupby(sorted(some), key=lambda change: change[0]):
            total += sum(change for _, change in group)
            yield {
                "ph": "C",
                "name": name,
                "ts": _us(time),
                "pid": worker,
                "args": {unit: total},
            }
