"""The handle: capture by value, NumPy's protocols, blocks, kept results, how it looks."""

import copy
import operator

import numpy as np
import pytest

import darray as da
from darray.runtime.devices.host_buffers import is_own
from tests.arrays.agreement import same_arrays

PLAIN = np.arange(12.0).reshape(3, 4)


@pytest.fixture
def x(threads):
    return da.distribute(PLAIN, da.Blocks(2, 3))


def counted(function=np.positive):
    """Return a function of blocks and the list of the shapes that it was called with."""
    calls = []

    def count(block):
        calls.append(block.shape)
        return function(block)

    return count, calls


# Capture by value


@pytest.mark.usefixtures("threads")
def test_what_is_distributed_is_captured_by_value():
    a = PLAIN.copy()
    x = da.distribute(a, da.Blocks(2, 3))
    view = da.distribute(a[::2, ::-1], da.Blocks(1, 3))
    a[:] = -1
    assert a.flags.writeable
    assert same_arrays(x.collect(), PLAIN)
    assert same_arrays(view.collect(), PLAIN[::2, ::-1])


def test_operands_are_captured_by_value(x):
    a, mask, scalar = np.ones(4), np.ones((3, 4), bool), np.array(2.0)
    built = [
        x + a,
        a - x,
        np.where(mask, x, a),
        np.concatenate([x, a[None]]),
        x * scalar,
        x.sum(where=mask),
        np.clip(x, a, None),
        x.map_blocks(np.add, np.broadcast_to(a, (3, 4)).copy()),
    ]
    before = [one.copy().collect() for one in built]
    a[:], mask[:], scalar[...] = 7, False, 9
    for one, value in zip(built, before, strict=True):
        assert same_arrays(one.collect(), value)
    assert a.flags.writeable
    assert scalar.flags.writeable


@pytest.mark.usefixtures("threads")
def test_read_only_owners_are_shared():
    a = np.arange(6)
    a.flags.writeable = False
    assert np.shares_memory(da.distribute(a).expression.array, a)
    text = np.frombuffer(b"abcdef", np.uint8)
    assert np.shares_memory(da.distribute(text).expression.array, text)
    writable = np.arange(6)
    view = writable[:]
    view.flags.writeable = False
    assert not np.shares_memory(da.distribute(view).expression.array, writable)


@pytest.mark.usefixtures("threads")
def test_wrap_shares():
    a = np.arange(6)
    x = da.wrap(a, da.Blocks(2))
    assert np.shares_memory(x.expression.array, a)
    assert a.flags.writeable
    with pytest.raises(TypeError, match="distribute"):
        da.wrap([1, 2])


def test_collected_arrays_are_fresh_and_writable(x):
    one = da.distribute(PLAIN)
    kept = (x + 1).persist()
    total = x.sum(axis=0)
    for lazy in (x, one, kept, total, x.T, one.T, one[1], np.real(one), one.astype(float), x[0, 0]):
        expected = lazy.collect().copy()
        first = lazy.collect()
        assert first.flags.writeable
        assert is_own(first)
        assert first.flags.c_contiguous
        first[...] = -5
        assert same_arrays(lazy.collect(), expected)


def test_functions_of_blocks_cannot_write_to_what_others_see(x):
    for array in (x, da.distribute(PLAIN), da.distribute(PLAIN) + 1):
        first = array.map_blocks(np.positive)
        first.collect()

        def spoil(block):
            block[...] = 0
            return block

        for source in (array, first, first[::-1], array.T):
            with pytest.raises(ValueError, match="read-only"):
                source.map_blocks(spoil).collect()
        assert same_arrays(first.collect(), array.collect())


# One function, two names


@pytest.mark.parametrize(
    "name", ["sqrt", "add", "sum", "where", "concatenate", "broadcast_to", "clip", "zeros_like"]
)
def test_functions_are_numpys(name):
    assert getattr(da, name) is getattr(np, name)


@pytest.mark.parametrize("left", [np.float64(2), np.int8(3), np.arange(4), 2, 1.5, [1, 2, 3, 4]])
@pytest.mark.parametrize("function", [operator.add, operator.sub, operator.pow, operator.lt])
def test_whatever_is_on_the_left_darrays_answer(x, left, function):
    result = function(left, x)
    assert isinstance(result, da.DArray)
    assert same_arrays(result.collect(), function(np.asarray(left)[()], PLAIN))


def test_numpy_arrays_are_changed_in_place(x):
    a = np.ones((3, 4))
    before = a
    a += x
    assert a is before
    assert same_arrays(a, PLAIN + 1)
    left_out = np.full((3, 4), -1.0)
    np.add(x, 1, out=left_out, where=PLAIN > 5)
    assert same_arrays(left_out, np.where(PLAIN > 5, PLAIN + 1, -1))
    np.add(x, a, out=a)
    assert same_arrays(a, PLAIN * 2 + 1)
    narrow = np.zeros((3, 4), "f4")
    np.multiply(x, 2, out=narrow)
    assert same_arrays(narrow, (PLAIN * 2).astype("f4"))
    with pytest.raises(TypeError, match="same_kind"):
        np.multiply(x, 2, out=np.zeros((3, 4), int))
    with pytest.raises(ValueError, match="output"):
        np.multiply(x, 2, out=np.zeros(3))


