"""Reshapes against NumPy, the cuts they get, and what their tasks read and hold."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import force_setattr

import darray as da
from darray.blocks import chunk_count, largest
from darray.expr.nodes import Memory, Stored, View
from darray.expr.reshaping import (
    Reshape,
    axis_groups,
    boxes_of_run,
    index_map_between,
    reshape,
    reshape_cut,
)
from darray.lowering.planning import Planner
from darray.testing.strategies import blocks_for, chunks_for, dtypes, shapes
from tests.arrays.agreement import check, same_arrays
from tests.arrays.drawing import pairs

ORDERS = st.sampled_from(["C", "C", "C", "F", "A", "c", "f"])


def expression(array, chunks, kind):
    """Return an expression of `array`: of its chunks' tasks, fused, or in memory."""
    lazy = da.distribute(array, chunks)
    if kind == "tasks":
        return lazy.map_blocks(np.copy).expression
    return (lazy if kind == "memory" else lazy + np.zeros((), array.dtype)).expression


KINDS = ["tasks", "fused", "memory"]


@st.composite
def shapes_of(draw, size):
    """Draw shapes of so many elements, some lengths of which are 1."""
    found = []
    rest = size
    while rest > 1 and len(found) < 4:
        divisors = [d for d in range(1, rest + 1) if rest % d == 0]
        found.append(draw(st.sampled_from(divisors)))
        rest //= found[-1]
    return (*draw(st.permutations([*found, rest])),)


@st.composite
def reshapes(draw):
    """Draw a shape, a cut of it, and another shape of the same size."""
    size = draw(st.sampled_from([1, 7, 16, 24, 36, 60, 64, 120]))
    shape = draw(shapes_of(size))
    return shape, draw(chunks_for(shape)), draw(shapes_of(size))


@given(reshapes(), st.sampled_from(KINDS), ORDERS)
@settings(max_examples=150)
def test_any_shape_to_any_other(engine, drawn, kind, order):
    shape, chunks, wanted = drawn
    array = np.arange(math.prod(shape), dtype="i4").reshape(shape)
    found = reshape(expression(array, chunks, kind), wanted, order)
    assert found.shape == wanted
    assert found.dtype == array.dtype
    assert same_arrays(da.DArray.of(found).collect(), array.reshape(wanted, order=order))


@given(reshapes(), st.sampled_from(KINDS))
def test_the_cut_is_the_one_that_is_told(drawn, kind):
    shape, chunks, wanted = drawn
    array = np.zeros(shape)
    assert reshape(expression(array, chunks, kind), wanted).chunks == reshape_cut(chunks, wanted)


@given(reshapes())
def test_chunks_stay_as_large_and_as_many(drawn):
    """A chunk grows by a row of the new shape at most, each row one that fits a chunk."""
    shape, chunks, wanted = drawn
    found = reshape_cut(chunks, wanted)
    groups = len(axis_groups([n for n in shape if n > 1], [n for n in wanted if n > 1]))
    assert math.prod(largest(found)) <= 2**groups * math.prod(largest(chunks))


@given(reshapes())
def test_each_task_makes_one_run(drawn):
    """Each chunk is read in boxes whose number depends on the number of axes alone."""
    shape, chunks, wanted = drawn
    node = reshape(expression(np.zeros(shape), chunks, "fused"), wanted)
    while isinstance(node, View):
        node = node.operand
    assume(isinstance(node, Reshape))
    planner = Planner()
    planner.want_all(node)
    most = 1
    for group in axis_groups(node.operand.shape, node.shape):
        most *= 2 * (group.before.stop - group.before.start) - 1
    drafts = list(planner.run().drafts())
    assert len(drafts) == chunk_count(node.chunks)
    assert all(len(draft.call.parts) <= most for draft in drafts)


ALIGNED = [
    (((4, 4, 4), (5,)), (60,)),
    (((20, 20, 20),), (12, 5)),
    (((1,) * 12, (3, 2)), (60,)),
    (((2, 2), (15,)), (2, 2, 3, 5)),
    (((1, 1), (2, 2), (3,)), (8, 3)),
    (((20, 20, 20),), (3, 20)),
    (((5,) * 12, (4, 4)), (3, 4, 5, 8)),
    (((5, 3), (4, 4), (2, 2)), (8, 2, 4, 4)),
    (((7, 5), (10, 10)), (12, 4, 5)),
]


