"""Products of arrays against NumPy: values, shapes, dtypes, errors, warnings; small tiles too."""

from __future__ import annotations

import operator
import sys
import warnings

import hypothesis.extra.numpy as numpy_strategies
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import darray as da
from darray.expr import product_cuts
from darray.kernels import blas, products
from darray.testing.strategies import blocks_for, shapes
from tests.arrays.agreement import KNOWN_EARLY, observe
from tests.arrays.drawing import ERRORS

SMALL = {"SIDE": 2, "TILE": 12, "PANEL": 12, "MULTIPLICATIONS": 20, "ELEMENTS": 20, "LINK": 1}


@pytest.fixture(scope="module", autouse=True, params=["as they are", "small"])
def tiles(request, engine):
    """Run everything with tiles as they are, and so small that every array has many."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "small":
            for name, value in SMALL.items():
                patch.setattr(product_cuts, name, value)
            patch.setattr(products, "LARGE", 1)
        yield


DTYPES = [*"?bBhHiIlLqQefdgFDG"]
# Sums of products of these are exact in every dtype, in whatever order they are added.
WHOLE = st.integers(0, 3)


@st.composite
def arrays(draw, shape, dtype=None, elements=WHOLE):
    """Draw a NumPy array of small whole numbers, some of it in another order in memory."""
    kind = np.dtype(draw(st.sampled_from(DTYPES)) if dtype is None else dtype)
    array = draw(numpy_strategies.arrays(np.int8, shape, elements=elements)).astype(kind)
    if kind.kind == "c":
        array += (1j * np.roll(array.real, 1)).astype(kind)
    return np.asfortranarray(array) if array.ndim > 1 and draw(st.booleans()) else array


@st.composite
def lazily(draw, array, operations=True):
    """Draw a DArray of the values of `array`, pending, a view or in memory; or the array."""
    how = draw(st.sampled_from(["memory", "view", "pending", "backwards", "cast"]))
    if not operations or not array.ndim:
        how = "memory"
    if how == "view":
        turned = np.ascontiguousarray(array.T)
        return da.distribute(turned, draw(blocks_for(turned.shape))).T
    if how == "backwards":
        turned = np.ascontiguousarray(array[::-1])
        return da.distribute(turned, draw(blocks_for(turned.shape)))[::-1]
    lazy = da.distribute(array, draw(blocks_for(array.shape)))
    if how == "pending":
        return lazy.rechunk(draw(blocks_for(array.shape))) + np.zeros((), array.dtype)
    return (
        lazy.astype("f8").astype(array.dtype) if how == "cast" and array.dtype.kind != "c" else lazy
    )


@st.composite
def operands(draw, first, second, dtype=None, elements=WHOLE):
    """Draw (lazy, plain) operands of two shapes, one of which may be NumPy's own."""
    plain = draw(arrays(first, dtype, elements)), draw(arrays(second, dtype, elements))
    lazy = [draw(lazily(one)) for one in plain]
    if plain[0].ndim and draw(st.integers(0, 4)) == 0:
        lazy[0] = plain[0]
    elif plain[1].ndim and draw(st.integers(0, 4)) == 0:
        lazy[1] = plain[1]
    return tuple(lazy), plain


def agree(call, lazy, plain, errors=None, warns=True):
    """Check that ``call(*lazy)`` gives, raises and warns of what ``call(*plain)`` does."""
    theirs, ours = observe(lambda: call(*plain), errors), observe(lambda: call(*lazy), errors)
    if theirs.error is not None:
        assert type(ours.error) is type(theirs.error), (ours.error, theirs.error)
        if isinstance(theirs.error, (*KNOWN_EARLY, ValueError)):
            assert not ours.built, f"raised only when collected: {ours.error!r}"
        return
    if ours.error is not None:
        raise ours.error
    for mine, other in zip(ours.arrays, theirs.arrays, strict=True):
        assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
        np.testing.assert_array_equal(mine, other)
    if warns:
        assert ours.warnings == theirs.warnings
        assert ours.calls == theirs.calls


SIGNATURES = {
    name: getattr(np, name).signature
    for name in ("matmul", "vecdot", "matvec", "vecmat")
    if hasattr(np, name)
}


