"""What results hold is counted on when the engine that computed them was closed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import darray.runtime as da
from darray.runtime import engine as engines
from darray.runtime import limits, settings
from darray.runtime.budget import Budget

LIMIT = 1_000_000
ENGINES = ["serial", "threads", "workers"]


@pytest.fixture(autouse=True)
def _settings_as_before(tmp_path):
    before = settings.current()
    da.configure(spill_folder=str(tmp_path))
    yield
    engines.close()
    settings._current = before


def on_engine(name):
    """Another engine, whose tasks may hold so much; its budget."""
    da.configure(engine=name, threads=2)
    budget = engines.current_engine()._schedule.budget
    budget.limit = limits._fixed = LIMIT
    return budget


def made(value, nbytes):
    task = da.spawn.options(memory=nbytes)(np.full, nbytes // 8, float(value))
    task.wait()
    return task


def settled(budget):
    """What results hold, once no task holds anything."""
    engine = engines.current_engine()
    engine.wait(engine.unfinished(), 60)
    with engine._lock:
        budget.room()
        budget._check()
        return budget.held


@pytest.mark.parametrize("after", ENGINES)
@pytest.mark.parametrize("before", ENGINES)
def test_the_next_engine_counts_what_is_there(before, after):
    on_engine(before)
    first, second = made(1, 400_000), made(2, 240_000)
    budget = on_engine(after)
    assert settled(budget) == 640_000
    del first
    assert settled(budget) == 240_000
    third = made(3, 80_000)
    budget = on_engine(before)
    assert settled(budget) == 320_000
    assert second.result()[0] + third.result()[0] == 5
    del second, third
    assert settled(budget) == 0
    assert len(budget.released) == 1


@pytest.mark.parametrize("after", ENGINES)
@pytest.mark.parametrize("before", ENGINES)
def test_the_next_engine_spills_what_is_there(before, after):
    on_engine(before)
    kept = [made(number, 400_000) for number in range(2)]
    budget = on_engine(after)
    last = made(2, 800_000)
    assert settled(budget) <= LIMIT
    assert [one.result()[0] for one in (*kept, last)] == [0, 1, 2]
    engines.current_engine()._spiller._check([*kept, last])


@pytest.mark.parametrize("after", ENGINES)
def test_what_was_spilled_is_counted_where_it_comes_back(after):
    on_engine("threads")
    kept = [made(number, 400_000) for number in range(2)]
    last = made(2, 800_000)
    assert settled(engines.current_engine()._schedule.budget) <= LIMIT
    del last
    budget = on_engine(after)
    on_disk = LIMIT - settled(budget)
    assert on_disk > 200_000
    budget.limit = limits._fixed = 4 * LIMIT
    assert [one.result()[0] for one in kept] == [0, 1]
    assert settled(budget) == 800_000
    del kept
    assert settled(budget) == 0


@pytest.mark.parametrize("after", ["threads", "workers"])
def test_a_task_that_waits_hears_of_what_an_earlier_engine_held(after):
    on_engine("threads")
    # Bytes are not spilled.
    kept = da.spawn.options(memory=800_000)(bytes, 800_000)
    kept.wait()
    budget = on_engine(after)
    assert settled(budget) > 800_000
    began = threading.Event()
    waiting = da.spawn.options(memory=500_000)(began.set)
    da.spawn(int).result()
    assert not began.is_set()
    del kept
    assert began.wait(60)
    waiting.result()


def test_too_much_from_before_is_named():
    on_engine("threads")
    kept = da.spawn.options(memory=800_000, name="early")(bytes, 800_000)
    kept.wait()
    on_engine("serial")
    with pytest.raises(da.MemoryLimitError, match="'early' hold"):
        da.spawn.options(memory=500_000)(int).result()
    del kept
    assert da.spawn.options(memory=500_000)(int).result() == 0


def test_what_a_task_gives_that_runs_on_is_counted_by_the_next_engine():
    on_engine("serial")
    began, may_end = threading.Event(), threading.Event()
    made = []

    def slowly():
        began.set()
        assert may_end.wait(60)
        return np.ones(100_000)

    thread = threading.Thread(target=lambda: made.append(da.spawn.options(memory=800_000)(slowly)))
    thread.start()
    assert began.wait(60)
    on_engine("threads")
    budget = on_engine("serial")
    assert settled(budget) == 0
    may_end.set()
    thread.join(60)
    assert settled(budget) == 800_000
    # It is written to disk like others.
    last = da.spawn.options(memory=800_000)(np.zeros, 100_000)
    assert (last.result()[0], made[0].result()[0]) == (0, 1)
    made.clear()
    del last
    assert settled(budget) == 0


def test_budgets_hand_on_what_ends_late():
    first, second, third = [Budget(LIMIT) for _ in range(3)]
    early = first.hold("early", 100)
    second.take_over(first)
    late = first.hold("late", 200)
    assert second.counted() == (0, 300)
    third.take_over(second)
    latest = first.hold("latest", 300)
    assert third.counted() == (0, 600)
    assert third.room() == LIMIT - 600
    del late
    third._check()
    assert third.counted() == (0, 400)
    dropped = second.hold("dropped", 400)
    del early, latest, dropped
    third._check()
    for budget in (first, second, third):
        assert budget.counted() == (0, 0)
        assert budget.room() == LIMIT
        budget._check()
