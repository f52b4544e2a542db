"""Operands of other kinds: lists, SciPy's sparse arrays, pandas, what NumPy cannot read."""

import operator
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import darray as da
from tests.arrays.agreement import same_arrays

PLAIN = np.arange(12.0).reshape(3, 4) + 1
SERIES = pd.Series([1.0, 2.0, 3.0, 4.0], index=list("abcd"), name="s")
FRAME = pd.DataFrame(PLAIN * 2, columns=list("abcd"))
SPARSE = np.eye(3, 4)

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def x():
    return da.distribute(PLAIN, da.Blocks(2, 3))


OPERATORS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
    operator.mod,
    operator.eq,
    operator.ne,
    operator.lt,
    operator.ge,
]


@pytest.mark.parametrize("function", OPERATORS)
@pytest.mark.parametrize(
    "foreign",
    [
        *(SERIES, FRAME, SERIES.astype("Int64"), pd.array([1.0, 2.0, None, 4.0])),
        *(pd.Index([1.0, 2.0, 3.0, 4.0]), SERIES.astype("float32")),
    ],
    ids=["series", "frame", "nullable", "extension array", "index", "single"],
)
def test_pandas_answers_on_either_side(x, function, foreign):
    lazy, plain = (x, PLAIN) if foreign is FRAME else (x[1], PLAIN[1])
    for arguments, expected in (
        ((lazy, foreign), function(plain, foreign)),
        ((foreign, lazy), function(foreign, plain)),
    ):
        result = function(*arguments)
        assert type(result) is type(expected)
        if isinstance(expected, pd.DataFrame):
            pd.testing.assert_frame_equal(result, expected)
        elif isinstance(expected, pd.Series):
            pd.testing.assert_series_equal(result, expected)
        else:
            pd.testing.assert_series_equal(pd.Series(result), pd.Series(expected))


def test_pandas_in_ufuncs_and_with_numbers(x):
    row, plain = x[0], PLAIN[0]
    pd.testing.assert_series_equal(np.hypot(SERIES, row), np.hypot(SERIES, plain))
    pd.testing.assert_series_equal(np.hypot(row, SERIES), np.hypot(plain, SERIES))
    pd.testing.assert_series_equal(SERIES - x.mean(), SERIES - PLAIN.mean())
    pd.testing.assert_frame_equal(x.mean() - FRAME, PLAIN.mean() - FRAME)
    pd.testing.assert_frame_equal(FRAME + row, FRAME + plain)
    for ours, theirs in zip(divmod(SERIES, row), divmod(SERIES, plain), strict=True):
        pd.testing.assert_series_equal(ours, theirs)
    out = np.zeros(4)
    np.add(row, SERIES, out=out)
    assert same_arrays(out, plain + SERIES.to_numpy())
    with pytest.raises(TypeError, match="to_numpy"):
        np.add(row, SERIES, out=da.zeros(4))


def test_pandas_reads_darrays(x):
    pd.testing.assert_series_equal(pd.Series(x[0]), pd.Series(PLAIN[0]))
    pd.testing.assert_frame_equal(pd.DataFrame(x), pd.DataFrame(PLAIN))
    pd.testing.assert_frame_equal(FRAME.assign(a=x[:, 0]), FRAME.assign(a=PLAIN[:, 0]))


def test_a_result_that_pandas_cannot_hold_is_refused(x):
    computed = x.map_blocks(lambda block: 1 / 0)
    for function in (lambda: computed + SERIES, lambda: SERIES + computed):
        with pytest.raises(TypeError, match=r"cannot hold.*to_numpy"):
            function()
    with pytest.raises(ValueError, match="shape"):
        _ = computed[0] + SERIES[:2]


def test_the_values_of_pandas_are_read(x):
    row = PLAIN[0]
    assert same_arrays(da.distribute(SERIES, 2).collect(), SERIES.to_numpy())
    assert same_arrays(da.distribute(FRAME, 2).collect(), FRAME.to_numpy())
    assert same_arrays((x[0] + np.asarray(SERIES)).collect(), row + SERIES.to_numpy())
    assert same_arrays(np.where(SERIES > 2, x[0], 0).collect(), np.where(SERIES > 2, row, 0))
    assert same_arrays(np.clip(x[0], SERIES, None).collect(), np.maximum(row, SERIES.to_numpy()))
    assert same_arrays(np.concatenate([x[0], SERIES]).collect(), np.concatenate([row, SERIES]))
    assert float(x[0].sum(where=SERIES > 2)) == row[2:].sum()


