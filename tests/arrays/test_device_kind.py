"""Functions of arrays on a device whose arrays do not mix with NumPy's, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray.blocks import chunk_count
from tests.arrays.agreement import check, same_arrays
from tests.arrays.devices import Moves, on_devices
from tests.arrays.test_programs import check_program

pytestmark = pytest.mark.usefixtures("engine", "device")


@pytest.fixture(scope="module")
def device(engine):
    """Everything is computed on two devices."""
    with on_devices(2):
        yield


GENERATOR = np.random.default_rng(7)
A = GENERATOR.standard_normal((192, 176))
B = GENERATOR.standard_normal((192, 176))
WITH_NAN = np.where(A > 1, np.nan, A)
INTEGERS = GENERATOR.integers(-9, 9, (192, 176))
COMPLEX = A + 1j * B

ELEMENTWISE = {
    "one call": lambda x, y: np.sin(x),
    "a fused program": lambda x, y: np.sqrt(x * x + y * y) - 2 / (1 + x**2),
    "operators": lambda x, y: -x + y * 3 - 1.5 // (abs(y) + 1),
    "comparison": lambda x, y: (x > 0) & ~(y <= x),
    "where": lambda x, y: np.where(x > 0.5, x * 2 + 1, y - 3),
    "a choice of scalars": lambda x, y: np.where(x > 0, 1, -1),
    "clip": lambda x, y: np.clip(x, -0.5, 0.5),
    "cast": lambda x, y: (x * 100).astype("i2") + y.astype("f4"),
    "a broadcast row": lambda x, y: x + y[:1],
    "a broadcast column": lambda x, y: x * y[:, 3:4],
    "a scalar of NumPy": lambda x, y: x.astype("f4") * np.float32(3),
    "a masked call": lambda x, y: np.add(x, y, where=x > 0, out=x * 0),
    "several results": lambda x, y: np.modf(x)[1] + np.divmod(y, 0.3)[0],
    "rounding": lambda x, y: np.round(x, 2),
    "the same twice": lambda x, y: (x + y) * (x + y),
    "shifted": lambda x, y: x[1:-1] + x[2:] + x[:-2],
}

VIEWS = {
    "slices": lambda x: x[3:50:7, ::-1],
    "an integer": lambda x: x[17],
    "one element": lambda x: x[-1, 5],
    "new axes": lambda x: x[:, None, 2:9],
    "turned": lambda x: x.T,
    "turned and computed": lambda x: x.T[::2] + 1,
    "squeezed": lambda x: np.squeeze(x[:1] * 2),
    "repeated": lambda x: np.broadcast_to(x[0], (3, 176)) * 1,
    "flipped": lambda x: np.flip(x) * 1,
}

SHAPES = {
    "reshaped": lambda x: x.reshape(176, 192),
    "in a row": lambda x: (x + 1).reshape(-1),
    "joined": lambda x: np.concatenate([x, x + 1], axis=1),
    "stacked": lambda x: np.stack([x, -x]),
    "scanned": lambda x: np.cumsum(x, axis=0),
    "scanned in another way": lambda x: np.cumprod(np.abs(x) / 2 + 0.5, axis=1),
    "differences": lambda x: np.diff(x, axis=0),
}

REDUCTIONS = ["sum", "prod", "min", "max", "mean", "var", "std", "argmin", "argmax", "any", "all"]
NAN_REDUCTIONS = ["nansum", "nanprod", "nanmin", "nanmax", "nanmean", "nanvar", "nanstd"]

PRODUCTS = {
    "matmul": lambda x, y: x.T @ y,
    "dot": lambda x, y: np.dot(x, y.T),
    "tensordot": lambda x, y: np.tensordot(x, y, 2),
    "by a vector": lambda x, y: x @ y[0],
    "of computed": lambda x, y: (x + 1).T @ np.sin(y),
    "complex": lambda x, y: np.vdot(x + 1j * y, y),
}


def cut(array):
    return da.distribute(array, da.Blocks(64, 44))


def checked(build, *arrays, within=0.0):
    """Check ``build`` against NumPy: values, and that nothing comes home but the result."""
    expected = np.asarray(build(*arrays))
    result = build(*map(cut, arrays))
    assert isinstance(result, da.DArray)
    with Moves() as moves:
        found = result.collect()
    if within:
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(found, expected, rtol=within, atol=within)
    else:
        assert same_arrays(found, expected)
    assert sum(moves.home) == expected.nbytes
    assert len(moves.home) <= chunk_count(result.expression.chunks)
    assert moves.home


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_functions_of_elements(name):
    checked(ELEMENTWISE[name], A, B)


@pytest.mark.parametrize("array", [A, INTEGERS, COMPLEX], ids=["f8", "i8", "c16"])
@pytest.mark.parametrize("name", VIEWS)
def test_views(name, array):
    # Of what is computed: a view of an array in memory needs no device.
    checked(lambda x: VIEWS[name](x * 2), array)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name):
    checked(lambda x: SHAPES[name](x * 2), A)


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name, axis):
    if axis == (0, 1) and name.startswith("arg"):
        axis = -1
    for array in (A, INTEGERS, A.astype("f4"), COMPLEX):
        if array is COMPLEX and name == "prod":
            continue
        rounds = array.dtype.kind in "fc" and name in ("sum", "prod", "mean", "var", "std")
        rounds = rounds or name in ("mean", "var", "std")
        within = (1e-4 if array.dtype == "f4" else 1e-12) if rounds else 0.0
        checked(lambda x: getattr(np, name)(x, axis=axis), array, within=within)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", NAN_REDUCTIONS)
def test_reductions_that_skip_nan(name, keepdims):
    for axis in (None, 0):
        checked(
            lambda x: getattr(np, name)(x, axis=axis, keepdims=keepdims),  # noqa: B023
            WITH_NAN,
            within=1e-12,
        )


@pytest.mark.parametrize("name", ["sum", "mean", "std", "max", "any"])
def test_masked_reductions(name):
    given = {"initial": -9.0} if name == "max" else {}
    checked(lambda x, y: getattr(np, name)(x, axis=0, where=y > 0, **given), A, B, within=1e-12)


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("largest", [False, True])
def test_the_first_of_equal_extremes(largest, skips):
    array = GENERATOR.integers(0, 3, (192, 176)).astype(float)
    array[::7, 3] = np.nan
    array[5] = -np.inf if largest else np.inf
    function = getattr(np, ("nanarg" if skips else "arg") + ("max" if largest else "min"))
    for axis in (None, 0, 1):
        checked(lambda x: function(x, axis=axis), array)  # noqa: B023


def test_several_reductions_in_one_pass():
    x = cut(A)
    with Moves() as moves:
        found = da.compute(x.min(), x.mean(), x.std(), x.argmax())
    assert len(moves.home) == 4
    assert len(moves.out) == x.size // (64 * 44)
    np.testing.assert_allclose(found, [A.min(), A.mean(), A.std(), A.argmax()], rtol=1e-13)


def test_counts_and_initial_values():
    checked(lambda x: np.count_nonzero(x, axis=1), INTEGERS)
    checked(lambda x: np.sum(x, axis=0, initial=5), INTEGERS)
    checked(lambda x: np.sum(x, dtype="i2"), INTEGERS)
    checked(lambda x: np.add.reduce(x, axis=(0, 1)), INTEGERS)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name):
    checked(PRODUCTS[name], A, B, within=1e-12)


def test_products_in_few_and_many_pieces():
    for blocks in (37, 192, (192, 15), (35, 176)):
        x = da.distribute(A, blocks)
        np.testing.assert_allclose((x.T @ x).collect(), A.T @ A, rtol=1e-12, atol=1e-12)
        assert same_arrays(
            (x.astype("i4").T @ x.astype("i4")).collect(), A.astype("i4").T @ A.astype("i4")
        )


@pytest.mark.parametrize("blocks", [(17, 176), (192, 9), (3, 176), (192, 176), (53, 47)])
def test_cut_anew(blocks):
    checked(lambda x: (x + 1).rechunk(blocks) if isinstance(x, da.DArray) else x + 1, A)
    kept = (cut(A) * 2).persist()
    assert same_arrays(kept.rechunk(blocks).collect(), A * 2)


def test_assignment():
    x, plain = cut(A).copy(), A.copy()
    for key, value in (
        ((slice(3, 20), slice(5, 9)), 7.0),
        ((slice(None, None, 5),), B[::5]),
        ((..., -1), B[:, 0]),
        ((plain > 1,), 0.0),
        (([3, 3, 50],), B[:3]),
    ):
        x[key], plain[key] = value, value
        x[1:3] += 1
        plain[1:3] += 1
    with Moves() as moves:
        assert same_arrays(x.collect(), plain)
    assert sum(moves.home) == A.nbytes


def test_positions_and_masks():
    x = (cut(A) * 2).persist()
    rows = np.array([50, 3, 3, -1, 20])
    for key in (rows, (rows, rows % 43), (slice(None), rows % 43), np.ix_(rows, [1, 80])):
        with Moves() as moves:
            found = x[key].collect()
        assert same_arrays(found, (A * 2)[key])
        assert sum(moves.home) == found.nbytes
    with Moves() as moves:
        found = x[x > 1].collect()
    assert same_arrays(found, (A * 2)[A * 2 > 1])
    # The counts of the mask as well, by which the shape is known.
    assert found.nbytes < sum(moves.home) < found.nbytes + x.nbytes / 8
    assert same_arrays(np.take(x, rows, axis=1).collect(), np.take(A * 2, rows, axis=1))


def test_what_is_made_from_nothing():
    for made, plain in (
        (da.zeros((30, 40), blocks=7), np.zeros((30, 40))),
        (da.full((30, 40), 3, dtype="i2", blocks=7), np.full((30, 40), 3, "i2")),
        (da.arange(100, blocks=7), np.arange(100)),
        (da.linspace(0, 1, 33, blocks=7), np.linspace(0, 1, 33)),
        (da.eye(20, blocks=6), np.eye(20)),
        (da.asarray(A, blocks=20), A),
    ):
        with Moves() as moves:
            assert same_arrays((made + 1).collect(), plain + 1)
        assert sum(moves.home) == (plain + 1).nbytes
    with Moves() as moves:
        assert float(da.ones((1000, 1000), blocks=100).sum()) == 1e6
    assert set(moves.out) == {8}, "of what is the same everywhere one element goes there"


def test_random_draws_are_those_of_the_host():
    def drawn():
        rng = da.random.default_rng(3)
        return [
            rng.random((50, 40), blocks=20),
            rng.normal(np.arange(40.0), 2, (50, 40), blocks=20),
            rng.integers(0, 9, (50, 40), blocks=20),
            rng.permutation(cut(A)),
            rng.normal(cut(A), 1.0),
        ]

    here = [one.collect() for one in drawn()]
    with da.options(scope=da.scope(kind="cpu")):
        elsewhere = [one.collect() for one in drawn()]
    assert all(map(same_arrays, here, elsewhere))


def test_functions_of_blocks_are_given_arrays_of_the_device():
    seen = []

    def twice(block):
        seen.append(type(block).__name__)
        return block * 2

    assert same_arrays(cut(A).map_blocks(twice).collect(), A * 2)
    assert seen == ["SeparateArray"] * 12


def test_floating_point_errors():
    with np.errstate(all="warn"):
        divided = cut(A) / 0
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert same_arrays(divided.collect(), np.where(A < 0, -np.inf, np.inf))
    with np.errstate(all="raise"):
        raised = np.log(cut(A) * 0)
    with pytest.raises(FloatingPointError, match="divide by zero"):
        raised.collect()
    with np.errstate(all="ignore"):
        nothing = da.zeros((0, 3)).mean(axis=0)
    with pytest.warns(RuntimeWarning, match="Mean of empty slice"):
        assert np.isnan(nothing.collect()).all()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1, 1)])
def test_few_elements(shape):
    plain = np.ones(shape)
    x = da.distribute(plain)
    assert same_arrays((x + 1).collect(), plain + 1)
    assert same_arrays(x.sum().collect(), np.asarray(plain.sum()))
    assert same_arrays((x * 2).T.collect(), (plain * 2).T)


@given(st.data())
@settings(max_examples=100)
def test_programs(data):
    check_program(data)


@given(st.data())
@settings(max_examples=30)
def test_chains_of_floats(data):
    functions = st.sampled_from([np.add, np.divide, np.maximum, np.arctan2, np.hypot, np.fmod])
    chain = data.draw(st.lists(functions, min_size=2, max_size=6))

    def run(x, y):
        for function in chain:
            x = function(x, y)
        return x

    check(run, (cut(A), cut(WITH_NAN)), (A, WITH_NAN), {"all": "warn"})
