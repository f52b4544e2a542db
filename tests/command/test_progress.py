"""The progress consumer: what it counts, what it shows where, and what it costs."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import timeit
from concurrent.futures import ThreadPoolExecutor

import pytest

from darray.runtime import Processor, TaskBegan, TaskEnded, TaskFailed, TasksPlanned, events
from darray.runtime.consumers.progress import (
    Counter,
    Reading,
    bytes_text,
    progress,
    time_text,
)
from tests.command.terminal import plain_environment, run_in_terminal, run_piped, visible

PROCESSOR = Processor(worker=0, kind="cpu", index=0)
BEGAN = TaskBegan(1, "f", PROCESSOR, 0)
ENDED = TaskEnded(1, "f", PROCESSOR, 0, 1)
FAILED = TaskFailed(1, "f", PROCESSOR, 0, 1, ValueError())

# A computation of known pace: 40 tasks over a second.
PROGRAM = """
import sys, threading
from darray.runtime import Processor, TaskEnded, TasksPlanned, events
from darray.runtime.consumers.progress import progress
pace = threading.Event()
with progress("[red] waves"):
    events.publish(TasksPlanned("mean", 40, 8_000_000))
    for i in range(40):
        pace.wait(0.025)
        events.publish(TaskEnded(i, "f", Processor(0, "cpu", 0), 0, 1))
        if i == 20:
            print("in between")
