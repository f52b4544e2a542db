"""Arrays without axes are numbers, arrays of one axis are sequences, as in Python."""

import copy
import math
import operator
import time

import numpy as np
import pytest

import darray as da

pytestmark = pytest.mark.usefixtures("engine")

NUMBERS = [
    np.float64(5.5),
    np.float32(-2.567),
    np.int64(157),
    np.uint8(3),
    np.bool_(True),
    np.complex128(1 + 2j),
    np.float64("nan"),
    np.float16(0.5),
]


def lazy(number):
    """Return an array without axes that is computed from two chunks."""
    pair = np.array([number, number], number.dtype)
    return da.distribute(pair, da.Blocks(1)).max()


def outcome(function, value):
    """Return what a call gives, and its type where that is Python's own, or the error's type."""
    try:
        result = function(value)
    except (TypeError, ValueError, OverflowError) as error:
        return type(error)
    results = result if isinstance(result, tuple) else (result,)
    return [
        (np.asarray(one).tolist(), type(one) if type(one).__module__ == "builtins" else None)
        for one in results
    ]


FUNCTIONS = {
    "float": float,
    "int": int,
    "bool": bool,
    "complex": complex,
    "index": operator.index,
    "round": round,
    "round to 1": lambda x: round(x, 1),
    "round to -1": lambda x: round(x, -1),
    "ceil": math.ceil,
    "sqrt": math.sqrt,
    "isnan": math.isnan,
    "abs": abs,
    "divmod": lambda x: divmod(x, 2),
    "negative": lambda x: -x,
    "power": lambda x: x**2,
    "floor_divide": lambda x: x // 2,
    "subtract": lambda x: 3 - x,
    "equal": lambda x: bool(x == 3),
    "greater": lambda x: bool(x > 2),
    "if": lambda x: 1 if x else 0,
    "format": lambda x: f"{x:.3f}",
    "format d": lambda x: f"{x:5d}",
    "format nothing": lambda x: f"{x}",
    "format >": lambda x: f"{x:>12}",
    "str": str,
    "%f": lambda x: operator.mod("%.2f", x),
    "%s": lambda x: operator.mod("%s", x),
    "item": lambda x: x.item(),
    "tolist": lambda x: x.tolist(),
    "as an index": lambda x: [0, 1, 2][x % 3],
}


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.filterwarnings("ignore:Casting complex values", "ignore:overflow", "ignore:invalid")
def test_what_numbers_do(number, function):
    theirs = outcome(function, number)
    ours = outcome(function, lazy(number))
    if theirs is TypeError or ours is TypeError:
        assert theirs is ours
    else:
        assert str(ours) == str(theirs)


@pytest.mark.parametrize("function", [math.trunc, math.floor, math.ceil])
def test_integers_are_rounded_exactly(function):
    assert function(lazy(np.int64(2**62 + 1))) == 2**62 + 1
    assert function(lazy(np.float32(-2.5))) == function(-2.5)


def test_numbers_are_sorted_and_compared():
    totals = [lazy(np.float64(value)) for value in (3.0, 1.0, 2.0)]
    assert [float(one) for one in sorted(totals)] == [1.0, 2.0, 3.0]
    assert float(min(totals)) == 1.0
    names = {"a": totals[0], "b": totals[1], "c": totals[2]}
    assert sorted(names, key=names.get) == ["b", "c", "a"]
    assert isinstance(totals[0] == 3, da.DArray)
    assert totals[0] == 3
    assert bool(totals[0] != 3) is False
    with pytest.raises(TypeError, match="unhashable"):
        {totals[0]: 1}


def test_integers_index_and_count():
    two = lazy(np.int32(2))
    assert "abc"[two] == "c"
    assert list(range(two)) == [0, 1]
    assert math.factorial(two) == 2
    assert list("abcdef")[two:] == list("cdef")
    for wrong in (np.float64(2), np.bool_(True)):
        with pytest.raises(TypeError, match="integer"):
            operator.index(lazy(wrong))


