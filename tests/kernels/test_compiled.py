"""Programs with compiled groups give what the same programs give by NumPy alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darray.kernels.compiled import compiled, plan
from darray.kernels.cpu import cast
from darray.kernels.loop_operations import KINDS
from darray.kernels.programs import Instruction
from darray.kernels.warnings_ledger import Ledger
from tests.kernels.test_loop_operations import special_values
from tests.kernels.writing import DOUBLE, Writing, evaluate, same

QUIET = ("ignore",) * 4 + (None,)


def everything():
    x = np.array([0.0, -0.0, 1.0, -1.0, 1e200, -1e200, np.inf, -np.inf, np.nan, 5e-324])
    a, b = np.meshgrid(x, x)
    return a.reshape(-1), b.reshape(-1)


def test_a_chain_is_one_loop():
    w = Writing(*everything())
    root = w(np.sqrt, w(np.add, w(np.multiply, 0, 0), w(np.multiply, 1, 1)))
    assert same(w.program(root), w.inputs) == (4, 1)


def test_where_is_part_of_it_and_constants_are_of_numpys_type():
    with np.errstate(all="ignore"):
        w = Writing(*[one.astype(np.float32) for one in everything()])
    big = w(np.add, w(np.multiply, 0, [2]), [np.float32(1)])
    root = w(np.where, w(np.greater, 0, [0.5]), big, w(np.subtract, 1, [True]))
    assert w.calls[-1].dtype == np.float32
    assert same(w.program(root), w.inputs) == (5, 1)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_squares_written_as_powers_are_part_of_it_and_other_powers_are_not(dtype):
    values = special_values(np.dtype(dtype))
    for two in (2, 2.0, np.float32(2), np.int8(2)):
        w = Writing(values)
        root = w(np.add, w(np.power, 0, [two]), 0)
        assert same(w.program(root), w.inputs) == (2, 1)
        w = Writing(values)
        w(np.power, 0, [two])
        assert same(w.program(w(np.isnan, -1)), w.inputs) == (2, 1)
    for exponent in (3, 0.5, True, -1):
        w = Writing(values)
        program = w.program(w(np.add, w(np.power, 0, [exponent]), 0))
        assert compiled(program, w.dtypes()) is None
    w = Writing(values, np.full_like(values, 2))
    assert compiled(w.program(w(np.add, w(np.power, 0, 1), 0)), w.dtypes()) is None
    w = Writing(np.arange(9))
    assert compiled(w.program(w(np.add, w(np.power, 0, [2]), 0)), w.dtypes()) is None


def test_another_constant_is_the_same_loop():
    made = []
    for constant in (2.0, 3.0):
        w = Writing(*everything())
        program = w.program(w(np.add, w(np.multiply, 0, [constant]), 1))
        other = compiled(program, w.dtypes())
        same(program, w.inputs, other)
        made.append(other.instructions[0].function.ufunc)
    assert made[0] is made[1]


def test_what_loops_do_not_know_stays_numpys():
    w = Writing(*everything())
    wave = w(np.sin, w(np.add, w(np.multiply, 0, [2.0]), 1))
    root = w(np.less, w(np.add, w(np.square, 0), wave), 1)
    assert same(w.program(root), w.inputs) == (6, 3)
    names = [
        c.function.__class__.__name__ for c in compiled(w.program(root), w.dtypes()).instructions
    ]
    assert sorted(names) == ["CompiledGroup", "CompiledGroup", "ufunc"]


def test_what_is_read_twice_is_computed_once():
    w = Writing(*everything())
    shared = w(np.multiply, w(np.add, 0, 1), [3.0])
    root = w(np.subtract, w(np.sqrt, w(np.absolute, shared)), shared)
    wave = w(np.exp, shared)
    program = w.program(root, wave, shared)
    assert [one.members for one in plan(program, w.dtypes())] == [(0, 1), (2, 3, 4)]
    assert same(program, w.inputs) == (6, 3)


def test_integers_wrap_and_python_numbers_are_weak():
    w = Writing(np.arange(-128, 128).astype(np.int8), np.arange(256).astype(np.int8))
    root = w(np.negative, w(np.multiply, w(np.add, 0, [100]), 1))
    assert w.calls[-1].dtype == np.int8
    assert same(w.program(root), w.inputs) == (3, 1)
    w = Writing(np.arange(5, dtype=np.int32), np.arange(5, dtype=np.uint8))
    root = w(np.multiply, w(np.add, 0, 1), [0.5])
    assert w.calls[-1].dtype == np.float64
    assert same(w.program(root), w.inputs) == (2, 1)


def test_comparisons_that_numpy_does_by_value_are_numpys():
    w = Writing(np.arange(5, dtype=np.uint8), np.array([0, 2**64 - 1], np.uint64)[:1])
    root = w(np.logical_not, w(np.less, w(np.add, 0, 0), [300]))
    assert compiled(w.program(root), w.dtypes()) is None
    w = Writing(np.array([-1, 2], np.int64), np.array([2**64 - 1, 2], np.uint64))
    root = w(np.logical_not, w(np.equal, 0, 1))
    assert compiled(w.program(root), w.dtypes()) is None


@pytest.mark.parametrize("dtype", ["f2", "c16", ">f8", "g", "M8[s]", "O"])
def test_other_dtypes_are_numpys(dtype):
    w = Writing(np.zeros(3, dtype), np.zeros(3, dtype))
    with np.errstate(all="ignore"):
        root = w(np.logical_not, w(np.equal, w(np.maximum, 0, 1), 1))
    assert compiled(w.program(root), w.dtypes()) is None


def test_masked_calls_and_parameters_are_numpys():
    w = Writing(*everything())
    w(np.add, 0, 1, dtype=np.dtype("f4"), casting="same_kind")
    assert compiled(w.program(w(np.negative, -1)), w.dtypes()) is None
    w = Writing(*everything())
    w(np.add, 0, 1)
    call = w.calls[0]
    w.calls[0] = Instruction(
        call.function, call.operands, (("result_dtypes", (DOUBLE,)),), (0, None), None,
        call.errors, call.origin, call.dtype,
    )  # fmt: skip
    assert compiled(w.program(w(np.negative, -1)), w.dtypes()) is None


def test_casts_are_part_of_it():
    w = Writing(*everything())
    narrow = w(cast, w(np.add, 0, 1), dtype=np.dtype("f4"), casting="unsafe")
    assert same(w.program(w(np.multiply, narrow, narrow)), w.inputs) == (3, 1)
    w = Writing(*everything())
    whole = w(cast, w(np.add, 0, 1), dtype=np.dtype("i4"), casting="unsafe")
    with np.errstate(all="ignore"):
        program = w.program(w(np.multiply, whole, whole))
    assert compiled(program, w.dtypes()) is None


def test_long_programs_are_several_loops():
    w = Writing(*everything())
    found = 0
    for i in range(300):
        found = w(np.add if i % 2 else np.maximum, found, 1)
    before, after = same(w.program(found), w.inputs)
    assert before == 300
    assert after == 5
    many = np.arange(60.0).reshape(60, 1) + np.arange(3)
    w = Writing(*many)
    found = 0
    for i in range(1, 60):
        found = w(np.add, w(np.multiply, i, [2.0]), found)
    before, after = same(w.program(found), w.inputs)
    assert after < 10


def test_inputs_are_broadcast():
    rows = np.random.default_rng(0).random((5, 700))
    w = Writing(rows, rows.mean(axis=1, keepdims=True), rows.std(axis=0), 3.0)
    root = w(np.multiply, w(np.divide, w(np.subtract, 0, 1), 2), 3)
    assert same(w.program(root), w.inputs) == (3, 1)
    transposed = rows.reshape(700, 5).T
    w = Writing(transposed, rows[:, ::-1])
    root = w(np.multiply, w(np.add, 0, 1), 1)
    assert same(w.program(root), w.inputs) == (2, 1)


def test_errors_are_told_of_as_one_by_one_and_only_where_asked():
    x, y = everything()
    w = Writing(x, y)
    strict = ("ignore", "ignore", "ignore", "raise", None)
    ratio = w(np.divide, 0, 1, errors=("warn", "warn", "ignore", "ignore", None))
    root = w(np.sqrt, w(np.add, ratio, 1, errors=QUIET))
    same(w.program(root), w.inputs)
    w = Writing(x, y)
    root = w(np.multiply, w(np.sqrt, 0, errors=strict), 1)
    other = compiled(w.program(root), w.dtypes())
    with pytest.raises(FloatingPointError, match="invalid value encountered in sqrt"):
        evaluate(other, [x, y], Ledger())
    same(w.program(root), [np.abs(np.nan_to_num(x)), y], other)


def test_tiles_full_of_errors_are_numpys_and_later_ones_are_right():
    w = Writing(*everything())
    program = w.program(w(np.add, w(np.divide, 0, 1), 1))
    other = compiled(program, w.dtypes())
    for _ in range(10):
        same(program, w.inputs, other)
    same(program, [np.ones(3), np.full(3, 2.0)], other)


@pytest.mark.parametrize("shape", [(2**19,), (700, 900), (1, 2**18 + 1), (2, 3, 2**17), (2**18, 2)])
def test_large_chunks_are_done_piece_by_piece(shape):
    x = np.random.default_rng(1).random(shape)
    x.flat[[5, -3]] = 0.0
    for other in (x, x[..., :1], x[:1], x[0], np.float64(0.0)):
        w = Writing(x, other)
        program = w.program(w(np.add, w(np.divide, 0, 1), 1))
        assert same(program, w.inputs) == (2, 1)


def test_the_group_is_called_like_a_ufunc():
    w = Writing(np.ones(3), np.full(3, 2.0))
    other = compiled(w.program(w(np.add, w(np.divide, 0, 1), 1)), w.dtypes())
    group = other.instructions[0].function
    assert repr(group) == "CompiledGroup(divide, add)"
    out = np.empty(3)
    assert group(*w.inputs, out=out) is out
    assert out.tolist() == group(*w.inputs).tolist() == [2.5] * 3


NAMES = sorted(KINDS, key=lambda ufunc: ufunc.__name__)
# Which of two NaN comes through is nobody's to say, and these would tell.
TELLING = {np.copysign, np.signbit}
DTYPES = [np.dtype(c) for c in "?bBhHiIlLfd"]
STATES = [QUIET, *[("warn",) * 4 + (None,), ("warn", "ignore", "warn", "warn", None)]]


@st.composite
def written(draw):
    """A program over a few inputs of any dtypes, with calls that loops know and others."""
    some = np.random.default_rng(draw(st.integers(0, 2**16)))
    inputs = []
    for _ in range(draw(st.integers(1, 3))):
        values = special_values(draw(st.sampled_from(DTYPES)))
        inputs.append(some.choice(values, 333))
    w = Writing(*inputs)
    ufuncs = [u for u in NAMES if u not in TELLING] + [np.exp, np.cbrt, np.arctan2, np.power]
    for _ in range(draw(st.integers(2, 9))):
        registers = st.sampled_from([*range(len(inputs)), *range(-1, -len(w.calls) - 1, -1)])
        constants = st.sampled_from(
            [2, -1, 0.5, True, np.float32(3), np.int16(7), np.float64(-0.0)]
        )
        operand = registers | registers | constants.map(lambda one: [one])
        errors = draw(st.sampled_from(STATES))
        kind = draw(st.integers(0, 9))
        try:
            if kind == 0:
                to = draw(st.sampled_from(DTYPES))
                w(cast, draw(registers), errors=errors, dtype=to, casting="unsafe")
            elif kind == 1:
                of = w(np.greater, draw(registers), draw(operand), errors=errors)
                like = draw(registers)
                dtype = (w.inputs[like] if like >= 0 else w.values[~like]).dtype
                one = dtype.type(draw(st.sampled_from([0, 1])))
                w(np.where, of, like, [one], errors=errors)
            else:
                ufunc = draw(st.sampled_from(ufuncs))
                first = draw(registers)
                rest = [draw(operand) for _ in range(ufunc.nin - 1)]
                w(ufunc, first, *rest, errors=errors)
        except (TypeError, OverflowError):
            continue
    results = [-1] if w.calls else [0]
    if draw(st.booleans()) and len(w.calls) > 1:
        results.append(draw(st.integers(-len(w.calls), -1)))
    return w.program(*results), w.inputs


@given(written())
@settings(max_examples=40)
def test_programs_are_the_same_from_either(drawn):
    program, inputs = drawn
    other = compiled(program, [one.dtype for one in inputs])
    if other is not None:
        same(program, inputs, other)
        assert len(other.instructions) < len(program.instructions)
    for count in (0, 1):
        if other is not None:
            same(program, [one[:count] for one in inputs], other)


def test_threads_that_ask_at_once_get_one_loop():
    ready = threading.Barrier(4)

    def made(_):
        w = Writing(np.ones(3), np.ones(3))
        program = w.program(w(np.multiply, w(np.floor, 0), w(np.trunc, 1)))
        ready.wait()
        return compiled(program, w.dtypes()).instructions[0].function.ufunc

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(made, range(4))
    assert all(one is first for one in others)
