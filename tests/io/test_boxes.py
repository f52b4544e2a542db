import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darray.runtime.boxes import box_shape, intersect, shift, whole
from tests.io.strategies import SHAPES, boxes


@st.composite
def plain_boxes(draw, shape):
    return tuple(slice(cut.start, cut.stop, 1) for cut in draw(boxes(shape)))


@given(SHAPES)
def test_whole_is_the_array(shape):
    array = np.empty(shape)
    assert array[(*whole(shape), ...)].shape == shape
    assert box_shape(whole(shape)) == shape


@given(st.data())
def test_box_shape_is_the_shape_numpy_gives(data):
    shape = data.draw(SHAPES)
    box = data.draw(boxes(shape))
    assert np.empty(shape)[(*box, ...)].shape == box_shape(box)


@given(st.data())
def test_intersect_is_the_elements_in_both(data):
    shape = data.draw(SHAPES)
    a, b = data.draw(plain_boxes(shape)), data.draw(plain_boxes(shape))
    marked = np.zeros(shape, int)
    marked[(*a, ...)] += 1
    marked[(*b, ...)] += 1
    common = intersect(a, b)
    assert common == intersect(b, a)
    if common is None:
        assert not (marked == 2).any()
    else:
        assert (marked == 2).sum() == marked[(*common, ...)].size > 0
        assert (marked[(*common, ...)] == 2).all()


@given(st.data())
def test_shift_moves_every_element(data):
    shape = data.draw(SHAPES)
    box = data.draw(plain_boxes(shape))
    offsets = tuple(data.draw(st.integers(-cut.start, 5)) for cut in box)
    moved = shift(box, offsets)
    assert box_shape(moved) == box_shape(box)
    assert tuple(cut.start for cut in moved) == tuple(
        cut.start + offset for cut, offset in zip(box, offsets, strict=True)
    )
    assert shift(moved, tuple(-offset for offset in offsets)) == box


def test_boxes_without_axes():
    assert whole(()) == ()
    assert box_shape(()) == ()
    assert intersect((), ()) == ()
    assert shift((), ()) == ()


def test_intersect_refuses_steps_and_other_ranks():
    with pytest.raises(ValueError, match="step 1"):
        intersect((slice(0, 4, 2),), (slice(0, 4, 1),))
    with pytest.raises(ValueError, match="1 and 0 axes"):
        intersect((slice(0, 4, 1),), ())


def test_shift_refuses_steps_other_ranks_and_negative_starts():
    with pytest.raises(ValueError, match="step 1"):
        shift((slice(0, 4, 2),), (1,))
    with pytest.raises(ValueError, match="1 axes"):
        shift((slice(0, 4, 1),), (1, 2))
    with pytest.raises(ValueError, match="before element 0"):
        shift((slice(1, 4, 1),), (-2,))