def test_text_of_arrays_is_numpys():
    plain = np.linspace(-1, 1, 24).reshape(2, 3, 4)
    x = da.distribute(plain, da.Blocks(1, 2, 3))
    assert str(x * 2) == str(plain * 2)
    assert f"{x}" == f"{plain}"
    assert str(x.astype("U8")) == str(plain.astype("U8"))
    assert str(x[:, :0]) == str(plain[:, :0])


def test_only_what_is_shown_is_computed():
    places = []

    def noted(i, j):
        places.append((i.size, j.size))
        return i * 2000 + j

    x = da.from_function(noted, (2000, 2000), int, blocks=(300, 300))
    plain = np.arange(2000 * 2000).reshape(2000, 2000)
    assert str(x) == str(plain)
    assert sum(rows * columns for rows, columns in places) == 6 * 6


# Sequences


def test_iteration_gives_scalars_or_rows():
    plain = np.arange(12.0).reshape(3, 4)
    x = da.distribute(plain, da.Blocks(2, 3))
    assert all(isinstance(row, da.DArray) for row in x)
    assert [row.tolist() for row in x] == plain.tolist()
    elements = list(x[1] * 2)
    assert elements == list(plain[1] * 2)
    assert {type(one) for one in elements} == {np.float64}
    a, b, c = x[:, 0]
    assert (a, b, c) == (0.0, 4.0, 8.0)
    (first, *_), *_ = x
    assert first == 0.0
    assert list(reversed(x[0])) == [3.0, 2.0, 1.0, 0.0]
    assert list(da.arange(0)) == []
    assert 2.0 in x
    assert np.iterable(x)
    assert not np.iterable(x.sum())


def test_iteration_computes_block_by_block():
    calls = []

    def count(block):
        calls.append(block.size)
        return block

    x = da.arange(300_000, blocks=1000).map_blocks(count)
    elements = iter(x)
    assert calls == []
    assert next(elements) == 0
    assert sum(calls) <= 2**16
    assert sum(elements) == sum(range(1, 300_000))
    assert sum(calls) == 300_000


@pytest.mark.alone
def test_iteration_is_quick():
    x = da.arange(10_000, blocks=100) + 1
    took = []
    for _ in range(3):
        began = time.process_time()
        assert list(x) == list(range(1, 10_001))
        took.append(time.process_time() - began)
    # One at a time they would take half a second and more. The collector may come once.
    assert min(took) < 0.25


def test_loops_see_what_they_write():
    plain = np.arange(40)
    x = da.distribute(plain, 7)

    def program(array):
        seen = []
        for place, value in enumerate(array):
            seen.append(int(value))
            if place % 5 == 2:
                array[place + 1 :] += place
            if place == 20:
                array[::2] = 0
        return seen

    assert program(x) == program(plain)
    np.testing.assert_array_equal(x, plain)


def test_copies_hold_objects_of_their_own():
    x = da.distribute(np.array([[1], [2], None], object)[:2], 1)
    deep = copy.deepcopy(x)
    assert deep.tolist() == x.tolist()
    assert deep.item(0) is not x.item(0)
    assert copy.copy(x).item(0) is x.item(0)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (4,), (3, 4), (0,), (2, 0)])
@pytest.mark.parametrize(
    "index",
    [
        *((), (0,), (-1,), (3,), (12,), (-13,), (0, 0), (2, 3), (-1, -1), (0, 4), (0, 0, 0)),
        *(((),), ((0,),), ((1, 2),), ("a",), (1.5,), (None,), (slice(1),), (np.int8(1),), ([0],)),
    ],
)
def test_items(shape, index):
    plain = np.arange(math.prod(shape)).reshape(shape)
    x = da.distribute(plain, 1)
    try:
        expected = plain.item(*index)
    except (TypeError, ValueError, IndexError) as error:
        with pytest.raises(type(error)):
            x.item(*index)
    else:
        assert (x + 0).item(*index) == expected
        assert type(x.item(*index)) is type(expected)


@pytest.mark.parametrize("order", ["C", "F", "A", "K", None])
def test_bytes(order):
    plain = np.arange(12.0).reshape(3, 4)
    assert da.distribute(plain, 2).tobytes(order) == plain.tobytes(order)
    assert bytes(da.arange(3, blocks=2)) == bytes(np.arange(3))
