"""Cuts, boxes of chunks, and what overlaps what."""

from __future__ import annotations

import itertools
import math
import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darray import blocks as under_test
from darray.blocks import (
    TARGET,
    AutoBlocks,
    Blocks,
    blocks_of,
    boundaries,
    chunk_box,
    chunk_count,
    common_cut,
    cut,
    cut_between,
    grid_shape,
    iterate_boxes,
    largest,
    overlapping,
    same_cut,
)
from darray.runtime.boxes import box_shape
from darray.testing.strategies import blocks_for, boxes_in, chunks_for, shapes


def assert_cuts(chunks, shape):
    assert len(chunks) == len(shape)
    for sizes, length in zip(chunks, shape, strict=True):
        assert all(type(size) is int for size in sizes)
        assert sum(sizes) == length
        assert sizes == (0,) or min(sizes) > 0


# ---------------------------------------------------------------- Blocks


def test_blocks_are_values():
    blocks = Blocks(4, [3, 5], -1)
    assert blocks == Blocks(np.int64(4), (3, np.uint8(5)), -1)
    assert hash(blocks) == hash(Blocks(4, (3, 5), -1))
    assert blocks != Blocks(4, (5, 3), -1)
    assert repr(blocks) == "Blocks(4, (3, 5), -1)"
    assert repr(Blocks()) == "Blocks()"
    assert pickle.loads(pickle.dumps(blocks)) == blocks
    with pytest.raises(AttributeError):
        blocks.sizes = ()


@pytest.mark.parametrize("size", [0, -2, (), (3, 0), (0, 0), (3, -1)])
def test_blocks_refuse_sizes_that_cut_nothing(size):
    with pytest.raises(ValueError, match=r"block sizes? .* of axis 1"):
        Blocks(4, size)


@pytest.mark.parametrize("size", [2.0, True, "4", None, (2, 2.5), (True,), np.bool_(True), [[1]]])
def test_blocks_refuse_what_is_no_integer(size):
    with pytest.raises(TypeError, match=r"axis 1 is not an integer: give a size"):
        Blocks(4, size)


@pytest.mark.parametrize(
    ("nbytes", "error"), [(0, ValueError), (2.5, TypeError), (True, TypeError)]
)
def test_auto_blocks_refuse_what_is_no_size(nbytes, error):
    with pytest.raises(error, match="nbytes="):
        AutoBlocks(nbytes)


# ---------------------------------------------------------------- cut


@pytest.mark.parametrize(
    ("blocks", "shape", "chunks"),
    [
        (Blocks(), (), ()),
        (Blocks(4), (10,), ((4, 4, 2),)),
        (Blocks(4, 5), (8, 3), ((4, 4), (3,))),
        (Blocks(-1, 1), (8, 3), ((8,), (1, 1, 1))),
        (Blocks((3, 5), 2), (8, 0), ((3, 5), (0,))),
        (4, (8, 6), ((4, 4), (4, 2))),
        (np.int32(4), (8,), ((4, 4),)),
        (-1, (8, 6), ((8,), (6,))),
        (3, (), ()),
        ((4, (3, 3)), (8, 6), ((4, 4), (3, 3))),
        (((4, 4), (0,)), (8, 0), ((4, 4), (0,))),
        ("auto", (8, 6), ((8,), (6,))),
        ("auto", (), ()),
    ],
)
def test_cut_takes_every_way_to_say_blocks(blocks, shape, chunks):
    assert cut(blocks, shape, 8) == chunks


@pytest.mark.parametrize(
    ("blocks", "shape", "message"),
    [
        (Blocks(4), (8, 6), r"Blocks\(4\) is for 1-d arrays, one of shape \(8, 6\) is 2-d"),
        (Blocks((4, 4)), (4, 4), r"Blocks\(\(4, 4\)\) is for 1-d arrays"),
        ((4, 4, 4), (8, 6), r"is for 3-d arrays, .* is 2-d"),
        (Blocks((3, 4)), (8,), r"\(3, 4\) of axis 0 add up to 7, the axis has length 8"),
        (Blocks((0,)), (8,), "add up to 0"),
        ("rows", (8,), "'rows'.*'auto'"),
        (0, (8,), "block size 0 of axis 0"),
    ],
)
def test_cut_says_what_does_not_fit(blocks, shape, message):
    with pytest.raises(ValueError, match=message):
        cut(blocks, shape, 8)


@pytest.mark.parametrize("blocks", [None, 2.5, {4}, True])
def test_cut_refuses_what_says_nothing(blocks):
    with pytest.raises(TypeError, match="does not say how to cut"):
        cut(blocks, (8,), 8)


