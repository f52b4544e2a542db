"""Index maps against NumPy's own views."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from darray.blocks import iterate_boxes
from darray.index_maps import NEW, AxisMap, IndexMap, is_basic
from darray.runtime.boxes import box_shape, whole
from darray.testing.strategies import basic_indices, boxes_in, chunks_for, shapes
from darray.view_steps import Selection


class Two:
    def __index__(self):
        return 2

    def __repr__(self):
        return "Two()"


# One step of a chain of views: how NumPy takes it, and the map that describes it.


@st.composite
def view_steps(draw, shape):
    kind = draw(st.sampled_from(["index", "index", "transpose", "broadcast", "insert", "drop"]))
    if kind == "index":
        key = draw(basic_indices(shape))
        # Through Ellipsis, for NumPy gives a scalar where a view of no axes is meant.
        full = key if isinstance(key, tuple) else (key,)
        full = full if any(part is ... for part in full) else (*full, ...)
        return IndexMap.from_index(key, shape), lambda array: array[full]
    if kind == "transpose":
        axes = draw(st.permutations(range(len(shape))))
        return IndexMap.transpose(axes, shape), lambda array: array.transpose(axes)
    if kind == "broadcast":
        wider = tuple(draw(st.integers(0, 3)) if length == 1 else length for length in shape)
        target = (*draw(st.lists(st.integers(0, 3), max_size=1)), *wider)
        return IndexMap.broadcast(shape, target), lambda array: np.broadcast_to(array, target)
    if kind == "insert":
        axis = draw(st.integers(-len(shape) - 1, len(shape)))
        return IndexMap.insert_axes(axis, shape), lambda array: np.expand_dims(array, axis)
    return IndexMap.drop_axes(None, shape), np.squeeze


@st.composite
def view_chains(draw, max_steps=4):
    """Draw a source array, its view after some steps, and the maps of the steps."""
    shape = draw(shapes(max_side=7))
    source = view = np.arange(math.prod(shape)).reshape(shape)
    maps = []
    for _ in range(draw(st.integers(0, max_steps))):
        index_map, step = draw(view_steps(view.shape))
        stepped = step(view)
        assume(stepped.ndim <= 7 and stepped.size < 10_000)
        view = stepped
        maps.append(index_map)
    return source, view, maps


def composed(maps, shape):
    total = IndexMap.identity(shape)
    for index_map in maps:
        total = index_map.after(total)
    return total


def assert_valid(index_map):
    """State every invariant of a map."""
    used = [axis for axis, _ in index_map.fixed]
    used += [axis.source for axis in index_map.axes if axis.source != NEW]
    assert sorted(used) == list(range(len(index_map.source_shape)))
    for axis, index in index_map.fixed:
        assert 0 <= index < index_map.source_shape[axis]
    for source, start, step, size in index_map.axes:
        assert size >= 0
        if source == NEW:
            assert (start, step) == (0, 1)
            continue
        assert step == 1 or (step != 0 and size > 1)
        if size:
            length = index_map.source_shape[source]
            assert 0 <= start < length
            assert 0 <= start + step * (size - 1) < length
        else:
            assert start == 0
    assert list(index_map.fixed) == sorted(index_map.fixed)


# ---------------------------------------------------------------- against NumPy


@given(st.data(), view_chains())
def test_a_chain_of_views_reads_what_numpy_reads(data, case):
    source, view, maps = case
    total = composed(maps, source.shape)
    assert_valid(total)
    assert total.shape == view.shape
    assert total.source_shape == source.shape
    for box in (whole(view.shape), data.draw(boxes_in(view.shape, max_step=3))):
        wanted = total.source_box(box)
        for cut, length in zip(wanted, source.shape, strict=True):
            assert 0 <= cut.start <= cut.stop <= length
            assert cut.step >= 1
        # Through Ellipsis: NumPy gives a scalar where all indices are used up.
        piece = total.arrange(source[(*wanted, ...)], box)
        assert isinstance(piece, np.ndarray)
        assert np.shares_memory(piece, source) or not piece.size
        assert piece.ndim == view.ndim
        assert np.array_equal(np.broadcast_to(piece, box_shape(box)), view[box])
        for axis, length in zip(total.axes, piece.shape, strict=True):
            assert axis.source != NEW or length == 1


@given(view_chains(max_steps=3))
def test_composition_is_associative(case):
    _, _, maps = case
    assume(len(maps) == 3)
    first, second, third = maps
    assert third.after(second).after(first) == third.after(second.after(first))


@given(view_chains())
def test_identity_composes_to_nothing(case):
    source, _, maps = case
    total = composed(maps, source.shape)
    assert total.after(IndexMap.identity(source.shape)) == total
    assert IndexMap.identity(total.shape).after(total) == total
    restored = pickle.loads(pickle.dumps(total))
    assert restored == total
    assert hash(restored) == hash(total)
    piece = source[total.source_box(whole(total.shape))]
    assert np.array_equal(restored.arrange(piece, ()), total.arrange(piece, ()))


@given(st.data(), view_chains())
def test_cuts_follow_the_sources_boundaries(data, case):
    source, view, maps = case
    total = composed(maps, source.shape)
    chunks = data.draw(chunks_for(source.shape))
    owner = np.zeros(source.shape, int)
    for number, (_, box) in enumerate(iterate_boxes(chunks)):
        owner[box] = number
    pieces = total.cut(chunks)
    assert tuple(map(sum, pieces)) == view.shape
    assert all(sizes == (0,) or min(sizes) > 0 for sizes in pieces)
    boxes = [box for _, box in iterate_boxes(pieces)]
    owners = np.broadcast_to(
        total.arrange(owner[total.source_box(whole(view.shape))], ()), view.shape
    )
    for box in boxes:
        assert len(np.unique(owners[box])) == (view[box].size > 0)
    # No cut between two elements of one source chunk.
    for axis, (sizes, entry) in enumerate(zip(pieces, total.axes, strict=True)):
        edges = np.cumsum(sizes)[:-1]
        if entry.source == NEW:
            assert not edges.size
        elif view.size:
            one = np.moveaxis(owners, axis, 0).reshape(view.shape[axis], -1)[:, 0]
            assert np.array_equal(np.flatnonzero(np.diff(one)) + 1, edges)


@given(st.data(), view_chains(), st.integers(1, 30))
def test_cuts_of_new_axes_obey_a_limit(data, case, limit):
    source, view, maps = case
    total = composed(maps, source.shape)
    chunks = data.draw(chunks_for(source.shape))
    pieces = total.cut(chunks, limit)
    assert tuple(map(sum, pieces)) == view.shape
    assert all(sizes == (0,) or min(sizes) > 0 for sizes in pieces)
    own = [max(s) for s, axis in zip(pieces, total.axes, strict=True) if axis.source != NEW]
    if view.size and math.prod(own) <= limit:
        assert math.prod(map(max, pieces)) <= limit


# ---------------------------------------------------------------- cheap cases and values


def test_nothing_to_do_gives_the_piece_itself():
    piece = np.arange(12).reshape(3, 4)
    plain = IndexMap.from_index((slice(1, 4), slice(0, 8, 2)), (9, 9))
    assert plain.arrange(piece, ()) is piece
    assert IndexMap.broadcast((3, 4), (3, 4)).arrange(piece, ()) is piece
    assert IndexMap.transpose((0, 1), (3, 4)).arrange(piece, ()) is piece


def test_identity_is_recognised():
    assert IndexMap.identity((3, 0)).is_identity
    assert IndexMap.identity(()).is_identity
    flip = IndexMap.from_index(slice(None, None, -1), (5,))
    assert not flip.is_identity
    assert flip.after(flip).is_identity
    assert IndexMap.from_index((..., slice(-9, 9)), (5, 1)).is_identity
    assert IndexMap.from_index(slice(None, None, -1), (1,)).is_identity
    assert not IndexMap.from_index(slice(1, None), (5,)).is_identity
    assert not IndexMap.from_index(slice(None, None, 2), (5,)).is_identity
    assert not IndexMap.transpose(None, (3, 3)).is_identity
    assert not IndexMap.from_index(None, (3,)).is_identity


def test_a_map_must_use_every_source_axis_once():
    axis = AxisMap(0, 0, 1, 3)
    with pytest.raises(ValueError, match="once"):
        IndexMap((3, 4), (axis,))
    with pytest.raises(ValueError, match="once"):
        IndexMap((3,), (axis, axis))
    with pytest.raises(ValueError, match="once"):
        IndexMap((3,), (axis,), ((0, 0),))


def test_views_compose_only_where_shapes_meet():
    rows = IndexMap.from_index(slice(4), (10,))
    with pytest.raises(ValueError, match=r"\(10,\) cannot come after .* \(4,\)"):
        rows.after(rows)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "key",
    [
        5,
        -4,
        (0, 4),
        (None, 0, -5),
        (slice(0, 1), 4),
        (0, 0, 0),
        (..., 0, 0, slice(None)),
        (..., ...),
        (..., 0, ...),
        slice(None, None, 0),
        (slice(0, 2, 0), 9),
        (9, slice(0, 2, 0)),
        slice(1.5, None),
        slice("a"),
        1.0,
        1j,
        "a",
        b"a",
        {},
        object,
        np.float64(1),
        np.array([1.0]),
        np.array([]),
        np.str_("a"),
        (0, "a"),
        ("a", ..., ...),
        (None,) * 70,
    ],
    ids=repr,
)
def test_mistakes_are_numpys(key):
    assert is_basic(key)
    with pytest.raises((IndexError, ValueError, TypeError)) as expected:
        np.zeros((3, 4))[key]
    with pytest.raises((IndexError, ValueError, TypeError)) as caught:
        IndexMap.from_index(key, (3, 4))
    assert type(caught.value) is type(expected.value)
    assert str(caught.value) == str(expected.value)


def test_an_integer_too_large_for_numpy_is_an_index_error():
    with pytest.raises(IndexError, match="out of bounds for axis 0 with size 3"):
        IndexMap.from_index(2**100, (3,))
    with pytest.raises(IndexError, match="array is 0-dimensional, but 1 were indexed"):
        IndexMap.from_index(0, ())


@pytest.mark.parametrize(
    "key",
    [
        [0, 1],
        [],
        range(2),
        np.array([0]),
        np.array([True, False]),
        np.array(True),
        np.True_,
        True,
        (0, [1]),
        (slice(None), False),
        ((0, 1),),
    ],
    ids=repr,
)
def test_advanced_indices_are_told_apart(key):
    assert not is_basic(key)
    with pytest.raises(NotImplementedError, match=r"fancy index.*collect\(\)"):
        IndexMap.from_index(key, (3, 4))


@pytest.mark.parametrize("key", [np.int8(2), np.uint64(2), np.array(2), Two(), 2, -1], ids=repr)
def test_whatever_is_an_integer_is_an_index(key):
    assert is_basic(key)
    assert IndexMap.from_index(key, (3, 4)) == IndexMap.from_index(2, (3, 4))
    assert type(IndexMap.from_index(key, (3, 4)).fixed[0][1]) is int


@pytest.mark.parametrize("axes", [(0,), (0, 2), (0, 0), (0, -2), (0, 1.0), (-3, 0)])
def test_transpose_mistakes_are_numpys(axes):
    with pytest.raises((ValueError, TypeError)) as expected:
        np.transpose(np.zeros((3, 4)), axes)
    with pytest.raises(type(expected.value)) as caught:
        IndexMap.transpose(axes, (3, 4))
    assert type(caught.value) is type(expected.value)
    assert str(caught.value).startswith(str(expected.value))


@pytest.mark.parametrize("axes", [5, (0, 0), (0, -4), -4, 1.0])
def test_insert_mistakes_are_numpys(axes):
    with pytest.raises((ValueError, TypeError)) as expected:
        np.expand_dims(np.zeros((3, 4)), axes)
    with pytest.raises(type(expected.value)) as caught:
        IndexMap.insert_axes(axes, (3, 4))
    assert type(caught.value) is type(expected.value)


@pytest.mark.parametrize("axes", [0, 5, (1, 1), (1, -1), (0, 1), 1.0])
def test_drop_mistakes_are_numpys(axes):
    with pytest.raises((ValueError, TypeError)) as expected:
        np.squeeze(np.zeros((3, 1)), axes)
    with pytest.raises(type(expected.value)) as caught:
        IndexMap.drop_axes(axes, (3, 1))
    assert type(caught.value) is type(expected.value)


@given(st.data(), shapes(max_side=3))
def test_axes_come_and_go_as_in_numpy(data, shape):
    count = data.draw(st.integers(0, 2))
    ndim = len(shape) + count
    axes = tuple(data.draw(st.permutations(range(ndim)))[:count])
    axes = tuple(axis - ndim if data.draw(st.booleans()) else axis for axis in axes)
    wider = IndexMap.insert_axes(axes, shape)
    assert wider.shape == np.expand_dims(np.zeros(shape), axes).shape
    back = IndexMap.drop_axes(axes, wider.shape)
    assert back.shape == np.squeeze(np.zeros(wider.shape), axes).shape
    assert back.after(wider).is_identity


@given(shapes(max_dims=3, max_side=3), st.lists(st.integers(-1, 3), max_size=4).map(tuple))
def test_broadcast_is_allowed_where_numpy_allows_it(shape, target):
    try:
        np.broadcast_to(np.zeros(shape), target)
    except ValueError:
        with pytest.raises(ValueError, match="cannot be broadcast"):
            IndexMap.broadcast(shape, target)
    else:
        assert IndexMap.broadcast(shape, target).shape == target


@given(st.data(), view_chains())
def test_output_boxes_are_where_source_boxes_show(data, case):
    source, view, maps = case
    total = composed(maps, source.shape)
    box = data.draw(boxes_in(source.shape))
    shows = np.isin(view, source[box]) if source.ndim else np.ones(view.shape, bool)
    found = total.output_box(box)
    if found is None:
        assert not shows.any()
    else:
        expected = np.zeros(view.shape, bool)
        expected[(*found, ...)] = True
        assert (shows == expected).all()


@given(view_chains())
def test_an_inverse_undoes_a_view_of_everything(case):
    source, view, maps = case
    total = composed(maps, source.shape)
    back = total.inverse()
    shows_all_once = view.size == source.size and np.unique(view).size == source.size
    if back is not None:
        assert_valid(back)
        assert np.array_equal(Selection(back).of(view), source)
        assert shows_all_once
    else:
        assert not shows_all_once or source.size == 0
