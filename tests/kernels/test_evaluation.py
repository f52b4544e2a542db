"""Programs in tiles give the bits, and the warnings, of whole calls by NumPy."""

import warnings
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray.kernels import cpu, evaluation
from darray.kernels.reducing import Reducer, partial_results
from darray.kernels.reduction_table import REDUCTIONS, reduction_of
from darray.kernels.tiling import select, tiling_of
from darray.kernels.warnings_ledger import Ledger
from darray.lowering.fusion import fuse
from darray.runtime.boxes import whole

WARN = ("warn", "warn", "ignore", "warn", None)
DTYPES = ["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16", "M8[s]"]
SPECIAL = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, 1.7e308, 1.0, -2.5]


def program_of(*arrays):
    """The program of the expressions `arrays`, what it reads, and their shape."""
    shape = np.broadcast_shapes(*[one.shape for one in arrays])
    group = fuse([one.expression for one in arrays], shape)
    inputs = []
    for leaf in group.leaves:
        box = leaf.index_map.source_box(whole(shape))
        inputs.append(leaf.index_map.arrange(leaf.expression.array[box], box))
    return group.program, inputs, shape


def noted(function, *arguments):
    """What a call gives, and the warnings that its ledger, the last argument, issues."""
    ledger = Ledger()
    result = function(*arguments, ledger)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ledger.issue()
    return result, [str(one.message) for one in caught]


def in_tiles(program, inputs, shape, ledger):
    return evaluation.evaluate(program, inputs, shape, ledger, np.empty)


def arrays_of(generator, shape, forms):
    """Arrays that broadcast to `shape`, laid out in memory in several ways."""
    found = []
    for form in forms:
        sides = list(shape)
        if form == "row":
            sides = [1] * (len(shape) - 1) + [shape[-1]]
        elif form == "column":
            sides = [shape[0]] + [1] * (len(shape) - 1)
        elif form == "scalar":
            sides = []
        values = generator.normal(size=[2 * n for n in sides] if form == "strided" else sides)
        values = np.asarray(values)
        if values.size:
            places = generator.integers(0, max(values.size, 1), 8)
            values.reshape(-1)[places] = generator.choice(SPECIAL, 8)
        if form == "strided":
            values = values[tuple([slice(None, None, 2)] * values.ndim)]
        elif form == "fortran":
            values = np.asfortranarray(values)
        elif form == "reversed":
            values = values[::-1]
        found.append(da.wrap(values, values.shape))
    return found


FORMS = st.sampled_from(["full", "row", "column", "scalar", "strided", "fortran", "reversed"])


@st.composite
def expressions(draw, leaves):
    """An expression over `leaves`, of arithmetic, comparisons, choices and casts."""
    values = list(leaves)
    for _ in range(draw(st.integers(1, 8))):
        x, y = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        number = draw(st.sampled_from([2, -1.5, np.float32(0.5), np.int8(3)]))
        kind = draw(st.integers(0, 7))
        if kind == 0:
            made = draw(st.sampled_from([np.add, np.multiply, np.subtract, np.divide]))(x, y)
        elif kind == 1:
            made = np.sqrt(x) if draw(st.booleans()) else np.log(abs(x))
        elif kind == 2:
            made = x * number
        elif kind == 3:
            made = np.where(x > y, x, y)
        elif kind == 4:
            made = np.where(x < number, number, y)
        elif kind == 5:
            made = x.astype(draw(st.sampled_from(["f4", "f8", "c16"])))
        elif kind == 6:
            with np.errstate(all=draw(st.sampled_from(["ignore", "warn"]))):
                made = x / y
        else:
            made = (x > number) & (y == y)
        if made.dtype.kind == "c":
            made = made.real
        values.append(made.astype("f8") if made.dtype == bool else made)
    return values[-1]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_tiles_are_as_whole_calls(data):
    shape = data.draw(
        st.sampled_from([(40_000,), (200, 300), (3, 20_000), (50_000, 1), (7, 90, 80), (1, 70_000)])
    )
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    forms = ["full", *data.draw(st.lists(FORMS, min_size=1, max_size=3))]
    with np.errstate(all="warn"):
        made = data.draw(expressions(arrays_of(generator, shape, forms)))
    program, inputs, _ = program_of(made)
    shape = np.broadcast_shapes(made.shape, shape)
    (whole_result,), expected = noted(cpu.run, program, inputs)
    # Of the larger ones one holds all that lies in line.
    with mock.patch.object(evaluation, "LARGE_TILE", data.draw(st.sampled_from([1, 1 << 20]))):
        (tiled,), found = noted(in_tiles, program, inputs, shape)
    assert tiled.shape == shape
    assert tiled.dtype == whole_result.dtype
    assert np.ascontiguousarray(tiled).tobytes() == np.broadcast_to(whole_result, shape).tobytes()
    assert sorted(found) == sorted(expected)


