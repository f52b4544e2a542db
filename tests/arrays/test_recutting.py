"""Arrays cut anew through bands, where they do not fit in memory: read a few times, and right."""

from __future__ import annotations

import math
import os
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import darray as da
from darray.blocks import iterate_boxes, largest
from darray.index_maps import IndexMap
from darray.lowering.recutting import in_source, joined_cut, joined_runs
from darray.runtime import engine as engines
from darray.runtime import limits, settings
from darray.testing.strategies import basic_indices, chunks_for, shapes

SIDE = 1024
CHUNK = 64 * SIDE * 8

# Room for a third of the array.
LIMIT = SIDE * SIDE * 8 // 3


@pytest.fixture(scope="module", params=["serial", "threads"])
def little_memory(request, tmp_path_factory):
    before = settings.current()
    folder = str(tmp_path_factory.mktemp("spill"))
    da.configure(engine=request.param, threads=2, spill_folder=folder)
    engine = engines.current_engine()
    engine._schedule.budget.limit = limits._fixed = LIMIT
    yield
    engines.close()
    settings._current = before


def matrix():
    return np.arange(SIDE * SIDE).reshape(SIDE, SIDE)


def persisted(rows, columns):
    """The matrix in chunks that were computed, and are on disk for the most part."""
    x = da.distribute(matrix(), da.Blocks(rows, columns)).map_blocks(np.positive).persist()
    x.wait()
    return x


STEPS = {
    "as it is": lambda x: x,
    "transposed": lambda x: x.T,
    "turned": lambda x: x[::-1, 5:],
    "with another": lambda x: x + np.arange(SIDE),
    "strided": lambda x: x[::3],
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize(
    ("source", "wanted"),
    [((64, SIDE), (SIDE, 16)), ((SIDE, 32), (8, SIDE)), ((256, 256), (32, 32))],
)
def test_values(name, source, wanted, little_memory):
    step = STEPS[name]
    x = persisted(*source)
    expected = step(matrix())
    cut = step(x).rechunk(tuple(map(min, wanted, expected.shape)))
    np.testing.assert_array_equal(
        cut.map_blocks(np.negative, dtype=int).sum(axis=0).collect(), -expected.sum(axis=0)
    )
    np.testing.assert_array_equal(cut.collect(), expected)


@pytest.fixture
def read(monkeypatch):
    """The bytes of each read of a spill file."""
    found = []
    preadv = os.preadv

    def counting(descriptor, buffers, offset):
        found.append(sum(map(len, buffers)))
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", counting)
    return found


@pytest.mark.parametrize("blocks", [(SIDE, 2), (SIDE, 16)])
def test_what_is_on_disk_is_read_a_few_times(blocks, little_memory, read):
    """Once for each of nine bands; without these 64 to 512 times, for as many columns of chunks."""
    x = persisted(64, SIDE)
    total = int(x.rechunk(blocks).max(axis=0).collect().sum())
    assert total == matrix()[-1].sum()
    # Some of what is put together is on disk for a while.
    assert sum(read) <= 12 * SIDE * SIDE * 8
    assert len(read) <= 1000


def test_stored_chunks_are_decoded_a_few_times(little_memory, tmp_path, monkeypatch):
    from darray.io.zarr_format import ZarrArray

    boxes = []
    original = ZarrArray.read

    def counting(self, box):
        boxes.append(box)
        return original(self, box)

    monkeypatch.setattr(ZarrArray, "read", counting)
    da.to_zarr(da.distribute(matrix(), da.Blocks(64, SIDE)), tmp_path / "a.zarr")
    x = da.from_zarr(tmp_path / "a.zarr").rechunk((SIDE, 16))
    np.testing.assert_array_equal(x.map_blocks(np.negative).max(axis=0).collect(), -matrix()[0])
    # Without bands each chunk is decoded for each of 64 columns of chunks.
    assert len(boxes) <= 16 * 16


def test_what_fits_goes_without(little_memory):
    x = da.distribute(matrix()[:256], da.Blocks(64, SIDE)).map_blocks(np.positive).persist()
    x.wait()
    assert "re-cut" not in str(x.rechunk((256, 16)).sum(axis=0).explain())
    y = persisted(64, SIDE)
    assert "re-cut" in str(y.rechunk((SIDE, 16)).sum(axis=0).explain())
    assert "re-cut" not in str(y.sum(axis=0).explain())


# ------------------------------------------------------------------ the cuts


@st.composite
def cuts(draw):
    shape = draw(shapes(3, 12, min_dims=1, min_side=1))
    elements, wanted = draw(st.integers(1, 200)), draw(st.integers(1, 50))
    return draw(chunks_for(shape)), draw(chunks_for(shape)), elements, wanted


@given(cuts(), st.sampled_from([joined_cut, joined_runs]))
def test_joined_pieces_are_pieces(drawn, join):
    """Each is some pieces in a row, and none is larger than allowed, or than one piece."""
    chunks, source, elements, wanted = drawn
    joined = join(chunks, largest(source), elements, wanted)
    for before, after in zip(chunks, joined, strict=True):
        assert set(accumulate(after)) <= set(accumulate(before))
        assert sum(after) == sum(before)
    assert math.prod(largest(joined)) <= max(elements, math.prod(largest(chunks)))


def test_runs_are_as_long_as_asked():
    source = (50, 1000)
    cut = joined_runs(((7500,), (5,) * 200), source, 10**9, 100)
    assert cut == ((7500,), (100,) * 10)
    # Rows of several axes that are whole in the source's pieces follow each other there.
    cut = joined_runs(((1,) * 50, (10,), (10,)), (50, 10, 10), 10**9, 1000)
    assert cut == ((10,) * 5, (10,), (10,))


@given(st.data())
def test_cut_in_the_source(data):
    """Each piece of the view is made of whole pieces of the cut of the source."""
    shape = data.draw(shapes(3, 8, min_side=1))
    index_map = IndexMap.from_index(data.draw(basic_indices(shape)), shape)
    if 0 in index_map.shape:
        return
    chunks = data.draw(chunks_for(index_map.shape))
    cut = in_source(index_map, chunks)
    if cut is None:
        assert any(abs(axis.step) > 1 for axis in index_map.axes)
        return
    assert tuple(map(sum, cut)) == shape
    edges = [{0, *accumulate(sizes)} for sizes in cut]
    for _, box in iterate_boxes(chunks):
        for part, known in zip(index_map.source_box(box), edges, strict=True):
            assert {part.start, part.stop} <= known