@st.composite
def gufunc_shapes(draw, name, max_side=7):
    if name == "matmul" and draw(st.booleans()):
        drawn = numpy_strategies.mutually_broadcastable_shapes(
            signature=SIGNATURES[name], max_dims=3, min_side=0, max_side=max_side
        )
        return draw(drawn).input_shapes
    signature = SIGNATURES[name].replace("?", "")
    drawn = numpy_strategies.mutually_broadcastable_shapes(
        signature=signature, max_dims=2, min_side=0, max_side=max_side
    )
    return draw(drawn).input_shapes


@given(st.data(), st.sampled_from(sorted(SIGNATURES)))
@settings(max_examples=60)
def test_generalised_ufuncs(data, name):
    lazy, plain = data.draw(operands(*data.draw(gufunc_shapes(name))))
    agree(getattr(np, name), lazy, plain)
    if name == "matmul":
        agree(operator.matmul, lazy, plain)


@given(st.data())
@settings(max_examples=30)
def test_matrices_of_many_tiles(data):
    m, k, n = (data.draw(st.integers(1, 30)) for _ in range(3))
    dtype = data.draw(st.sampled_from("dfFDel?"))
    agree(np.matmul, *data.draw(operands((m, k), (k, n), dtype)))


@given(st.data(), st.sampled_from(sorted(SIGNATURES)))
@settings(max_examples=50)
def test_shapes_that_do_not_fit(data, name):
    first, second = data.draw(shapes(3, 3)), data.draw(shapes(3, 3))
    lazy, plain = data.draw(operands(first, second, "d"))
    agree(getattr(np, name), lazy, plain)


KEYWORDS = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from([*"fdDlb", None, "O"]),
        "casting": st.sampled_from(["no", "safe", "same_kind", "unsafe", "wrong"]),
        "order": st.sampled_from("CFK"),
        "subok": st.booleans(),
        "keepdims": st.booleans(),
        "axis": st.integers(-3, 2),
        "axes": st.lists(
            st.integers(-3, 2) | st.tuples(st.integers(-3, 2), st.integers(-3, 2)) | st.just(()),
            min_size=2,
            max_size=3,
        ),
        "where": st.just(True),
        "nonsense": st.just(1),
    },
)


@given(st.data(), st.sampled_from(sorted(SIGNATURES)), KEYWORDS)
@settings(max_examples=100)
def test_keywords(data, name, keywords):
    if len(keywords) > 2:
        keywords = dict(list(keywords.items())[:2])
    assume(np.dtype(keywords.get("dtype")) != object)
    shape = data.draw(st.sampled_from([(3, 3), (2, 3, 3), (3, 3, 3), (2, 2)]))
    lazy, plain = data.draw(operands(shape, shape[-2:]))
    agree(lambda a, b: getattr(np, name)(a, b, **keywords), lazy, plain)


def moved_axes(name, data, plain):
    """Axes for the operands and the result of a generalised ufunc."""
    inputs, output = SIGNATURES[name].replace("?", "").split("->")
    counts = [part.count(",") + bool(part.strip("()")) for part in (*inputs.split("),("), output)]
    batch = max(one.ndim - count for one, count in zip(plain, counts, strict=False))
    sizes = (*[one.ndim for one in plain], batch + counts[2])
    return [
        tuple(data.draw(st.permutations(range(-size, 0)))[:count])
        for size, count in zip(sizes, counts, strict=True)
    ]


@given(st.data(), st.sampled_from(sorted(SIGNATURES)))
@settings(max_examples=40)
def test_axes_that_fit(data, name):
    side = data.draw(st.integers(1, 4))
    shape = (side,) * data.draw(st.integers(2, 4))
    lazy, plain = data.draw(operands(shape, shape, "d"))
    axes = moved_axes(name, data, plain)
    agree(lambda a, b: getattr(np, name)(a, b, axes=axes), lazy, plain)


@given(st.data(), st.sampled_from([np.dot, np.inner, np.vdot]))
@settings(max_examples=80)
def test_dot_inner_and_vdot(data, function):
    first, second = data.draw(shapes(3, 5)), data.draw(shapes(3, 5))
    fits = data.draw(st.integers(0, 3))
    if fits and first and second and function is not np.vdot:
        place = -2 if function is np.dot and len(second) > 1 else -1
        second = list(second)
        second[place] = first[-1]
        second = tuple(second)
    elif function is np.vdot:
        # Of other shapes they are flattened, which is another matter.
        assume(fits or np.prod(first) != np.prod(second))
        second = first if fits else second
    lazy, plain = data.draw(operands(first, second))
    if function is np.dot:
        agree(lambda a, b: a.dot(b), lazy, plain, warns=False)
    agree(function, lazy, plain, warns=False)


