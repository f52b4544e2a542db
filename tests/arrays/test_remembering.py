"""Expressions built as others were: computed as if none had been before."""

import gc
import operator
import pickle
import threading
import warnings
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import darray as da
from darray.expr import building
from darray.kernels import selection, table
from darray.kernels.compiled_groups import expects_errors
from darray.kernels.evaluation import TILE
from darray.lowering import fusion, remembering
from darray.lowering.fusion import fuse
from darray.lowering.remembering import fuse_or_remember
from tests.arrays.agreement import assert_same, observe

SIZE = TILE + 1000


@pytest.fixture(autouse=True)
def nothing_remembered():
    remembering._slot.cache_clear()
    yield
    remembering._slot.cache_clear()


def fused(array):
    expression = array.expression
    return fuse_or_remember([expression], expression.shape)


def numbers(seed, dtype="f8", size=SIZE):
    return (10 * np.random.default_rng(seed).standard_normal(size)).astype(dtype)


OPERATIONS = [
    operator.add,
    operator.mul,
    operator.truediv,
    np.maximum,
    lambda x, y: np.where(x > y, x, y),
    lambda x, y: np.sqrt(x) + y,
    lambda x, y: x[::-1] * y,
    lambda x, y: x - y.mean(),
    lambda x, y: x[:1] + y,
    lambda x, y: (x.reshape(-1, 4).T + y.reshape(-1, 4).T).T.reshape(-1),
    lambda x, y: x.astype(np.float32) * 2 - y,
    lambda x, y: x**2 - 3 * y,
    lambda x, y: x * np.abs(y).sum(),
    lambda x, y: np.modf(x.astype(float))[1] + y,
    lambda x, y: np.add(x, y, where=x > y),
]
MODES = ["warn", "ignore", "raise", "call", "print"]


@given(
    st.lists(
        st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 9), st.integers(0, 9)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["f8", "f4", "i4", "?"]),
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(MODES), st.booleans()), min_size=3, max_size=5
    ),
)
def test_each_time_is_as_the_first_time(steps, dtype, times):
    def build(*arrays):
        found = list(arrays)
        for operation, one, other in steps:
            found.append(operation(found[one % len(found)], found[other % len(found)]))
        return tuple(found[2:])

    for seed, mode, is_special in times:
        plain = [numbers(seed, dtype, size=SIZE), numbers(seed + 10, dtype)]
        if is_special and np.dtype(dtype).kind == "f":
            plain[0][:4] = np.nan, 0.0, -0.0, np.inf
        lazy = [da.distribute(one) for one in plain]
        errors = dict.fromkeys(("divide", "over", "invalid"), mode)
        again = observe(lambda lazy=lazy: build(*lazy), errors)
        kept = remembering._slot
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(remembering, "_slot", lambda key: remembering._Slot())
            fresh = observe(lambda lazy=lazy: build(*lazy), errors)
        assert remembering._slot is kept
        assert_same(again, fresh)
        assert str(again.error) == str(fresh.error)


def test_what_is_remembered_holds_no_arrays():
    x = da.distribute(numbers(0))
    for _ in range(3):
        (x * x + x[::-1] / 3).collect()
        np.sqrt(abs(x)).sum().collect()
    assert fused(x * x + x[::-1] / 3).nodes is not None
    array = weakref.ref(x.expression.array)
    del x
    gc.collect()
    assert array() is None


def test_what_is_remembered_is_bounded():
    x = da.distribute(numbers(0))
    for number in range(2 * remembering._MOST):
        fused(x * number + 1)
    info = remembering._slot.cache_info()
    assert info.currsize == info.maxsize == remembering._MOST
    deep = x
    for _ in range(remembering._MOST_NODES + 1):
        deep = deep + 1
    assert all(fused(deep).nodes is None for _ in range(3))


@pytest.mark.parametrize(
    "scalars",
    [
        (0.0, -0.0),
        (1, 1.0, True, np.float64(1), np.float32(1), np.bool_(True), np.int64(1), 1 + 0j),
        (complex(1, 0.0), complex(1, -0.0)),
        (complex(0.0, 1), complex(-0.0, 1)),
        (np.float64(0.0), np.float64(-0.0)),
        (0, False, 0.0),
    ],
)
def test_scalars_of_other_bits_are_not_taken_for_each_other(scalars):
    values = np.zeros(SIZE)
    for _ in range(3):
        for scalar in scalars:
            x = da.distribute(values)
            with np.errstate(all="ignore"):
                ours, theirs = (
                    (x * scalar / scalar - x).collect(),
                    values * scalar / scalar - values,
                )
            assert ours.dtype == theirs.dtype
            assert ours.tobytes() == theirs.tobytes()


def test_warnings_are_those_of_the_expressions_at_hand_and_in_their_order():
    def messages(x, y):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            da.compute(np.log(x) + np.sqrt(y), 1 / x)
        return [str(one.message) for one in caught]

    good, bad = da.ones(SIZE, blocks=-1).persist(), da.distribute(np.full(SIZE, -1.0))
    zero = da.distribute(np.zeros(SIZE))
    for _ in range(3):
        assert messages(good, good) == []
        assert messages(bad, bad) == [
            "invalid value encountered in log",
            "invalid value encountered in sqrt",
        ]
        assert messages(zero, bad) == [
            "divide by zero encountered in log",
            "invalid value encountered in sqrt",
            "divide by zero encountered in divide",
        ]