@pytest.mark.parametrize(
    "value",
    [
        pd.Series(list("ab")),
        pd.DataFrame({"a": [1, 2], "b": list("uv")}),
        pd.Series(pd.Categorical(list("ab"))),
        pd.Series([pd.Timestamp("2020", tz="UTC")]),
    ],
    ids=["text", "mixed", "categories", "time zones"],
)
def test_columns_of_objects_are_refused(value):
    with pytest.raises(TypeError, match="to_numpy"):
        da.distribute(value)


@pytest.mark.parametrize("make", ["csr_array", "coo_array", "dia_array", "lil_array", "csc_array"])
def test_scipy_answers_where_the_result_is_no_denser(x, make):
    sparse = getattr(scipy.sparse, make)(SPARSE)
    for result in (x * sparse, sparse * x, np.multiply(x, sparse)):
        assert scipy.sparse.issparse(result)
        np.testing.assert_array_equal(result.toarray(), PLAIN * SPARSE)
    for result in (x.mean() * sparse, sparse * x.mean(), sparse / (1 / x.mean())):
        assert scipy.sparse.issparse(result)
        np.testing.assert_allclose(result.toarray(), PLAIN.mean() * SPARSE)
    np.testing.assert_array_equal(sparse @ x.T, SPARSE @ PLAIN.T)
    np.testing.assert_array_equal(x @ sparse.T, PLAIN @ SPARSE.T)
    np.testing.assert_array_equal(sparse @ x[1], SPARSE @ PLAIN[1])
    np.testing.assert_array_equal(x[:, 1] @ sparse, PLAIN[:, 1] @ SPARSE)
    np.testing.assert_array_equal(x.T @ sparse, PLAIN.T @ SPARSE)


@pytest.mark.parametrize("function", [operator.add, operator.sub, operator.truediv, operator.lt])
def test_what_would_make_sparse_arrays_dense_is_refused(x, function):
    sparse = scipy.sparse.csr_array(SPARSE)
    for arguments in ((x, sparse), (sparse, x)):
        with pytest.raises(TypeError, match=r"sparse\.toarray\(\).*np\.asarray\(x\)"):
            function(*arguments)
    for call in (
        lambda: x == sparse,
        lambda: np.where(x > 1, x, sparse),
        lambda: np.concatenate([x, sparse]),
        lambda: np.clip(x, sparse, None),
        lambda: da.distribute(sparse),
        lambda: da.asarray(sparse),
        lambda: x.sum(where=sparse),
    ):
        with pytest.raises(TypeError, match="sparse"):
            call()


def test_matrices_are_refused(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.asmatrix(SPARSE)
        for call in (lambda: x * matrix, lambda: matrix * x, lambda: x == matrix):
            with pytest.raises(TypeError, match=r"np\.asarray\(matrix\)"):
                call()
        assert same_arrays(da.distribute(matrix).collect(), SPARSE)


class Quantity(np.ndarray):
    """A subclass of arrays that answers for itself, as those with units do."""

    def __array_ufunc__(self, *arguments, **keywords):
        return "answered"


def test_subclasses_that_answer_get_their_turn(x):
    quantity = PLAIN.view(Quantity)
    assert x + quantity == "answered"
    assert quantity + x == "answered"
    assert same_arrays(np.concatenate([x, np.asarray(quantity)])[:3].collect(), PLAIN)


def test_masked_arrays_keep_their_masks():
    with pytest.raises(NotImplementedError, match="filled"):
        da.distribute(np.ma.masked_array([1, 2], [True, False]))


def test_lists_and_objects_are_read_as_numpy_does(x):
    numbers = [1, 2, 3, 4]
    assert same_arrays((x + numbers).collect(), PLAIN + numbers)
    assert same_arrays((numbers * x).collect(), PLAIN * numbers)
    assert (da.arange(2) * Decimal(2)).tolist() == [Decimal(0), Decimal(2)]
    assert (x == None).collect().tolist() == np.zeros((3, 4), bool).tolist()  # noqa: E711
