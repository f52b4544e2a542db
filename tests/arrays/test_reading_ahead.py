"""Chunks on other machines are read ahead of computing: many at once, each once, within bounds."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import darray as da
from darray.runtime import engine as engines
from darray.runtime import settings
from darray.runtime.engine import current_engine
from tests.arrays.distant import URL, Distant, Unreachable, register, unregister

CHUNKS = 24


@pytest.fixture
def engine():
    """Engines as a test asks for them."""
    before = settings.current()
    yield da.configure
    engines.close()
    settings._current = before


@pytest.fixture
def store():
    """Stores far away, of which there is one at a time."""

    there = []

    def made(**how):
        there.append(Distant(CHUNKS, **how))
        register(there[-1])
        return there[-1], da.from_zarr(URL, blocks=(1, -1))

    yield made
    unregister(there[-1])


ENGINES = {
    "threads": {"engine": "threads", "threads": 2},
    "workers": {"engine": "workers", "threads": 1, "workers": 2},
}

PROGRAMS = {
    "elementwise": lambda x, xp: x * 2 + 1,
    "reduced": lambda x, xp: (x + 1).sum(axis=0),
    "mapped": lambda x, xp: x.map_blocks(np.negative) if xp is da else -x,
    "joined": lambda x, xp: xp.concatenate([x, x[:, ::-1]], axis=1).max(axis=1),
    "several passes": lambda x, xp: (x - x.mean(axis=0)).max(axis=1),
    "cut anew": lambda x, xp: (x.rechunk((CHUNKS, 500)) if xp is da else x).min(axis=0),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("kind", [*ENGINES, "serial"])
def test_the_same_is_computed(name, kind, engine, store):
    engine(**ENGINES.get(kind, {"engine": kind}))
    distant, x = store()
    found = PROGRAMS[name](x, da).collect()
    np.testing.assert_array_equal(found, PROGRAMS[name](distant.values, np))


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("name", ["elementwise", "reduced", "mapped"])
def test_more_are_read_at_once_than_there_are_processors(name, kind, engine, store):
    """None of the first eight reads ends before all eight are under way; each is read once."""
    engine(**ENGINES[kind])
    distant, x = store(together=8)
    PROGRAMS[name](x, da).collect()
    assert 8 <= distant.most <= x.sum().explain().stages[0].reads_at_once
    assert len(distant.reads) == len(set(distant.reads)) == CHUNKS
    current_engine()._check()


def test_what_is_computed_first_is_read_first(engine, store, monkeypatch):
    monkeypatch.setattr("darray.lowering.reading_ahead.MOST", 4)
    engine(engine="threads", threads=1)
    distant, x = store(together=4)
    x.sum().collect()
    numbers = [int(path.split("/")[-2]) for path in distant.reads]
    assert set(numbers[:4]) == {0, 1, 2, 3}
    places = {number: place for place, number in enumerate(numbers)}
    assert all(places[number - 4] < places[number] for number in range(4, CHUNKS))


def test_no_more_is_read_than_is_computed_in_time(engine, store, monkeypatch):
    """And no more chunks are computed at once than there are processors."""
    monkeypatch.setattr("darray.lowering.reading_ahead.MOST", 5)
    engine(engine="threads", threads=2)
    distant, x = store(together=5)
    lock = threading.Lock()
    computing, most, ahead = [], [], []

    def slow(block):
        with lock:
            computing.append(None)
            most.append(len(computing))
        for _ in range(50):
            np.sort(block)
        with lock:
            computing.pop()
            done = len(ahead)
            with distant.changed:
                ahead.append(len(distant.reads) - done)
        return block

    np.testing.assert_array_equal(x.map_blocks(slow).collect(), distant.values)
    assert max(most) <= 2
    assert max(ahead) <= 5


def test_a_read_that_fails(engine, store):
    engine(engine="threads", threads=2)
    distant, x = store(failing=3)
    with pytest.raises(Unreachable, match=r"a\.zarr/c/3/"):
        (x + 1).sum().collect()
    distant.failing = None
    assert float((x + 1).sum()) == (distant.values + 1).sum()
    current_engine()._check()


def test_what_has_not_begun_is_not_read_after_a_failure(engine, store, monkeypatch):
    monkeypatch.setattr("darray.lowering.reading_ahead.MOST", 4)
    engine(engine="threads", threads=2)
    distant, x = store(together=4, failing=0)
    with pytest.raises(Unreachable):
        (x + 1).collect()
    da.cancel_all()
    engines.close()
    assert len(distant.reads) < CHUNKS


def test_cancelled(engine, store, monkeypatch):
    """Those that read go on to their end; no other read begins."""
    monkeypatch.setattr("darray.lowering.reading_ahead.MOST", 6)
    engine(engine="threads", threads=2)
    distant, x = store(together=6)
    distant.let(False)
    y = (x + 1).persist()
    distant.wait_for(6)
    da.cancel_all()
    distant.let(True)
    with pytest.raises(da.CancelledError):
        y.wait()
    engines.close()
    assert len(distant.reads) == 6
    assert (y + 1).collect()[0, 0] == 2


def test_explained(engine, store):
    engine(engine="threads", threads=2)
    _, x = store()
    plan = (x * 2).sum(axis=0).explain()
    assert [stage.reads_at_once for stage in plan.stages] == [32, 0, 0]
    assert "192 kB from stores, 32 chunks at a time, ahead of computing" in str(plan)
    one = plan.stages[0].memory
    # All that are read ahead may be there at once.
    assert CHUNKS * one <= plan.peak_nbytes <= (CHUNKS + 2) * one
    engine(engine="serial")
    plan = (x * 2).sum(axis=0).explain()
    assert [stage.reads_at_once for stage in plan.stages] == [0, 0, 0]


def test_less_is_read_ahead_within_little_memory(engine, store):
    engine(engine="threads", threads=2)
    distant, x = store(size=100_000)
    y = (x * 2).sum(axis=0)
    stage = y.explain().stages[0]
    da.configure(memory_limit="300MB")
    limit = y.explain().limit_nbytes
    few = y.explain().stages[0].reads_at_once
    assert few == min(32, limit // 2 // stage.memory)
    np.testing.assert_array_equal(y.collect(), (distant.values * 2).sum(axis=0))
    assert distant.most <= few


PEAK = """
import sys
sys.path.append(sys.argv[1])
import numpy as np
import darray as da
from tests.arrays.distant import URL, Distant, register, unregister
da.configure(engine="threads", threads=2, memory_limit=300_000_000)
distant = Distant(200, 500_000, together=4, values=np.ones((200, 500_000)))
distant.values = None
register(distant)
x = da.from_zarr(URL)
open("/proc/self/clear_refs", "w").write("5")
assert float((x * 2).sum()) == 2e8
unregister(distant)
print(distant.most, *[line for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""


@pytest.mark.alone
def test_peak_memory():
    """Of 800 MB, in chunks of 4 MB, of which as many are read ahead as fit."""
    result = subprocess.run(
        [sys.executable, "-c", PEAK, str(Path(__file__).parents[2])],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    most, _, peak, _ = result.stdout.split()
    assert int(most) >= 4
    assert int(peak) * 1024 < 1.1 * 300_000_000


def test_local_stores_are_not_read_ahead(engine, tmp_path):
    engine(engine="threads", threads=2)
    da.tofile(da.ones((40, 40), blocks=10), tmp_path / "a.zarr")
    plan = (da.from_zarr(tmp_path / "a.zarr") * 2).explain()
    assert all(stage.reads_at_once == 0 for stage in plan.stages)


def test_tasks_that_said_they_need_no_processor_take_none(engine, store):
    engine(engine="threads", threads=1)
    _, x = store()
    together = threading.Barrier(4)

    def read_and_meet(row):
        total = float((x[row] + 1).sum())
        together.wait(60)
        return total

    tasks = [da.spawn.options(occupancy=0.0)(read_and_meet, row) for row in range(4)]
    assert da.fetch(tasks) == [float(np.asarray(x[row] + 1).sum()) for row in range(4)]


def test_as_many_read_at_once_as_there_are_processors_however_little_fits(engine, store):
    engine(engine="workers", workers=3, threads=2, memory_limit="200kB")
    _, x = store()
    assert "6 chunks at a time" in str((x + 1).explain())
