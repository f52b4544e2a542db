"""Mistakes: raised at the call that makes them, as NumPy raises them, and said in words."""

import numpy as np
import pytest

import darray as da

EARLY = {
    "shapes": (lambda x: x + np.ones(5), ValueError, "broadcast"),
    "index": (lambda x: x[3], IndexError, "out of bounds"),
    "too many indices": (lambda x: x[0, 0, 0], IndexError, "too many"),
    "float index": (lambda x: x[1.0], IndexError, "only integers"),
    "text index": (lambda x: x["a"], IndexError, "only integers"),
    "zero step": (lambda x: x[::0], ValueError, "zero"),
    "axis": (lambda x: np.swapaxes(x, 0, 2), np.exceptions.AxisError, "out of bounds"),
    "casting": (lambda x: x.astype("i4", casting="safe"), TypeError, "Cannot cast"),
    "loop": (lambda x: np.bitwise_and(x, x), TypeError, "not supported"),
    "no loop": (lambda x: x + np.datetime64("2020-01-01"), TypeError, "add"),
    "overflow": (lambda x: x.astype("u1") + 300, OverflowError, "out of bounds"),
    "negative size": (lambda x: da.zeros((2, -1)), ValueError, "negative"),
    "dtype": (lambda x: da.zeros(2, "nonsense"), TypeError, "nonsense"),
    "transpose": (lambda x: x.transpose(0), ValueError, "axes"),
    "transpose of nothing": (lambda x: x.transpose(()), ValueError, "axes"),
    "squeeze": (lambda x: x.squeeze(0), ValueError, "not equal to one"),
    "concatenate": (lambda x: np.concatenate([x, x[:, :1]]), ValueError, "must match"),
    "concatenate nothing": (lambda x: np.concatenate([]), ValueError, "at least one"),
    "stack": (lambda x: np.stack([x, x.T]), ValueError, "same shape"),
    "keyword": (lambda x: np.add(x, 1, nonsense=2), TypeError, "nonsense"),
    "length": (lambda x: len(x.sum()), TypeError, "unsized"),
    "iteration": (lambda x: iter(x.sum()), TypeError, "0-d"),
    "truth": (bool, ValueError, "ambiguous"),
    "float": (float, TypeError, "0-dim"),
    "hash": (hash, TypeError, "unhashable"),
    "item": (lambda x: x.item(), ValueError, "size 1"),
    "format": (lambda x: format(x, ".2f"), TypeError, "format"),
    "where dtype": (lambda x: np.add(x, 1, where=da.ones((3, 4), int)), TypeError, "bool"),
    "blocks": (lambda x: da.distribute(x, da.Blocks(2)), ValueError, "Blocks"),
    "block index": (lambda x: x.blocks[5, 0], IndexError, "out of bounds"),
    "block slice": (lambda x: x.blocks[:, 0], TypeError, "one integer"),
    "map_blocks": (lambda x: x.map_blocks(np.add, x[0]), ValueError, "one shape"),
    "no copy": (lambda x: np.array(x, copy=False), ValueError, "copy"),
    "class": (lambda x: da.DArray(), TypeError, "distribute"),
    "cast to an array": (lambda x: np.can_cast(x, x), TypeError, "dtype from an array"),
    "order": (lambda x: x.astype(int, "Z"), ValueError, "order must be"),
    "given mean": (lambda x: np.var(x, mean=np.ones(3)), ValueError, "broadcast"),
    "round": (round, TypeError, r"np\.round"),
    "memory": (memoryview, TypeError, "bytes-like"),
    "no attribute": (lambda x: x.nonsense, AttributeError, "nonsense"),
    "dlpack without a copy": (lambda x: np.from_dlpack(x, copy=False), BufferError, "copy"),
    "capture without a copy": (
        lambda x: da.from_dlpack(np.ones(2), copy=False),
        BufferError,
        r"da\.wrap",
    ),
    "dlpack of dates": (
        lambda x: np.from_dlpack(x.astype("M8[s]").map_blocks(lambda block: 1 / 0)),
        BufferError,
        "DLPack",
    ),
    "dlpack elsewhere": (lambda x: x.__dlpack__(dl_device=(2, 0)), BufferError, "device"),
    "dlpack stream": (lambda x: x.__dlpack__(stream=1), RuntimeError, "stream"),
    "no copy of a list": (lambda x: da.asarray([1], copy=False), ValueError, r"da\.wrap"),
    "device": (lambda x: da.asarray(x, device="gpu"), ValueError, "cpu"),
}


@pytest.mark.parametrize("name", EARLY)
@pytest.mark.filterwarnings("ignore:'where' used without 'out'")
def test_raised_at_the_call(name):
    call, error, words = EARLY[name]
    x = da.distribute(np.arange(12.0).reshape(3, 4), da.Blocks(2, 3))
    with pytest.raises(error, match=words):
        call(x)


NOT_THERE = {
    "reduceat": (lambda x: np.add.reduceat(x, [0, 1]), r"np\.asarray"),
    "function": (lambda x: np.sort(x), r"np\.sort\(np\.asarray"),
    "order": (lambda x: np.subtract.reduce(x), "reorderable"),
    "memory": (lambda x: x.flat, r"x\.ravel"),
    "masked": (lambda x: x + np.ma.masked_array([1, 2, 3, 4]), "mask"),
}


@pytest.mark.parametrize("name", NOT_THERE)
def test_what_is_not_there_says_what_to_use(name):
    call, words = NOT_THERE[name]
    x = da.distribute(np.arange(12.0).reshape(3, 4), da.Blocks(2, 3))
    with pytest.raises(NotImplementedError, match=words):
        call(x)


@pytest.mark.parametrize("code", ["x += 1", "x -= x", "x *= 2", "x **= 2", "x[0] = 1"])
def test_the_same_array_after_an_operator_in_place(code):
    names = {"x": da.ones(3)}
    before = names["x"]
    exec(code, names)
    assert names["x"] is before


class Foreign:
    """An array of another library, which knows how to answer."""

    __array_ufunc__ = None

    def __radd__(self, other):
        return "answered"

    def __eq__(self, other):
        return "compared"

    __hash__ = None


class Wrapping:
    """An array of another library that takes part in NumPy's protocols."""

    def __array_ufunc__(self, *arguments, **keywords):
        return "answered"

    def __array_function__(self, *arguments):
        return "answered"


def test_other_libraries_get_their_turn():
    x = da.ones(3)
    assert x + Foreign() == "answered"
    assert (x == Foreign()) == "compared"
    assert np.add(x, Wrapping()) == "answered"
    assert np.concatenate([x, Wrapping()]) == "answered"