def test_array_protocol(x):
    assert same_arrays(np.asarray(x), PLAIN)
    assert np.asarray(x, dtype="f4").dtype == "f4"
    assert x.tolist() == PLAIN.tolist()
    assert (x.item(5), x.item(1, 2), x.item((2, -1)), x.item(-1)) == (5.0, 6.0, 11.0, 11.0)
    assert x[0, 1].item() == 1.0
    assert 5.0 in x
    assert 99 not in x
    assert same_arrays(next(iter(x)).collect(), PLAIN[0])
    assert [len(x), len(list(x)), x.size, x.ndim, x.nbytes, x.itemsize] == [3, 3, 12, 2, 96, 8]


def test_numbers_of_arrays_without_axes(x):
    five = x[1, 1]
    assert (float(five), int(five), complex(five), bool(five)) == (5.0, 5, 5 + 0j, True)
    assert f"{five:.2f} {five.astype(int):03d}" == "5.00 005"
    assert operator.index(five.astype(int)) == 5
    assert [10, 20, 30][da.arange(3)[1]] == 20
    assert not x[:1, :1]
    with pytest.raises(TypeError):
        operator.index(five)


def test_dtypes_are_told_without_computing(x):
    later = x.map_blocks(lambda block: 1 / 0)
    assert np.result_type(later, 1) == np.result_type("f4", later) == np.dtype(float)
    assert np.isrealobj(later)
    assert np.iscomplexobj(later * 1j)
    assert (np.shape(later), np.ndim(later), np.size(later), np.size(later, 0)) == (
        (3, 4),
        2,
        12,
        3,
    )


def test_copies_are_arrays_of_their_own(x):
    for made in (x.copy(), copy.copy(x), copy.deepcopy(x)):
        assert made is not x
        assert made._cell is not x._cell
        assert same_arrays(made.collect(), PLAIN)


# Blocks and kept results


def test_blocks_are_refs_for_any_task(x):
    assert x.blocks.shape == (2, 2)
    assert da.spawn(np.sum, x.blocks[1, 0]).result() == PLAIN[2:, :3].sum()
    assert same_arrays(da.fetch((x * 2).blocks[-1, -1], copy=True), PLAIN[2:, 3:] * 2)
    assert same_arrays(da.fetch(x.T.blocks[0, 1], copy=True), PLAIN.T[:3, 2:])
    with pytest.raises(ValueError, match="read-only"):
        da.fetch(x.blocks[0, 0])[0, 0] = 5
    assert same_arrays(x.collect(), PLAIN)


def test_persisted_chunks_are_computed_once(x):
    count, calls = counted()
    y = x.map_blocks(count) + 1
    assert calls == []
    assert y.persist() is y
    y.wait()
    assert len(calls) == 4
    assert same_arrays((y * 2)[::-1].collect(), (PLAIN + 1)[::-1] * 2)
    da.fetch(y.blocks[0, 0])
    assert len(calls) == 4


def test_results_of_functions_and_reductions_are_kept(x):
    count, calls = counted()
    y = x.map_blocks(count)
    mean = y.mean()
    assert same_arrays((y - mean).collect(), PLAIN - PLAIN.mean())
    mean.collect()
    y.collect()
    assert len(calls) == 4


def test_several_reductions_go_over_the_chunks_once(x):
    count, calls = counted()
    y = x.map_blocks(count)
    low, high, mean, columns = da.compute(y.min(), y.max(), y.mean(), y.sum(axis=0))
    assert (float(low), float(high), float(mean)) == (0.0, 11.0, 5.5)
    assert same_arrays(columns, PLAIN.sum(axis=0))
    assert len(calls) == 4


@pytest.mark.usefixtures("threads")
def test_only_the_blocks_that_are_needed_are_computed():
    count, calls = counted()
    y = da.arange(100, blocks=10).map_blocks(count)
    assert y[[25][0]].item() == 25
    assert same_arrays(y[38:42].collect(), np.arange(38, 42))
    assert len(calls) == 3


# How it looks


def test_values_are_shown_where_they_are_there(x):
    assert repr(x).splitlines()[0] == "<DArray (3, 4) float64, chunks (2, 3) in 2x2>"
    assert "[ 8.  9. 10. 11.]" in repr(x)
    later = x.map_blocks(lambda block: 1 / 0)
    assert repr(later) == "<DArray (3, 4) float64, chunks (2, 3) in 2x2>"
    later.persist()
    with pytest.raises(ZeroDivisionError):
        later.wait()
    assert repr(later) == "<DArray (3, 4) float64, chunks (2, 3) in 2x2>"
    made = (x + 1).persist()
    made.wait()
    assert "12.]" in repr(made)
    assert "\n" not in repr(da.zeros((1000, 1000)))
    total = x.sum()
    assert repr(total) == "<DArray () float64, chunks ()>"
    assert float(total) == 66.0
    assert repr(total) == "<DArray () float64, chunks ()> 66.0"


def test_views_know_their_cut(x):
    assert x.chunks == ((2, 1), (3, 1))
    assert x.T[::-1].chunks == ((1, 3), (2, 1))
    assert x.partitioning == da.Blocks(2, 3)
    assert x.rechunk(da.Blocks(1, 4)).chunks == ((1, 1, 1), (4,))