"""


def told(*happened: events.Event) -> Reading:
    counter = Counter()
    for event in happened:
        counter(event)
    return counter.reading()


def test_counts_planned_and_finished_tasks():
    planned = TasksPlanned("mean", 4, 1000)
    reading = told(planned, BEGAN, ENDED, BEGAN, FAILED, BEGAN)
    assert (reading.name, reading.done, reading.tasks, reading.nbytes) == ("mean", 2, 4, 1000)
    assert reading.share == 0.5
    assert not reading.finished
    assert told(planned, *[ENDED] * 4).finished


def test_counts_tasks_that_nobody_planned():
    reading = told(BEGAN, ENDED, BEGAN, ENDED)
    assert (reading.done, reading.tasks, reading.share) == (2, 0, 0)
    assert re.fullmatch(r"2 tasks in 0\.\d\d s, [\d,]+ tasks/s", reading.text())


def test_next_computation_begins_anew():
    first, second = TasksPlanned("a", 2, 10), TasksPlanned("b", 3, 20)
    reading = told(first, ENDED, ENDED, second, ENDED)
    assert (reading.name, reading.done, reading.tasks, reading.nbytes) == ("b", 1, 3, 20)


def test_computations_that_overlap_are_counted_together():
    first, second = TasksPlanned("a", 2, 10), TasksPlanned("b", 3, 20)
    reading = told(first, ENDED, second, ENDED)
    assert (reading.done, reading.tasks, reading.nbytes) == (2, 5, 30)


def test_never_more_than_all():
    reading = told(TasksPlanned("a", 1, 10), ENDED, ENDED, ENDED)
    assert (reading.done, reading.share) == (1, 1.0)


def test_time_stops_with_the_last_task():
    counter = Counter()
    for event in (TasksPlanned("a", 1, 10), ENDED):
        counter(event)
    assert counter.reading().seconds == counter.reading().seconds


def test_counts_from_many_threads():
    counter = Counter()
    counter(TasksPlanned("a", 80_000, 0))
    barrier = threading.Barrier(8)

    def end_many(_: int) -> None:
        barrier.wait()
        for _ in range(10_000):
            counter(ENDED)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(end_many, range(8)))
    assert counter.reading().done == 80_000


@pytest.mark.alone
@pytest.mark.parametrize("event", [BEGAN, ENDED])
def test_event_costs_under_two_microseconds(event):
    counter = Counter()
    counter(TasksPlanned("a", 10**9, 0))
    # The least of many short runs is what the code costs; more is what else the machine did.
    runs = timeit.repeat(lambda: counter(event), number=1000, repeat=50)
    assert min(runs) / 1000 < 2e-6


@pytest.mark.parametrize(
    ("reading", "text"),
    [
        (Reading("a", 0, 10, 10**6, 0.0), "0 B of 1 MB"),
        (Reading("a", 5, 10, 10**6, 1.0), "500 kB of 1 MB, 500 kB/s, 1 s left"),
        (Reading("a", 10, 10, 10**6, 2.0), "1 MB in 2 s, 500 kB/s"),
        (Reading("a", 1, 1000, 6 * 10**12, 9.0), "6 GB of 6 TB, 667 MB/s, 2:29:51 h left"),
        (Reading("a", 5, 10, 0, 1.0), "5 of 10 tasks, 5 tasks/s, 1 s left"),
        (Reading("a", 10, 10, 0, 1.0), "10 tasks in 1 s, 10 tasks/s"),
    ],
)
def test_text_of_reading(reading, text):
    assert reading.text() == text


def test_quantities():
    sizes = [0, 999, 999.9, 1000, 999_499, 999_500, 1.25e9, 3e15, 2e18]
    assert [bytes_text(size) for size in sizes] == [
        *("0 B", "999 B", "1 kB", "1 kB", "999 kB", "1 MB", "1.25 GB", "3 PB", "2,000 PB")
    ]
    times = [0.0, 0.999, 1, 59.4, 59.6, 3599, 3600, 90_061]
    assert [time_text(seconds) for seconds in times] == [
        *("0.00 s", "1.00 s", "1 s", "59 s", "1:00 min", "59:59 min", "1:00:00 h", "25:01:01 h")
    ]


def test_piped_it_writes_lines(tmp_path):
    run = run_piped((sys.executable, "-c", PROGRAM), tmp_path)
    assert (run.returncode, run.stdout) == (0, "in between\n")
    lines = run.stderr.splitlines()
    shape = re.compile(r"\[red\] waves: (\d+) %, \d.* of 8 MB, \d.* [kM]B/s, \d+ s left")
    shares = [int(shape.fullmatch(line)[1]) for line in lines[:-1]]
    assert shares == sorted(set(shares))
    assert 1 <= len(shares) <= 20
    assert re.fullmatch(r"\[red\] waves: 100 %, 8 MB in \d s, \d.* MB/s", lines[-1])


def test_terminal_shows_a_bar(tmp_path):
    status, output, drawn = run_in_terminal((sys.executable, "-c", PROGRAM), tmp_path)
    # Standard output is a pipe here, and what goes there must not end up on the terminal.
    assert (status, output) == (0, "in between\n")
    lines = visible(drawn)
    assert len(lines) >= 3
    shape = re.compile(r"\[red\] waves [━╸╺]{24} +(\d+) %  .* (MB/s, \d s left|in \d s, .* MB/s)")
    shares = [int(shape.fullmatch(line)[1]) for line in lines]
    assert shares == sorted(shares)
    assert shares[0] < 100
    assert shares[-1] == 100
    assert "in 1 s" in lines[-1]
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1  # the cursor is back


@pytest.mark.parametrize("how", ["dumb terminal", "no rich"])
def test_terminal_without_a_bar_has_lines(tmp_path, how):
    program = PROGRAM
    environment = {"TERM": "dumb"} if how == "dumb terminal" else {}
    if how == "no rich":
        program = "import sys; sys.modules['rich'] = None\n" + program
    status, _, drawn = run_in_terminal((sys.executable, "-c", program), tmp_path, **environment)
    assert status == 0
    assert "\x1b" not in drawn
    assert visible(drawn)[-1].startswith("[red] waves: 100 %, 8 MB in ")


def test_reader_that_went_away_does_not_stop_the_computation(tmp_path):
    with subprocess.Popen(
        (sys.executable, "-c", PROGRAM.replace("in between", "done")),
        cwd=tmp_path,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stderr.close()
        assert process.stdout.read() == b"done\n"


def test_exception_goes_through_and_the_consumer_is_gone(capsys):
    def fail() -> None:
        with progress():
            events.publish(TasksPlanned("a", 2, 0))
            events.publish(ENDED)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert events.consumers == ()
    assert [t for t in threading.enumerate() if t.name == "darray-progress"] == []
    assert "100 %" not in capsys.readouterr().err


def test_nothing_computed_nothing_shown(capsys):
    with progress("idle"):
        pass
    assert capsys.readouterr().err == ""


def test_label_is_the_computation_by_default(capsys):
    with progress():
        events.publish(TasksPlanned("mean", 1, 1000))
        events.publish(ENDED)
    assert capsys.readouterr().err.startswith("mean: 100 %, 1 kB in 0.00 s, ")
