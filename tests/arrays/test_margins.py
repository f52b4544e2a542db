"""Boxes of one array that overlap: where they lie, axis by axis, and what makes them up."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import darray as da
from darray.blocks import iterate_boxes
from darray.expr import building
from darray.index_maps import IndexMap
from darray.lowering.fusion import Group, Leaf
from darray.lowering.margins import Margins, Sights
from darray.lowering.planning import Planner
from darray.runtime.boxes import box_shape, index_of
from darray.testing.strategies import arrays, basic_indices, boxes_in, chunks_for, shapes


def group_of(leaves):
    return Group(None, tuple(leaves))


@given(st.data())
def test_boxes_are_those_of_each_map(data):
    """Also where axes are added, removed, reversed and strided."""
    shape = data.draw(shapes(3, 6, min_side=1))
    array = building.captured(data.draw(arrays(shape, "i4")))
    maps = [IndexMap.from_index(data.draw(basic_indices(shape)), shape)]
    for _ in range(3):
        other = IndexMap.from_index(data.draw(basic_indices(shape)), shape)
        if other.shape == maps[0].shape:
            maps.append(other)
    sights = Sights(group_of([Leaf(array, one) for one in maps]))
    for _ in range(2):
        box = data.draw(boxes_in(maps[0].shape, max_step=2))
        assert sights.boxes(box) == [one.source_box(box) for one in maps]


@st.composite
def shifted(draw):
    """An array in chunks, and maps that show it a little apart, or turned round."""
    shape = draw(shapes(3, 9, min_dims=1, min_side=3))
    chunks = draw(chunks_for(shape))
    array = np.arange(np.prod(shape)).reshape(shape)
    order = draw(st.permutations(range(len(shape))))
    turned = [draw(st.booleans()) for _ in shape]
    margin = [draw(st.integers(0, 2)) for _ in shape]
    maps = []
    for _ in range(draw(st.integers(2, 4))):
        starts = [draw(st.integers(0, most)) for most in margin]
        key = []
        for start, size, most, is_turned in zip(starts, shape, margin, turned, strict=True):
            part = slice(start, start + size - most)
            index = range(size)[part]
            key.append(
                slice(index[-1], index[0] - 1 if index[0] else None, -1) if is_turned else part
            )
        one = IndexMap.from_index(tuple(key), shape)
        maps.append(IndexMap.transpose(order, one.shape).after(one))
    return array, chunks, maps


@given(shifted(), st.data())
def test_what_is_put_together_has_all_boxes_in_it(drawn, data):
    array, chunks, maps = drawn
    node = building.captured(array, chunks)
    margins = Margins([Leaf(node, one) for one in maps], tuple(range(len(maps))))
    pieces = dict(iterate_boxes(chunks))
    for _, box in iterate_boxes(data.draw(chunks_for(maps[0].shape))):
        boxes = [one.source_box(box) for one in maps]
        found = margins.at(box)
        sizes = [np.prod(box_shape(one)) for one in boxes]
        lows = [min(one[axis].start for one in boxes) for axis in range(array.ndim)]
        highs = [max(one[axis].stop for one in boxes) for axis in range(array.ndim)]
        hull = tuple(map(slice, lows, highs, [1] * array.ndim))
        assert (found is None) == bool(np.prod(box_shape(hull)) > 1.5 * max(sizes))
        if found is None:
            continue
        assert found[0] == hull
        whole = np.full(box_shape(hull), -1)
        for index, part, place in found[2]:
            whole[index_of(place)] = array[index_of(pieces[index])][index_of(part)]
        touched = set()
        for one, part in zip(boxes, found[1], strict=True):
            np.testing.assert_array_equal(whole[index_of(part)], array[index_of(one)])
            touched |= {
                index
                for index, piece in pieces.items()
                if all(
                    a.start < b.stop and b.start < a.stop for a, b in zip(piece, one, strict=True)
                )
            }
        assert [index for index, _, _ in found[2]] == sorted(touched)


def test_boxes_that_move_differently_are_not_put_together():
    node = building.captured(np.arange(36).reshape(6, 6), ((3, 3), (3, 3)))
    maps = [IndexMap.identity((6, 6)), IndexMap.transpose(None, (6, 6))]
    assert Margins([Leaf(node, one) for one in maps], (0, 1)).at((slice(0, 3, 1),) * 2) is None
    maps = [IndexMap.from_index(np.s_[::2], (6, 6)), IndexMap.from_index(np.s_[1::2], (6, 6))]
    margins = Margins([Leaf(node, one) for one in maps], (0, 1))
    assert margins.at((slice(0, 3, 1),) * 2) is None


@pytest.mark.parametrize("kept", [False, True], ids=["in memory", "persisted"])
def test_planning_a_stencil_takes_little_more_than_its_parts(kept):
    """Counted in calls of Python functions, which do not depend on the machine."""
    x = da.wrap(np.zeros((400, 400)), da.Blocks(10, 10))
    if kept:
        x = x.map_blocks(np.negative).persist()
        x.wait()
    y = x[1:-1, 1:-1] * 4 - x[:-2, 1:-1] - x[2:, 1:-1] - x[1:-1, :-2] - x[1:-1, 2:]
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    planner = Planner()
    planner.want_all(y._cell.expression)
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        plan = planner.run()
    finally:
        sys.setprofile(before)
    assert plan.count() == 1600
    assert calls <= (45 if kept else 40) * plan.count(), calls / plan.count()
