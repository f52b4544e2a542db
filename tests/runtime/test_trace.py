"""Traces: what is recorded, what it comes to, and what recording must not do."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import weakref
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from time import perf_counter_ns

import pytest

import darray.runtime as da
from darray.runtime import events
from darray.runtime.consumers.trace_summary import duration_text
from darray.runtime.engine import publish_move


def fails(*_):
    raise ValueError('no "way"\nat all')


def functions(trace):
    return {one.name: one for one in trace.summary().functions}


def test_functions_are_counted_and_timed(engine):
    with da.trace() as tr:
        numbers = da.map(abs, range(20))
        da.spawn(sum, numbers).result()
        bad = da.spawn(fails)
        da.wait([bad, da.spawn(abs, bad)])
    found = functions(tr)
    assert {name: (one.count, one.failures) for name, one in found.items()} == {
        "abs": (20, 0),
        "sum": (1, 0),
        "fails": (1, 1),
    }
    one = found["abs"]
    assert 0 <= one.min <= one.mean <= one.max <= one.total <= tr.summary().seconds * 2
    assert one.mean == pytest.approx(one.total / 20)
    assert tr.summary().unfinished == 1
    assert events.consumers == ()


def test_processors_compute_move_wait_and_idle_for_the_whole_span(engine):
    def busy():
        began = perf_counter_ns()
        while perf_counter_ns() - began < 2_000_000:
            pass
        publish_move(1000, "here", "there", began)
        while perf_counter_ns() - began < 6_000_000:
            pass

    with da.trace() as tr:
        da.wait([da.spawn(busy) for _ in range(4)])
        publish_move(10, "here", "there", perf_counter_ns() - 1000)
    summary = tr.summary()
    *processors, outside = summary.processors
    assert tuple(one.processor for one in processors) == engine.processors()
    for one in processors:
        parts = (one.computing, one.moving, one.waiting, one.idle)
        assert sum(parts) == pytest.approx(summary.seconds)
        assert min(parts) >= 0
    table = tr.events()
    lengths = {"ValueMoved": [], "TaskEnded": []}
    for event, began, time in zip(table["event"], table["began"], table["time"], strict=True):
        lengths.get(event, []).append((time - (began or 0)) / 1e9)
    *moved, last = lengths["ValueMoved"]
    assert sum(one.moving for one in processors) == pytest.approx(sum(moved))
    computed = sum(lengths["TaskEnded"]) - sum(moved)
    assert sum(one.computing for one in processors) == pytest.approx(computed)
    assert (outside.processor, outside.computing) == (None, 0)
    assert outside.moving == pytest.approx(last)


def test_waiting_inside_a_task_is_no_computing(threads):
    began, gate = threading.Event(), threading.Event()

    def inner():
        began.set()
        gate.wait(60)

    def outer(task):
        return task.wait(60)

    with da.trace() as tr:
        first = da.spawn(inner)
        assert began.wait(60)
        # Wrapped, so that the task is handed over as it is.
        second = da.spawn(lambda: outer(first))
        while not threads._schedule.blocked:
            da.spawn(int).wait()
        gate.set()
        da.wait([first, second])
    waits = [event for event in tr._ring if isinstance(event, da.TaskWaited)]
    waited = sum(event.time - event.began for event in waits if event.task == second.number) / 1e9
    assert waited > 0
    assert sum(one.waiting for one in tr.summary().processors) <= waited * (1 + 1e-9)


def test_summary_prints_as_a_table(engine):
    with da.trace() as tr:
        da.wait([da.spawn.options(name="long " * 30)(abs, 1), da.spawn(fails)])
    lines = str(tr.summary()).splitlines()
    assert lines[0].startswith("2 tasks in ")
    assert lines[0].endswith(", 1 failed")
    assert lines[2].split() == ["function", "count", "mean", "min", "max", "total", "failures"]
    assert len({len(line) for line in lines[2:5]}) == 1
    assert "…" in "".join(lines)
    assert any(line.startswith("worker 0 cpu 0") for line in lines)
    assert repr(tr.summary()) == str(tr.summary())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.9994, "999 ms"), (0.9999, "1 s"), (1234, "1,234 s"), (3e-9, "0.003 us"), (1e-3, "1 ms")],
)
def test_durations_are_told_in_three_digits(seconds, text):
    assert duration_text(seconds) == text


def test_nothing_happened(engine, tmp_path):
    with da.trace() as tr:
        pass
    assert str(tr.summary()).startswith("0 tasks in ")
    assert tr.summary().functions == ()
    assert all(one.idle == pytest.approx(tr.summary().seconds) for one in tr.summary().processors)
    assert "->" not in tr.graph()
    assert set(map(len, tr.events().values())) == {0}
    assert len(tr) == 0
    assert tr


def test_trace_begun_inside_work_and_read_while_it_runs(threads):
    gate, began = threading.Event(), threading.Event()

    def waits():
        began.set()
        return gate.wait(60)

    early = da.spawn(waits)
    assert began.wait(60)
    with da.trace() as tr:
        da.spawn(abs, -1).result()
        late = da.spawn(abs, early)
        assert functions(tr)["abs"].count == 1
        assert tr.summary().unfinished == 1
        gate.set()
        late.wait()
    assert functions(tr)["abs"].count == 2
    assert f"t{early.number} -> t{late.number};" in tr.graph()
    assert f"task {early.number}" in tr.graph()


def test_oldest_events_go_and_are_counted(engine):
    with da.trace(limit=30) as tr:
        for _ in range(100):
            da.spawn(abs, -1).wait()
    assert len(tr) == 30
    assert tr.dropped == 270
    assert tr.summary().dropped == 270
    assert "270 events dropped" in str(tr.summary())
    assert "270 older ones dropped" in repr(tr)
    assert functions(tr)["abs"].count == 10
    assert min(tr.events()["time"]) >= 0
    summary = tr.summary()
    assert all(0 <= one.computing <= summary.seconds for one in summary.processors)


def test_nothing_is_dropped_up_to_the_limit(engine):
    with da.trace(limit=30) as tr:
        for _ in range(10):
            da.spawn(abs, -1).wait()
    assert len(tr) == 30
    assert tr.dropped == 0
    assert "dropped" not in str(tr.summary())


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_must_be_positive(limit):
    with pytest.raises(ValueError, match="at least 1"):
        da.trace(limit=limit)


def test_one_trace_records_one_block():
    tr = da.trace()
    with tr, pytest.raises(RuntimeError, match="one block only"), tr:
        pass
    with pytest.raises(RuntimeError, match=r"da\.trace\(\)"), tr:
        pass


def test_traces_may_overlap(engine):
    with da.trace() as first:
        da.spawn(abs, -1).wait()
        with da.trace() as second:
            da.spawn(abs, -1).wait()
    assert functions(first)["abs"].count == 2
    assert functions(second)["abs"].count == 1


def test_what_began_before_the_trace_begins_with_it(threads):
    gate, began = threading.Event(), threading.Event()

    def waits():
        publish_began = perf_counter_ns()
        began.set()
        gate.wait(60)
        publish_move(10, "here", "there", publish_began)

    with da.trace() as first:
        task = da.spawn(waits)
        assert began.wait(60)
        with da.trace() as second:
            gate.set()
            task.wait()
    long, short = first.summary(), second.summary()
    assert long.functions[0].total >= short.functions[0].total > 0
    assert short.functions[0].total <= short.seconds
    assert all(one.computing + one.moving <= short.seconds for one in short.processors)
    (moving,) = [one.moving for one in short.processors if one.moving]
    assert moving <= short.functions[0].total


def test_block_that_raises_ends_the_trace(engine):
    tr = da.trace()

    def block():
        with tr:
            da.spawn(abs, -1).wait()
            raise LookupError

    with pytest.raises(LookupError):
        block()
    assert events.consumers == ()
    assert functions(tr)["abs"].count == 1


def test_exception_whose_message_cannot_be_told(engine):
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    def odd():
        raise Odd

    with da.trace() as tr:
        da.spawn(odd).wait()
    (failure,) = filter(None, tr.events()["failure"])
    assert "cannot be told: RuntimeError" in failure


def test_events_as_columns(engine):
    with da.trace() as tr:
        one = da.spawn(abs, -1)
        one.wait()
        two = da.spawn(fails, one)
        two.wait()
        publish_move(10, "here", "there", perf_counter_ns())
    table = tr.events()
    assert table["event"] == [
        *("TaskSpawned", "TaskBegan", "TaskEnded"),
        *("TaskSpawned", "TaskBegan", "TaskFailed"),
        "ValueMoved",
    ]
    assert table["task"] == [one.number] * 3 + [two.number] * 3 + [None]
    assert table["needs"][3] == [one.number]
    assert table["nbytes"][-1] == 10
    assert table["failure"][5] == 'ValueError: no "way" at all'
    assert table["time"] == sorted(table["time"])
    assert table["spawned_at"][0] == one.spawned_at


def test_events_as_arrow(engine):
    pytest.importorskip("pyarrow", reason="the table is one of pyarrow")
    with da.trace() as tr:
        da.spawn(sum, [da.spawn(abs, -1)]).wait()
    table = tr.events(kind="arrow")
    assert table.to_pydict() == tr.events()
    with da.trace() as nothing:
        pass
    assert nothing.events(kind="arrow").schema == table.schema


def test_missing_library_is_named(engine, tmp_path, monkeypatch):
    with da.trace() as tr:
        pass
    for name in ("pyarrow", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"darray\[arrow\]"):
        tr.events(kind="arrow")
    with pytest.raises(ImportError, match=r"darray\[plot\]"):
        tr.gantt(tmp_path / "t.png")


@pytest.mark.parametrize(
    "call",
    [
        lambda tr, folder: tr.events(kind="list"),
        lambda tr, folder: tr.gantt(folder / "t.gif"),
        lambda tr, folder: tr.graph(folder / "t.gif"),
    ],
    ids=["events", "gantt", "graph"],
)
def test_wrong_kinds_are_refused(call, tmp_path):
    with da.trace() as tr:
        pass
    with pytest.raises(ValueError, match=r"list|gif"):
        call(tr, tmp_path)
    assert list(tmp_path.iterdir()) == []


def graph_of_odd_names():
    with da.trace() as tr:
        one = da.spawn.options(name='a "quoted" \\ <b>&amp;\n{x|y}\x00 ü')(abs, -1)
        bad = da.spawn(fails, one)
        da.wait([one, da.spawn(abs, bad)])
    return tr


def test_graph_marks_what_failed_and_did_not_run(engine):
    text = graph_of_odd_names().graph()
    assert text.count(" -> ") == 2
    assert text.count("failed: ValueError") == 1
    assert text.count("did not run") == 1
    assert r"a \"quoted\" \\ <b>&amp;amp; {x|y}  ü" in text


def test_graph_is_written_as_text(engine, tmp_path):
    tr = graph_of_odd_names()
    path = tr.graph(tmp_path / "t.dot")
    assert path.read_text(encoding="utf-8") == tr.graph()


def test_graph_is_drawn_by_graphviz(engine, tmp_path):
    if shutil.which("dot") is None:
        with pytest.raises(FileNotFoundError, match="install Graphviz"):
            graph_of_odd_names().graph(tmp_path / "t.svg")
        assert list(tmp_path.iterdir()) == []
        return
    root = ElementTree.parse(graph_of_odd_names().graph(tmp_path / "t.svg")).getroot()
    kinds = [one.get("class") for one in root.iter("{http://www.w3.org/2000/svg}g")]
    assert (kinds.count("node"), kinds.count("edge")) == (3, 2)
    told = "".join(root.itertext())
    assert 'a "quoted" \\ <b>&amp;' in told.replace("\xa0", " ")


def test_graph_without_graphviz(engine, tmp_path, monkeypatch):
    with da.trace() as tr:
        pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="install Graphviz"):
        tr.graph(tmp_path / "t.svg")


def test_import_brings_no_renderer(tmp_path):
    program = (
        "import sys, darray; "
        "print(sorted(n for n in sys.modules if 'trace_' in n or n in "
        "('matplotlib', 'pyarrow')))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_a_task_has_room_for_its_number_only_when_it_is_asked_for(engine):
    task = da.spawn(abs, -1)
    assert not hasattr(task, "_number")
    assert task.number == task.number


def test_recorder_keeps_no_task_or_value(engine):
    class Value:
        pass

    with da.trace() as tr:
        task = da.spawn(Value)
        value = weakref.ref(task.result())
        dead = weakref.ref(task)
        del task
        da.configure()
    assert value() is None
    assert dead() is None
    assert len(tr) == 3


def test_names_of_places(engine):
    with da.trace() as tr:
        da.spawn(abs, -1).wait()
    assert Path(tr.events()["spawned_at"][0].rpartition(":")[0]) == Path(__file__)
