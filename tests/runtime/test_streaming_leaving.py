"""Scripts that leave a stream running, Ctrl-C, forks, and an engine that is closed meanwhile."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

import darray.runtime as da
from darray.runtime import engine as engines


def started(script, engine="threads"):
    """A process that runs a script."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "DARRAY_ENGINE": engine, "DARRAY_THREADS": "2"},
    )


def ended(process):
    """What a process said."""
    try:
        said, told = process.communicate(timeout=60)
    finally:
        process.kill()
    return said, told


@pytest.mark.parametrize("engine", ["serial", "threads", "workers"])
def test_a_stream_left_at_exit_is_finished(engine):
    process = started(
        """
        import darray.runtime as da
        with da.spawn_streaming() as s:
            da.spawn(lambda x: print(x, flush=True), da.spawn(iter(range(200))))
        """,
        engine,
    )
    assert ended(process) == ("".join(f"{x}\n" for x in range(200)), "")
    assert process.returncode == 0


@pytest.mark.parametrize("engine", ["serial", "threads", "workers"])
def test_an_output_that_nobody_takes_to_its_end_does_not_hold_the_exit_up(engine):
    process = started(
        """
        import itertools
        import darray.runtime as da
        with da.spawn_streaming() as s:
            out = s.output(da.spawn(lambda x: x, da.spawn(itertools.count())))
        print(next(out), next(out))
        """,
        engine,
    )
    assert ended(process) == ("0 1\n", "")
    assert process.returncode == 0


def test_nor_does_one_of_a_task_on_another_worker():
    process = started(
        """
        import itertools
        import darray.runtime as da
        da.configure(workers=2)
        with da.spawn_streaming() as s:
            there = da.spawn.options(scope=da.scope(worker=1))
            out = s.output(there(lambda x: x, da.spawn(itertools.count())))
        print(next(out), next(out))
        """,
        "workers",
    )
    assert ended(process) == ("0 1\n", "")
    assert process.returncode == 0


# Says that it is ready once the main thread waits, so that Ctrl-C finds it there.
ENDLESS = """
import itertools
import darray.runtime as da
from darray.runtime.engine import current_engine
def numbers():
    yield 0
    while not current_engine()._schedule.waiters:
        pass
    print("ready", flush=True)
    yield from itertools.count(1)
with da.spawn_streaming() as s:
    numbers = da.spawn(numbers)
    last = da.spawn(lambda x: x, numbers)
    if takes:
        out = s.output(last)
"""

ANSWERS = """
except KeyboardInterrupt:
    print("interrupted", [task.cancelled() for task in s.tasks])
print(da.spawn(abs, -1).result())
raise SystemExit(3)
"""


def interrupted(script, engine="threads", takes=False):
    """What a script said that Ctrl-C ended once it was ready."""
    process = started(f"takes = {takes}\n" + script, engine)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    said, told = ended(process)
    return said, told, process.returncode


@pytest.mark.parametrize("engine", ["threads", "workers"])
def test_ctrl_c_while_waiting(engine):
    said, told, code = interrupted(ENDLESS + "try:\n    s.wait()" + ANSWERS, engine)
    assert (said, told, code) == ("interrupted [True, True]\n1\n", "", 3)


@pytest.mark.parametrize("engine", ["threads", "workers"])
def test_ctrl_c_while_iterating(engine):
    script = ENDLESS.replace("    yield from itertools.count(1)", "    gate.wait()")
    script = "import threading\ngate = threading.Event()\n" + script
    script += "try:\n    print(list(out))" + ANSWERS
    said, told, code = interrupted(script, engine, takes=True)
    assert (said, told, code) == ("interrupted [True, True]\n1\n", "", 3)


def test_ctrl_c_while_waiting_prints_one_traceback():
    said, told, code = interrupted(ENDLESS + "s.wait()\n")
    assert said == ""
    assert told.count("Traceback") == 1
    assert told.rstrip().endswith("KeyboardInterrupt")
    assert code == -signal.SIGINT


def test_ctrl_c_at_exit_ends_an_endless_stream():
    said, told, _ = interrupted(ENDLESS)
    assert said == ""
    assert told.count("Traceback") == 1


