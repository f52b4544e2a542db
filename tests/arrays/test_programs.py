"""Random programs of several steps, with DArrays and with NumPy arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray.testing.strategies import arrays, basic_indices, blocks_for, dtypes, shapes
from tests.arrays.agreement import check

pytestmark = pytest.mark.usefixtures("engine")

UNARY = [np.negative, np.square, np.absolute, np.logical_not, np.sign, np.invert, np.isfinite]
BINARY = [np.add, np.subtract, np.multiply, np.maximum, np.less, np.not_equal, np.bitwise_xor]
EXACT = ["sum", "min", "max", "any", "argmax", "prod"]


@st.composite
def steps(draw, stack):
    """Draw one step: a function of the stack of arrays that pushes arrays or raises."""
    one, other = (draw(st.integers(0, len(stack) - 1)) for _ in range(2))
    plain = stack[one]
    kind = draw(
        st.sampled_from(
            [
                "unary",
                "binary",
                "binary",
                "index",
                "transpose",
                "reduce",
                "where",
                "join",
                "cast",
                "rechunk",
                "persist",
                "map",
                "broadcast",
            ]
        )
    )
    if kind == "unary":
        function = draw(st.sampled_from(UNARY))
        return lambda s: function(s[one])
    if kind == "binary":
        function = draw(st.sampled_from(BINARY))
        return lambda s: function(s[one], s[other])
    if kind == "index":
        key = draw(basic_indices(plain.shape))
        return lambda s: s[one][key]
    if kind == "transpose":
        order = draw(st.permutations(range(plain.ndim)))
        return lambda s: s[one].transpose(order)
    if kind == "reduce":
        name = draw(st.sampled_from(EXACT))
        axis = draw(st.none() | st.integers(0, max(0, plain.ndim - 1)))
        keep = draw(st.booleans())
        return lambda s: getattr(np, name)(s[one], axis=axis, keepdims=keep)
    if kind == "where":
        return lambda s: np.where(s[one] > 1, s[one], s[other])
    if kind == "join":
        axis = draw(st.integers(0, max(0, plain.ndim - 1)))
        return lambda s: np.concatenate([s[one], s[other], s[one]], axis=axis)
    if kind == "cast":
        dtype = draw(dtypes("iu") | st.just(np.dtype(bool)))
        return lambda s: s[one].astype(dtype)
    if kind == "rechunk":
        blocks = draw(blocks_for(plain.shape))
        return lambda s: s[one].rechunk(blocks) if isinstance(s[one], da.DArray) else s[one]
    if kind == "persist":
        return lambda s: s[one].persist() if isinstance(s[one], da.DArray) else s[one]
    if kind == "map":
        return lambda s: (
            (s[one].map_blocks(np.positive) if s[one].dtype != bool else s[one] & True)
            if isinstance(s[one], da.DArray)
            else s[one]
        )
    return lambda s: np.broadcast_to(s[one], (2, *s[one].shape)) if s[one].ndim < 4 else s[one]


def check_program(data):
    """Check that a drawn program of integers gives with DArrays what it gives with NumPy."""
    shape = data.draw(shapes(max_dims=3, max_side=5))
    plain = [data.draw(arrays(shape, dtypes("biu"))) for _ in range(2)]
    lazy = [da.distribute(one, data.draw(blocks_for(shape))) for one in plain]
    for _ in range(data.draw(st.integers(3, 10))):
        step = data.draw(steps(plain))
        try:
            with np.errstate(all="ignore"):
                result = np.asarray(step(plain))
        except (TypeError, ValueError, IndexError) as error:
            with pytest.raises(type(error)):
                step(lazy)
            continue
        if result.size > 5000:
            continue
        plain.append(result)
        with np.errstate(all="ignore"):
            lazy.append(step(lazy))
        assert (lazy[-1].shape, lazy[-1].dtype) == (result.shape, result.dtype)
    wanted = data.draw(st.sets(st.integers(0, len(plain) - 1), min_size=1, max_size=3))
    check(lambda stack: [stack[i] for i in sorted(wanted)], (lazy,), (plain,), {"all": "ignore"})
    # And again, with what the first computation left behind.
    check(lambda stack: [stack[-1]], (lazy,), (plain,), {"all": "ignore"})


@given(st.data())
@settings(max_examples=250)
def test_programs(data):
    """Integers and bools, so that every order of summing gives the same bits."""
    check_program(data)


@given(st.data(), shapes(3, 5))
@settings(max_examples=100)
def test_fused_chains_of_floats(data, shape):
    """Elementwise programs of floats, special values included, bit for bit."""
    plain = [data.draw(arrays(shape, dtypes("f"))) for _ in range(2)]
    lazy = [da.distribute(one, data.draw(blocks_for(shape))) for one in plain]
    functions = st.sampled_from(
        [np.add, np.subtract, np.multiply, np.divide, np.maximum, np.arctan2, np.hypot, np.fmod]
    )
    chain = data.draw(st.lists(st.tuples(functions, st.integers(0, 1)), min_size=2, max_size=6))

    def run(x, y):
        result = x
        for function, which in chain:
            result = function(result, (x, y)[which])
        return result

    check(run, lazy, plain, {"all": "warn"})