@pytest.mark.parametrize(("chunks", "shape"), ALIGNED)
def test_chunks_that_fit_are_renamed(chunks, shape):
    """One task a chunk, which needs one chunk and has as many elements."""
    array = np.zeros([sum(sizes) for sizes in chunks])
    node = reshape(expression(array, chunks, "tasks"), shape)
    planner = Planner()
    planner.want_all(node)
    drafts = [draft for draft in planner.run().drafts() if draft.key[0] is node]
    assert len(drafts) == chunk_count(chunks)
    assert all(len(draft.needs) == len(draft.call.parts) == 1 for draft in drafts)
    assert len({draft.needs[0] for draft in drafts}) == len(drafts)


def planned(node):
    """Return the stage that reshapes, and the most needs that one of its tasks has."""
    planner = Planner()
    planner.want_all(node)
    (stage,) = [one for one in planner.run().stages if one.name == "reshape"]
    return stage, max(len(set(draft.needs)) for draft in stage.drafts)


def mapped(shape, blocks):
    """Return an expression without values, of tasks that make chunks."""
    return da.zeros(shape, blocks=blocks).map_blocks(np.negative).expression


@pytest.mark.parametrize(
    ("shape", "blocks", "wanted", "most_needs"),
    [
        ((10**7,), (10**4,), (1000, 10**4), 1),
        ((10**7,), (10**4,), (3125, 3200), 2),
        ((10**7,), (10**4,), (400, 25_000), 2),
        ((10**7,), (10**4,), (50, 200_000), 1),
        ((2000, 5000), (2, 5000), (10**7,), 1),
        ((2000, 5000), (1, 5000), (40, 50, 50, 100), 1),
        ((1000, 100, 100), (1, 100, 100), (10**5, 100), 1),
        # Cut along both axes: rows go over all chunks of a row.
        ((4000, 2500), (125, 80), (10**7,), 32),
        ((4000, 2500), (125, 80), (2500, 4000), 64),
    ],
)
def test_a_thousand_chunks(shape, blocks, wanted, most_needs):
    operand = mapped(shape, blocks)
    assert chunk_count(operand.chunks) >= 1000
    node = reshape(operand, wanted)
    stage, needs = planned(node)
    assert len(stage.drafts) <= 2 * chunk_count(operand.chunks)
    assert needs <= most_needs
    # The chunk that is made, and the piece that is put into it.
    assert stage.memory <= 2 * 2 * 10**4 * 8


