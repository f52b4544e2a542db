"""Runs of chunks that one task reduces: the same bits, whatever the runs, with fewer tasks."""

import numpy as np
import pytest

import darray as da
from darray.lowering import runs
from darray.lowering.fusion import fuse
from darray.runtime import settings

CHUNKS = 77
PLAIN = np.random.default_rng(0).standard_normal(1000 * CHUNKS - 300)
PLAIN[5::9001] = np.nan
ROWS = np.random.default_rng(1).standard_normal((CHUNKS * 4 - 1, 30))

REDUCTIONS = {
    "sum": lambda x, m: x.sum(),
    "program": lambda x, m: np.sqrt(x * x + 1).mean(),
    "several": lambda x, m: (x.sum(), x.mean(), np.nanmax(x), np.nanstd(x)),
    "deviation": lambda x, m: np.nanvar(x),
    "place": lambda x, m: np.nanargmin(x),
    "count": lambda x, m: np.count_nonzero(x > 0),
    "masked": lambda x, m: x.sum(where=~np.isnan(x)),
    "reversed": lambda x, m: x[::-1].sum(),
    "columns": lambda x, m: (m.mean(axis=0), m.std(axis=0)),
    "both": lambda x, m: (m.sum(axis=0), m.sum()),
    "even": lambda x, m: (x[:64_000]).sum(),
    "single": lambda x, m: da.distribute(PLAIN.astype("f4"), da.Blocks(1000)).mean(),
    "planes": lambda x, m: da.distribute(
        PLAIN[:76_608].reshape(64, 9, 133), da.Blocks(1, -1, -1)
    ).sum(),
    "half": lambda x, m: da.distribute(PLAIN.astype("f2"), da.Blocks(1000)).sum(),
    "whole numbers": lambda x, m: da.distribute((PLAIN > 0).astype("i2"), da.Blocks(1000)).sum(),
    "row by row": lambda x, m: m.sum(axis=1),
    "outer": lambda x, m: (m * m[0]).sum(axis=0),
}


def computed(name, monkeypatch, least, **changes):
    """The bytes of what a reduction gives with at least so many runs for each thread."""
    before = {key: getattr(settings.current(), key) for key in changes}
    monkeypatch.setattr(runs, "LEAST", least)
    da.configure(**changes)
    try:
        x = da.distribute(PLAIN, da.Blocks(1000))
        m = da.distribute(ROWS, da.Blocks(4, 30))
        found = REDUCTIONS[name](x, m)
        found = da.compute(*(found if isinstance(found, tuple) else (found,)))
        return [np.asarray(one).tobytes() for one in found]
    finally:
        da.configure(**before)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_bits_depend_on_neither_runs_nor_threads_nor_engine(name, monkeypatch):
    alone = computed(name, monkeypatch, 10**6, engine="threads", threads=2)
    for least in (1, 3, 8):
        assert computed(name, monkeypatch, least, engine="threads", threads=2) == alone
    assert computed(name, monkeypatch, 2, engine="serial") == alone
    for threads in (3, 5):
        assert computed(name, monkeypatch, 2, engine="threads", threads=threads) == alone
    assert computed(name, monkeypatch, 8, engine="threads", threads=1) == alone
    assert computed(name, monkeypatch, 2, engine="workers", workers=2, threads=1) == alone


def test_runs_make_fewer_tasks(threads):
    x = da.distribute(PLAIN, da.Blocks(1000))
    stages = {stage.name: stage.tasks for stage in x.sum().explain().stages}
    # 77 chunks over 8 runs at least: eight in each, but for the last ones of each thread.
    assert stages["sum"] == 8 + 4 + 3
    assert stages["sum of chunks"] == 3
    few = da.distribute(PLAIN, da.Blocks(6000)).sum().explain()
    assert few.chunks == 1
    assert few.stages[0].tasks == 13
    # What is computed is not in memory until it is.
    assert (x + 1).persist().sum().explain().stages[0].tasks == CHUNKS


def test_lengths_are_powers_of_two_that_divide_the_work(threads):
    node = da.distribute(np.zeros(64), da.Blocks(1)).expression
    group = fuse([node], node.shape)
    assert [runs.run_length(group, 1, chunks) for chunks in (1, 7, 31, 32, 63, 64, 1000)] == [
        1, 1, 2, 4, 4, 8, 64,
    ]  # fmt: skip
    large = runs.LARGEST // 8
    assert [runs.run_length(group, large // n, 10**6) for n in (1, 2, 3, 4)] == [1, 2, 2, 4]
    read = da.ones(64, blocks=1).expression
    assert runs.run_length(fuse([read], read.shape), 1, 1000) == 1


def test_the_callers_memory_may_change_once_it_is_reduced(threads):
    array = PLAIN.copy()
    array[np.isnan(array)] = 0
    x = da.wrap(array, da.Blocks(1000))
    total = x.sum().persist()
    expected = float(da.distribute(array, da.Blocks(1000)).sum())
    array[:] = 1
    assert float(total) == expected


def test_an_error_in_one_chunk_of_a_run_is_the_reductions(threads):
    values = np.zeros(1000 * CHUNKS)
    values[7500] = -1
    x = da.distribute(values, da.Blocks(1000))
    with np.errstate(invalid="raise"):
        total = np.sqrt(x).sum()
    with pytest.raises(FloatingPointError, match="invalid value encountered in sqrt"):
        total.collect()
    with pytest.warns(RuntimeWarning, match="invalid value encountered in sqrt") as warned:
        assert np.isnan(np.sqrt(x).sum().collect())
    assert len(warned) == 1
