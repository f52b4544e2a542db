"""Making arrays: from memory, from files, from a function of the place."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from operator import index as as_integer
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, DTypeLike, NDArray

from darray.blocks import TARGET, Blocks, BlocksLike, Chunks, cut
from darray.dispatch import implements
from darray.expr import building
from darray.expr.foreign import as_array
from darray.expr.nodes import Filled, Generated, Stored
from darray.handle import DArray, as_expression
from darray.io import File
from darray.io.formats import Chunked, is_remote
from darray.runtime.boxes import Box, box_shape

__all__ = [
    "arange",
    "distribute",
    "empty",
    "empty_like",
    "eye",
    "from_function",
    "from_npy",
    "from_zarr",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "wrap",
    "zeros",
    "zeros_like",
]


def distribute(array: ArrayLike | DArray, blocks: BlocksLike = "auto") -> DArray:
    """Cut an array into chunks; a DArray is cut anew.

    The array is captured by value: later changes to it do not show. An array that is
    read-only down to its owner is shared instead of copied.

    Parameters
    ----------
    array : array_like
        What is cut.
    blocks : Blocks, AutoBlocks, "auto", int or tuple
        How it is cut.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> da.distribute(np.ones((4, 6)), da.Blocks(2, 3)).sum().collect()
    array(24.)
    """
    if isinstance(array, DArray):
        return array.rechunk(blocks)
    if isinstance(array, File):
        return _stored(array, blocks)
    values = as_array(array)
    chunks = cut(blocks, values.shape, values.dtype.itemsize)
    return DArray.of(building.captured(values, chunks))


def wrap(array: NDArray[Any], blocks: BlocksLike = "auto") -> DArray:
    """Cut an array into chunks that share its memory.

    Nothing is copied: while the DArray and what was built from it are in use, leave `array`
    unchanged. Assigning to the DArray, or to a view of it, computes the new values and writes
    them to `array` at once; what was built before keeps the old ones, of which a copy is made.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> da.wrap(np.arange(6), da.Blocks(2)).sum().collect()
    array(15)
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"wrap() shares the memory of a NumPy array, and {type(array).__name__} is none; "
            "use distribute()"
        )
    chunks = cut(blocks, array.shape, array.dtype.itemsize)
    return DArray.sharing(array, chunks)


def _shape(shape: Any) -> tuple[int, ...]:
    dimensions: int = np.ndim(shape)
    sizes = shape if dimensions else (shape,)
    result = tuple([as_integer(size) for size in sizes])
    if any(size < 0 for size in result):
        raise ValueError("negative dimensions are not allowed")
    return result


def _generated(
    function: Callable[[Box], NDArray[Any]], shape: Any, dtype: np.dtype[Any], blocks: BlocksLike
) -> DArray:
    sizes = _shape(shape)
    return DArray.of(Generated(sizes, dtype, cut(blocks, sizes, dtype.itemsize), function))


def full(
    shape: int | tuple[int, ...],
    fill_value: Any,
    dtype: DTypeLike | None = None,
    *,
    blocks: BlocksLike = "auto",
) -> DArray:
    """Array of one value, as `numpy.full`.

    Examples
    --------
    >>> import darray as da
    >>> da.full((2, 2), 7, blocks=1).collect()
    array([[7, 7],
           [7, 7]])
    """
    value = np.asarray(fill_value)
    if value.ndim:
        raise NotImplementedError(
            "full() takes one value here; for an array use np.broadcast_to(da.distribute(a), shape)"
        )
    # Filled by NumPy, so that what does not fit is refused or warned of as there.
    value = np.full((), fill_value, dtype)
    return _generated(Filled(value[()], value.dtype), shape, value.dtype, blocks)


def zeros(
    shape: int | tuple[int, ...], dtype: DTypeLike = float, *, blocks: BlocksLike = "auto"
) -> DArray:
    """Array of zeros, as `numpy.zeros`.

    Examples
    --------
    >>> import darray as da
    >>> da.zeros((300, 200), blocks=da.Blocks(50, 20)).blocks.shape
    (6, 10)
    """
    value = np.zeros((), dtype)
    return _generated(Filled(value[()], value.dtype), shape, value.dtype, blocks)


