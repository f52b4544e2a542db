"""Whole processes: exit, fork, Ctrl-C, engines found by file name, settings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

import darray.runtime as da

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def run(program, **environment):
    """Run a program in a process of its own, to its end."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **environment},
    )


def interrupted(program):
    """Run a program and press Ctrl-C when it prints its first line; what it then prints."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert line == "ready\n", err
    return process.returncode, out, err


def test_import_starts_no_thread():
    done = run("import threading, darray.runtime; print(threading.active_count())")
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_exit_finishes_what_is_queued_and_prints_nothing(tmp_path):
    done = run(f"""
        import darray.runtime as da
        def write(i, depth=2):
            open({str(tmp_path)!r} + f"/{{i}}-{{depth}}", "w").close()
            if depth:
                da.spawn(write, i, depth - 1)
        for i in range(50):
            da.spawn(write, i)
        failed = da.spawn(int, "x")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(list(tmp_path.iterdir())) == 150


def test_exit_with_tasks_that_wait_for_memory_ends():
    done = run(
        """
        import darray.runtime as da
        held = da.spawn.options(memory=150_000_000)(bytes, 150_000_000)
        held.wait()
        never = da.spawn.options(memory=150_000_000)(bytes, 150_000_000)
        """,
        DARRAY_MEMORY_LIMIT="300MB",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_exit_by_an_exception_prints_it_once():
    done = run("""
        import darray.runtime as da
        da.spawn(int, "x").result()
    """)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "ValueError: invalid literal" in done.stderr
    assert "in task 'int' on Processor(" in done.stderr


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_child_of_a_fork_starts_anew():
    done = run("""
        import os, threading
        import darray.runtime as da
        gate = threading.Event()
        finished = da.spawn(int, 3)
        finished.wait()
        pending = [da.spawn(gate.wait) for _ in range(20)]
        threads = [threading.Thread(target=lambda: [da.spawn(int) for _ in range(3000)])]
        for thread in threads:
            thread.start()
        import warnings
        warnings.simplefilter("ignore")
        for _ in range(20):
            child = os.fork()
            if child == 0:
                assert da.fetch([finished, da.spawn(pow, 2, finished)]) == [3, 8]
                for use in (pending[0].result, lambda: da.spawn(abs, pending[0]),
                            lambda: da.wait(pending), lambda: da.fetch(pending)):
                    try:
                        use()
                    except RuntimeError as error:
                        assert "gone" in str(error) or "closed" in str(error), error
                    else:
                        os._exit(2)
                da.configure(threads=1)
                assert da.spawn(int, 4).result() == 4
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        gate.set()
        assert all(da.fetch(pending))
    """)
    assert (done.returncode, done.stderr) == (0, "")


WAITS = {
    "result": "tasks[-1].result()",
    "fetch": "da.fetch(tasks)",
    "wait": "da.wait(tasks)",
    "as_completed": "list(da.as_completed(tasks))",
    "many": "da.wait(tasks + [da.spawn(int) for _ in range(100)])",
}


@pytest.mark.parametrize("wait", WAITS)
def test_interrupt_cancels_what_is_waited_for(wait):
    code, out, err = interrupted(f"""
        import threading
        import darray.runtime as da
        da.configure(threads=2)
        gate, began = threading.Event(), threading.Barrier(3)
        def hold(tell):
            began.wait()
            if tell:
                while not da.current_task()._engine._schedule.waiters:
                    pass
                print("ready", flush=True)
            gate.wait()
        held = [da.spawn(hold, tell) for tell in (True, False)]
        tasks = [*held, da.spawn(print, "not printed")]
        tasks.append(da.spawn(abs, tasks[-1]))
        other = da.spawn(int, 5)
        began.wait()
        try:
            {WAITS[wait]}
        except KeyboardInterrupt:
            pass
        assert tasks[2].cancelled() and tasks[3].cancelled()
        assert not other.cancelled() and all(task.running() for task in held)
        gate.set()
        assert da.fetch([held, other]) == [[None, None], 5]
        assert da.spawn(pow, 2, 3).result() == 8
        da.configure()
        print("usable")
    """)
    assert (code, out, err) == (0, "usable\n", "")


@pytest.mark.parametrize("where", ["body", "end"])
def test_interrupt_in_sync_cancels_its_tasks(where):
    code, out, err = interrupted(f"""
        import threading
        import darray.runtime as da
        da.configure(threads=1)
        gate = threading.Event()
        tasks = []
        def hold():
            waiting = da.current_task()._engine._schedule.waiters
            while len(tasks) < 2 or not ({where == "body"} or waiting):
                pass
            print("ready", flush=True)
            return gate.wait()
        try:
            with da.sync():
                tasks.append(da.spawn(hold))
                tasks.append(da.spawn(print, "not printed"))
                # A signal just before a call that blocks does not end it.
                while {where == "body"} and not gate.wait(0.1):
                    pass
        except KeyboardInterrupt:
            pass
        assert tasks[1].cancelled() and tasks[0].running()
        gate.set()
        assert tasks[0].result() is True
        print("usable")
    """)
    assert (code, out, err) == (0, "usable\n", "")


def test_interrupt_prints_one_traceback_and_does_not_wait():
    code, out, err = interrupted("""
        import threading
        import darray.runtime as da
        da.configure(threads=1)
        began = threading.Event()
        def hold():
            began.set()
            threading.Event().wait()
        task = da.spawn(hold)
        queued = da.spawn(print, "not printed")
        began.wait()
        print("ready", flush=True)
        da.fetch(task)
    """)
    assert code == -signal.SIGINT
    assert out == ""
    assert err.count("Traceback (most recent call last)") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_interrupt_on_the_serial_engine():
    code, out, err = interrupted("""
        import threading
        import darray.runtime as da
        da.configure(engine="serial")
        def hold():
            print("ready", flush=True)
            # A signal just before a call that blocks does not end it.
            while not threading.Event().wait(0.1):
                pass
        try:
            da.spawn(hold)
        except KeyboardInterrupt:
            pass
        assert da.spawn(int, 3).result() == 3
        print("usable")
    """)
    assert (code, out, err) == (0, "usable\n", "")


def test_interrupts_at_any_moment_leave_the_engine_whole():
    done = run("""
        import random, signal
        import darray.runtime as da
        da.configure(threads=2)
        engine = da.spawn(int)._engine
        rng = random.Random(1)

        def work():
            link = da.spawn(int, 1)
            for i in range(100):
                link = da.spawn(abs, link)
                da.spawn.options(priority=i % 3)(max, link, i)
                if i % 10 == 0:
                    da.spawn(int).result()
            with da.sync():
                for i in range(20):
                    da.spawn(int, i)
            da.wait([da.spawn(int) for _ in range(50)])
            return link.result()

        interrupts = 0
        for i in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-4, 6e-3))
                signal.signal(signal.SIGALRM, signal.default_int_handler)
                work()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupts += 1
            assert da.spawn(pow, 2, 3).result(timeout=60) == 8
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert work() == 1
        da.configure()
        engine._check()
        assert engine._schedule.outstanding == 0, engine._schedule.outstanding
        assert len(engine._seats.idle) == 2
        assert interrupts > 20, interrupts
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_engine_is_found_by_its_file_name(tmp_path):
    (tmp_path / "counting.py").write_text(
        textwrap.dedent("""
            from darray.runtime.engines.serial import SerialEngine

            class CountingEngine(SerialEngine):
                count = 0

                def submit(self, task, needs):
                    self.count += 1
                    super().submit(task, needs)

            def start(settings):
                return CountingEngine(10**9)
        """)
    )
    done = run(f"""
        import darray.runtime as da
        import darray.runtime.engines as engines
        engines.__path__.append({str(tmp_path)!r})
        assert da.engine_names() == ["counting", "serial", "threads", "workers"]
        da.configure(engine="counting")
        task = da.spawn(int, 3)
        assert task.result() == 3 and task._engine.count == 1
    """)
    assert (done.returncode, done.stderr) == (0, "")


def test_environment_gives_the_settings():
    program = """
        import darray.runtime as da
        print(len(da.processors()), type(da.spawn(int)._engine).__name__)
    """
    assert run(program, DARRAY_THREADS="3").stdout == "3 ThreadsEngine\n"
    assert run(program, DARRAY_ENGINE="serial").stdout == "1 SerialEngine\n"
    assert "there is no engine 'warp'" in run(program, DARRAY_ENGINE="warp").stderr


def test_thread_pools_are_held_while_tasks_run_and_let_go_after():
    done = run(
        """
        import numpy as np
        from threadpoolctl import threadpool_info
        import darray.runtime as da
        da.configure(threads=2)
        def pools(_=None):
            return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
        before = pools()
        for _ in range(50):
            assert set(da.spawn(pools).result()) <= {1}
            da.wait([da.spawn(pools) for _ in range(10)])
        engine = da.spawn(int)._engine
        da.configure()
        assert pools() == before, (pools(), before)
        """,
        OPENBLAS_NUM_THREADS="2",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_sizes_in_settings_are_read():
    da.configure(memory_limit="1.5GiB")
    assert da.spawn(int)._engine._schedule.budget.limit <= 3 * 2**29
    with pytest.raises(ValueError, match="cannot read 'lots'"):
        da.configure(memory_limit="lots")
