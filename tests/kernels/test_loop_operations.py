"""Operations of compiled loops give NumPy's bits and NumPy's floating-point errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from darray.kernels.cpu import cast
from darray.kernels.loop_compiler import ufunc_of
from darray.kernels.loop_operations import KINDS, convertible
from darray.kernels.loop_source import BLOCK, Loop, Step

FLOATS = [np.dtype(c) for c in "fd"]
INTEGERS = [np.dtype(c) for c in "bBhHiIlL"]
DTYPES = [np.dtype(bool), *INTEGERS, *FLOATS]

# Lengths with and without what is left over when vectors are full.
LENGTHS = (1, 19)


def special_values(dtype):
    """Values at which operations differ, if they do; one NaN of either sign, one with a payload."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        some = [ends.min, ends.min + 1, ends.max, ends.max - 1, ends.max // 2 + 1, 0, 1, 2, 7, 100]
        if dtype.kind == "i":
            some += [-1, -2, -7]
        return np.array(some, dtype)
    ends = np.finfo(dtype)
    some = [0, 0.3, 0.5, 1, 1.5, 2, 2.5, 1e5, 16777217, 2**31, 2**63, ends.max, ends.tiny, np.inf]
    some += [ends.smallest_subnormal, ends.tiny / 3, ends.max / 2, 3 * ends.eps, np.nan]
    unsigned = f"u{dtype.itemsize}"
    quiet = np.array(np.nan, dtype).view(unsigned) + np.array(0x12345, unsigned)
    values = np.array(some, dtype)
    return np.concatenate([values, -values, quiet.reshape(1).view(dtype)])


def as_bits(array):
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "f" else array


def loop_of(function, dtypes, result):
    step = Step(function, tuple(range(len(dtypes))), tuple(dtypes), result)
    return ufunc_of(Loop(tuple(dtypes), frozenset(), (step,)))


def flags_of(call):
    found = []
    with np.errstate(all="call", call=lambda what, _: found.append(what)):
        call()
    return set(found)


def known_operations():
    return [
        pytest.param(ufunc, dtype, id=f"{ufunc.__name__}-{dtype}")
        for ufunc, kinds in KINDS.items()
        for dtype in DTYPES
        if dtype.kind in kinds
    ]


def some_operands(ufunc, dtype):
    """Every special value with every other, in an order that puts no value in one lane only."""
    values = special_values(dtype)
    pairs = list(itertools.product(values, repeat=ufunc.nin))
    order = np.random.default_rng(1).permutation(len(pairs) * 3)
    columns = [np.array([pairs[i % len(pairs)][k] for i in order]) for k in range(ufunc.nin)]
    return [column.astype(dtype) for column in columns]


@pytest.mark.parametrize(("ufunc", "dtype"), known_operations())
def test_bits_are_numpys(ufunc, dtype):
    operands = some_operands(ufunc, dtype)
    with np.errstate(all="ignore"):
        theirs = ufunc(*operands)
        compiled = loop_of(ufunc, [dtype] * ufunc.nin, theirs.dtype)
        ours = compiled(*operands)
        assert ours.dtype == theirs.dtype
        strange = np.zeros(theirs.shape, bool)
        if dtype.kind == "f" and ufunc in (np.add, np.subtract, np.multiply, np.divide):
            # NumPy itself gives the one in some lanes and the other in others.
            strange = np.isnan(operands[0]) & np.isnan(operands[1])
            assert np.isnan(ours[strange]).all()
        np.testing.assert_array_equal(as_bits(ours)[~strange], as_bits(theirs)[~strange])
        # Elements apart from one another, a single value beside an array, a result on an operand.
        apart = [np.repeat(one, 2)[::2] for one in operands]
        np.testing.assert_array_equal(as_bits(compiled(*apart)), as_bits(ours))
        if ufunc.nin == 2:
            broadcast = compiled(operands[0], operands[1][5])
            with_array = compiled(operands[0], np.full_like(operands[0], operands[1][5]))
            np.testing.assert_array_equal(as_bits(broadcast), as_bits(with_array))
        if ours.dtype == dtype:
            compiled(*operands, out=operands[0])
            np.testing.assert_array_equal(as_bits(operands[0]), as_bits(ours))


