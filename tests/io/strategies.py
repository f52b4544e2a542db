"""Hypothesis strategies for arrays and boxes of them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9)

DTYPES = [
    np.dtype(code)
    for code in ("?", "i1", "u2", "<i4", ">i4", "f2", "<f8", ">f8", "c16", "S3", "<U2", ">U2")
] + [
    np.dtype("M8[ns]"),
    np.dtype("m8[s]"),
    np.dtype([("a", "<i2"), ("b", ">f8"), ("c", "u1", (2,))]),
    np.dtype({"names": ["x", "y"], "formats": ["u1", "f4"], "offsets": [0, 8], "itemsize": 16}),
]


def filled(shape, dtype):
    """Return an array whose elements differ, of any dtype without objects."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape))
    if dtype.names is not None:
        result = np.zeros(shape, dtype)
        for name in dtype.names:
            field = result[name]
            field[...] = filled(field.shape, field.dtype)
        return result
    numbers = np.arange(count)
    if dtype.kind in "SU":
        return (numbers % 97).astype(dtype).reshape(shape)
    return (numbers % 251).astype(dtype.newbyteorder("=")).astype(dtype).reshape(shape)


@st.composite
def boxes(draw, shape):
    """Draw a box inside an array of the given shape, of any step."""
    box = []
    for length in shape:
        start = draw(st.integers(0, length))
        stop = draw(st.integers(start, length))
        box.append(slice(start, stop, draw(st.integers(1, max(1, length + 1)))))
    return tuple(box)


def equal(a, b):
    """Tell whether two arrays have the same bits, shape and dtype; padding does not count."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.names is not None:
        return all(equal(a[name], b[name]) for name in a.dtype.names)
    return a.tobytes() == b.tobytes()
