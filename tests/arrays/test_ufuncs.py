"""Every ufunc of elements against NumPy, on both engines."""

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray.testing.strategies import arrays, blocks_for, dtypes
from tests.arrays.agreement import check
from tests.arrays.drawing import ERRORS, operands, pairs, special

pytestmark = pytest.mark.usefixtures("engine")

UFUNCS = {
    one
    for one in (getattr(np, name) for name in dir(np))
    if isinstance(one, np.ufunc) and one.signature is None
}
BY_COUNT = {n: sorted((u for u in UFUNCS if u.nin == n), key=repr) for n in (1, 2)}
DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "F", "D"]
TIMES = ["M8[D]", "M8[ns]", "m8[s]", "m8[ms]"]


@pytest.mark.parametrize("ufunc", BY_COUNT[1], ids=lambda one: one.__name__)
def test_unary_of_every_dtype(ufunc):
    for dtype in DTYPES + TIMES:
        plain = special(dtype)
        check(ufunc, (da.distribute(plain, da.Blocks((1, 3, 5, 3))),), (plain,), {"all": "warn"})


@pytest.mark.parametrize("ufunc", BY_COUNT[2], ids=lambda one: one.__name__)
def test_binary_of_every_dtype(ufunc):
    for dtype in DTYPES + TIMES:
        plain = special(dtype, 9), special(dtype, 9)[::-1].copy()[:, np.newaxis]
        lazy = da.distribute(plain[0], da.Blocks((1, 3, 5))), da.distribute(plain[1], (4, 1))
        check(ufunc, lazy, plain, {"all": "warn"})


@given(st.sampled_from(BY_COUNT[1]), operands(1), ERRORS)
@settings(max_examples=150)
def test_unary(ufunc, arguments, errors):
    check(ufunc, *arguments, errors, later="raise")


@given(st.sampled_from(BY_COUNT[2]), operands(2), ERRORS)
@settings(max_examples=300)
def test_binary(ufunc, arguments, errors):
    check(ufunc, *arguments, errors, later="raise")


@given(
    st.sampled_from(sorted(UFUNCS, key=repr)),
    st.data(),
    st.none() | dtypes("biufc"),
    st.sampled_from(["no", "equiv", "safe", "same_kind", "unsafe"]),
)
@settings(max_examples=200)
def test_keywords(ufunc, data, dtype, casting):
    lazy, plain = data.draw(operands(ufunc.nin))

    def call(*arguments):
        return ufunc(*arguments, dtype=dtype, casting=casting)

    check(call, lazy, plain, {"all": "ignore"})


@given(st.sampled_from(sorted(UFUNCS, key=repr)), st.data())
@settings(max_examples=200)
def test_where(ufunc, data):
    """What is left out is zero; NumPy leaves there what was."""
    lazy, plain = data.draw(operands(ufunc.nin))
    shape = np.broadcast_shapes(*map(np.shape, plain))
    first = data.draw(st.integers(0, len(shape)))
    mask = data.draw(arrays(shape[first:], "bool"))
    lazy_mask = da.distribute(mask, data.draw(blocks_for(mask.shape)))
    mask_given = data.draw(st.sampled_from([mask, lazy_mask]))

    def call(*arguments):
        if not any(isinstance(one, da.DArray) for one in arguments):
            samples = [np.empty(0, one.dtype) if np.ndim(one) else one for one in arguments]
            with np.errstate(all="ignore"):
                made = ufunc(*samples)
            made = made if ufunc.nout > 1 else (made,)
            out = tuple(np.zeros(shape, one.dtype) for one in made)
            return ufunc(*arguments, where=mask, out=out)
        with pytest.warns(UserWarning, match="'where' used without 'out'"):
            return ufunc(*arguments, where=mask_given)

    check(call, lazy, plain, {"all": "ignore"})


OPERATORS = [
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv),
    *(operator.mod, divmod, operator.pow, operator.lshift, operator.rshift, operator.and_),
    *(operator.or_, operator.xor, operator.lt, operator.le, operator.eq, operator.ne),
    *(operator.gt, operator.ge),
]


@given(st.sampled_from(OPERATORS), operands(2))
@settings(max_examples=200)
def test_operators(function, arguments):
    lazy, plain = arguments
    if all(np.ndim(one) == 0 for one in plain) and not isinstance(plain[0], np.generic):
        plain = (np.asarray(plain[0]), plain[1]) if isinstance(lazy[0], da.DArray) else plain
    check(function, lazy, plain, {"all": "ignore"})


@given(st.sampled_from([operator.neg, operator.pos, abs, operator.invert]), pairs())
def test_unary_operators(function, pair):
    lazy, plain = pair
    check(function, (lazy,), (plain,), {"all": "ignore"})
