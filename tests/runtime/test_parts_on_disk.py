"""Parts of arrays on disk: the elements that the same slices of the array show, in few reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darray.runtime.devices.host import RawArrays
from darray.runtime.spill_files import SpillFiles
from darray.testing.strategies import arrays, shapes


def slices(length):
    bounds = st.integers(-length - 1, length + 1) | st.none()
    return st.builds(slice, bounds, bounds, st.sampled_from([None, 1, 2, -1, -3]))


@st.composite
def arrays_and_keys(draw):
    shape = draw(shapes(4, 7, min_dims=1, min_side=1))
    array = draw(arrays(shape, "i4"))
    return array, tuple([draw(slices(length)) for length in shape])


def kept(array):
    """What an array is kept as, and what reads its bytes."""
    layout, parts, _ = RawArrays().parts(array)
    content = b"".join(parts)

    def read(buffer, offset, run=0, stride=0):
        run = run or len(buffer)
        for number in range(len(buffer) // run if run else 0):
            start = offset + number * stride
            buffer[number * run : (number + 1) * run] = content[start : start + run]

    return layout, read


@given(arrays_and_keys(), st.sampled_from("CF"))
def test_parts(drawn, order):
    array, key = np.asarray(drawn[0], order=order), drawn[1]
    layout, read = kept(array)
    np.testing.assert_array_equal(RawArrays().part(layout, key, read), array[key])


@given(arrays_and_keys(), st.sampled_from("CF"), st.sampled_from("CF"), st.booleans())
def test_parts_in_a_place(drawn, order, place_order, is_wide):
    array, key = np.asarray(drawn[0], order=order), drawn[1]
    expected = array[key]
    layout, read = kept(array)
    width = 3 if is_wide else 1
    around = np.full((*expected.shape, width), 77, "i4", order=place_order)
    place = around[..., 0]
    found = RawArrays().part(layout, key, read, place)
    np.testing.assert_array_equal(place, expected)
    np.testing.assert_array_equal(found, expected)
    assert (around[..., 1:] == 77).all()


@pytest.mark.parametrize("key", [np.s_[3:9, 100:612], np.s_[5:7, :], np.s_[:, 4000:5000]])
def test_no_more_is_read_than_is_wanted(key, tmp_path):
    """What lies far from each other is read by itself."""
    array = np.arange(40 * 5000.0).reshape(40, 5000)
    layout, parts, nbytes = RawArrays().parts(array)
    slot = SpillFiles(str(tmp_path)).store(parts, nbytes)
    found = []

    def read(buffer, *where):
        found.append(len(buffer))
        slot.read_into(buffer, *where)

    np.testing.assert_array_equal(RawArrays().part(layout, key, read), array[key])
    assert sum(found) == array[key].nbytes
    assert len(found) == 1


def test_axes_that_are_whole_are_joined(tmp_path):
    array = np.arange(20 * 30 * 400).reshape(20, 30, 400)
    layout, read = kept(array)
    found = []

    def counting(buffer, *where):
        found.append(len(buffer))
        read(buffer, *where)

    part = RawArrays().part(layout, np.s_[:, 3:5], counting)
    np.testing.assert_array_equal(part, array[:, 3:5])
    assert found == [part.nbytes]