@pytest.mark.parametrize("shape", [(1000, 1000), (10**6,)])
def test_peak_bytes_of_a_task(shape, serial):
    """No task sees more of the array than it says that it holds."""
    seen = []
    size = math.prod(shape)

    def make(*places):
        seen.append(places[0].size)
        return sum(places) + 0.0

    x = da.from_function(make, shape, blocks=(shape[0] // 100, *shape[1:]))
    seen.clear()
    found = da.DArray.of(reshape(x.expression, (size // 500, 500)))
    assert found.sum().collect() == make(*np.indices(shape)).sum()
    assert max(seen[:-1]) <= size // 100


class Recorded:
    """A stored array that notes which boxes of it are read."""

    def __init__(self, array, chunks):
        self.array, self.shape, self.dtype, self.chunks = array, array.shape, array.dtype, chunks
        self.boxes = []

    def read(self, box):
        self.boxes.append(box)
        return self.array[box].copy()


def test_what_is_read_of_a_store(engine):
    array = np.arange(240.0).reshape(12, 20)
    stored = Recorded(array, ((4, 4, 4), (20,)))
    lazy = da.DArray.of(Stored(stored.shape, stored.dtype, stored.chunks, stored))
    found = lazy.reshape(240)
    assert same_arrays((found[85:90] + 1).collect(), array.ravel()[85:90] + 1)
    # The one chunk that has them.
    assert stored.boxes == [(slice(4, 8, 1), slice(0, 20, 1))]


def test_a_reshape_of_a_reshape_is_one():
    operand = mapped((6, 4), (2, 2))
    once = reshape(operand, (3, 8))
    assert reshape(once, (8, 3)).operand is operand
    assert reshape(once, (6, 4)) is operand
    assert reshape(reshape(once, (3, 1, 8, 1)), (1, 24)).operand.operand is operand
    assert reshape(operand, (6, 4)) is operand


def test_what_is_computed_is_not_computed_again(engine):
    calls = []
    x = da.ones((6, 4), blocks=(2, 2)).map_blocks(lambda block: calls.append(1) or block + 1)
    y = x.reshape(24).persist()
    y.wait()
    assert len(calls) == 6
    x.expression  # noqa: B018 - kept alive, and not asked for
    force_setattr(x.expression, "kept", None)
    assert y.reshape(4, 6).sum().collect() == 48
    assert len(calls) == 6


def test_arrays_in_memory_are_reshaped_at_once():
    found = reshape(da.distribute(np.arange(6.0), 2).expression, (3, 2))
    assert isinstance(found, Memory)
    assert found.chunks == ((1, 1, 1), (2,))
    assert not found.array.flags.writeable


def test_what_was_built_from_a_wrapped_array_keeps_its_values(engine):
    array = np.arange(6.0)
    wrapped = da.wrap(array, 2)
    found = da.DArray.of(reshape(wrapped.expression, (3, 2)))
    wrapped[0] = 7
    assert array[0] == 7
    assert same_arrays(found.collect(), np.arange(6.0).reshape(3, 2))


def test_axes_of_length_one_make_a_view():
    operand = mapped((6, 1, 4), (2, 1, 2))
    found = reshape(operand, (1, 6, 4))
    assert isinstance(found, View)
    assert found.chunks == ((1,), (2, 2, 2), (2, 2))
    x = da.zeros((3, 1))
    x.reshape(3)[1] = 5
    assert same_arrays(x.collect(), np.array([[0.0], [5], [0]]))


@given(shapes(3, 4), shapes(3, 4))
def test_views_where_axes_of_length_one_come_and_go(shape, wanted):
    found = index_map_between(shape, wanted)
    assert (found is None) == ([n for n in shape if n != 1] != [n for n in wanted if n != 1])
    if found is not None:
        assert found.shape == wanted


@given(st.data(), shapes(4, 4, min_dims=1, min_side=2))
def test_boxes_of_runs(data, shape):
    size = math.prod(shape)
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    flat = np.arange(size).reshape(shape)
    boxes = list(boxes_of_run(start, stop, shape))
    assert len(boxes) <= 2 * len(shape) - 1
    assert np.concatenate([flat[box].ravel() for box in boxes]).tolist() == [*range(start, stop)]


NUMBERS = st.integers(-2, 6) | st.sampled_from([12, 24, 1.0, "a", None])


@given(pairs(shapes(3, 4)), st.lists(NUMBERS, max_size=3) | NUMBERS, ORDERS)
@settings(max_examples=80)
def test_functions_say_what_numpy_says(engine, pair, shape, order):
    check(lambda x: np.reshape(x, shape, order), *([one] for one in pair))
    check(lambda x: x.reshape(shape, order=order), *([one] for one in pair))


@given(st.data(), pairs(shapes(3, 4), dtypes()), st.sampled_from("CFAK"))
@settings(max_examples=80)
def test_orders_of_views(engine, data, pair, order):
    """Views have the strides that NumPy's would have, of arrays that are C-contiguous."""
    lazy, plain = pair
    starts = data.draw(st.tuples(*[st.integers(0, length) for length in plain.shape]))
    key = tuple(slice(start, None, data.draw(st.integers(1, 2))) for start in starts)
    lazy, plain = lazy[(*key, ...)], plain[(*key, ...)]
    axes = data.draw(st.permutations(range(plain.ndim)))
    check(lambda x: x.transpose(axes).ravel(order), [lazy], [plain])
    check(lambda x: x.transpose(axes).flatten(order), [lazy], [plain])
    if order != "K":
        check(lambda x: x.transpose(axes).reshape(-1, order=order), [lazy], [plain])


@given(st.data(), pairs(shapes(3, 4, min_side=1)))
@settings(max_examples=60)
def test_copies(engine, data, pair):
    """NumPy is asked for no copy, for one, and for either."""
    lazy, plain = pair
    axes = data.draw(st.permutations(range(plain.ndim)))
    shape = data.draw(shapes_of(plain.size))
    copy = data.draw(st.sampled_from([True, False, None]))
    check(lambda x: x.transpose(axes).reshape(shape, copy=copy), [lazy], [plain])
    copied = lazy.flatten()
    copied[...] = np.ones((), copied.dtype)
    assert same_arrays(lazy.collect(), plain)


def test_reshape_takes_a_shape_or_its_lengths():
    x = da.zeros((2, 6))
    assert x.reshape(3, 4).shape == x.reshape((3, 4)).shape == x.reshape([3, -1]).shape == (3, 4)
    with pytest.raises(TypeError):
        x.reshape()


@given(st.data(), pairs(shapes(4, 4, min_side=1)))
def test_reshapes_read_through_other_operations(engine, data, pair):
    lazy, plain = pair
    for _ in range(3):
        shape = data.draw(shapes_of(plain.size))
        blocks = data.draw(blocks_for(shape))
        lazy, plain = lazy.reshape(shape).rechunk(blocks).T, plain.reshape(shape).T
        lazy, plain = (
            lazy[..., ::-1] if lazy.ndim else lazy,
            plain[..., ::-1] if plain.ndim else plain,
        )
    assert same_arrays(lazy.collect(), np.ascontiguousarray(plain).reshape(plain.shape))
