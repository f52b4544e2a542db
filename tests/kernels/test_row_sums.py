"""Sums that a compiled loop makes are NumPy's to the bit, and so is what they warn of."""

from __future__ import annotations

import numpy as np
import pytest

from darray.kernels.compiled import assembled, plan, plan_adding
from darray.kernels.compiled_groups import ROW, CompiledGroup
from darray.kernels.cpu import cast
from darray.kernels.evaluation import TILE
from darray.kernels.loop_checking import disagreement
from darray.kernels.loop_compiler import ufunc_of
from darray.kernels.moments import Mean
from darray.kernels.reducing import REDUCED, Reducer, partial_results
from darray.kernels.reductions import UfuncReduction
from darray.kernels.row_sums import adds, partial_of_stack
from darray.kernels.warnings_ledger import Ledger
from darray.runtime.boxes import whole
from tests.kernels.test_loop_operations import special_values
from tests.kernels.writing import Writing

WARN = ("warn", "warn", "ignore", "warn", None)
QUIET = ("ignore",) * 4 + (None,)


def adding(program, dtypes):
    """The program as one loop that can add as well."""
    plans, loop = plan_adding(program, dtypes)
    return assembled(program, plans, [ufunc_of(one.loop) for one in plans], ufunc_of(loop))


def hypotenuse(x, y):
    w = Writing(x, y)
    w(np.sqrt, w(np.add, w(np.multiply, 0, 0), w(np.power, 1, [2])))
    return w


def noted(ledger):
    return sorted(ledger._entries)


def results(program, inputs, reduction=None, errors=WARN):
    """The partial result of a chunk, and what was noted."""
    reducer = Reducer(reduction or UfuncReduction(np.add, name="sum"), (0,), errors, 7)
    shape = np.broadcast_shapes(*[one.shape for one in inputs])
    reducer = Reducer(reducer.reduction, tuple(range(len(shape))), errors, 7)
    ledger = Ledger()
    (partial,) = partial_results(program, inputs, [reducer], whole(shape), shape, ledger)
    return [one.tobytes() for one in partial], noted(ledger), partial


