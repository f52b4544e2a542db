"""Constants are folded when programs are made, and no value, dtype or warning is another for it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import darray as da
from darray.expr import building
from darray.expr.nodes import Elementwise, Memory
from darray.index_maps import IndexMap
from darray.lowering import constants, fusion
from darray.lowering.fusion import fuse
from darray.testing.strategies import values

UNARY = [
    *(np.negative, np.square, np.absolute, np.sqrt, np.exp, np.sin, np.sign, np.floor),
    *(np.logical_not, np.isfinite, np.spacing, np.reciprocal, np.log1p, np.cbrt),
]
BINARY = [
    *(np.add, np.subtract, np.multiply, np.divide, np.maximum, np.less, np.power, np.hypot),
    *(np.floor_divide, np.remainder, np.arctan2, np.copysign, np.logical_and, np.fmod),
    np.nextafter,
]
DTYPES = ["f8", "f4", "i4", "u1", "c16", "?"]


@st.composite
def leaves(draw, length):
    """An array, a constant or a number."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    value = np.asarray(draw(values(dtype)), dtype)
    kind = draw(st.sampled_from(["array", "0-d", "full", "ones", "zeros", "number"]))
    if kind == "array":
        generator = np.random.default_rng(draw(st.integers(0, 9)))
        array = generator.integers(0, 200, length).astype(dtype)
        return da.distribute(array, max(1, length // 2))
    made = {
        "0-d": lambda: da.asarray(value),
        "full": lambda: da.full(length, value[()], dtype),
        "ones": lambda: da.ones(length, dtype),
        "zeros": lambda: da.zeros(length, dtype),
        "number": value.item,
    }
    return made[kind]()


@st.composite
def trees(draw, length):
    """A function that combines leaves by elementwise calls, an array among them."""
    given_leaves = draw(st.lists(leaves(length), min_size=2, max_size=5))
    steps = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["unary", "binary", "binary", "where", "cast", "mask"]))
        one, other = draw(st.integers(0, 9)), draw(st.integers(0, 9))
        unary, binary = draw(st.sampled_from(UNARY)), draw(st.sampled_from(BINARY))
        steps.append((kind, one, other, unary, binary, draw(st.sampled_from(DTYPES))))

    def build():
        stack = [da.ones(length), *given_leaves]
        for kind, one, other, unary, binary, dtype in steps:
            x, y = da.asarray(stack[one % len(stack)]), stack[other % len(stack)]
            made = {
                "unary": lambda x, y, unary=unary: unary(x),
                "binary": lambda x, y, binary=binary: binary(x, y),
                "where": lambda x, y: np.where(x > 0, x, y),
                "mask": lambda x, y: np.add(x, 1, where=da.asarray(y != 0)),
                "cast": lambda x, y, dtype=dtype: x.astype(dtype),
            }
            stack.append(made[kind](x, y))
        return stack[-1]

    return build


def outcome(build):
    """The bytes and the dtype of what is computed, or the kind of error, and what is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            (found,) = da.compute(build())
        except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            return type(error)
    kinds = {(one.category, str(one.message)) for one in caught}
    return found.dtype, found.shape, found.tobytes(), kinds


@pytest.mark.parametrize("length", [7, 80_000])
@given(data=st.data())
def test_folding_changes_nothing(length, data, engine):
    build = data.draw(trees(length))
    with np.errstate(all="warn", under="ignore"):
        folded = outcome(build)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(fusion, "constant_of", lambda node: None)
            patched.setattr(fusion, "folded", lambda call: None)
            assert outcome(build) == folded


def program_of(x):
    """The functions that a program calls, its constants, and how many arrays it reads."""
    expression = x._cell.expression
    group = fuse([expression], expression.shape)
    calls = group.program.instructions
    found = [constant for call in calls for register, constant in call.operands if register is None]
    return [call.function.__name__ for call in calls], found, len(group.leaves)


def test_what_is_folded():
    x = da.distribute(np.arange(6.0), 2)
    assert program_of(x * (da.asarray(2.0) * 3)) == (["multiply"], [6.0], 1)
    assert program_of(np.sqrt(da.asarray(4.0)) * x) == (["multiply"], [2.0], 1)
    assert program_of(x + da.full(6, 3) * da.ones(6)) == (["add"], [3.0], 1)
    assert program_of(np.where(x > 1, da.zeros(6), x)) == (["greater", "where"], [1, 0.0], 1)
    assert program_of(da.asarray(1).astype("f4") + x) == (["add"], [1.0], 1)
    (kept,) = program_of(x * da.full(6, 2.5, "f4"))[1]
    assert isinstance(kept, np.float32)


def test_what_is_not_folded():
    x = da.distribute(np.arange(6.0), 2)
    # Whoever computes the array is to be told.
    assert program_of(da.asarray(1.0) / 0.0 * x)[0] == ["divide", "multiply"]
    # The array itself is what is wanted.
    assert program_of(da.full(6, 2.5))[2] == 1
    assert program_of(da.ones(6) + da.ones(6))[0] == ["add"]
    # Others may have written to it by then.
    array = np.array(2.0)
    assert program_of(da.wrap(array, da.Blocks()) * x)[2] == 2
    moments = da.distribute(np.array("2020-01-01", "M8[D]"))
    assert program_of(da.distribute(np.zeros(6, "m8[D]"), 2) + moments)[2] == 2


def test_errors_are_told_once_and_raised_where_they_are_asked_for(engine):
    x = da.distribute(np.arange(6.0), 2)
    with np.errstate(divide="warn"):
        y = da.asarray(1.0) / 0.0 + x
    with pytest.warns(RuntimeWarning, match="divide by zero") as caught:
        assert np.isinf(y.collect()).all()
    assert len(caught) == 1
    with np.errstate(divide="raise"):
        y = da.asarray(1.0) / 0.0 + x
    with pytest.raises(FloatingPointError, match="divide by zero"):
        y.collect()


def test_functions_of_users_are_given_arrays(engine):
    shapes = set()

    def twice(block):
        shapes.add(np.shape(block))
        return block * 2

    found = da.full(6, 2.5, blocks=2).map_blocks(twice).collect()
    np.testing.assert_array_equal(found, np.full(6, 5.0))
    assert shapes == {(2,)}


def test_programs_of_constants_alone_fill_their_chunks(engine):
    n = 100_000
    with np.errstate(all="ignore"):
        ones, zeros = da.ones(n, blocks=60_000), da.zeros(n, blocks=60_000)
        y = np.where(ones / zeros > 0, (ones + 1) / zeros * 2, zeros) - ones / zeros
    found = y.collect()
    assert found.shape == (n,)
    assert np.isnan(found).all()
    assert float((ones * 2 + 1).sum()) == 3 * n
    np.testing.assert_array_equal((ones + ones).collect(), np.full(n, 2.0))


def test_constants_seen_through_views():
    scalar = building.captured(np.array(3.0))
    x = building.captured(np.arange(4.0))
    wide = building.view(scalar, IndexMap.broadcast((), (4,)))
    assert isinstance(scalar, Memory)
    (product,) = building.elementwise(np.multiply, [x, wide])
    assert isinstance(product, Elementwise)
    group = fuse([product], (4,))
    assert len(group.leaves) == 1
    assert constants.folded(group.program.instructions[0]) is None
    assert len(fuse([wide], (4,)).leaves) == 1
