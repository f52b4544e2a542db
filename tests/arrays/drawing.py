"""Hypothesis strategies for DArrays beside the NumPy arrays that they are made of."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as numpy_strategies
import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import NDArray

import darray as da
from darray.testing.strategies import arrays, blocks_for, dtypes, shapes

ERRORS = st.fixed_dictionaries(
    {kind: st.sampled_from(["warn", "ignore", "raise", "call"]) for kind in ("divide", "over")}
    | {"invalid": st.sampled_from(["warn", "warn", "ignore", "call"])}
    | {"under": st.sampled_from(["ignore", "ignore", "ignore", "warn"])}
)


@st.composite
def pairs(
    draw: DrawFn,
    shape: tuple[int, ...] | SearchStrategy[tuple[int, ...]] | None = None,
    dtype: Any = None,
    elements: SearchStrategy[Any] | None = None,
) -> tuple[da.DArray, NDArray[Any]]:
    """Draw a DArray and the NumPy array of the same values."""
    if not isinstance(shape, tuple):
        shape = draw(shapes(max_side=5) if shape is None else shape)
    if elements is None:
        array = draw(arrays(shape, dtype))
    else:
        array = draw(numpy_strategies.arrays(dtype, shape, elements=elements))
    return da.distribute(array, draw(blocks_for(shape))), array


@st.composite
def numbers(draw: DrawFn) -> Any:
    """Draw Python's numbers and NumPy's scalars."""
    kind = draw(st.sampled_from(["python", "python", "numpy"]))
    if kind == "numpy":
        return draw(arrays((), dtypes()))[()]
    return draw(
        st.booleans()
        | st.integers(-3, 300)
        | st.sampled_from([2**31, 2**63, -(2**63), 2**64, 10**30])
        | st.floats(width=16)
        | st.sampled_from([1e300, float("nan"), -0.0])
        | st.complex_numbers(max_magnitude=4)
    )


@st.composite
def operands(draw: DrawFn, count: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Draw arguments that broadcast: DArrays, one at least, NumPy arrays, numbers."""
    drawn = draw(
        numpy_strategies.mutually_broadcastable_shapes(
            num_shapes=count, max_dims=4, max_side=4, min_side=0
        )
    )
    kind = draw(st.sampled_from(["biu", "biuf", "fc", "biufc", "biufcMm", "mM"]))
    sure = draw(st.integers(0, count - 1))
    lazy: list[Any] = []
    plain: list[Any] = []
    for place, shape in enumerate(drawn.input_shapes):
        what = "lazy" if place == sure else draw(st.sampled_from(["lazy", "array", "number"]))
        if what == "number":
            plain.append(draw(numbers()))
            lazy.append(plain[-1])
            continue
        array = draw(arrays(shape, dtypes(kind)))
        plain.append(array)
        lazy.append(da.distribute(array, draw(blocks_for(shape))) if what == "lazy" else array)
    return tuple(lazy), tuple(plain)


def special(dtype: Any, length: int = 12) -> NDArray[Any]:
    """Return values of a dtype where arithmetic is most likely to go wrong, and common ones."""
    exact = np.dtype(dtype)
    common = [0, 1, 2, 3, 5, 7, 100, 27]
    if exact.kind == "b":
        found: list[Any] = [False, True, True, False]
    elif exact.kind in "iu":
        limits = np.iinfo(exact)
        found = [*common, limits.max, limits.min, limits.max - 1, limits.min + 1]
    elif exact.kind == "f":
        edges = np.finfo(exact)
        found = [*common[:5], 0.3, -0.0, -2.5, np.nan, np.inf, -np.inf, edges.max, edges.tiny]
    elif exact.kind == "c":
        found = [0, 1, 2 - 1j, complex(0, np.inf), complex(np.nan, 1), -3.5j, 1e30, -0.0]
    else:
        found = ["NaT", 0, 1, -1, 5, 1000]
    unit = (np.datetime_data(exact)[0],) if exact.kind in "mM" else ()
    flat = np.array([exact.type(one, *unit) for one in found], exact)
    return np.resize(flat, length)
