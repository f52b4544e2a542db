"""Large results lie in memory that is used again, and `da.memory` counts it."""

import gc

import numpy as np
import pytest

import darray as da
from darray.runtime.devices.host_buffers import POOL, Lease, is_own

SIZE = 1_000_000


@pytest.fixture(autouse=True)
def emptied():
    gc.collect()
    POOL.trim()


def address(array):
    return array.__array_interface__["data"][0]


def evaluated():
    return (da.arange(float(SIZE), blocks=100_000) + 1.0).collect()


def test_a_result_is_an_array_like_any():
    result = evaluated()
    assert type(result) is np.ndarray
    assert result.flags.writeable
    assert result.flags.c_contiguous
    assert isinstance(result.base, Lease)
    np.testing.assert_array_equal(result, np.arange(1.0, SIZE + 1))
    result[...] = 0.0
    assert not result.any()


def test_evaluating_again_uses_the_memory_of_a_result_that_was_dropped():
    result = evaluated()
    place = address(result)
    other = evaluated()
    assert address(other) != place
    del result
    assert address(evaluated()) == place


def test_a_slice_that_is_kept_is_not_written_over():
    part = evaluated()[500:510]
    place = address(part)
    for _ in range(3):
        again = evaluated() * 0.0
        assert not address(again) <= place < address(again) + again.nbytes
    np.testing.assert_array_equal(part, np.arange(501.0, 511.0))


def test_a_result_of_one_chunk_is_not_copied_and_not_shared():
    x = da.distribute(np.ones(SIZE), da.Blocks(SIZE))
    first, second = (x + 1.0).collect(), (x + 1.0).collect()
    assert is_own(first)
    assert not np.shares_memory(first, second)


def test_a_read_only_result_becomes_an_array_without_a_copy():
    result = evaluated()
    result.flags.writeable = False
    x = da.distribute(result, da.Blocks(100_000))
    assert np.shares_memory(x.expression.array, result)


def test_what_is_used_and_kept_is_counted():
    before = da.memory()
    result = evaluated()
    during = da.memory()
    assert during.arrays - before.arrays >= result.nbytes
    del result
    gc.collect()
    after = da.memory()
    assert after.arrays == before.arrays
    assert after.reusable >= 8 * SIZE
    assert after.reusable <= after.reusable_limit <= after.limit


def test_results_that_are_kept_are_counted():
    x = (da.arange(float(SIZE), blocks=100_000) + 1.0).persist()
    float(x.sum())
    assert da.memory().results >= 8 * SIZE
    del x
    gc.collect()
    assert da.memory().results < 8 * SIZE


def test_the_count_is_printed_a_line_for_each():
    use = da.memory()
    lines = str(use).splitlines()
    assert [line.split()[0] for line in lines] == [
        "arrays",
        "reusable",
        "running",
        "results",
        "spilled",
        "limit",
    ]
    assert "of at most" in lines[1]


def test_stored_chunks_are_read_into_memory_that_is_used_again(tmp_path):
    values = np.arange(float(SIZE)).reshape(1000, 1000)
    np.save(tmp_path / "a.npy", values)
    da.to_zarr(da.distribute(values, da.Blocks(500, 500)), tmp_path / "a.zarr")
    for stored in (da.File(tmp_path / "a.npy"), da.File(tmp_path / "a.zarr")):
        x = da.distribute(stored, da.Blocks(500, 500))
        POOL.trim()
        np.testing.assert_array_equal(x.sum(axis=0).collect(), values.sum(axis=0))
        assert da.memory().reusable >= 500 * 500 * 8