@pytest.mark.parametrize(
    ("ufunc", "dtype"),
    [one for one in known_operations() if one.values[1].kind == "f"],
)
def test_no_error_is_lost_and_none_invented(ufunc, dtype):
    compiled = loop_of(ufunc, [dtype] * ufunc.nin, ufunc(*[np.ones(1, dtype)] * ufunc.nin).dtype)
    for pair in itertools.product(special_values(dtype), repeat=ufunc.nin):
        for length in LENGTHS:
            operands = [np.full(length, one, dtype) for one in pair]
            theirs = flags_of(lambda o=operands: ufunc(*o))
            assert flags_of(lambda o=operands: compiled(*o)) == theirs, pair


@pytest.mark.parametrize("given", DTYPES, ids=str)
def test_casts_are_numpys(given):
    values = np.tile(special_values(given), 5)
    if given.itemsize == 8:
        random = np.random.default_rng(2)
        bits = random.integers(0, 2**64, 20_000, np.uint64, endpoint=False)
        more = bits.view(given) if given.kind == "f" else bits.astype(given)
        shifted = (bits >> random.integers(0, 64, bits.size, np.uint64)).astype(given)
        values = np.concatenate([values, more, shifted])
    for wanted in DTYPES:
        if not convertible(given, wanted):
            assert given.kind == "f"
            assert wanted.kind in "iu"
            continue
        step = Step(cast, (0,), (wanted,), wanted)
        compiled = ufunc_of(Loop((given,), frozenset(), (step,)))
        with np.errstate(all="ignore"):
            ours, theirs = compiled(values), values.astype(wanted)
        np.testing.assert_array_equal(as_bits(ours), as_bits(theirs))
        for value in special_values(given):
            for length in LENGTHS:
                operand = np.full(length, value, given)
                theirs = flags_of(lambda o=operand, w=wanted: o.astype(w))
                assert flags_of(lambda o=operand, c=compiled: c(o)) == theirs, (value, wanted)


def chain(dtype, *calls):
    """The loop of several calls: (function, operands, dtype of its operands, of its result)."""
    steps = [Step(f, o, (of,) * len(o), result) for f, o, of, result in calls]
    return Loop((dtype, dtype), frozenset(), tuple(steps))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "calls",
    [
        [(np.negative, (0,)), (np.add, (~0, 1))],
        [(np.negative, (1,)), (np.add, (0, ~0))],
        [(np.negative, (0,)), (np.subtract, (1, ~0))],
        [(np.negative, (0,)), (np.negative, (1,)), (np.multiply, (~0, ~1))],
        [(np.negative, (0,)), (np.negative, (1,)), (np.divide, (~0, ~1))],
        [(np.negative, (0,)), (np.multiply, (~0, 1))],
        [(np.absolute, (0,)), (np.multiply, (~0, ~0))],
        [(np.absolute, (0,)), (np.square, (~0,))],
        [(np.subtract, (0, 1)), (np.negative, (~0,))],
        [(np.copysign, (0, 1)), (np.multiply, (~0, ~0))],
        [(np.negative, (0,)), (np.sqrt, (~0,)), (np.absolute, (~1,))],
        [(np.subtract, (0, 0)), (np.multiply, (~0, 1))],
        [(np.divide, (0, 0)), (np.add, (~0, 1))],
        [(np.reciprocal, (0,)), (np.reciprocal, (~0,)), (np.multiply, (~1, 1))],
        [(np.add, (0, 1)), (np.subtract, (~0, 1)), (np.subtract, (~1, 0))],
        [(np.multiply, (0, 0)), (np.sqrt, (~0,))],
        [(np.multiply, (0, 0)), (np.add, (~0, 1))],
    ],
)
def test_nothing_is_calculated_otherwise_than_written(dtype, calls):
    """Also not where it would be the same but for the sign of NaN, or for an error."""
    values = special_values(dtype)
    pairs = [p for p in itertools.product(values, repeat=2) if not np.isnan(p).all()]
    a, b = (np.array(column, dtype) for column in zip(*pairs, strict=True))
    compiled = ufunc_of(chain(dtype, *[(f, o, dtype, dtype) for f, o in calls]))

    def by_numpy(a, b):
        made = []
        for function, operands in calls:
            made.append(function(*[made[~k] if k < 0 else (a, b)[k] for k in operands]))
        return made[-1]

    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(as_bits(compiled(a, b)), as_bits(by_numpy(a, b)))
    for one, other in pairs:
        operands = np.full(5, one, dtype), np.full(5, other, dtype)
        theirs = flags_of(lambda o=operands: by_numpy(*o))
        assert flags_of(lambda o=operands: compiled(*o)) == theirs, (one, other)


