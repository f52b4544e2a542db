"""Chunks that lie plainly in a store are reduced part by part, to what they are as a whole."""

import numpy as np
import pytest
import zarr

import darray as da
from darray.io.zarr_format import ZarrArray
from darray.lowering import reducing

AXES = [None, 0, 1, 2, (0, 2), (0, 1, 2)]
FUNCTIONS = [np.sum, np.mean, np.std, np.min, np.max, np.argmin, np.argmax, np.count_nonzero]


@pytest.fixture
def small_parts(monkeypatch):
    """Make parts of 64 bytes; count them."""
    found = []
    read_parts = ZarrArray.read_parts

    def counting(self, box, axis, outs):
        found.append((box, axis, len(outs)))
        return read_parts(self, box, axis, outs)

    monkeypatch.setattr(reducing, "PART", 64)
    monkeypatch.setattr(ZarrArray, "read_parts", counting)
    return found


def stored(path, array, chunks, blocks="auto", **options):
    store = zarr.create_array(path, shape=array.shape, chunks=chunks, dtype=array.dtype, **options)
    store[...] = array
    return da.from_zarr(path, blocks=blocks)


@pytest.mark.parametrize("chunks", [(10, 6, 8), (7, 6, 8), (1, 6, 8), (10, 4, 5)])
@pytest.mark.parametrize("blocks", ["auto", "as stored"])
@pytest.mark.parametrize("dtype", ["i4", "f8"])
def test_every_reduction(chunks, blocks, dtype, small_parts, tmp_path):
    array = (np.random.default_rng(3).permutation(480) % 91).reshape(10, 6, 8).astype(dtype)
    blocks = chunks if blocks == "as stored" else blocks
    x = stored(tmp_path / "a.zarr", array, chunks, blocks, compressors=None)
    for function in FUNCTIONS:
        for axis in AXES:
            if function in (np.argmin, np.argmax) and isinstance(axis, tuple):
                continue
            found = np.asarray(function(x, axis=axis))
            expected = np.asarray(function(array, axis=axis))
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert small_parts
    assert all(count > 1 for _, _, count in small_parts)


def test_masks_programs_and_several_at_once(small_parts, tmp_path):
    array = np.arange(480.0).reshape(20, 24) - 200
    x = stored(tmp_path / "a.zarr", array, (10, 24), compressors=None)
    y = stored(tmp_path / "b.zarr", array[::-1].copy(), (10, 24), compressors=None)
    low, high, mean = da.compute((x * y).min(), (x * y).max(), (x * y).mean(axis=0))
    product = array * array[::-1]
    assert (low, high) == (product.min(), product.max())
    np.testing.assert_allclose(mean, product.mean(axis=0), rtol=1e-14)
    assert small_parts
    masked = np.sum(x, axis=1, where=x > 0).collect()
    np.testing.assert_array_equal(masked, array.sum(axis=1, where=array > 0))


def test_results_do_not_lie_where_the_next_part_is_read_to(small_parts, tmp_path):
    array = np.arange(400.0).reshape(400, 1)
    x = stored(tmp_path / "a.zarr", array, (400, 1), compressors=None)
    np.testing.assert_array_equal(x.max(axis=1).collect(), array[:, 0])
    assert small_parts


def test_chunks_without_a_file(small_parts, tmp_path):
    zarr.create_array(
        tmp_path / "a.zarr", shape=(100, 9), chunks=(50, 9), dtype="f8", fill_value=2.5,
        compressors=None,
    )  # fmt: skip
    assert da.from_zarr(tmp_path / "a.zarr").sum() == 2250
    assert small_parts


def test_damaged_chunk(small_parts, tmp_path):
    x = stored(tmp_path / "a.zarr", np.ones((100, 9)), (50, 9), compressors=None)
    with open(tmp_path / "a.zarr" / "c" / "1" / "0", "r+b") as file:
        file.truncate(3000)
    with pytest.raises(ValueError, match=r"c/1/0' has 3000 bytes, a chunk of shape \(50, 9\)"):
        x.sum().collect()


def test_warnings_come_once(small_parts, tmp_path):
    x = stored(tmp_path / "a.zarr", np.zeros((100, 9)), (50, 9), compressors=None)
    with pytest.warns(RuntimeWarning, match="divide by zero") as caught:
        assert (1 / x).sum() == np.inf
    assert len(caught) == 1
    assert small_parts


def test_compressed_chunks_are_read_whole(small_parts, tmp_path):
    x = stored(tmp_path / "a.zarr", np.ones((100, 9)), (50, 9))
    assert x.sum() == 900
    assert not small_parts