def test_a_source_that_waits_for_ever_does_not_hold_the_exit_up():
    process = started(
        """
        import threading
        import darray.runtime as da
        gate = threading.Event()
        def source():
            yield 1
            gate.wait()
        with da.spawn_streaming() as s:
            one = da.spawn.options(max_evals=1)(print, da.spawn(source))
        s.wait()
        """
    )
    assert ended(process) == ("1\n", "")
    assert process.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_of_a_fork_has_streams_of_its_own():
    process = started(
        """
        import itertools, os, threading, warnings
        import darray.runtime as da
        warnings.simplefilter("ignore", DeprecationWarning)
        gate = threading.Event()
        def source():
            yield 1
            gate.wait()
        with da.spawn_streaming() as s:
            # A timer is set when the process forks.
            out = s.output(da.batch(da.spawn(source), 2, seconds=1000))
            first = s.output(da.spawn(iter([1])))
        list(first)
        child = os.fork()
        if not child:
            ended = threading.Event()
            def slowly():
                yield 1
                ended.wait(60)
            with da.spawn_streaming() as mine:
                out = mine.output(da.batch(da.spawn(slowly), 10, seconds=0.01))
            print("child", next(out), flush=True)
            ended.set()
            mine.wait()
            os._exit(0)
        print("status", os.waitpid(child, 0)[1])
        s.cancel()
        gate.set()
        """
    )
    said, told = ended(process)
    assert (said, told) == ("child [1]\nstatus 0\n", "")


def test_configure_finishes_streams(engine):
    seen = []
    with da.spawn_streaming() as s:
        da.spawn.options(scope=da.scope(worker=0))(seen.append, da.spawn(iter(range(1000))))
    da.configure(threads=2)
    assert seen == list(range(1000))
    assert s.wait(0)


def test_configure_ends_those_whose_output_nobody_takes(engine):
    with da.spawn_streaming() as s:
        out = s.output(da.spawn(iter(range(10**9))))
    assert [next(out) for _ in range(100)] == list(range(100))
    da.configure(threads=2)
    assert s.wait(0)
    with pytest.raises(RuntimeError, match="closed before all values of this output were taken"):
        next(out)


def test_an_output_that_was_closed_gives_nothing(engine):
    with da.spawn_streaming() as s:
        out = s.output(da.spawn(iter(range(10**9))))
    with out:
        assert next(out) == 0
    assert list(out) == []
    assert s.wait(60)


def test_closing_an_output_lets_a_thread_go_on_that_waits_for_it(threads):
    gate = threading.Event()
    begun = threading.Event()

    def source():
        begun.set()
        gate.wait(60)
        yield 1

    with da.spawn_streaming() as s:
        out = s.output(da.spawn(source))
    got = []
    thread = threading.Thread(target=lambda: got.append(list(out)))
    thread.start()
    assert begun.wait(60)
    out.close()
    thread.join(60)
    assert got == [[]]
    gate.set()
    assert s.wait(60)


def test_an_output_that_was_let_go_of_ends_what_gives_to_it(engine):
    with da.spawn_streaming() as s:
        source = da.spawn(itertools.count())
        out = s.output(da.spawn(lambda x: x, source))
    assert next(out) == 0
    del out
    assert s.wait(60)
    assert source.exception() is None


def test_an_output_is_let_go_of_by_leaving_a_loop(engine):
    with da.spawn_streaming() as s:
        source = da.spawn(itertools.count())
        held = [s.output(source)]
    for value in held.pop():
        assert value == 0
        break
    assert s.wait(60)


def test_an_output_in_a_circle_of_references_is_let_go_of(engine):
    with da.spawn_streaming() as s:
        out = s.output(da.spawn(itertools.count()))
    circle = [out]
    circle.append(circle)
    assert next(out) == 0
    del out, circle
    gc.collect()
    assert s.wait(60)


def test_without_teardown_what_gives_to_an_output_that_was_let_go_of_goes_on(threads):
    seen = threading.Event()
    with da.spawn_streaming(teardown=False) as s:
        source = da.spawn(itertools.count())
        out = s.output(source, buffer=2)
        da.spawn(lambda x: seen.set() if x == 1000 else None, source)
    assert next(out) == 0
    assert not seen.is_set()
    del out
    assert seen.wait(60)
    s.cancel()


def test_the_end_of_a_handle_takes_no_lock(two_threads):
    with da.spawn_streaming() as s:
        source = da.spawn(itertools.count())
        out = s.output(source)
    tap = out._tap
    with tap._lock, tap.edge._lock, source._stage._lock, two_threads._lock:
        del out
        assert tap.is_dropped
    assert s.wait(60)


def test_closing_the_engine_at_once_ends_what_runs(two_threads):
    begun = threading.Event()

    def look(x):
        begun.set()

    with da.spawn_streaming() as s:
        last = da.spawn(look, da.spawn(lambda: 1))
    assert begun.wait(60)
    engines.close(finish=False)
    # Its drivers find the engine closed when their turn is over.
    for task in s.tasks:
        watched = threading.Event()
        two_threads.watch(task, lambda _, watched=watched: watched.set())
        assert watched.wait(60)
    assert isinstance(last.exception(), da.CancelledError)
    assert da.spawn(abs, -1).result() == 1