def ones(
    shape: int | tuple[int, ...], dtype: DTypeLike = float, *, blocks: BlocksLike = "auto"
) -> DArray:
    """Array of ones, as `numpy.ones`.

    Examples
    --------
    >>> import darray as da
    >>> da.ones(5, blocks=2).sum().collect()
    array(5.)
    """
    value = np.ones((), dtype)
    return _generated(Filled(value[()], value.dtype), shape, value.dtype, blocks)


def empty(
    shape: int | tuple[int, ...], dtype: DTypeLike = float, *, blocks: BlocksLike = "auto"
) -> DArray:
    """Array to be assigned to, as `numpy.empty`; it holds zeros until then.

    Examples
    --------
    >>> import darray as da
    >>> da.empty((2, 3)).shape
    (2, 3)
    """
    return zeros(shape, dtype, blocks=blocks)


@implements(np.full_like)
def full_like(
    a: Any,
    fill_value: Any,
    dtype: DTypeLike | None = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
) -> DArray:
    """Array of one value with the shape, dtype and cut of another.

    Examples
    --------
    >>> import darray as da
    >>> np.full_like(da.arange(3), 2).collect()
    array([2, 2, 2])
    """
    model = as_expression(a)
    kind = model.dtype if dtype is None else np.dtype(dtype)
    blocks: BlocksLike = model.chunks if shape is None else "auto"
    return full(model.shape if shape is None else shape, fill_value, kind, blocks=blocks)


@implements(np.zeros_like)
def zeros_like(
    a: Any, dtype: DTypeLike | None = None, order: str = "K", subok: bool = True, shape: Any = None
) -> DArray:
    """Array of zeros with the shape, dtype and cut of another."""
    kind = as_expression(a).dtype if dtype is None else np.dtype(dtype)
    return full_like(a, np.zeros((), kind)[()], kind, shape=shape)


@implements(np.ones_like)
def ones_like(
    a: Any, dtype: DTypeLike | None = None, order: str = "K", subok: bool = True, shape: Any = None
) -> DArray:
    """Array of ones with the shape, dtype and cut of another."""
    kind = as_expression(a).dtype if dtype is None else np.dtype(dtype)
    return full_like(a, np.ones((), kind)[()], kind, shape=shape)


@implements(np.empty_like)
def empty_like(
    a: Any, dtype: DTypeLike | None = None, order: str = "K", subok: bool = True, shape: Any = None
) -> DArray:
    """Array to be assigned to with the shape, dtype and cut of another; zeros until then."""
    return zeros_like(a, dtype, shape=shape)


class _Range(Struct, frozen=True):
    """``first + i * (second - first)``, computed as `numpy.arange` does from its first two."""

    first: Any
    second: Any
    dtype: np.dtype[Any]

    def __call__(self, box: Box) -> NDArray[Any]:
        """The elements of a box."""
        (part,) = box
        # NumPy goes on in single precision for half; integers wrap around.
        work = np.dtype(np.float32) if self.dtype == np.float16 else self.dtype
        first, second = np.array([self.first, self.second]).astype(work)
        with np.errstate(all="ignore"):
            places = np.arange(part.start, part.stop).astype(work)
            values: NDArray[Any] = np.asarray(first + places * (second - first), self.dtype)
        for place, value in enumerate((self.first, self.second)):
            if part.start <= place < part.stop:
                values[place - part.start] = value
        return values


def arange(
    start: Any,
    stop: Any = None,
    step: Any = None,
    dtype: DTypeLike | None = None,
    *,
    blocks: BlocksLike = "auto",
) -> DArray:
    """Evenly spaced values within an interval, as `numpy.arange`.

    Examples
    --------
    >>> import darray as da
    >>> da.arange(2, 10, 3, blocks=2).collect()
    array([2, 5, 8])
    """
    kinds = [None if dtype is None else np.dtype(dtype)]
    kinds += [np.asarray(one).dtype for one in (start, stop, step) if one is not None]
    if any(kind is not None and kind.kind in "mM" for kind in kinds):
        return _times(start, stop, step, dtype, blocks)
    if stop is None:
        start, stop = 0, start
    step = 1 if step is None else step
    steps = (stop - start) / step
    if isinstance(steps, complex):
        steps = min(steps.real, steps.imag)
    if not math.isfinite(steps):
        raise ValueError(
            "Maximum allowed size exceeded" if math.isinf(steps) else "cannot compute length"
        )
    length = max(0, math.ceil(steps))
    if length <= 2:
        ends: Any = (start, stop, step)
        return distribute(np.arange(*ends, dtype=dtype), blocks)
    kind = np.result_type(*kinds[1:], np.intp) if dtype is None else np.dtype(dtype)
    if kind.kind not in "iufc":
        # Asked of NumPy itself, which raises what is to be raised.
        np.arange(3, dtype=kind)
    head = np.array([start, start + step]).astype(kind)
    if kind.kind in "iu":
        head = np.array([int(start), int(start + step)], kind)
    return _generated(_Range(head[0], head[1], kind), (length,), kind, blocks)