@given(shapes().flatmap(lambda shape: st.tuples(st.just(shape), blocks_for(shape))))
def test_cut_pieces_add_up(case):
    shape, blocks = case
    chunks = cut(blocks, shape, 8)
    assert_cuts(chunks, shape)
    assert cut(chunks, shape, 8) == chunks
    assert cut(blocks_of(chunks), shape, 8) == chunks


@pytest.mark.parametrize(
    ("sizes", "blocks"),
    [((4, 4, 2), 4), ((4, 2, 4), (4, 2, 4)), ((2, 4), (2, 4)), ((5,), 5), ((0,), -1)],
)
def test_blocks_of_are_regular_where_possible(sizes, blocks):
    assert blocks_of((sizes,)) == Blocks(blocks)


# ---------------------------------------------------------------- AutoBlocks


@given(
    st.lists(st.integers(0, 5000), max_size=4).map(tuple),
    st.integers(1, 32),
    st.integers(1, 10**6),
)
def test_auto_chunks_are_contiguous_and_fit(shape, itemsize, nbytes):
    # At most some thousand pieces an axis, so that cutting does not dominate the test.
    chunks = cut(AutoBlocks(nbytes), shape, itemsize)
    assert_cuts(chunks, shape)
    if math.prod(shape):
        biggest = largest(chunks)
        assert math.prod(biggest) * itemsize <= max(nbytes, itemsize)
        # Single rows, then one axis cut anyhow, then whole axes.
        split = next((i for i, n in enumerate(biggest) if n > 1), len(shape))
        assert biggest[split + 1 :] == shape[split + 1 :]
    else:
        assert chunk_count(chunks) == 1


@given(st.integers(1, 10**6), st.integers(1, 5000))
def test_auto_blocks_are_equal_and_the_last_not_tiny(length, most):
    (sizes,) = cut(AutoBlocks(most), (length,), 1)
    assert len(set(sizes[:-1])) <= 1
    assert sizes[0] <= most
    # Never much smaller than asked, so never many more pieces than needed.
    assert len(sizes) == 1 or sizes[0] * 4 > min(most, length)
    assert sizes[-1] * 4 >= sizes[0] or most < 16


def test_auto_target_is_a_constant():
    assert TARGET == 4 * 2**20
    assert cut("auto", (3, 1000, 1000), 8) == ((1, 1, 1), (500, 500), (1000,))
    assert cut("auto", (745, 33, 49), 8) == cut(AutoBlocks(TARGET), (745, 33, 49), 8)
    assert cut("auto", (0, 10**9), 8) == ((0,), (10**9,))
    assert cut("auto", (4, 5), 0) == ((4,), (5,))
    assert cut(AutoBlocks(1), (2, 1, 2), 8) == ((1, 1), (1,), (1, 1))


# ---------------------------------------------------------------- boxes of chunks


@given(shapes().flatmap(lambda shape: st.tuples(st.just(shape), chunks_for(shape))))
def test_boxes_tile_the_array_in_c_order(case):
    shape, chunks = case
    seen = np.zeros(shape, int)
    indices = []
    for index, box in iterate_boxes(chunks):
        assert chunk_box(chunks, index) == box
        assert box_shape(box) == tuple(sizes[i] for i, sizes in zip(index, chunks, strict=True))
        seen[box] += 1
        indices.append(index)
    assert (seen == 1).all()
    assert indices == list(np.ndindex(*grid_shape(chunks)))
    assert len(indices) == chunk_count(chunks)


@pytest.mark.parametrize("index", [(3, 0), (-1, 0), (0,), (0, 0, 0)])
def test_chunk_box_refuses_what_is_not_in_the_grid(index):
    with pytest.raises(IndexError, match=r"no chunk .* in a grid of \(3, 1\)"):
        chunk_box(((4, 4, 2), (5,)), index)


@given(
    shapes(max_dims=3, max_side=12).flatmap(
        lambda shape: st.tuples(st.just(shape), chunks_for(shape), boxes_in(shape, max_step=5))
    )
)
def test_overlapping_copies_exactly_the_box(case):
    shape, chunks, box = case
    array = np.arange(math.prod(shape)).reshape(shape)
    copied = np.full(box_shape(box), -1)
    found = overlapping(chunks, box)
    for index, source, destination in found:
        assert all(cut.step == wanted.step for cut, wanted in zip(source, box, strict=True))
        assert all(cut.step == 1 for cut in destination)
        assert 0 not in box_shape(source)
        chunk = array[chunk_box(chunks, index)]
        assert all(cut.stop <= n for cut, n in zip(source, chunk.shape, strict=True))
        assert (copied[destination] == -1).all()
        copied[destination] = chunk[source]
    assert (copied == array[box]).all()
    assert [index for index, _, _ in found] == sorted(index for index, _, _ in found)