def test_a_warning_of_one_expression_that_two_results_take_is_issued_once():
    zero = da.distribute(np.zeros(SIZE))
    for _ in range(3):
        shared = 1 / zero
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            da.compute(shared + 1, shared + 2)
            da.compute(1 / zero + 1, 1 / zero + 2)
        assert len(caught) == 3


def test_kernels_that_are_registered_later_run():
    values = numbers(0)
    x = da.distribute(values)

    def total():
        return np.hypot(x, x * 2).collect()

    for _ in range(3):
        np.testing.assert_array_equal(total(), np.hypot(values, values * 2))
    before = dict(table._kernels["cpu"])
    try:
        table.kernel(np.hypot, on="cpu")(lambda a, b: np.full(a.shape, 7.0))
        assert (total() == 7).all()
    finally:
        table._kernels["cpu"].clear()
        table._kernels["cpu"].update(before)
    np.testing.assert_array_equal(total(), np.hypot(values, values * 2))


def test_dtypes_with_something_besides_are_not_taken_for_others():
    values = numbers(0)
    marked = values.astype(np.dtype("f8", metadata={"unit": "m"}))
    assert fused(da.distribute(values) * 2 + 1).nodes is None
    assert fused(da.distribute(values) * 2 + 1).nodes is not None
    x = building.captured(marked)
    copied = building.captured(values.astype(pickle.loads(pickle.dumps(np.dtype("f8")))))
    assert fused(da.DArray.of(copied) * 2 + 1).nodes is not None
    if x.dtype.metadata is not None:
        assert fused(da.DArray.of(x) * 2 + 1).nodes is None
    result = (da.distribute(values) * 2 + 1).collect()
    assert result.dtype.metadata is None


@pytest.mark.parametrize("is_kept_later", [False, True])
def test_what_another_thread_keeps_or_loses_meanwhile_is_not_remembered(monkeypatch, is_kept_later):
    values = numbers(0)
    gate = threading.Event()

    def twice(block):
        gate.wait()
        return block * 2

    for turn in range(4):
        x = da.distribute(values)
        inner = x * 2 if is_kept_later else x.map_blocks(twice).persist()
        outer = inner * inner + x
        if turn == 1:
            # As if the other thread came in between.
            def fuse_later(*args, inner=inner, **options):
                if is_kept_later:
                    inner.persist().wait()
                else:
                    monkeypatch.setattr(fusion, "has_usable_chunks", lambda node: False)
                return fuse(*args, **options)

            monkeypatch.setattr(remembering, "fuse", fuse_later)
        if turn < 2:
            assert fused(outer).nodes is None
        monkeypatch.undo()
        if turn > 0:
            gate.set()
            expected = values * 2 * (values * 2) + values
            np.testing.assert_array_equal(outer.collect(), expected)


def test_functions_of_others_are_not_held():
    x = da.distribute(numbers(0))
    for _ in range(3):
        (made,) = building.elementwise(np.asarray, [x.expression])
        assert fuse_or_remember([made], made.shape).nodes is None


def test_compiled_loops_are_found_again_unless_they_are_switched_off(compiled_at_once):
    values = numbers(0)
    x = da.distribute(values)

    def program():
        group = fused(x * x + 1).group
        return group.program_for(SIZE), group.program

    expected = values * values + 1
    for _ in range(4):
        assert (x * x + 1).collect().tobytes() == expected.tobytes()
        selection.wait()
    chosen, plain = program()
    assert chosen is not plain
    assert program()[0] is chosen
    da.configure(jit=False)
    assert program()[0] is plain
    da.configure(jit=True)
    assert program()[0] is not plain
    assert (x * x + 1).collect().tobytes() == expected.tobytes()


def test_loops_that_met_errors_are_tried_again_in_the_next_computation(compiled_at_once):
    size = 1 << 20
    good, bad = da.distribute(np.ones(size)), da.distribute(np.zeros(size))
    for _ in range(4):
        (good / good + 1).collect()
        selection.wait()
    with np.errstate(all="ignore"):
        assert np.isnan((bad / bad + 1).collect()).all()
    with pytest.warns(RuntimeWarning, match="invalid value encountered in divide"):
        assert np.isnan((bad / bad + 1).collect()).all()
    group = fused(good / good + 1).group
    chosen = group.program_for(size)
    assert chosen is not group.program
    assert not expects_errors(chosen)
    assert (good / good + 1).collect().tobytes() == np.full(size, 2.0).tobytes()


def test_threads_that_build_alike_get_each_their_own():
    failures = []
    start = threading.Barrier(4)

    def work(seed):
        start.wait()
        for turn in range(20):
            values = numbers(100 * seed + turn)
            x = da.distribute(values)
            found = np.sqrt(x * x + turn % 3).sum().collect()
            plain = da.distribute(np.sqrt(values * values + turn % 3)).sum().collect()
            if not np.isclose(found, plain, rtol=1e-12):
                failures.append((seed, turn))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