class _Times(Struct, frozen=True):
    """Integers in a range as dates or durations."""

    numbers: _Range
    dtype: np.dtype[Any]

    def __call__(self, box: Box) -> NDArray[Any]:
        """The elements of a box."""
        return self.numbers(box).view(self.dtype)


def _times(start: Any, stop: Any, step: Any, dtype: Any, blocks: BlocksLike) -> DArray:
    """`arange` of dates or durations, which NumPy counts in integers of their unit."""
    ends = [start] if stop is None else [start, stop]
    kinds = [np.asarray(one).dtype for one in (*ends, step) if one is not None]
    timed = [one for one in kinds if one.kind in "mM"]
    kind = np.result_type(*timed) if dtype is None else np.dtype(dtype)
    if kind.kind == "M" and stop is None:
        raise ValueError("arange requires both a start and a stop for NumPy datetime64 ranges")
    duration = np.dtype(kind.str.replace("M8", "m8"))
    first, last = [int(np.asarray(one).astype(kind).astype("i8")) for one in (0, *ends)[-2:]]
    if kind.kind == "M" and np.asarray(ends[1]).dtype.kind in "iu":
        last = first + int(ends[1])
    stride = 1 if step is None else int(np.asarray(step).astype(duration).astype("i8"))
    numbers = arange(first, last, stride, blocks=blocks).expression
    width = np.dtype(np.int64)
    numbered = _Range(width.type(first), width.type(first + stride), width)
    return _generated(_Times(numbered, kind), numbers.shape, kind, blocks)


class _Spaced(Struct, frozen=True):
    """Elements of `numpy.linspace`, computed as it does: in the dtype of `delta`."""

    start: Any
    stop: Any
    delta: Any
    divisions: int
    length: int
    endpoint: bool
    dtype: np.dtype[Any]

    def __call__(self, box: Box) -> NDArray[Any]:
        """The elements of a box."""
        (part,) = box
        values = np.arange(part.start, part.stop).astype(self.delta.dtype)
        step = self.delta / self.divisions if self.divisions > 0 else self.delta
        if step == 0 and self.divisions > 0:
            # Too small a step for its dtype, though the interval is none.
            values /= self.divisions
            step = self.delta
        values *= step
        values += self.start
        if self.endpoint and self.length > 1 and part.stop == self.length and len(values):
            values[-1] = self.stop
        if self.dtype.kind in "iu":
            np.floor(values, out=values)
        return values.astype(self.dtype, copy=False)


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: DTypeLike | None = None,
    *,
    blocks: BlocksLike = "auto",
) -> Any:
    """`num` evenly spaced values from `start` to `stop`, as `numpy.linspace` for scalars.

    With `retstep`, a pair of the array and the step between its values.

    Examples
    --------
    >>> import darray as da
    >>> da.linspace(0, 1, 5, blocks=2).collect()
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    length = as_integer(num)
    if length < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    if np.ndim(start) or np.ndim(stop):
        raise NotImplementedError("linspace() takes scalars here, not arrays, for start and stop")
    kind = np.linspace(start, stop, 0).dtype
    # Python's numbers stay what they are: they take the dtype that they are added to.
    first, last = (
        one if isinstance(one, int | float | complex) else np.asarray(one)[()]
        for one in (start, stop)
    )
    delta = kind.type(np.subtract(last, first, dtype=kind))
    wanted = kind if dtype is None else np.dtype(dtype)
    divisions = length - 1 if endpoint else length
    spaced = _Spaced(first, last, delta, divisions, length, endpoint, wanted)
    values = _generated(spaced, (length,), wanted, blocks)
    step = delta / divisions if divisions > 0 else np.nan
    return (values, step) if retstep else values


class _Diagonal(Struct, frozen=True):
    """Boxes of ones on diagonal `k` and zeros elsewhere."""

    k: int
    dtype: np.dtype[Any]

    def __call__(self, box: Box) -> NDArray[Any]:
        """The elements of a box."""
        rows, columns = box
        offset = self.k + rows.start - columns.start
        return np.eye(
            rows.stop - rows.start, columns.stop - columns.start, offset, dtype=self.dtype
        )


def eye(
    N: int,
    M: int | None = None,
    k: int = 0,
    dtype: DTypeLike = float,
    *,
    blocks: BlocksLike = "auto",
) -> DArray:
    """Ones on a diagonal and zeros elsewhere, as `numpy.eye`.

    Examples
    --------
    >>> import darray as da
    >>> da.eye(3, blocks=2).sum().collect()
    array(3.)
    """
    kind = np.dtype(dtype)
    shape = (as_integer(N), as_integer(N if M is None else M))
    return _generated(_Diagonal(as_integer(k), kind), shape, kind, blocks)


class _OfPlace(Struct, frozen=True):
    """A user's function of the coordinates."""

    function: Callable[..., Any]
    dtype: np.dtype[Any]

    def __call__(self, box: Box) -> NDArray[Any]:
        """The elements of a box."""
        places = [np.arange(part.start, part.stop) for part in box]
        grid = np.ix_(*places) if places else ()
        values = np.asarray(self.function(*grid)).astype(self.dtype, copy=False)
        return np.broadcast_to(values, box_shape(box))


