"""Jobs that fit the memory limit run within it, however their chunks lie."""

import numpy as np
import pytest

import darray as da


@pytest.fixture
def limited():
    da.configure(engine="threads", threads=2, memory_limit="200MB")
    yield
    da.configure(engine="threads", threads=None, memory_limit=None)


@pytest.mark.parametrize("name", ["std", "argmax", "mean"])
def test_partial_results_larger_than_their_chunks(limited, name):
    """Held all at once, those of 40 rows would take twice the limit and more."""
    rows = da.from_function(lambda i, j: i + 0.0 * j, (40, 500_000), blocks=(1, 500_000))
    found = getattr(rows, name)(axis=0).collect()
    expected = getattr(np.arange(40.0), name)()
    np.testing.assert_allclose(found, np.full(500_000, expected), rtol=1e-14)


def test_several_reductions_of_thin_chunks_share_the_pass(limited):
    rows = da.from_function(lambda i, j: i + 0.0 * j, (40, 500_000), blocks=(1, 500_000))
    mean, largest = da.compute(rows.mean(axis=0), rows.max())
    assert mean.shape == (500_000,)
    assert (mean == 19.5).all()
    assert largest == 39


def test_blocks_mapped_on_the_way_are_not_held(limited):
    ones = da.ones((60, 250_000), blocks=(1, 250_000))
    assert float(ones.map_blocks(np.negative).sum()) == -60 * 250_000


def test_a_stored_chunk_that_cannot_fit_is_refused_before_it_is_read(limited, tmp_path):
    import zarr

    store = zarr.create_array(
        store=str(tmp_path / "a.zarr"), shape=(40_000_000,), chunks=(40_000_000,), dtype="f8"
    )
    assert store.nchunks_initialized == 0
    with pytest.raises(da.MemoryLimitError, match="use smaller Blocks or raise memory_limit"):
        da.from_zarr(tmp_path / "a.zarr")[::1_000_000].sum().collect()


def test_writing_over_what_is_read():
    a = np.arange(100_000.0)
    np.add(da.wrap(a, da.Blocks(7_000))[::-1], 0, out=a)
    np.testing.assert_array_equal(a, np.arange(100_000.0)[::-1])


def test_a_file_is_distributed_as_what_it_holds(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(10))
    array = da.distribute(da.File(tmp_path / "a.npy"), da.Blocks(4))
    assert array.chunks == ((4, 4, 2),)
    np.testing.assert_array_equal(array.collect(), np.arange(10))