def test_overlapping_of_nothing_and_of_a_scalar():
    assert overlapping(((4, 4),), (slice(4, 4, 1),)) == []
    assert overlapping(((0,), (4, 4)), (slice(0, 0, 1), slice(0, 8, 1))) == []
    assert overlapping((), ()) == [((), (), ())]


@pytest.mark.parametrize("box", [(slice(0, 9, 1),), (slice(-1, 2, 1),), (), (slice(0, 1, 1),) * 2])
def test_overlapping_refuses_what_reaches_out(box):
    with pytest.raises(IndexError):
        overlapping(((4, 4),), box)


@given(data=st.data())
def test_cut_between_ends_pieces_where_the_axis_does(data):
    sizes = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=6)))
    start = data.draw(st.integers(0, sum(sizes) - 1))
    step = data.draw(st.sampled_from([1, 2, 3, 7, -1, -2, -5]))
    room = (sum(sizes) - 1 - start) // step if step > 0 else start // -step
    size = data.draw(st.integers(0, room + 1))
    owners = [number for number, length in enumerate(sizes) for _ in range(length)]
    touched = [owners[start + step * i] for i in range(size)]
    expected = tuple([len(list(same)) for _, same in itertools.groupby(touched)]) or (0,)
    assert cut_between(sizes, start, step, size) == expected


def test_boundaries_and_same_cut():
    assert boundaries(()) == (0,)
    assert boundaries((0,)) == (0, 0)
    assert same_cut()
    assert same_cut(((4,),))
    assert not same_cut(((4,),), ((4,),), ((2, 2),))
    assert largest(((0,), (3, 5))) == (0, 5)
    assert largest(()) == ()


# ---------------------------------------------------------------- common_cut


@st.composite
def broadcastable(draw):
    result = draw(shapes(min_side=1))
    operands = []
    for _ in range(draw(st.integers(1, 4))):
        kept = draw(st.integers(0, len(result)))
        shape = tuple(draw(st.sampled_from([1, length])) for length in result[len(result) - kept :])
        operands.append((draw(chunks_for(shape)), shape))
    return operands


@given(broadcastable())
def test_common_cut_is_the_finest_of_full_operands(operands):
    shape = np.broadcast_shapes(*(shape for _, shape in operands))
    chunks = common_cut(operands)
    assert_cuts(chunks, shape)
    for axis in range(1, len(shape) + 1):
        full = [c[-axis] for c, s in operands if len(s) >= axis and s[-axis] == shape[-axis]]
        most = max(map(len, full))
        assert chunks[-axis] == next(sizes for sizes in full if len(sizes) == most)


def test_common_cut_of_special_operands():
    assert common_cut([]) == ()
    assert common_cut([((), ()), ((), ())]) == ()
    assert common_cut([(((1,),), (1,)), (((0,),), (0,))]) == ((0,),)
    assert common_cut([(((2, 2),), (4,)), (((3, 1),), (4,))]) == ((2, 2),)


@given(shapes(max_dims=3, max_side=3), shapes(max_dims=3, max_side=3))
def test_common_cut_refuses_shapes_as_numpy_does(first, second):
    operands = [(cut(-1, shape, 8), shape) for shape in (first, second)]
    try:
        expected, refusal = (np.zeros(first) + np.zeros(second)).shape, ""
    except ValueError as error:
        expected, refusal = (), str(error).rstrip()
    if refusal:
        with pytest.raises(ValueError, match=f"^{re.escape(refusal)}$"):
            common_cut(operands)
    else:
        assert tuple(map(sum, common_cut(operands))) == expected


def test_module_exports_what_it_says():
    assert all(hasattr(under_test, name) for name in under_test.__all__)


def test_boundaries_are_right_for_more_axes_than_are_kept():
    axes = [tuple(range(1, n + 2)) for n in range(100)]
    for sizes in axes * 2:
        assert boundaries(sizes) == (0, *np.cumsum(sizes))
        # A tuple made and dropped at once may leave its place in memory to the next.
        assert boundaries(tuple([len(sizes), 1])) == (0, len(sizes), len(sizes) + 1)
