"""Scans against NumPy: bit for bit, but for sums of floats, which have a bound of their own."""

import math
from fractions import Fraction

import hypothesis.extra.numpy as numpy_strategies
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import darray as da
from darray.expr.scans import Scan, accumulate
from darray.lowering.planning import Planner
from darray.testing.strategies import blocks_for, dtypes, shapes
from tests.arrays.agreement import check, observe, same_arrays
from tests.arrays.drawing import ERRORS, pairs

AXES = st.none() | st.integers(-3, 3)
SMALL = st.integers(-3, 3).map(float)
SPECIAL = SMALL | st.sampled_from([np.inf, -np.inf, np.nan, -0.0])


BINARY = [
    one
    for one in (getattr(np, name) for name in dir(np))
    if isinstance(one, np.ufunc) and one.nin == 2 and one.nout == 1 and one.signature is None
]


@given(st.sampled_from(BINARY), st.data())
@settings(max_examples=200)
def test_every_ufunc_that_accumulates(engine, ufunc, data):
    """Step by step what NumPy does, also where the order of the operations matters."""
    dtype = data.draw(dtypes("biufcMm"))
    # Sums have a bound. NumPy multiplies complex numbers in ways that round differently, after
    # how they lie in memory. What either makes of small integers is exact.
    exact = dtype.kind == "c" or (ufunc is np.add and dtype.kind == "f")
    pair = data.draw(pairs(shapes(3, 5), dtype, SMALL if exact else None))
    axis = data.draw(st.integers(-3, 3))
    check(lambda x: ufunc.accumulate(x, axis), *([one] for one in pair), {"all": "ignore"})


FUNCTIONS = ["cumsum", "cumprod", "nancumsum", "nancumprod"]


@given(st.sampled_from(FUNCTIONS), pairs(shapes(3, 5), dtypes("biufcmM")), AXES, ERRORS)
@settings(max_examples=80)
def test_functions(engine, name, pair, axis, errors):
    assume(pair[1].dtype.kind not in ("c" if name.endswith("cumprod") else "fc"))
    check(lambda x: getattr(np, name)(x, axis), *([one] for one in pair), errors)


@given(
    st.sampled_from(FUNCTIONS),
    pairs(shapes(3, 6), "f4", SPECIAL),
    AXES,
    st.sampled_from("fdFDeG"),
    ERRORS,
)
@settings(max_examples=80)
def test_infinities_and_nan(engine, name, pair, axis, dtype, errors):
    """Sums of small integers are exact, so that these are NumPy's, with its warnings."""
    lazy, plain = (one.astype(dtype) for one in pair)
    check(lambda x: getattr(np, name)(x, axis), [lazy], [plain], errors)


@given(st.data(), pairs(shapes(2, 5), dtypes("biuf")), AXES)
@settings(max_examples=60)
def test_other_dtypes(engine, data, pair, axis):
    dtype = data.draw(dtypes("biufc"))
    name = data.draw(st.sampled_from(["cumsum", "cumprod"]))
    assume(dtype.kind not in ("c" if name == "cumprod" else "fc"))
    # What a float too large for an integer type becomes depends on the loop that met it.
    assume(pair[1].dtype.kind != "f" or np.all(np.abs(pair[1]) < 100))
    check(lambda x: getattr(x, name)(axis, dtype), *([one] for one in pair), {"all": "ignore"})


def bound(plain, chunks):
    """Roundings that a sum over one axis has at most, times what each is of at most."""
    step = np.finfo(plain.dtype).eps / 2
    magnitude = np.add.accumulate(np.abs(plain).astype("f8"))
    return 1.01 * (max(chunks) + len(chunks)) * step * magnitude


@given(st.data(), st.sampled_from(["f2", "f4", "f8"]), st.integers(1, 60))
@settings(max_examples=80)
def test_sums_are_within_their_bound(engine, data, dtype, length):
    moderate = st.floats(-1000, 1000, width=16)
    plain = data.draw(numpy_strategies.arrays(dtype, length, elements=moderate))
    assume(np.all(np.abs(plain).astype("f8").sum() < 60_000))
    lazy = da.distribute(plain, data.draw(blocks_for(plain.shape)))
    found = np.cumsum(lazy).collect()
    assert found.dtype == plain.dtype
    true = list(np.add.accumulate([Fraction(float(one)) for one in plain], dtype=object))
    errors = np.array([abs(Fraction(float(a)) - b) for a, b in zip(found, true, strict=True)], "f8")
    assert np.all(errors <= bound(plain, lazy.chunks[0]))


@given(st.data(), st.sampled_from(["f2", "f4", "f8"]), st.integers(1, 60))
def test_sums_of_what_is_not_negative_do_not_decrease(engine, data, dtype, length):
    positive = st.floats(0, 100, width=16)
    plain = data.draw(numpy_strategies.arrays(dtype, length, elements=positive))
    found = np.cumsum(da.distribute(plain, data.draw(blocks_for(plain.shape)))).collect()
    assert np.all(found[1:] >= found[:-1])