def some(size, dtype="f8", seed=0):
    return np.random.default_rng(seed).standard_normal(size).astype(dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("size", [TILE + 1, 40 * ROW, REDUCED + 3, 3 * REDUCED + 5 * ROW + 700])
def test_sums_have_the_same_bits_whoever_computes_them(dtype, size):
    w = hypotenuse(some(size, dtype), some(size, dtype, 1))
    program = w.program(-4)
    compiled = adding(program, w.dtypes())
    assert isinstance(compiled.instructions[0].function, CompiledGroup)
    for reduction in (None, Mean()):
        plain, warned, partial = results(program, w.inputs, reduction)
        assert results(compiled, w.inputs, reduction)[:2] == (plain, warned)
    x, y = w.inputs
    values = np.sqrt(x * x + y**2)
    rows, rest = divmod(size, ROW)
    sums = [*np.add.reduce(values[: rows * ROW].reshape(rows, ROW), axis=1)]
    sums += [np.add.reduce(values[rows * ROW :])] if rest else []
    assert partial[0].tobytes() == np.add.reduce(np.array(sums)).tobytes()
    assert partial[1].item() == size


def test_chunks_of_several_axes_and_operands_of_one_element_are_lines_too():
    x = some((300, 700))
    w = Writing(x, np.array([[2.5]]))
    w(np.multiply, w(np.add, 0, 1), [3.0])
    program = w.program(-2)
    plain = results(program, w.inputs)
    assert results(adding(program, w.dtypes()), w.inputs)[:2] == plain[:2]
    assert np.isclose(plain[2][0].item(), ((x + 2.5) * 3).sum(), rtol=1e-12)


def test_what_does_not_lie_in_line_gives_the_same_compiled_or_not():
    x, y = some((700, 300)).T, some((300, 700))
    w = Writing(x, y)
    w(np.subtract, w(np.multiply, 0, 1), 1)
    program = w.program(-2)
    plain = results(program, w.inputs)
    assert results(adding(program, w.dtypes()), w.inputs)[:2] == plain[:2]
    assert np.isclose(plain[2][0].item(), (x * y - y).sum())


@pytest.mark.parametrize("errors", [WARN, QUIET])
def test_errors_are_noted_of_the_call_they_are_of_and_of_the_sum(errors):
    large = np.full(2 * REDUCED, 1e200)
    usual = np.full(2 * REDUCED, 1e308)
    for x, expected in ((large, "multiply"), (usual, "reduce")):
        w = Writing(x)
        root = w(np.multiply, 0, [1e200 if expected == "multiply" else 1.0], errors=errors)
        w(np.subtract, root, [1.0], errors=errors)
        program = w.program(-2)
        plain = results(program, w.inputs, errors=errors)
        compiled = adding(program, w.dtypes())
        # Once errors are expected they are no longer looked for first.
        for _ in range(6):
            assert results(compiled, w.inputs, errors=errors)[:2] == plain[:2]
        found = [message for _, message in plain[1]]
        wanted = [] if errors is QUIET else [f"overflow encountered in {expected}"]
        assert found == wanted


def test_an_error_of_the_sum_that_is_to_be_raised_is():
    w = Writing(np.full(REDUCED, 1e308))
    w(np.subtract, w(np.multiply, 0, [1.0], errors=QUIET), [1.0], errors=QUIET)
    program = w.program(-2)
    raising = ("raise",) * 4 + (None,)
    for one in (program, adding(program, w.dtypes())):
        with pytest.raises(FloatingPointError, match="overflow encountered in reduce"):
            results(one, w.inputs, errors=raising)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sums_of_special_values_have_numpys_bits(dtype):
    values = special_values(np.dtype(dtype))
    w = Writing(values, values)
    w(np.where, w(np.less, 0, 1), w(np.negative, 1), w(np.absolute, 0))
    program = w.program(-4)
    _, loop = plan_adding(program, w.dtypes())
    sums = ufunc_of(loop)
    assert sums.signature == "(k),(k)->()"
    random = np.random.default_rng(3)
    x, y = random.choice(values, (2, 50, ROW))
    x[:8], y[:8] = values[:8, np.newaxis], values[:8, np.newaxis]
    with np.errstate(all="ignore"):
        expected = np.add.reduce(np.where(x < y, -y, np.abs(x)), axis=1)
        found = sums(x, y)
    known = ~np.isnan(expected)
    assert np.array_equal(known, ~np.isnan(found))
    assert found[known].tobytes() == expected[known].tobytes()


def test_a_loop_that_adds_otherwise_than_numpy_is_found_out():
    w = hypotenuse(some(9), some(9))
    program = w.program(-4)
    _, loop = plan_adding(program, w.dtypes())
    assert disagreement(loop, ufunc_of(loop)) is None
    otherwise = disagreement(loop, lambda x, y, _: np.add.reduce(x, axis=1))
    assert otherwise == "sums of multiply, power, add, sqrt have other values"


def test_only_real_sums_of_everything_are_added_so():
    double = np.dtype(float)
    assert adds(UfuncReduction(np.add), double)
    assert adds(Mean(double), double)
    assert not adds(Mean(double), np.dtype("f4"))
    assert not adds(UfuncReduction(np.add, np.dtype("f8")), np.dtype("f4"))
    assert not adds(UfuncReduction(np.add, initial=None), double)
    assert not adds(UfuncReduction(np.multiply), double)
    assert not adds(UfuncReduction(np.add), np.dtype("f2"))
    assert not adds(UfuncReduction(np.add), np.dtype(">f8"))
    assert not adds(Mean(skip_nan=True), double)


def test_a_single_call_is_worth_a_loop_that_adds():
    w = Writing(some(2 * REDUCED + 77))
    program = w.program(w(np.absolute, 0))
    plain = results(program, w.inputs)
    compiled = adding(program, w.dtypes())
    assert isinstance(compiled.instructions[0].function, CompiledGroup)
    assert results(compiled, w.inputs)[:2] == plain[:2]
    w = Writing(some(9))
    assert plan_adding(w.program(w(np.sin, 0)), w.dtypes()) == ((), None)


def test_programs_that_are_more_than_a_loop_have_none_that_adds():
    w = Writing(some(9), np.arange(9))
    root = w(np.sin, w(np.add, w(np.multiply, 0, 0), [1.0]))
    program = w.program(root)
    assert plan_adding(program, w.dtypes()) == (plan(program, w.dtypes()), None)
    w = Writing(np.arange(9))
    w(np.add, w(np.multiply, 0, 0), 0)
    program = w.program(-2)
    assert plan_adding(program, w.dtypes()) == (plan(program, w.dtypes()), None)
    w = Writing(np.arange(9))
    w(np.add, w(cast, w(np.multiply, 0, 0), dtype=np.dtype("f4")), [1.5])
    program = w.program(-3)
    assert plan_adding(program, w.dtypes())[1].sums
    program = w.program(-3, -2)
    assert plan_adding(program, w.dtypes()) == (plan(program, w.dtypes()), None)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("reduction", [UfuncReduction(np.add, name="sum"), Mean()])
@pytest.mark.parametrize(("shape", "axes"), [((1037,), (0,)), ((37, 53), (0, 1)), ((37, 53), (0,))])
def test_a_stack_of_chunks_gives_what_joining_them_gives(dtype, reduction, shape, axes):
    reducer = Reducer(reduction, axes, WARN, 3)
    for count in (1, 2, 8):
        stack = some((count, *shape), dtype)
        stack[0] *= 1e6
        ledger = Ledger()
        apart = [reducer.partial(chunk, None, whole(shape), shape, ledger) for chunk in stack]
        expected = reducer.combine(apart, ledger)
        found = partial_of_stack(reducer, stack, ledger)
        assert [one.shape for one in found] == [one.shape for one in expected]
        assert [one.dtype for one in found] == [one.dtype for one in expected]
        assert [one.tobytes() for one in found] == [one.tobytes() for one in expected]


def test_other_stacks_are_left_to_their_chunks():
    stack = some((4, 6, 5))
    add = UfuncReduction(np.add, name="sum")
    assert partial_of_stack(Reducer(add, (1,), WARN, 0), stack, Ledger()) is None
    both = Reducer(add, (0, 1), WARN, 0)
    assert partial_of_stack(both, stack.transpose(0, 2, 1), Ledger()) is None
    assert partial_of_stack(both, stack.astype("i4"), Ledger()) is None
    largest = Reducer(UfuncReduction(np.maximum), (0, 1), WARN, 0)
    assert partial_of_stack(largest, stack, Ledger()) is None


def test_sums_of_a_stack_warn_as_those_of_chunks_do():
    ledger = Ledger()
    reducer = Reducer(UfuncReduction(np.add, name="sum"), (0,), WARN, 3)
    stack = np.zeros((4, 600))
    stack[1, 300:302] = 1.7e308
    stack[2, 0], stack[3, 0] = np.inf, -np.inf
    (total,) = partial_of_stack(reducer, stack, ledger)
    assert np.isnan(total).all()
    assert [one for one in noted(ledger) if "overflow" in one[1]] == [
        (3, "overflow encountered in reduce")
    ]
    assert any("invalid value encountered" in one for _, one in noted(ledger))
