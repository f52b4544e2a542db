"""The synthetic field's closed forms are the figures of its values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darray.command.synthetic_field import SyntheticField

SIDES = st.integers(8, 20)


@given(st.tuples(SIDES, SIDES, SIDES))
def test_figures_are_those_of_the_values(shape):
    field = SyntheticField(shape)
    # The values are multiples of 1/64, so integer arithmetic on 64 times them is exact.
    values = field.values(tuple(slice(0, n, 1) for n in shape))
    assert (values.shape, values.dtype, values.nbytes) == (shape, np.float32, field.nbytes)
    exact = field.figures()
    valid = (values[~np.isnan(values)].astype(np.float64) * 64).astype(np.int64)
    assert exact.count == valid.size
    assert exact.nans == values.size - valid.size > 0
    assert exact.min * 64 == valid.min()
    assert exact.max * 64 == valid.max()
    assert exact.mean * exact.count * 64 == int(valid.sum())
    squares = (exact.variance + exact.mean**2) * exact.count * 64**2
    assert squares == int((valid**2).sum())
    np.testing.assert_allclose(
        field.mean_along_first_axis(), np.nanmean(values, axis=0, dtype=np.float64), rtol=1e-14
    )


@given(st.tuples(SIDES, SIDES, SIDES), st.data())
def test_box_is_a_part_of_the_whole(shape, data):
    field = SyntheticField(shape)
    cuts = []
    for n in shape:
        start, stop = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
        cuts.append(slice(start, stop, data.draw(st.integers(1, 3))))
    box = tuple(cuts)
    whole = field.values(tuple(slice(0, n, 1) for n in shape))
    np.testing.assert_array_equal(field.values(box), whole[box])


def test_no_axis_is_constant():
    values = SyntheticField((8, 9, 10)).values((slice(0, 8, 1), slice(0, 9, 1), slice(0, 10, 1)))
    for axis in range(3):
        assert (np.nanstd(values, axis=axis) > 0).all()


@pytest.mark.parametrize("shape", [(8, 8, 7), (2**24, 8, 8)])
def test_shape_without_exact_figures_is_refused(shape):
    with pytest.raises(ValueError, match="does not suit"):
        SyntheticField(shape)
