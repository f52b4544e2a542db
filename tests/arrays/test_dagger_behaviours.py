"""What the tests of Dagger.jl prove of its arrays, in NumPy's terms: docs/reference/dagger.md."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import darray as da
from tests.arrays.agreement import same_arrays

pytestmark = pytest.mark.usefixtures("engine")

DTYPES = ["f4", "f8", "i4", "c16"]
SHAPES = [(), (7,), (7, 5), (4, 5, 6)]
# Of a 12 x 10 array: even, ragged, thin, uneven, whole.
CUTS = [
    da.Blocks(4, 5),
    da.Blocks(5, 4),
    da.Blocks(1, 10),
    da.Blocks((3, 9), (1, 7, 2)),
    da.Blocks(-1, -1),
]


def matrix(dtype="f8", shape=(12, 10)):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


# 92


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["empty", "zeros", "ones", "full"])
def test_constructors(name, shape, dtype):
    value = (3,) if name == "full" else ()
    for blocks in ("auto", da.Blocks(*[3] * len(shape))):
        x = getattr(da, name)(shape, *value, dtype=dtype, blocks=blocks)
        assert (x.shape, x.dtype) == (shape, np.dtype(dtype))
        size = None if blocks == "auto" else 3
        assert x.partitioning == da.Blocks(*[min(n, size or n) for n in shape])
        if name != "empty":
            assert same_arrays(x.collect(), getattr(np, name)(shape, *value, dtype=dtype))


# 93


@pytest.mark.parametrize("name", ["random", "standard_normal", "exponential"])
def test_random_arrays_stay_as_they_are_and_differ(name):
    rng = da.random.default_rng(7)
    one, other = (getattr(rng, name)(size=(60, 50), blocks=da.Blocks(20, 30)) for _ in range(2))
    assert same_arrays(one.collect(), one.collect())
    assert (one[10:30].collect() == one.collect()[10:30]).all()
    assert (one.collect() != other.collect()).all()


# 94


def test_distributed_in_blocks_and_again():
    array = np.random.default_rng(0).random((100, 100))
    x = da.distribute(array, da.Blocks(10, 20))
    assert x.blocks.shape == (10, 5)
    for i, j in itertools.product(range(10), range(5)):
        block = da.fetch(x.blocks[i, j])
        assert (block == array[10 * i : 10 * i + 10, 20 * j : 20 * j + 20]).all()
    for again in (da.distribute(x, da.Blocks(30, 7)), x.rechunk(da.Blocks(30, 7))):
        assert again.blocks.shape == (4, 15)
        assert same_arrays(again.collect(), array)
    parts = tuple(-(-n // parts) for n, parts in zip(array.shape, (3, 4), strict=True))
    assert da.distribute(array, parts).blocks.shape == (3, 4)


# 95


def test_auto_blocks_cut_the_first_axis_by_bytes_not_by_processors():
    x = da.zeros((100, 100), blocks=da.AutoBlocks(nbytes=16_000))
    assert x.chunks == ((20,) * 5, (100,))
    assert da.zeros((100, 100), blocks="auto").chunks == ((100,), (100,))


# 97


def test_wrapped_memory_is_shared_both_ways():
    array = matrix()
    x = da.wrap(array, da.Blocks(5, 4))
    x[:] = 1
    assert (array == 1).all()
    x[7, 3] = 2
    x.T[1] += 1
    assert (array[7, 3], array[0, 1]) == (2, 2)
    array[...] = matrix()
    assert same_arrays(x.collect(), matrix())
    assert (float(x[0, 0]), float(x[-1, -1]), x.item(37)) == (0, 119, 37)
    assert (da.fetch(x.blocks[-1, -1]) == array[10:, 8:]).all()


# 98


INDICES = {
    "ranges": np.s_[3:8, 2:7],
    "ragged": np.s_[[0, 7, 3], 1:],
    "repeated": np.s_[[2, 2, 2, 11, 2]],
    "reversed": np.s_[::-1, [9, 5, 0]],
    "empty": np.s_[:, []],
    "empty range": np.s_[5:5, ::2],
    "an integer drops its axis": np.s_[4, 2:7],
    "two integers": np.s_[4, -1],
    "lists against each other": np.ix_([11, 0, 5, 5], [3, 1]),
}


@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize("blocks", CUTS, ids=repr)
def test_indices(blocks, name):
    x, key = da.distribute(matrix(), blocks), INDICES[name]
    assert same_arrays(np.asarray(x[key]), np.asarray(matrix()[key]))


# 99


def test_all_pairs_of_ranges():
    array = matrix(shape=(10, 10))
    x = da.distribute(array, da.Blocks(2, 2))
    pairs = list(itertools.product(range(11), range(11)))
    for found, (i, j) in zip(da.compute(*[x[i:j, j:i:-1] for i, j in pairs]), pairs, strict=True):
        assert same_arrays(found, array[i:j, j:i:-1])
    for found, (i, j) in zip(da.compute(*[x[i:j, i:] for i, j in pairs]), pairs, strict=True):
        assert same_arrays(found, array[i:j, i:])


# 100


def test_an_array_changed_in_a_copy_stays_as_it_is():
    x = da.distribute(matrix(), da.Blocks(5, 4))
    changed = x.copy()
    changed[2:7, 3] = -1
    assert same_arrays(x.collect(), matrix())
    expected = matrix()
    expected[2:7, 3] = -1
    assert same_arrays(changed.collect(), expected)


# 101


@pytest.mark.parametrize("blocks", CUTS, ids=repr)
def test_assigned_rows_columns_and_blocks_leave_the_rest(blocks):
    zeros, x = np.zeros((12, 10)), da.zeros((12, 10), blocks=blocks)
    source = da.distribute(matrix(), da.Blocks(7, 3))
    for target, values in ((zeros, matrix()), (x, source)):
        target[:, 4] = values[:, 0]
        target[7, :] = values.T[:10, 3][::-1]
        target[1:6, 2:9] = values[6:11, 1:8]
    assert same_arrays(x.collect(), zeros)


# 102


@pytest.mark.parametrize("dtype", [*DTYPES, "i1"])
@pytest.mark.parametrize("shape", [(), (12,), (12, 10), (3, 4, 5), (0, 4)], ids=repr)
def test_copied_between_all_cuts(shape, dtype):
    sizes = (1, 3, 4, 5, 12)
    array = (np.arange(np.prod(shape, dtype=int)) % 100).reshape(shape).astype(dtype)
    for one, other in itertools.product(sizes, sizes):
        x = da.distribute(array, one)
        y = da.zeros(shape, dtype, blocks=other)
        y[...] = x
        assert same_arrays(y.collect(), array)
        z = da.zeros_like(y)
        np.copyto(z, x)
        assert same_arrays(z.collect(), array)
        assert z.chunks == y.chunks


@pytest.mark.parametrize("one", CUTS, ids=repr)
@pytest.mark.parametrize("other", CUTS, ids=repr)
def test_views_copied_between_all_cuts(one, other):
    expected, x, y = (
        np.zeros((12, 10)),
        da.distribute(matrix(), one),
        da.zeros((12, 10), blocks=other),
    )
    for target, values in ((expected, matrix()), (y, x)):
        np.copyto(target[2:9, 1:5], values[4:11, 5:9])
        np.copyto(target[::-2, ::3], values[1::2, :4])  # steps too, which Dagger refuses
    assert same_arrays(y.collect(), expected)
    with pytest.raises(ValueError, match="could not broadcast"):
        np.copyto(y[2:9], x[2:8])
    with pytest.raises(ValueError, match="could not broadcast"):
        y[2:9] = x[2:8]
    assert same_arrays(y.collect(), expected)


# 103


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8"])
@pytest.mark.parametrize("axis", [None, 0, 1, (0,), (1,)], ids=repr)
def test_reductions(axis, dtype):
    array = matrix(dtype) % 2 + 1  # so that all sums and products are exact
    x = da.distribute(array, da.Blocks(5, 4))
    for name in ("sum", "prod", "min", "max"):
        for initial in ({}, {"initial": 2}):
            theirs = np.asarray(getattr(np, name)(array, axis=axis, **initial))
            assert same_arrays(getattr(np, name)(x, axis=axis, **initial).collect(), theirs)
    low, high = da.compute(x.min(axis=axis), x.max(axis=axis))  # extrema, in one pass
    assert (low == array.min(axis=axis)).all()
    assert (high == array.max(axis=axis)).all()
    for name in ("mean", "var", "std"):
        theirs, ours = (getattr(np, name)(one, axis=axis) for one in (array, x))
        np.testing.assert_allclose(ours.collect(), theirs, rtol=2e-6 if dtype == "f4" else 1e-13)


# 104


def plus_one_of_even(value):
    """An ordinary function of one number."""
    return value + 1 if value % 2 == 0 else value


STATEMENTS = {
    "binary": "result = x + y",
    "chained": "result = np.sqrt(x * x + 2 * y) - x / (y + 1)",
    "matrix and vector": "result = x * y[0] + y[:, :1]",
    "in place with a number": "x += 3; x *= 2; result = x",
    "in place with a vector": "x += y[3]; result = x",
    "into an array": "result = np.zeros_like(x); np.multiply(x, y, out=result)",
    "a function of the user": "result = np.frompyfunc(plus_one_of_even, 1, 1)(x).astype(float)",
}


@pytest.mark.parametrize("name", STATEMENTS)
@pytest.mark.parametrize("blocks", CUTS, ids=repr)
def test_broadcast(blocks, name):
    results = []
    for make in (np.copy, lambda array: da.distribute(array, blocks)):
        names = {"x": make(matrix()), "y": make(matrix()[::-1]), "np": np}
        exec(STATEMENTS[name], {**names, "plus_one_of_even": plus_one_of_even}, names)
        results.append(np.asarray(names["result"]))
    assert same_arrays(results[1], results[0])


# 105


@pytest.mark.parametrize("blocks", CUTS, ids=repr)
def test_mapped_elements_keep_type_and_grid(blocks):
    x = da.distribute(matrix("f4"), blocks)
    for mapped in (np.sin(x), x.map_blocks(np.sin)):
        assert isinstance(mapped, da.DArray)
        assert (mapped.chunks, mapped.dtype) == (x.chunks, np.float32)
        assert same_arrays(mapped.collect(), np.sin(matrix("f4")))
    y = da.distribute(matrix("f4"), da.Blocks(4, 4))
    assert same_arrays(x.map_blocks(np.add, y).collect(), matrix("f4") * 2)
    np.negative(x, out=x)
    y[...] = x.map_blocks(np.add, y)
    assert same_arrays(x.collect(), -matrix("f4"))
    assert same_arrays(y.collect(), np.zeros((12, 10), "f4"))


# 106, 110


@pytest.mark.parametrize("shape", [(12, 10), (6, 5, 4)], ids=repr)
@pytest.mark.parametrize("size", [2, 4, -1])
@pytest.mark.parametrize("dtype", ["i2", "f8"])
def test_transposed_with_the_grid_and_the_blocks(dtype, size, shape):
    array = matrix(dtype, shape)
    x = da.distribute(array, da.Blocks(*[size, 3, -1][: len(shape)]))
    for order in itertools.permutations(range(len(shape))):
        y = np.transpose(x, order)
        assert same_arrays(y.collect(), np.transpose(array, order).copy())
        assert y.chunks == tuple([x.chunks[axis] for axis in order])
        assert y.blocks.shape == tuple([x.blocks.shape[axis] for axis in order])
        assert y.partitioning.sizes == tuple([x.partitioning.sizes[axis] for axis in order])
    assert x.T.chunks == x.chunks[::-1]
    first = da.fetch(x.T.blocks[(0,) * len(shape)])
    assert (first == da.fetch(x.blocks[(0,) * len(shape)]).T).all()


# 107


def test_arrays_side_by_side_must_fit_but_may_be_cut_apart():
    x, y = da.distribute(matrix(), da.Blocks(5, 4)), da.distribute(matrix(), da.Blocks(4, 7))
    for axis in (0, 1):
        joined = np.concatenate([x, y, x], axis=axis)
        assert same_arrays(joined.collect(), np.concatenate([matrix()] * 3, axis=axis))
        with pytest.raises(ValueError, match="must match exactly"):
            np.concatenate([x, y[1:, 1:]], axis=axis)


# 109


def test_filled_in_place_with_random_numbers():
    x = da.zeros((60, 50), blocks=da.Blocks(25, 50))
    x[...] = da.random.default_rng(0).uniform(2, 3, x.shape)
    assert 2 <= float(x.min()) < 2.1 < 2.9 < float(x.max()) < 3
    x[...] = da.random.default_rng(0).standard_normal(x.shape)
    assert (x.collect() != 0).all()


# 134


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_alike_and_quotients_with_the_dtypes_of_numpy(dtype):
    array = matrix(dtype) + 1
    x = da.distribute(array, da.Blocks(5, 4))
    zeros = np.zeros_like(x)
    assert (zeros.chunks, zeros.dtype) == (x.chunks, array.dtype)
    assert not zeros.collect().any()
    for divisor in (2, 2.0, 2j, np.float32(2), np.float64(2), np.int8(2)):
        assert same_arrays((x / divisor).collect(), array / divisor)
