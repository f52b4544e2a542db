"""Functions of arrays on a device whose arrays do not mix with NumPy's, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray.lowering.hulls import Hull
from darray.testing.device_programs import PROGRAMS, agree, check_program
from darray.testing.separate_memory import KIND
from tests.arrays import test_programs as programs
from tests.arrays.agreement import check, same_arrays
from tests.arrays.devices import moves, on_devices

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

REDUCTIONS = ["sum", "prod", "min", "max", "mean", "var", "std", "argmin", "argmax", "any", "all"]
NAN_REDUCTIONS = ["nansum", "nanprod", "nanmin", "nanmax", "nanmean", "nanvar", "nanstd"]


def cut(array):
    return da.distribute(array, da.Blocks(64, 44))


def checked(build, *arrays, within=0.0):
    """Check ``build`` against NumPy: values, and that nothing comes home but the result."""
    agree(build, arrays, KIND, da.Blocks(64, 44), within)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_every_device_is_held_to(name):
    check_program(name, KIND)


@pytest.mark.parametrize("array", [INTEGERS, COMPLEX, A.astype("f4")], ids=["i8", "c16", "f4"])
def test_views_of_other_numbers(array):
    checked(lambda x: (x * 2)[3:50:7, ::-1].T, array)
    checked(lambda x: np.concatenate([x, x[::-1]])[:, None, 2:9], array)
    checked(lambda x: (x + 1).reshape(-1), array)


def test_neighbours_on_an_irregular_cut(monkeypatch):
    """What hardly two tasks read alike is put together on the device, too."""
    sides = [tuple(range(4, 20)), tuple(range(3, 19))]
    gather, gathered = Hull.gather, []

    def noted(hull):
        gathered.append(hull)
        return gather(hull)

    def stencil(x):
        sums = np.cumsum(x, axis=0)
        around = sums[1:-1, 1:-1] - sums[:-2, 1:-1] + sums[2:, 1:-1]
        return around * sums[1:-1, ::-1][:, 1:-1]

    monkeypatch.setattr(Hull, "gather", noted)
    agree(stencil, [INTEGERS[: sum(sides[0]), : sum(sides[1])]], KIND, da.Blocks(*sides), 0.0)
    assert gathered


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
    with moves() as moved:
        found = da.compute(x.min(), x.mean(), x.std(), x.argmax())
    assert len(moved.home) == 4
    assert len(moved.out) == x.size // (64 * 44)
    np.testing.assert_allclose(found, [A.min(), A.mean(), A.std(), A.argmax()], rtol=1e-13)


def test_counts_and_initial_values():
    checked(lambda x: np.count_nonzero(x, axis=1), INTEGERS)
    checked(lambda x: np.sum(x, axis=0, initial=5), INTEGERS)
    checked(lambda x: np.sum(x, dtype="i2"), INTEGERS)
    checked(lambda x: np.add.reduce(x, axis=(0, 1)), INTEGERS)


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
    with moves() as moved:
        assert same_arrays(x.collect(), plain)
    assert sum(moved.home) == A.nbytes


def test_positions_and_masks():
    x = (cut(A) * 2).persist()
    rows = np.array([50, 3, 3, -1, 20])
    for key in (rows, (rows, rows % 43), (slice(None), rows % 43), np.ix_(rows, [1, 80])):
        with moves() as moved:
            found = x[key].collect()
        assert same_arrays(found, (A * 2)[key])
        assert sum(moved.home) == found.nbytes
    with moves() as moved:
        found = x[x > 1].collect()
    assert same_arrays(found, (A * 2)[A * 2 > 1])
    # The counts of the mask as well, by which the shape is known.
    assert found.nbytes < sum(moved.home) < found.nbytes + x.nbytes / 8
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
        with moves() as moved:
            assert same_arrays((made + 1).collect(), plain + 1)
        assert sum(moved.home) == (plain + 1).nbytes
    with moves() as moved:
        assert float(da.ones((1000, 1000), blocks=100).sum()) == 1e6
    assert set(moved.out) == {8}, "of what is the same everywhere one element goes there"


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
    programs.check_program(data)


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
