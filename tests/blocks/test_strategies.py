"""What the strategies promise, since every property test leans on it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from darray.testing.strategies import (
    arrays,
    basic_indices,
    blocks_for,
    boxes_in,
    dtypes,
    shapes,
    values,
)


@given(shapes(max_dims=3, max_side=5, min_dims=1, min_side=2))
def test_shapes_keep_their_bounds(shape):
    assert 1 <= len(shape) <= 3
    assert all(2 <= length <= 5 for length in shape)


@given(st.data(), arrays())
def test_everything_drawn_for_a_shape_fits_it(data, array):
    key = data.draw(basic_indices(array.shape))
    assert np.asarray(array[key]).size <= array.size
    box = data.draw(boxes_in(array.shape, max_step=2))
    assert all(0 <= cut.start <= cut.stop <= n for cut, n in zip(box, array.shape, strict=True))
    assert len(data.draw(blocks_for(array.shape)).sizes) == array.ndim
    assert array.flags.c_contiguous


@given(st.data(), basic_indices((3, 4), newaxis=False))
def test_newaxis_can_be_left_out(data, key):
    assert key is not None
    assert not (isinstance(key, tuple) and None in key)


@given(st.data(), dtypes())
def test_values_have_their_dtype(data, dtype):
    assert np.asarray(data.draw(values(dtype))).dtype.kind == dtype.kind
    assert data.draw(arrays((2, 3), dtype)).dtype == dtype
    assert data.draw(arrays(shapes(max_dims=1), dtypes("u"))).dtype.kind == "u"


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        ("float32", np.isnan),
        ("float64", lambda value: value == 0 and np.signbit(value)),
        ("float16", lambda value: value == np.finfo("float16").max),
        ("complex64", lambda value: np.isinf(value.imag) and np.isnan(value.real)),
        ("int64", lambda value: value == np.iinfo("int64").min),
        ("datetime64[ns]", np.isnat),
    ],
)
def test_extreme_values_are_found(dtype, wanted):
    assert wanted(find(values(dtype), wanted))


def test_hypothesis_is_not_needed_to_import_the_package():
    code = "import sys, darray, darray.testing; sys.exit('hypothesis' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
