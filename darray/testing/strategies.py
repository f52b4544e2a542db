"""Hypothesis strategies for shapes, blocks, chunks, boxes, indices, dtypes and arrays."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import hypothesis.extra.numpy as numpy_strategies
import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import DTypeLike, NDArray

from darray.blocks import Blocks, Chunks, Shape, cut
from darray.runtime.boxes import Box

__all__ = [
    "advanced_indices",
    "arrays",
    "basic_indices",
    "blocks_for",
    "boxes_in",
    "chunks_for",
    "dtypes",
    "shapes",
    "values",
]

# Hypothesis takes longer to make a strategy than to draw from it, and those for one length, dtype
# or shape are wanted again and again.
_remembered = lru_cache(1000)

_DTYPES = tuple(
    np.dtype(name)
    for name in (
        "bool",
        *("int64", "int32", "int16", "int8"),
        *("uint64", "uint32", "uint16", "uint8"),
        *("float64", "float32", "float16"),
        *("complex128", "complex64"),
        *("datetime64[D]", "datetime64[ns]", "timedelta64[s]"),
    )
)


def shapes(
    max_dims: int = 4, max_side: int = 6, *, min_dims: int = 0, min_side: int = 0
) -> SearchStrategy[Shape]:
    """Draw shapes, 0-d and zero-size ones included.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(shapes(max_side=3, min_side=3), lambda shape: len(shape) == 2)
    (3, 3)
    """
    sides = st.integers(min_side, max_side)
    return st.lists(sides, min_size=min_dims, max_size=max_dims).map(tuple)


@st.composite
def blocks_for(draw: DrawFn, shape: Shape) -> Blocks:
    """Draw blocks that fit `shape`: for each axis a size (also too large), -1, or uneven sizes.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(blocks_for((4,)), lambda blocks: blocks.sizes == ((2, 2),))
    Blocks((2, 2))
    """
    return Blocks(*[draw(_axis_blocks(length)) for length in shape])


def chunks_for(shape: Shape) -> SearchStrategy[Chunks]:
    """Draw chunks of an array of `shape`, mostly uneven ones.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(chunks_for((4,)), lambda chunks: len(chunks[0]) == 4)
    ((1, 1, 1, 1),)
    """
    return blocks_for(shape).map(lambda blocks: cut(blocks, shape, 8))


@st.composite
def boxes_in(draw: DrawFn, shape: Shape, max_step: int = 1) -> Box:
    """Draw boxes of elements of an array of `shape`, empty ones included.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(boxes_in((3,)), lambda box: box[0].start == 2 and box[0].stop == 3)
    (slice(2, 3, 1),)
    """
    box = []
    for length in shape:
        start = draw(st.integers(0, length))
        stop = draw(st.integers(start, length))
        box.append(slice(start, stop, draw(st.integers(1, max_step))))
    return tuple(box)


@st.composite
def basic_indices(draw: DrawFn, shape: Shape, *, newaxis: bool = True) -> Any:
    """Draw keys that NumPy's basic indexing takes for an array of `shape`.

    They have Python and NumPy integers counted from both ends, slices with negative steps and
    with bounds out of range, an Ellipsis, fewer indices than axes, and ``None`` if `newaxis`.
    Keys of one part come as that part alone, too.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(basic_indices((5, 4)), lambda key: key is ...)
    Ellipsis
    """
    leading = draw(st.integers(0, len(shape)))
    trailing = draw(st.integers(0, len(shape) - leading))
    parts: list[Any] = [draw(_axis_indices(length)) for length in shape[:leading]]
    if trailing or draw(st.booleans()):
        parts.append(...)
        parts += [draw(_axis_indices(length)) for length in shape[len(shape) - trailing :]]
    for _ in range(draw(st.integers(0, 2)) if newaxis else 0):
        parts.insert(draw(st.integers(0, len(parts))), None)
    if len(parts) == 1 and draw(st.booleans()):
        return parts[0]
    return tuple(parts)


@st.composite
def advanced_indices(draw: DrawFn, shape: Shape, *, wrong: bool = False) -> tuple[Any, ...]:
    """Draw keys with masks and arrays of positions for an array of `shape`, among basic parts.

    The arrays mostly broadcast against each other. They come from both ends, in C and Fortran
    order and as lists; masks for one axis or several have some, all or none of their elements
    true; bools alone, an Ellipsis and ``None`` are there too. With `wrong` some parts do not
    fit the array.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(advanced_indices((5,)), lambda key: key[0] is False)
    (False, 0)
    """
    together = draw(st.sampled_from([(3,), (1,), (2, 3), (3, 1), (0,), (2, 1, 2), (7,)]))
    parts: list[Any] = []
    axis = 0
    while axis < len(shape):
        kind = draw(st.sampled_from(["basic", "positions", "positions", "mask", "bool", "..."]))
        if kind == "basic":
            parts.append(draw(_axis_indices(shape[axis])))
            axis += 1
        elif kind == "positions":
            parts.append(draw(_positions(shape[axis], together, wrong)))
            axis += 1
        elif kind == "mask":
            dimensions = draw(st.integers(1, min(3, len(shape) - axis)))
            sizes = list(shape[axis : axis + dimensions])
            if wrong and draw(st.integers(0, 9)) == 9:
                sizes[0] += 1
            elements = draw(st.sampled_from([st.booleans(), st.just(True), st.just(False)]))
            parts.append(draw(numpy_strategies.arrays(bool, tuple(sizes), elements=elements)))
            axis += dimensions
        elif kind == "bool":
            parts.append(draw(st.sampled_from([True, True, False, None])))
        elif not any(part is ... for part in parts):
            parts.append(...)
            axis += draw(st.integers(0, len(shape) - axis))
    if wrong and draw(st.integers(0, 9)) == 9:
        parts.append(draw(st.sampled_from([0, [0], np.array([0.5]), "a", ..., [[True]]])))
    if not any(isinstance(part, bool | list) or np.ndim(part) for part in parts):
        parts.insert(draw(st.integers(0, len(parts))), draw(st.booleans()))
    return tuple(parts)


@st.composite
def _positions(draw: DrawFn, length: int, together: Shape, wrong: bool) -> Any:
    """Draw positions along an axis, in a shape that broadcasts to `together`."""
    if length == 0:
        return np.zeros((0,), int)
    shape = together[draw(st.integers(0, len(together) - 1)) :]
    shape = tuple([draw(st.sampled_from([size, size, 1])) for size in shape])
    most = length if wrong and draw(st.integers(0, 9)) == 9 else length - 1
    dtype = draw(st.sampled_from(["int64", "int64", "int8"]))
    elements = st.integers(-length, most)
    found = draw(numpy_strategies.arrays(dtype, shape, elements=elements))
    form = draw(st.sampled_from(["array", "array", "list", "Fortran"]))
    if form == "Fortran":
        return np.asfortranarray(found)
    return found.tolist() if form == "list" and found.size else found


def dtypes(kinds: str = "biufcMm") -> SearchStrategy[np.dtype[Any]]:
    """Draw dtypes of the kinds that `numpy.dtype.kind` names by these letters.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(dtypes("fc"), lambda dtype: dtype.itemsize == 16)
    dtype('complex128')
    """
    return _dtypes_of(kinds)


@_remembered
def _dtypes_of(kinds: str) -> SearchStrategy[np.dtype[Any]]:
    """Draw dtypes of these kinds."""
    return st.sampled_from([dtype for dtype in _DTYPES if dtype.kind in kinds])


def values(dtype: DTypeLike) -> SearchStrategy[Any]:
    """Draw values of `dtype`: often one of its extremes, -0.0, nan, an infinity or NaT.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(values("int8"), lambda value: value < -127)
    np.int8(-128)
    """
    exact: np.dtype[Any] = np.dtype(dtype)
    if exact.kind == "c":
        part = values(exact.type(0).real.dtype)
        return st.builds(lambda real, imag: exact.type(complex(real, imag)), part, part)
    every = numpy_strategies.from_dtype(exact)
    extremes = _extremes(exact)
    return st.sampled_from(extremes) | every if extremes else every


@st.composite
def arrays(
    draw: DrawFn,
    shape: Shape | SearchStrategy[Shape] | None = None,
    dtype: DTypeLike | SearchStrategy[np.dtype[Any]] | None = None,
) -> NDArray[Any]:
    """Draw C-contiguous arrays of `values`; shape and dtype are drawn too where not given.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(arrays((1,), "float64"), lambda array: array[0] == -np.inf)
    array([-inf])
    """
    if not isinstance(shape, tuple):
        shape = draw(shapes() if shape is None else shape)
    if dtype is None:
        dtype = dtypes()
    exact: np.dtype[Any] = draw(dtype) if isinstance(dtype, SearchStrategy) else np.dtype(dtype)
    return draw(_arrays_of(exact, shape))


@_remembered
def _arrays_of(dtype: np.dtype[Any], shape: Shape) -> SearchStrategy[NDArray[Any]]:
    """Draw arrays of `values`."""
    return numpy_strategies.arrays(dtype, shape, elements=values(dtype))


@_remembered
def _axis_blocks(length: int) -> SearchStrategy[Any]:
    """Draw what `Blocks` takes for an axis of `length`."""
    return st.integers(1, length + 1) | st.just(-1) | _pieces_of(length)


def _pieces_of(length: int) -> SearchStrategy[tuple[int, ...]]:
    """Draw sizes of at least one element that add up to `length`, or (0,)."""
    if length < 2:
        return st.just((length,))

    def pieces(inner: set[int]) -> tuple[int, ...]:
        edges = [0, *sorted(inner), length]
        return tuple(b - a for a, b in pairwise(edges))

    return st.sets(st.integers(1, length - 1)).map(pieces)


@_remembered
def _axis_indices(length: int) -> SearchStrategy[Any]:
    """Draw an integer or a slice for an axis of `length`."""
    bound = st.none() | st.integers(-length - 2, length + 2)
    step = st.none() | st.sampled_from([1, -1, 2, -2, 3, -3, length + 1, -length - 1])
    cuts = st.builds(slice, bound, bound, step)
    if length == 0:
        return cuts
    integers = st.integers(-length, length - 1)
    return integers | integers.map(np.int64) | integers.map(np.int8) | cuts


def _extremes(dtype: np.dtype[Any]) -> list[Any]:
    """Return the values of `dtype` where arithmetic is most likely to go wrong."""
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        return [dtype.type(value) for value in (0, 1, bounds.max, bounds.min)]
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        special = (0.0, -0.0, 1.0, np.nan, np.inf, -np.inf)
        edges = (limits.max, limits.min, limits.tiny, limits.smallest_subnormal, limits.eps)
        return [dtype.type(value) for value in (*special, *edges)]
    if dtype.kind in "mM":
        unit = np.datetime_data(dtype)[0]
        return [dtype.type("NaT"), dtype.type(0, unit), dtype.type(-1, unit)]
    return []
