"""The grid of tiles covers every box once, and suits the cuts that arrays have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darray.blocks import cut
from darray.random.tiles import ELEMENTS, tile_shape, tiles_of, whole_tiles
from darray.runtime.boxes import index_of

LENGTHS = st.lists(st.integers(0, 12), max_size=3).map(tuple)


@st.composite
def boxes(draw):
    shape = draw(LENGTHS)
    tile = tuple(draw(st.integers(1, 5)) for _ in shape)
    ends = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return shape, tile, tuple(slice(first, last, 1) for first, last in ends)


@given(boxes())
def test_tiles_give_every_element_of_a_box_once(case):
    shape, tile, box = case
    array = np.arange(math.prod(shape)).reshape(shape)
    found = np.full([one.stop - one.start for one in box], -1)
    grid = [-(-length // size) for length, size in zip(shape, tile, strict=True)]
    for one in tiles_of(shape, tile, box):
        index = np.unravel_index(one.number, grid) if grid else ()
        assert one.start == tuple(i * size for i, size in zip(index, tile, strict=True))
        held = array[
            index_of(tuple(slice(a, a + n, 1) for a, n in zip(one.start, one.sizes, strict=True)))
        ]
        assert held.shape == one.sizes
        place = found[index_of(one.place)]
        assert (place == -1).all()
        assert place.size
        place[...] = held[index_of(one.part)]
    np.testing.assert_array_equal(found, array[index_of(box)])


@given(boxes())
def test_needed_elements_begin_the_tile_and_hold_the_part(case):
    for one in tiles_of(*case):
        places = np.arange(math.prod(one.sizes)).reshape(one.sizes)
        needed = places[tuple(slice(0, length) for length in one.needed())]
        np.testing.assert_array_equal(needed.ravel(), np.arange(needed.size))
        part = places[index_of(one.part)]
        assert set(part.ravel()) <= set(needed.ravel())


@given(st.lists(st.integers(0, 10**6), max_size=4).map(tuple))
def test_tile_is_within_its_size_and_the_array(shape):
    tile = tile_shape(shape)
    assert len(tile) == len(shape)
    assert 1 <= math.prod(tile) <= ELEMENTS
    assert all(1 <= size <= max(1, length) for size, length in zip(tile, shape, strict=True))


@pytest.mark.parametrize(
    "shape", [(10**7,), (10_000, 10_000), (4000, 2500), (10**6, 50), (4, 10**7), (100, 300, 1000)]
)
def test_automatic_chunks_are_nearly_whole_tiles(shape):
    chunks = cut("auto", shape, 8)
    for sizes, length, size in zip(chunks, shape, tile_shape(shape), strict=True):
        # No size of tile divides 10417 rows well.
        drawn = -(-sizes[0] // size) * size
        assert drawn == sizes[0] or sizes == (length,) or drawn < 1.05 * sizes[0]
    assert math.prod(tile_shape(shape)) > ELEMENTS / 4


@given(boxes())
def test_cut_into_whole_tiles_ends_where_tiles_end(case):
    shape, tile, _ = case
    for sizes, length, size in zip(whole_tiles(shape, tile), shape, tile, strict=True):
        assert sum(sizes) == length
        assert all(n % size == 0 for n in sizes[:-1])