LARGE = np.finfo("f8").max


@pytest.mark.parametrize(
    "values",
    [
        # Each half alone overflows, the whole does not.
        [-LARGE, 0, LARGE, LARGE],
        [-LARGE, 0, LARGE / 2, LARGE],
        # What has overflowed stays so.
        [LARGE, 0, LARGE, -LARGE, -LARGE, 1],
        [LARGE, 0, LARGE, -LARGE, 1, 2],
        [LARGE, LARGE, -LARGE, -LARGE, 0, 0],
        [-LARGE, 0, -LARGE, 5, np.inf, 0],
    ],
)
@pytest.mark.parametrize("dtype", ["f8", "c16"])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_overflow(engine, values, dtype, blocks):
    plain = np.array(values, dtype)
    if dtype == "c16":
        plain.imag = np.arange(len(plain))
    check(np.cumsum, [da.distribute(plain, blocks)], [plain], {"all": "warn"})
    both = np.stack([plain, np.arange(len(plain), dtype=dtype)], axis=1)
    check(
        lambda x: np.cumsum(x, axis=0),
        [da.distribute(both, (blocks, 2))],
        [both],
        {"all": "warn"},
    )


def test_errors_are_raised_where_numpy_raises_them(engine):
    plain = np.array([LARGE, 0, LARGE, 1])
    for blocks in (1, 2, 4):
        for scan in (np.cumsum, np.cumprod):
            check(scan, [da.distribute(plain, blocks)], [plain], {"over": "raise"})


@given(st.data(), pairs(shapes(2, 5), "i4"), AXES, st.booleans())
@settings(max_examples=60)
def test_out(engine, data, pair, axis, accumulates):
    dtype = data.draw(st.sampled_from(["i8", "f8", "i2"]))
    given_dtype = data.draw(st.sampled_from([None, "i8", "i4"]))
    shape = pair[1].shape if axis is not None else (pair[1].size,)

    def call(x, make):
        out = make(np.zeros(shape, dtype))
        if accumulates:
            result = np.add.accumulate(x, 0 if axis is None else axis, given_dtype, out)
        else:
            result = np.cumsum(x, axis, given_dtype, out)
        assert result is out
        return out

    if accumulates and axis is None:
        shape = pair[1].shape
    theirs = observe(lambda: call(pair[1], lambda one: one), {"all": "ignore"})
    for make in (lambda one: one, da.distribute):
        ours = observe(lambda make=make: call(pair[0], make), {"all": "ignore"})
        assert type(ours.error) is type(theirs.error)
        if theirs.error is None:
            assert same_arrays(ours.arrays[0], theirs.arrays[0])