@given(st.data())
@settings(max_examples=60)
def test_tensordot(data):
    first, second = list(data.draw(shapes(4, 4))), list(data.draw(shapes(4, 4)))
    count = data.draw(st.integers(0, min(len(first), len(second))))
    ours = data.draw(st.permutations(range(len(first))))[:count]
    theirs = data.draw(st.permutations(range(len(second))))[:count]
    axes = ([*ours], [*theirs])
    if data.draw(st.booleans()):
        axes, ours, theirs = count, range(len(first) - count, len(first)), range(count)
    for i, j in zip(ours, theirs, strict=True):
        second[j] = first[i]
    if data.draw(st.integers(0, 5)) == 0:
        axes = data.draw(
            st.integers(0, 5)
            | st.tuples(*[st.lists(st.integers(-3, 3), max_size=3) | st.integers(-3, 3)] * 2)
        )
    lazy, plain = data.draw(operands(tuple(first), tuple(second)))
    agree(lambda a, b: np.tensordot(a, b, axes), lazy, plain)


@given(st.data())
@settings(max_examples=40)
def test_outer(data):
    lengths = data.draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    lazy, plain = data.draw(operands((lengths[0],), (lengths[1],)))
    agree(np.outer, lazy, plain)


@given(st.data(), st.sampled_from([np.multiply, np.add, np.divmod, np.matmul, np.sin, np.power]))
@settings(max_examples=40)
def test_outer_of_ufuncs(data, ufunc):
    lazy, plain = data.draw(operands(data.draw(shapes(2, 4)), data.draw(shapes(2, 4)), "l"))
    agree(ufunc.outer, lazy, plain)


SPECIAL = [np.inf, -np.inf, np.nan, 0.0, 1.0, 2.0, -3.0]


@given(st.data(), ERRORS, st.sampled_from("fdFD"))
@settings(max_examples=60)
def test_values_that_are_no_numbers(data, errors, dtype):
    m, k, n = (data.draw(st.integers(1, 6)) for _ in range(3))
    # What is called NaN already raises no error, so whether one is raised depends on the order.
    values = st.sampled_from(SPECIAL if data.draw(st.booleans()) else [*SPECIAL[:2], *SPECIAL[3:]])
    made = [
        data.draw(numpy_strategies.arrays(np.dtype(dtype).char.lower(), shape, elements=values))
        for shape in ((m, k), (k, n))
    ]
    if dtype in "FD":
        # A product with an infinite part is NaN or not as the library's loop has it.
        made = [np.where(np.isinf(one), np.nan, one).astype(dtype) for one in made]
    lazy = [data.draw(lazily(one, operations=False)) for one in made]
    # Sums that are infinite may raise the flag too, as the loop of the library has it.
    with np.errstate(all="ignore"):
        has_nan = np.isnan(made[0] @ made[1]).any()
    is_new = has_nan and not any(np.isnan(one).any() for one in made)
    agree(np.matmul, lazy, made, errors, warns=is_new)


@given(st.data(), st.sampled_from("efdgFDG"))
@settings(max_examples=60)
def test_sums_are_as_exact_as_they_are_said_to_be(data, dtype):
    m, k, n = (data.draw(st.integers(1, 12)) for _ in range(3))
    real = np.zeros(1, dtype).real.dtype
    numbers = st.floats(-1e3, 1e3, width=16)
    plain = [
        data.draw(numpy_strategies.arrays("e", shape, elements=numbers))
        for shape in [(m, k), (k, n)]
    ]
    plain = [one.astype(dtype) / np.asarray(3, real) for one in plain]
    if real == np.float16:
        plain = [one / np.float16(64) for one in plain]
    elif dtype in "FDG":
        plain = [one + np.roll(one, 1) * np.asarray(1j, dtype) for one in plain]
    exact = [one.astype("G" if dtype in "FDG" else "g") for one in plain]
    lazy = [data.draw(lazily(one, operations=False)) for one in plain]
    found = (lazy[0] @ lazy[1]).collect()
    if dtype in "gG":
        assert np.allclose(found, plain[0] @ plain[1], rtol=1e-16)
        return
    magnitude = (np.abs(exact[0]) @ np.abs(exact[1])).real
    true = exact[0] @ exact[1]
    if dtype == "e":
        bound = k * np.finfo("f").eps * magnitude + np.spacing(np.abs(true).astype("e"))
    else:
        bound = (2 if dtype in "FD" else 1) * k * np.finfo(real).eps * magnitude
    assert (np.abs(found.real - true.real) <= bound).all()
    assert (np.abs(found.imag - true.imag) <= bound).all()