def from_function(
    function: Callable[..., Any],
    shape: int | tuple[int, ...],
    dtype: DTypeLike = float,
    *,
    blocks: BlocksLike = "auto",
) -> DArray:
    """Array whose elements are ``function(i, j, ...)`` of their indices.

    Parameters
    ----------
    function : callable
        Called once a chunk, with one integer array an axis: the indices along it, shaped so
        that they broadcast to the chunk. Returns something that broadcasts to it too.
    shape, dtype, blocks
        Of the array.

    Examples
    --------
    >>> import darray as da
    >>> da.from_function(lambda i, j: 10 * i + j, (2, 3), int, blocks=1).collect()
    array([[ 0,  1,  2],
           [10, 11, 12]])
    """
    kind = np.dtype(dtype)
    return _generated(_OfPlace(function, kind), shape, kind, blocks)


def from_zarr(path: str | os.PathLike[str], *, blocks: BlocksLike = "auto") -> DArray:
    """Array in a Zarr store, read by tasks, chunk by chunk.

    Parameters
    ----------
    path : str or PathLike
        Of the array: a folder, or a URL that fsspec knows.
    blocks : BlocksLike
        By default the store's chunks, or several together where these are small.

    Raises
    ------
    FileNotFoundError, ValueError
        When there is no Zarr array.
    """
    return _stored(File(path, format="zarr"), blocks)


def from_npy(path: str | os.PathLike[str], *, blocks: BlocksLike = "auto") -> DArray:
    """Array in an .npy file, read by tasks, chunk by chunk.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import darray as da
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.arange(10))
    ...     int(da.from_npy(f"{folder}/a.npy").sum())
    45
    """
    return _stored(File(path, format="npy"), blocks)


def _stored(source: Chunked, blocks: BlocksLike) -> DArray:
    shape, dtype = tuple(source.shape), source.dtype
    if isinstance(blocks, str) and blocks == "auto":
        chunks = _gathered(source.chunks, dtype.itemsize)
    else:
        chunks = cut(blocks, shape, dtype.itemsize)
    return DArray.of(Stored(shape, dtype, chunks, source, is_remote(source)))


def _gathered(chunks: Chunks, itemsize: int) -> Chunks:
    """Chunks joined with their neighbours, last axis first, while they fit the target."""
    sizes = [max(axis) for axis in chunks]
    for axis in reversed(range(len(chunks))):
        while sizes[axis] < sum(chunks[axis]) and 2 * math.prod(sizes) * max(itemsize, 1) <= TARGET:
            sizes[axis] *= 2
    return cut(
        Blocks(*(min(size, sum(axis)) or -1 for size, axis in zip(sizes, chunks, strict=True))),
        tuple([sum(axis) for axis in chunks]),
        itemsize,
    )