def test_most_programs_run_in_tiles():
    x = da.wrap(np.ones(70_000), 70_000)
    for made in (np.sqrt(x * x + 1), np.where(x > 1, x, 2), x.astype("i4") + 1, (x > 0) & (x < 2)):
        assert tiling_of(program_of(made)[0]) is not None
    for made in (
        np.divmod(x, 2)[1],
        np.add(x, 1, dtype="f4"),
        x.astype("f2").astype("O"),
    ):
        assert tiling_of(program_of(made)[0]) is None


def test_errors_are_raised_in_tiles():
    with np.errstate(all="raise"):
        made = 1 / da.wrap(np.zeros(70_000), 70_000)
    program, inputs, shape = program_of(made)
    with pytest.raises(FloatingPointError, match="divide by zero encountered in divide"):
        in_tiles(program, inputs, shape, Ledger())


def test_buffers_are_used_again_and_do_not_grow():
    x = da.wrap(np.ones(2**20), 2**20)
    made = x
    for _ in range(100):
        made = made + x
    program, _, _ = program_of(made)
    tiling = tiling_of(program)
    assert tiling.slot_itemsizes == (8,)
    two = tiling_of(program_of((x + 1) * (x - 1))[0])
    assert two.slot_itemsizes == (8, 8)


def test_a_value_that_is_the_same_in_all_tiles_is_computed_once():
    calls = []

    def counted(x):
        calls.append(x)
        return x + 1

    rows = da.wrap(np.arange(300.0), 300)
    grid = da.wrap(np.ones((400, 300)), (400, 300))
    program, inputs, shape = program_of(np.exp(rows) + grid)
    tiling = tiling_of(program)
    (errors, (first, second)), *_ = tiling.groups
    step = type(first)(
        lambda x, out: np.copyto(out, counted(x)),
        first.operands,
        first.place,
        first.slot,
        first.dtype,
        first.origin,
    )
    changed = type(tiling)(
        tiling.constants,
        ((errors, (step, second)),),
        tiling.slot_itemsizes,
        tiling.results,
        tiling.first_input,
    )
    with evaluation.evaluation(changed, inputs, shape, (100, 300), Ledger()) as tiles:
        for start in range(0, 400, 100):
            tiles.at((slice(start, start + 100, 1), slice(0, 300, 1)))
    assert len(calls) == 1