MISTAKES = [
    lambda x: np.cumsum(x, axis=2),
    lambda x: np.cumsum(x, axis=(0, 1)),
    lambda x: np.cumsum(x, axis=1.0),
    lambda x: np.cumsum(x, axis="a"),
    lambda x: np.cumsum(x, dtype="nonsense"),
    lambda x: x.cumprod(axis=-3),
    lambda x: np.add.accumulate(x, axis=None),
    lambda x: np.add.accumulate(x, axis=(0, 1)),
    lambda x: np.add.accumulate(x[0, 0, ...]),
    lambda x: np.add.accumulate(x, foo=1),
    lambda x: np.add.accumulate(x > 0, axis=5),
    lambda x: np.sin.accumulate(x),
    lambda x: np.divmod.accumulate(x),
    lambda x: np.matmul.accumulate(x),
    lambda x: np.less.accumulate(x),
    lambda x: np.subtract.accumulate(x > 0),
    lambda x: np.cumulative_sum(x),
    lambda x: np.cumulative_sum(x, axis=2),
    lambda x: np.cumulative_prod(x, axis=(0, 1)),
    lambda x: np.cumulative_sum(x, axis=0, out=np.zeros((2, 3)), include_initial=True),
    lambda x: np.cumsum(x, axis=0, out=np.zeros((2, 4))),
    lambda x: np.cumsum(x, out=np.zeros((2, 3))),
    lambda x: np.cumsum(x, out=[0.0] * 6),
    lambda x: np.add.accumulate(x, out=np.zeros((3, 3))),
    lambda x: np.diff(x, n=-1),
    lambda x: np.diff(x, axis=3),
    lambda x: np.diff(x[0, 0, ...]),
    lambda x: np.ediff1d(x.astype("i8"), to_end=1.5),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_mistakes(engine, number):
    call = MISTAKES[number]
    plain = np.arange(6.0).reshape(2, 3)
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - whatever NumPy raises
        call(plain)
    with pytest.raises(type(theirs.value)):
        call(da.distribute(plain, 2))


def test_axes_of_an_array_without_axes(engine):
    x, plain = da.distribute(np.array(5)), np.array(5)
    check(lambda x: (np.cumsum(x), np.cumsum(x, axis=0), np.cumprod(x, axis=-1)), [x], [plain])
    check(lambda x: np.cumulative_sum(x, include_initial=True), [x], [plain])
    check(lambda x: np.add.accumulate(x.reshape(1), (0,)), [x], [plain])


@given(pairs(shapes(3, 4, min_dims=1), dtypes("biu")), st.integers(-3, 3), st.booleans())
@settings(max_examples=50)
def test_with_what_comes_before_the_first(engine, pair, axis, initial):
    for function in (np.cumulative_sum, np.cumulative_prod):
        check(
            lambda x, function=function: function(x, axis=axis, include_initial=initial),
            *([one] for one in pair),
        )


def test_initial_values_into_out(engine):
    for make in (np.zeros, da.zeros):
        out = make((2, 4))
        found = np.cumulative_sum(da.ones((2, 3), blocks=1), axis=1, out=out, include_initial=True)
        assert found is out
        assert np.asarray(out).tolist() == [[0, 1, 2, 3]] * 2


@given(st.data(), pairs(shapes(3, 4), dtypes("biuMm")), st.integers(0, 3), st.integers(-3, 3))
@settings(max_examples=60)
def test_differences(engine, data, pair, times, axis):
    ends = {}
    for name in ("prepend", "append"):
        if data.draw(st.booleans()) and pair[1].dtype.kind not in "Mm":
            ends[name] = data.draw(st.sampled_from([pair[1].dtype.type(1), pair[1]]))
    check(lambda x: np.diff(x, times, axis, **ends), *([one] for one in pair))
    if pair[1].dtype.kind in "iu":
        flat = {name.replace("end", "begin")[:8]: one for name, one in ends.items()}
        flat = dict(zip(["to_begin", "to_end"], flat.values(), strict=False))
        check(lambda x: np.ediff1d(x, **flat), *([one] for one in pair))


@given(st.data(), pairs(shapes(3, 6, min_dims=1, min_side=1), "i8", st.integers(-9, 9)))
@settings(max_examples=50)
def test_parts_of_scans(engine, data, pair):
    """Only the chunks up to the last that is wanted are computed."""
    axis = data.draw(st.integers(0, pair[1].ndim - 1))
    key = tuple(data.draw(st.integers(0, length - 1)) for length in pair[1].shape)
    for ufunc in (np.add, np.subtract):
        found = ufunc.accumulate(pair[0], axis)[key]
        assert int(found) == ufunc.accumulate(pair[1], axis)[key]


def scanned(lazy, axis, ufunc=np.add):
    planner = Planner()
    node = accumulate(ufunc, lazy.expression, axis)
    planner.want_all(node)
    return node, planner.run()


@pytest.mark.parametrize("ufunc", [np.add, np.subtract])
def test_tasks(ufunc):
    x = da.zeros((1000, 8), blocks=(10, 2)) + 1
    node, plan = scanned(x, 0, ufunc)
    drafts = [draft for draft in plan.drafts() if draft.key[0] is node]
    # The first of each line is done at once; joins are tasks of their own.
    assert len(drafts) == 4 * (199 if ufunc is np.add else 100)
    assert max(len(draft.needs) for draft in drafts) <= 2
    assert all(stage.memory <= 10 * 2 * 8 * 5 for stage in plan.stages)


def test_only_what_comes_before_is_computed(engine):
    calls = []
    x = da.arange(100, blocks=10).map_blocks(lambda block: calls.append(1) or block)
    assert int(np.cumsum(x)[35]) == sum(range(36))
    assert len(calls) == 4


def test_scans_are_kept(engine):
    calls = []
    x = da.arange(100, blocks=10).map_blocks(lambda block: calls.append(1) or block)
    total = np.cumsum(x)
    assert same_arrays(total.collect(), np.cumsum(np.arange(100)))
    assert same_arrays((total * 2).collect(), 2 * np.cumsum(np.arange(100)))
    assert len(calls) == 10
    assert isinstance(total.expression, Scan)


def test_the_same_bits_on_any_number_of_threads():
    plain = np.random.default_rng(0).random((40, 500)).astype("f4")
    found = []
    for engine, threads in (("serial", None), ("threads", 1), ("threads", 2), ("threads", 7)):
        da.configure(engine=engine, threads=threads)
        lazy = da.distribute(plain, (7, 30))
        found.append([np.cumsum(lazy).collect(), np.cumprod(lazy + 0.5, axis=1).collect()])
    da.configure(engine="threads", threads=None)
    for others in found[1:]:
        assert all(same_arrays(a, b) for a, b in zip(found[0], others, strict=True))
    assert same_arrays(found[0][1], np.cumprod(plain + 0.5, axis=1))


def test_a_scan_larger_than_memory_runs_within_it():
    da.configure(engine="threads", threads=2, memory_limit="200MB")
    rows = da.ones((60, 500_000), blocks=(1, 500_000))
    assert float(np.cumsum(rows, axis=0).max()) == 60
    flat = da.ones(30_000_000, blocks=500_000)
    assert float(np.cumsum(flat)[-1]) == 30_000_000
    assert math.isclose(float(np.cumprod(flat * 1.0)[::100].sum()), 300_000)
    da.configure(engine="threads", threads=None, memory_limit=None)
