"""To and from NumPy's arrays, DLPack and lists; comparisons and texts of whole arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from tests.arrays.agreement import check, same_arrays
from tests.arrays.drawing import operands, pairs

PLAIN = np.arange(12.0).reshape(3, 4)

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def x():
    return da.distribute(PLAIN, da.Blocks(2, 3))


# NumPy's array protocol


def test_arrays_are_fresh_and_cast(x):
    for made in (np.asarray(x), np.array(x), np.array(x, copy=True), np.asarray(x, copy=None)):
        assert same_arrays(made, PLAIN)
    for dtype in ("f4", "i2", "c16", "U", "O", "?"):
        assert same_arrays(np.asarray(x, dtype), PLAIN.astype(dtype))
        assert same_arrays(np.array(x, dtype, copy=True), PLAIN.astype(dtype))
    for call in (
        lambda: np.asarray(x, copy=False),
        lambda: np.array(x, copy=False),
        lambda: np.asarray(x, "f4", copy=False),
    ):
        with pytest.raises(ValueError, match="without a copy"):
            call()
    dates = da.distribute(np.array(["2020-01-01", "NaT"], "M8[D]"), 1)
    assert same_arrays(np.asarray(dates, "M8[s]"), np.asarray(dates).astype("M8[s]"))


@pytest.mark.filterwarnings("error")
def test_what_a_cast_loses_is_warned_of():
    z = da.distribute(np.array([1j, 2]), 1)
    with pytest.warns(np.exceptions.ComplexWarning):
        np.asarray(z, float)


# DLPack


@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u8", "c16", "?"])
def test_dlpack_both_ways(dtype):
    plain = np.arange(12).reshape(3, 4).astype(dtype)
    lazy = da.distribute(plain, da.Blocks(2, 3))
    assert lazy.__dlpack_device__() == plain.__dlpack_device__()
    taken = np.from_dlpack(lazy)
    np.testing.assert_array_equal(taken, plain)
    assert taken.dtype == plain.dtype
    assert taken.flags.writeable
    for options in ({"copy": True}, {"device": "cpu"}, {"device": "cpu", "copy": None}):
        np.testing.assert_array_equal(np.from_dlpack(lazy[::-1], **options), plain[::-1])
    for back in (da.from_dlpack(plain.T, blocks=(2, 2)), da.from_dlpack(lazy.T, blocks=(2, 2))):
        assert back.chunks == ((2, 2), (2, 1))
        np.testing.assert_array_equal(back, plain.T)


class Exported:
    """An object of another library, old or new, with nothing but DLPack."""

    def __init__(self, array, device=(1, 0)):
        self.array, self.device, self.asked = array, device, []

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **options):
        self.asked.append(options)
        return self.array.__dlpack__()


def test_dlpack_captures_values():
    plain = np.arange(4)
    lazy = da.from_dlpack(Exported(plain), blocks=2)
    plain[:] = 0
    assert lazy.tolist() == [0, 1, 2, 3]
    read_only = np.arange(4)
    read_only.flags.writeable = False
    assert da.from_dlpack(read_only).tolist() == [0, 1, 2, 3]


def test_dlpack_brings_values_from_a_device():
    array = Exported(np.arange(3.0), device=(2, 0))
    assert da.from_dlpack(array, device="cpu").tolist() == [0.0, 1.0, 2.0]
    assert array.asked[-1]["dl_device"] == (1, 0)


@pytest.mark.parametrize("version", [None, (1, 0), (0, 8)])
def test_dlpack_of_any_version(x, version):
    capsule = x.__dlpack__(max_version=version)
    name = "dltensor_versioned" if version == (1, 0) else "dltensor"
    assert f'"{name}"' in repr(capsule)


# Making arrays


def test_asarray_keeps_what_is_one(x):
    assert da.asarray(x) is x
    assert da.asarray(x, dtype=float) is x
    assert da.asarray(x, copy=True) is not x
    assert da.asarray(x, "f4").dtype == "f4"
    assert da.asarray(x, blocks=1).chunks == ((1, 1, 1), (1, 1, 1, 1))
    assert da.array(x) is not x
    plain = PLAIN.copy()
    lazy = da.asarray(plain, blocks=2)
    plain[:] = 0
    assert same_arrays(lazy.collect(), PLAIN)
    assert same_arrays(da.array([1, 2], float, ndmin=2).collect(), np.array([[1.0, 2.0]]))
    assert same_arrays(np.copy(x).collect(), PLAIN)
    assert same_arrays(da.ascontiguousarray(3).collect(), np.ascontiguousarray(3))


LIKE = {
    "array": lambda like: np.array([[1, 2]], "f4", ndmin=3, like=like),
    "array of an array": lambda like: np.array(PLAIN, like=like),
    "asarray": lambda like: np.asarray([1, 2], dtype=float, like=like),
    "asanyarray": lambda like: np.asanyarray([1, 2], like=like),
    "ascontiguousarray": lambda like: np.ascontiguousarray(5, like=like),
    "zeros": lambda like: np.zeros((2, 3), int, "C", like=like),
    "ones": lambda like: np.ones(3, like=like),
    "empty": lambda like: np.empty(0, "i2", order="F", like=like),
    "full": lambda like: np.full((2,), 7, like=like),
    "full of a dtype": lambda like: np.full((2,), 7, "f4", device="cpu", like=like),
    "eye": lambda like: np.eye(3, 4, 1, int, like=like),
    "arange": lambda like: np.arange(1, 8, 2, like=like),
    "arange of a dtype": lambda like: np.arange(4, dtype="f4", device="cpu", like=like),
}


@pytest.mark.parametrize("name", LIKE)
def test_creation_like_an_array(x, name):
    made = LIKE[name](x)
    assert isinstance(made, da.DArray)
    assert same_arrays(made.collect(), LIKE[name](None))


@pytest.mark.parametrize("num", [0, 1, 2, 5])
@pytest.mark.parametrize("endpoint", [True, False])
def test_linspace_tells_its_step(num, endpoint):
    values, step = da.linspace(1, 4, num, endpoint, True)
    expected, expected_step = np.linspace(1, 4, num, endpoint, True)
    assert same_arrays(values.collect(), expected)
    assert step == expected_step or np.isnan(step)
    assert type(step) is type(expected_step)
    assert np.isnan(step) == np.isnan(expected_step)


# Small gaps


def test_astype_takes_what_numpys_takes(x):
    assert x.astype(float, copy=False) is x
    assert x.astype("f4", copy=False).dtype == "f4"
    assert x.astype(float) is not x
    assert same_arrays(x.astype("i4", "F", "unsafe", False, True).collect(), PLAIN.astype("i4"))
    assert np.astype(x, float, copy=False) is x
    with pytest.raises(TypeError, match="according to the rule 'safe'"):
        x.astype("i4", "C", "safe")


def test_dtypes_are_told(x):
    for to in ("f8", "f4", "i8", "c16"):
        assert np.can_cast(x, to) == np.can_cast(x.dtype, to)
    assert np.can_cast(x, "i4", "unsafe")
    assert np.result_type(x, np.float32, 1) == np.float64
    assert not np.isscalar(x.sum())


def test_round_into_an_array(x):
    out = np.zeros((3, 4))
    assert np.round(x / 3, 1, out=out) is out
    assert same_arrays(out, np.round(PLAIN / 3, 1))
    assert same_arrays((x / 3).round(2).collect(), (PLAIN / 3).round(2))


@pytest.mark.parametrize("name", ["var", "std", "nanvar", "nanstd"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "c8", "?"])
@pytest.mark.parametrize("where", [True, np.arange(4) > 1, np.zeros(4, bool)])
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("ddof", [0, 1, 20])
@pytest.mark.filterwarnings("ignore:Degrees of freedom", "ignore:invalid", "ignore:divide")
def test_spread_about_a_given_mean(name, dtype, where, axis, ddof):
    plain = (PLAIN % 5).astype(dtype)
    if name.startswith("nan") and plain.dtype.kind in "fc":
        plain[1, 2] = plain[0, 0] = np.nan
    function = getattr(np, name)
    mean = np.nanmean(plain, axis=axis, keepdims=True) + 0.25
    options = {"axis": axis, "mean": mean, "where": where, "ddof": ddof}
    expected = np.asarray(function(plain, **options))
    found = function(da.distribute(plain, (2, 3)), **options)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.collect(), expected, rtol=1e-6)
    also = function(da.distribute(plain, 1), **{**options, "mean": da.distribute(mean, 1)})
    np.testing.assert_allclose(also.collect(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["var", "nanvar"])
def test_a_given_mean_warns_as_numpy_does(name):
    plain = np.ones((2, 2))
    function = getattr(np, name)
    check(
        lambda a: function(a, axis=0, ddof=2, mean=np.ones((1, 2))),
        (da.distribute(plain, 1),),
        (plain,),
    )


# Comparisons


@given(pair=operands(2), equal_nan=st.booleans(), tolerance=st.sampled_from([1e-5, 0.5, 0.0]))
def test_isclose(pair, equal_nan, tolerance):
    lazy, plain = pair
    check(
        lambda a, b: np.isclose(a, b, tolerance, tolerance, equal_nan),
        lazy,
        plain,
        {"over": "ignore", "under": "ignore"},
    )


@settings(max_examples=30)
@given(pair=pairs(dtype=np.dtype("f4")), equal_nan=st.booleans())
def test_whole_arrays_compare(pair, equal_nan):
    lazy, plain = pair
    changed = plain + (1 - np.isnan(plain)).astype("f4")
    for other in (plain, plain.copy(), changed, plain[None], plain.astype("f8"), lazy + 0):
        theirs = plain if isinstance(other, da.DArray) else other
        for ours, expected in (
            (np.array_equal(lazy, other, equal_nan), np.array_equal(plain, theirs, equal_nan)),
            (np.array_equal(other, lazy), np.array_equal(theirs, plain)),
            (np.array_equiv(lazy, other), np.array_equiv(plain, theirs)),
            (np.allclose(lazy, other, equal_nan=True), np.allclose(plain, theirs, equal_nan=True)),
        ):
            assert isinstance(ours, bool)
            assert ours is expected
    assert not np.array_equal(lazy, np.zeros((7, 7, 7, 7, 7)))
    assert np.array_equiv(da.ones((2, 3)), 1)
    assert not np.array_equiv(da.ones((2, 3)), np.ones(2))


@pytest.mark.parametrize("value", ["text", np.datetime64("2020-01-01")])
def test_kinds_that_do_not_compare_are_unequal(x, value):
    assert not np.array_equal(x, np.full((3, 4), value))


def test_tolerances_are_checked_by_numpy(x):
    with pytest.warns(RuntimeWarning, match="not valid"):
        np.isclose(x, x, rtol=np.inf)


# Texts


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5,), (3, 4), (1001,), (30, 40), (2, 3, 400)])
@pytest.mark.parametrize("dtype", ["f8", "i4", "c16", "U5", "M8[D]", "?"])
def test_texts_are_numpys(shape, dtype):
    plain = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    lazy = da.distribute(plain, 100)
    assert np.array_str(lazy) == str(lazy) == np.array_str(plain)
    assert np.array_repr(lazy) == np.array_repr(plain)
    for options in (
        {"separator": ", "},
        {"threshold": 5, "edgeitems": 1},
        {"threshold": 5, "edgeitems": 2, "max_line_width": 30},
        {"threshold": 10**6, "precision": 2},
    ):
        assert np.array2string(lazy, **options) == np.array2string(plain, **options)
    with np.printoptions(threshold=4, edgeitems=1, precision=2):
        assert str(lazy) == str(plain)
        assert np.array_repr(lazy, 20, 3, True) == np.array_repr(plain, 20, 3, True)