def test_half_precision_is_not_rounded_on_the_way():
    ones = da.ones((1, 2500), dtype="e", blocks=(1, 100))
    assert float((ones @ ones.T)[0, 0]) == 2500
    with np.errstate(over="warn"):
        product = da.full((2, 2), 6e4, dtype="e") @ da.full((2, 2), 6e4, dtype="e")
    with pytest.warns(RuntimeWarning, match="^overflow encountered in matmul$"):
        assert np.isinf(product.collect()).all()
    with np.errstate(over="raise"):
        product = da.full((2, 2), 6e4, dtype="e") @ da.full((2, 2), 6e4, dtype="e")
    with pytest.raises(FloatingPointError, match="overflow"):
        product.collect()


@pytest.mark.parametrize("function", [np.matmul, np.dot, np.tensordot, np.vdot])
def test_products_of_things_that_are_no_numbers(function):
    seconds = da.distribute(np.ones((2, 2), "m8[s]"), 1)
    with pytest.raises((NotImplementedError, TypeError)):
        function(seconds, seconds)
    with pytest.raises((NotImplementedError, TypeError)):
        function(da.ones((2, 2)), np.ones((2, 2), object))


def test_out_and_operators():
    a, b = np.arange(12.0).reshape(3, 4), np.arange(8.0).reshape(4, 2)
    x, y = da.distribute(a, 2), da.distribute(b, 2)
    out = np.empty((3, 2), "f4")
    assert np.matmul(x, y, out=out) is out
    np.testing.assert_array_equal(out, a @ b)
    with pytest.raises(TypeError, match="same_kind"):
        np.matmul(x, y, out=np.empty((3, 2), int))
    out = np.empty((3, 2))
    assert np.dot(x, y, out=out) is out
    np.testing.assert_array_equal(out, a @ b)
    with pytest.raises(ValueError, match="C-contiguous array of float64"):
        np.dot(x, y, out=np.empty((3, 2), "f4"))
    out = np.empty((3, 3))
    np.outer(x[:, 0], x[:, 1], out=out)
    np.testing.assert_array_equal(out, np.outer(a[:, 0], a[:, 1]))
    np.testing.assert_array_equal((x @ b.tolist()).collect(), a @ b)
    np.testing.assert_array_equal((a.tolist() @ y).collect(), a @ b)


def test_bits_are_the_same_every_time_on_every_engine():
    rng = np.random.default_rng(5)
    a, b = rng.random((19, 37)), rng.random((37, 18))
    found = set()
    for options in ({"engine": "serial"}, {"engine": "threads", "threads": 1}, {"threads": 4}):
        before = da.runtime.settings.current()
        da.configure(**options)
        try:
            for _ in range(3):
                x, y = da.distribute(a, da.Blocks(5, 7)), da.distribute(b, da.Blocks(11, 6))
                found.add(((x + 1) @ (y * 2).persist()).collect().tobytes())
        finally:
            da.configure(**{name: getattr(before, name) for name in ("engine", "threads")})
    assert len(found) == 1


def test_without_scipy(monkeypatch):
    """Other sums, by NumPy alone, and the same warnings."""
    blas._routine.cache_clear()
    monkeypatch.setitem(sys.modules, "scipy.linalg", None)
    try:
        assert not blas.has_gemm(np.dtype(float))
        a, b = np.arange(60.0).reshape(6, 10), np.arange(60.0).reshape(10, 6)
        product = da.distribute(a, 4) @ da.distribute(b, 3)
        np.testing.assert_array_equal(product.collect(), a @ b)
        with pytest.warns(RuntimeWarning, match="^overflow encountered in matmul$"):
            (da.full((9, 9), 1e200) @ da.full((9, 9), 1e200)).collect()
    finally:
        blas._routine.cache_clear()


def test_warnings_are_issued_once():
    big = da.full((20, 20), 1e200, blocks=7)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (big @ big).collect()
    assert [str(one.message) for one in caught] == ["overflow encountered in matmul"]