def test_an_evaluation_within_another_has_buffers_of_its_own():
    x = np.arange(100.0)
    program = program_of(da.wrap(x, 100) + 1)[0]
    tiling = tiling_of(program)
    box = (slice(0, 100, 1),)
    with evaluation.evaluation(tiling, [x], (100,), (100,), Ledger()) as outer:
        (first,) = outer.at(box)
        with evaluation.evaluation(tiling, [x * 2], (100,), (100,), Ledger()) as inner:
            inner.at(box)
        np.testing.assert_array_equal(first, x + 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_select_is_where(dtype):
    generator = np.random.default_rng(0)
    raw = generator.integers(0, 256, (2, 64 * np.dtype(dtype).itemsize), np.uint8)
    x, y = (raw & 1).view(dtype) if dtype == "?" else raw.view(dtype)
    condition = generator.random(64) < 0.5
    for mask in (condition, condition.astype(float), np.array(True)):
        for one, other in ((x, y), (x[0], y), (x, y[:1]), (x[1], y[2])):
            out = np.empty(64, dtype)
            select(mask, one, other, out)
            expected = np.broadcast_to(np.where(mask, one, other), 64)
            assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("function", sorted(REDUCTIONS, key=lambda one: one.__name__))
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 2), 2])
def test_reductions_in_tiles(function, axis):
    generator = np.random.default_rng(1)
    values = generator.integers(-50, 50, (23, 40, 170)) / 4
    if function in (np.argmin, np.argmax, np.nanargmin, np.nanargmax) and isinstance(axis, tuple):
        axis = 1
    if function in (np.prod, np.nanprod):
        values = np.where(values > 0, 0.0, -1.0)
    x = da.wrap(values, values.shape)
    axes = da.DArray.of(x.expression).ndim if axis is None else axis
    axes = tuple(range(axes)) if axis is None else (axis if isinstance(axis, tuple) else (axis,))
    program, inputs, shape = program_of(x * 2 + 1)
    reducer = Reducer(reduction_of(function), axes, WARN, 0)
    found = partial_results(program, inputs, [reducer], whole(shape), shape, Ledger())
    result = reducer.finish(found[0], Ledger())
    expected = function(values * 2 + 1, axis=axis)
    np.testing.assert_allclose(result.reshape(np.shape(expected)), expected, rtol=1e-13)
    # Which tiles there are depends on the shape alone, so that the bits are always these.
    again = partial_results(program, inputs, [reducer], whole(shape), shape, Ledger())
    assert reducer.finish(again[0], Ledger()).tobytes() == result.tobytes()


def test_partial_results_take_no_more_than_they_must():
    x = da.wrap(np.ones((4, 300_000)), (4, 300_000))
    program, inputs, shape = program_of(x + 1)
    reducer = Reducer(reduction_of(np.std), (0,), WARN, 0)
    ((count, *figures),) = partial_results(
        program, inputs, [reducer], whole(shape), shape, Ledger()
    )
    assert count.shape == (1, 1)
    assert all(one.shape in ((1, 300_000), (1, 1)) for one in figures)


def test_masks_are_computed_with_what_they_mask():
    values = np.random.default_rng(2).random((300, 400))
    x = da.distribute(values, (150, 400))
    total = (x * 2).sum(axis=0, where=x > 0.5)
    np.testing.assert_allclose(total.collect(), (values * 2).sum(axis=0, where=values > 0.5))


@pytest.mark.parametrize("dtype", ["f8", "f4", "?"])
@pytest.mark.parametrize("large_tile", [1 << 10, 1 << 20])
def test_what_lies_over_an_input_is_written_when_that_was_read(dtype, large_tile, monkeypatch):
    monkeypatch.setattr(evaluation, "TILE", 1 << 6)
    monkeypatch.setattr(evaluation, "LARGE_TILE", large_tile)
    plain = [np.random.default_rng(n).integers(0, 2, 5000).astype(dtype) for n in range(3)]
    x, y, z = map(da.distribute, plain)
    program, inputs, shape = program_of((x * y + z) * x, x * y)
    expected = [(plain[0] * plain[1] + plain[2]) * plain[0], plain[0] * plain[1]]
    fresh = evaluation.evaluate(program, inputs, shape, Ledger(), np.empty)
    # One that is an input is given for the first result, as where its memory is used again.
    taken = [inputs[0].copy(), np.empty(5000, dtype)]
    inputs = [taken[0], *inputs[1:]]
    given = iter(taken)
    reused = evaluation.evaluate(program, inputs, shape, Ledger(), lambda *_: next(given))
    for found in (fresh, reused):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
