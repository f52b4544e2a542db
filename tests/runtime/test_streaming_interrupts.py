"""Ctrl-C while a stream runs: one clean traceback, and an engine that goes on."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, threading
import darray.runtime as da
from darray.runtime.engine import current_engine

began = threading.Event()

def source():
    began.set()
    return 1

with da.spawn_streaming() as s:
    last = da.spawn(source)
    for _ in range(3):
        last = da.spawn(lambda x: x + 1, last)
    out = s.output(last) if {outputs} else None

def interrupt():
    began.wait()
    # Nothing tells that the main thread waits.
    while not current_engine()._schedule.waiters:
        threading.Event().wait(0.001)
    os.kill(os.getpid(), signal.SIGINT)
"""

WAITS = """
threading.Thread(target=interrupt).start()
try:
    {wait}
except KeyboardInterrupt:
    print("interrupted", all(task.wait(10) for task in s.tasks), s.tasks[0].cancelled())
print(da.spawn(abs, -1).result())
"""

SLEEPS = """
def interrupt_soon():
    began.wait()
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt_soon).start()
threading.Event().wait()
"""


def run(program):
    return subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("outputs", "wait"), [(False, "s.wait()"), (True, "for _ in out: pass"), (True, "s.wait()")]
)
def test_a_wait_that_is_interrupted_cancels_the_region(outputs, wait):
    done = run(PROGRAM.format(outputs=outputs) + WAITS.format(wait=wait))
    assert (done.stdout, done.stderr) == ("interrupted True True\n1\n", "")


def test_a_script_that_is_interrupted_prints_one_traceback():
    done = run(PROGRAM.format(outputs=False) + SLEEPS)
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.endswith("KeyboardInterrupt\n")