DISCARDING = {
    "where": [(np.where, (0, 1, ~0))],
    "less": [(np.less, (~0, 1))],
    "maximum": [(np.maximum, (~0, 1))],
    "isnan": [(np.isnan, (~0,))],
    "signbit": [(np.signbit, (~0,))],
    "sign": [(np.sign, (~0,))],
    "logical_or": [(np.logical_or, (~0, 1))],
    "copysign": [(np.copysign, (1, ~0))],
}


@pytest.mark.parametrize(
    ("discarding", "dtype"),
    [*[(one, np.dtype("d")) for one in DISCARDING], ("where", np.dtype("f"))],
)
@pytest.mark.parametrize("raising", [np.add, np.multiply, np.divide, np.sqrt], ids=str)
def test_errors_of_what_is_not_chosen_are_found(raising, discarding, dtype):
    """What raises is computed from inputs 0 and 1; then hardly a bit of it is read, or none."""
    boolean = np.dtype(bool)
    operands = (0, 1)[: raising.nin]
    if discarding == "where":
        # Where input 0 is input 0, which is to say never for NaN, input 1 is taken.
        steps = (
            Step(raising, operands, (dtype,) * len(operands), dtype),
            Step(np.equal, (0, 0), (dtype,) * 2, boolean),
            Step(np.where, (~1, 1, ~0), (boolean, dtype, dtype), dtype),
        )
    else:
        ((function, found),) = DISCARDING[discarding]
        result = function(*[np.ones(1, dtype)] * function.nin).dtype
        steps = (
            Step(raising, operands, (dtype,) * len(operands), dtype),
            Step(function, found, (dtype,) * len(found), result),
        )
    compiled = ufunc_of(Loop((dtype, dtype), frozenset(), steps))
    # LLVM may compare otherwise than written, and so invent errors, which are looked for in vain.
    for pair in itertools.product(special_values(dtype)[::2], repeat=2):
        values = [np.full(5, one, dtype) for one in pair]
        theirs = flags_of(lambda v=values: raising(*v[: raising.nin]))
        assert flags_of(lambda v=values: compiled(*v)) >= theirs, pair
    # One element among many, wherever it is.
    for place in (0, 7, BLOCK - 1, BLOCK, BLOCK + 2):
        many = [np.ones(BLOCK + 3, dtype), np.ones(BLOCK + 3, dtype)]
        many[0][place] = np.finfo(dtype).max
        many[1][place] = np.finfo(dtype).max
        theirs = flags_of(lambda m=many: raising(*m[: raising.nin]))
        assert flags_of(lambda m=many: compiled(*m)) >= theirs, place


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 3])
def test_every_length_and_every_stride(length):
    double = np.dtype(float)
    steps = (
        Step(np.multiply, (0, 1), (double, double), double),
        Step(np.add, (~0, 2), (double, double), double),
    )
    compiled = ufunc_of(Loop((double,) * 3, frozenset({2}), steps))
    constant = np.array(0.1)
    x, y = np.random.default_rng(3).random((2, 3 * length + 3))
    for one in (x[:length], x[: 2 * length : 2], x[length - 1 :: -1][:length], x[3:4]):
        for other in (y[:length], y[: 3 * length : 3], y[3:4]):
            if one.shape != other.shape and 1 not in (one.size, other.size):
                continue
            expected = one * other + 0.1
            np.testing.assert_array_equal(compiled(one, other, constant), expected)
            into = np.full((2, *expected.shape), -7.0)
            compiled(one, other, constant, out=into[1])
            np.testing.assert_array_equal(into[1], expected)
            assert (into[0] == -7).all()
            strided = np.full((*expected.shape, 2), -7.0)
            compiled(one, other, constant, out=strided[:, 1])
            np.testing.assert_array_equal(strided[:, 1], expected)
            assert (strided[:, 0] == -7).all()
    matrix = np.random.default_rng(4).random((7, length + 1))
    for row in (matrix[0], matrix[:, :1], matrix.T[:1].T):
        np.testing.assert_array_equal(compiled(matrix, row, constant), matrix * row + 0.1)


def test_bools_of_other_bytes_are_true():
    boolean = np.dtype(bool)
    compiled = loop_of(np.logical_and, [boolean, boolean], boolean)
    given = np.array([0, 1, 2, 128, 255], np.uint8).view(bool)
    ours = compiled(given, np.ones(5, bool))
    assert ours.view(np.uint8).tolist() == [0, 1, 1, 1, 1]
