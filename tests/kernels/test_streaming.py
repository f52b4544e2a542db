"""Compiled loops that write past the caches: the same bits in the same places, and no others."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darray.kernels import loop_compiler
from darray.kernels.compiled_groups import _CALL, CompiledGroup
from darray.kernels.evaluation import evaluate
from darray.kernels.loop_compiler import streaming, ufunc_of
from darray.kernels.loop_source import BLOCK, Loop, Step
from darray.kernels.programs import Instruction, Program
from darray.kernels.warnings_ledger import Ledger

DOUBLE = np.dtype(float)
DTYPES = [np.dtype(c) for c in "?bHiLfd"]
WARN = ("warn", "warn", "ignore", "warn", None)


def loop_to(dtype):
    """A loop of an array and a value that stands for many, whose results have `dtype`."""
    if dtype.kind == "b":
        step = Step(np.less, (0, 1), (DOUBLE, DOUBLE), dtype)
        return Loop((DOUBLE, DOUBLE), frozenset(), (step,))
    return Loop((dtype, dtype), frozenset(), (Step(np.add, (0, 1), (dtype, dtype), dtype),))


@given(
    dtype=st.sampled_from(DTYPES),
    length=st.one_of(st.integers(0, 3 * BLOCK), st.integers(4 * BLOCK, 6 * BLOCK)),
    offset=st.integers(0, 130),
    step=st.sampled_from([1, 1, 1, 2, -1]),
    stands_for_all=st.booleans(),
)
def test_whatever_lies_wherever(dtype, length, offset, step, stands_for_all):
    plain = ufunc_of(loop_to(dtype))
    past = streaming(plain)
    assert past is not plain
    kind = DOUBLE if dtype.kind == "b" else dtype
    values = np.random.default_rng(0).uniform(0, 50, (2, length)).astype(kind)
    other = np.broadcast_to(kind.type(7), length) if stands_for_all else values[1]
    found, expected = [
        written(ufunc, (values[0], other), dtype, offset, step) for ufunc in (past, plain)
    ]
    assert found == expected


def written(ufunc, inputs, dtype, offset, step):
    """The memory around results that begin `offset` bytes behind a line, wherever that is."""
    length = len(inputs[0])
    room = np.full(64 + offset + (2 * length + 2) * dtype.itemsize + 64, 1, np.uint8)
    start = -room.ctypes.data % 64 + offset
    if step < 0:
        start += max(0, length - 1) * dtype.itemsize
    strides = (step * dtype.itemsize,)
    ufunc(*inputs, out=np.ndarray(length, dtype, room.data, start, strides))
    return room[-room.ctypes.data % 64 :][: len(room) - 64].tobytes()


def test_short_rows_side_by_side():
    past = streaming(ufunc_of(loop_to(DOUBLE)))
    values = np.random.default_rng(0).random((40, 5 * BLOCK + 3))
    for part in (np.s_[:, :100], np.s_[:, 1:], np.s_[:, ::3]):
        out = np.zeros_like(values)
        past(values[part], values[:, :1], out=out[part])
        expected = np.zeros_like(values)
        expected[part] = values[part] + values[:, :1]
        np.testing.assert_array_equal(out, expected)


def test_a_result_may_lie_on_an_operand():
    past = streaming(ufunc_of(loop_to(DOUBLE)))
    values = np.arange(10.0 * BLOCK)
    past(values, values, out=values)
    np.testing.assert_array_equal(values, 2 * np.arange(10.0 * BLOCK))


def test_loops_that_add_write_no_lines():
    step = Step(np.square, (0,), (DOUBLE,), DOUBLE)
    sums = ufunc_of(Loop((DOUBLE,), frozenset(), (step,), sums=True))
    assert streaming(sums) is sums


def doubling():
    """A program of one group, which doubles, and a list of which of its loops were called."""
    called = []

    def seen(name, ufunc):
        def call(*operands, out):
            called.append(name)
            return ufunc(*operands, out=out)

        return call

    step = Step(np.add, (0, 0), (DOUBLE, DOUBLE), DOUBLE)
    plain = ufunc_of(Loop((DOUBLE,), frozenset(), (step,)))
    add = Instruction(np.add, ((0, None), (0, None)), (), None, None, WARN, 0, DOUBLE)
    alone = Program.assemble([add], [(-1, None)])
    group = CompiledGroup(seen("plain", plain), alone, None, seen("past", streaming(plain)))
    call = Instruction(group, ((0, None),), (), None, None, WARN, 0, DOUBLE)
    return Program.assemble([call], [(-1, None)]), called


@pytest.mark.parametrize("streams", [True, False])
def test_evaluation_does_what_it_is_told(streams):
    program, called = doubling()
    values = np.arange(2.0 * _CALL)
    (found,) = evaluate(program, [values], values.shape, Ledger(), np.empty, streams)
    np.testing.assert_array_equal(found, values + values)
    assert called == ["past" if streams else "plain"] * 2


def test_errors_are_answered_all_the_same():
    program, called = doubling()
    ledger = Ledger()
    values = np.full(2 * _CALL, 1e308)
    (found,) = evaluate(program, [values], values.shape, ledger, np.empty, streams=True)
    assert np.isinf(found).all()
    assert set(called) == {"past"}
    with pytest.warns(RuntimeWarning, match="overflow encountered in add"):
        ledger.issue()


def test_nobody_waits_for_a_compiler_to_find_the_other_loop():
    plain = ufunc_of(loop_to(DOUBLE))
    found = []
    looking = threading.Thread(target=lambda: found.append(streaming(plain)), daemon=True)
    # As it is held while something is compiled.
    with loop_compiler._lock:
        looking.start()
        looking.join(30)
        assert len(found) == 1
    assert found[0] is not plain
