"""Pickles hold values and the cut, and no plan; they come back as arrays in memory."""

import copy
import pickle

import cloudpickle
import numpy as np
import pytest
from hypothesis import given

import darray as da
from darray.expr.nodes import Memory
from tests.arrays.agreement import same_arrays
from tests.arrays.drawing import pairs

PLAIN = np.arange(12.0).reshape(3, 4)


@pytest.fixture
def x(engine):
    return da.distribute(PLAIN, da.Blocks(2, 3))


def assert_restored(copied, original, expected):
    """Check that `copied` is in memory, with the values and the cut of `original`."""
    assert isinstance(copied, da.DArray)
    assert isinstance(copied.expression, Memory)
    assert not copied.expression.array.flags.writeable
    assert copied.chunks == original.chunks
    assert same_arrays(copied.collect(), expected)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_values_are_pickled(x, protocol):
    arrays = {
        "in memory": (x, PLAIN),
        "computed": (np.sqrt(x) + 1, np.sqrt(PLAIN) + 1),
        "a view": (x[::-1].T, PLAIN[::-1].T),
        "a number": (x.max(), PLAIN.max()),
        "kept": ((x * 2).persist(), PLAIN * 2),
        "empty": (x[:0], PLAIN[:0]),
        "text": (x.astype("U8"), PLAIN.astype("U8")),
    }
    for lazy, expected in arrays.values():
        copied = pickle.loads(pickle.dumps(lazy, protocol))
        assert_restored(copied, lazy, np.ascontiguousarray(expected).reshape(expected.shape))


def test_scalars_stay_scalars(x):
    total = pickle.loads(pickle.dumps(x.sum()))
    before = total
    total += 1
    assert before == PLAIN.sum()
    with pytest.raises(TypeError, match="item assignment"):
        before[()] = 0


def test_wrapped_memory_is_pickled_as_it_was():
    plain = np.arange(4)
    buffers = []
    data = pickle.dumps(da.wrap(plain, 2), protocol=5, buffer_callback=buffers.append)
    plain[:] = 0
    assert pickle.loads(data, buffers=buffers).tolist() == [0, 1, 2, 3]


@pytest.mark.usefixtures("engine")
@given(pair=pairs())
def test_any_array(pair):
    lazy, plain = pair
    for data in (pickle.dumps(lazy), cloudpickle.dumps(lazy)):
        assert_restored(pickle.loads(data), lazy, plain)


def test_functions_that_hold_arrays_are_pickled_with_the_values(x):
    doubled = x.map_blocks(lambda block: block * 2)
    function = cloudpickle.loads(cloudpickle.dumps(lambda: doubled))
    assert_restored(function(), doubled, PLAIN * 2)


def test_the_plan_is_not_carried_out_again(x):
    calls = []

    def count(block):
        calls.append(block.shape)
        return block

    data = pickle.dumps(x.map_blocks(count))
    assert len(calls) == 4
    np.testing.assert_array_equal(pickle.loads(data), PLAIN)
    assert len(calls) == 4


def test_buffers_out_of_band(x):
    for lazy, expected in ((x, PLAIN), (x + 1, PLAIN + 1), (da.distribute(PLAIN.T, 2), PLAIN.T)):
        buffers = []
        data = pickle.dumps(lazy, protocol=5, buffer_callback=buffers.append)
        (buffer,) = buffers
        assert isinstance(buffer, pickle.PickleBuffer)
        assert buffer.raw().nbytes == lazy.nbytes
        assert buffer.raw().readonly
        assert len(data) < 400
        plain = np.ascontiguousarray(expected)
        assert_restored(pickle.loads(data, buffers=buffers), lazy, plain)
        shared = bytearray(buffer.raw())
        copied = pickle.loads(data, buffers=[shared])
        shared[:] = bytes(len(shared))
        assert_restored(copied, lazy, plain)


def test_what_is_read_from_bytes_is_not_copied(x):
    buffers = []
    data = pickle.dumps(x, protocol=5, buffer_callback=buffers.append)
    received = bytes(buffers[0].raw())
    copied = pickle.loads(data, buffers=[received])
    assert np.shares_memory(copied.expression.array, np.frombuffer(received, np.uint8))


def test_what_is_too_large_for_a_pickle_says_so(x):
    da.configure(memory_limit="200MB")
    try:
        large = da.zeros(50_000_001, np.uint8)
        with pytest.raises(da.MemoryLimitError, match=r"da\.tofile"):
            pickle.dumps(large)
        assert len(pickle.dumps(large[:10])) < 400
        assert copy.deepcopy(large).nbytes == 50_000_001
    finally:
        da.configure(memory_limit=None)


def test_errors_of_the_computation_are_raised_by_dumps(x):
    with pytest.raises(ZeroDivisionError):
        pickle.dumps(x.map_blocks(lambda block: 1 / 0))
