"""The host's memory: NumPy arrays, how they are measured, frozen, copied, told to overlap."""

from __future__ import annotations

import math
import sys
from array import array as plain_array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from mmap import mmap
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

from darray.runtime.accesses import Part
from darray.runtime.arguments import register_frozen
from darray.runtime.devices.host_buffers import Lease, empty
from darray.runtime.footprints import Footprint, register_footprints
from darray.runtime.spaces import (
    register_host_arrays,
    register_measure,
    register_pickling,
    register_raw,
)

__all__ = ["capture", "copy", "footprints", "freeze", "measure", "thaw"]

# Work that NumPy may do to find out whether two arrays share an element; beyond it they are
# taken to do so. Slices of the same array rarely need any.
EFFORT = 10_000

# Diagonals of a matrix from one to another: those j - i for which an element [i, j] is meant.
_Band = tuple[float, float]


def freeze(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view of `array`, whose own flags stay as they are."""
    if not array.flags.writeable:
        return array
    view = array.view()
    # Not writeable; setting the flag by its name costs five times as much.
    view.setflags(False)  # type: ignore[call-arg]
    return view


def thaw(array: NDArray[Any]) -> NDArray[Any]:
    """The elements that `array` shows read-only, to be written to; itself where that cannot be."""
    owner = array.base
    if array.flags.writeable or not isinstance(owner, np.ndarray) or not owner.flags.writeable:
        return array
    address, start = [one.__array_interface__["data"][0] for one in (array, owner)]
    same_cut = owner.shape == array.shape and owner.strides == array.strides
    if same_cut and owner.dtype == array.dtype and address == start:
        return owner
    if not owner.flags.c_contiguous or array.dtype.hasobject:
        return array
    return np.ndarray(array.shape, array.dtype, owner, address - start, array.strides)


def copy(array: NDArray[Any]) -> NDArray[Any]:
    """A writable copy of `array`."""
    return array.copy(order="K")


def capture(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only array with these elements: a copy, or itself where nobody can write to it."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and not owner.flags.writeable:
        owner = owner.base
    return array if owner is None or isinstance(owner, bytes | Lease) else freeze(copy(array))


def pickled(array: NDArray[Any]) -> Any:
    """How a read-only array goes to another worker: so that its memory there can be written to.

    Its flags are read-only there all the same, for whoever has not declared to write to it.
    """
    if array.flags.writeable or array.dtype.hasobject:
        return NotImplemented
    return copy(array).__reduce_ex__(5)


def measure(array: NDArray[Any]) -> int:
    """Bytes of the array's elements; of a broadcast array, those that are there."""
    owner: Any = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return min(array.nbytes, int(owner.nbytes))


# Bytes that are put in order at a time, to be written, of an array that does not lie in a row, or
# are read at a time to pick some of them.
BAND = 2**20

# Pieces of so many bytes, or so far from each other, are read one by one; of others several, and
# what is between them.
LONG = 4096
FAR = 8192

# Fills a buffer with bytes that were kept, from an offset on, or with runs of them.
_Reading: TypeAlias = Callable[..., object]

# Shape, dtype, and whether the elements lie by columns.
_Layout: TypeAlias = tuple[tuple[int, ...], np.dtype[Any], bool]


class RawArrays:
    """How NumPy arrays are kept as bytes: those of their elements, in the order they lie in."""

    has_parts = True

    def parts(self, array: NDArray[Any]) -> tuple[_Layout, Iterable[memoryview], int] | None:
        """What describes `array`, its bytes, and how many these are.

        None where elements refer to objects, and for broadcast arrays, which would come back
        with more bytes than they had.
        """
        if array.dtype.hasobject or array.nbytes > measure(array):
            return None
        flags = array.flags
        by_columns = bool(flags.f_contiguous and not flags.c_contiguous)
        layout = (array.shape, array.dtype, by_columns)
        if flags.forc:
            return layout, [_bytes(array.T if by_columns else array)], array.nbytes
        return layout, _bands(array), array.nbytes

    def restored(self, layout: _Layout, read: _Reading) -> NDArray[Any]:
        """An array of that description; ``read(buffer, offset)`` fills a buffer."""
        shape, dtype, by_columns = layout
        array = empty(shape, dtype, "F" if by_columns else "C")
        read(_bytes(array.T if by_columns else array), 0)
        return array

    def part(
        self,
        layout: _Layout,
        key: tuple[Any, ...],
        read: _Reading,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """The elements that the slices `key` show of an array of that description.

        ``read(buffer, offset)`` fills a buffer with its bytes from some place on. They are put into
        `out` where that is given, which has their shape and dtype.
        """
        shape, dtype, by_columns = layout
        parts = [one for one in key if one is not ...]
        parts += [slice(None)] * (len(shape) - len(parts))
        wanted = [range(*one.indices(size)) for one, size in zip(parts, shape, strict=True)]
        if by_columns:
            wanted, shape = wanted[::-1], shape[::-1]
        place = out.T if out is not None and by_columns else out
        result = place
        if result is None or not result.flags.c_contiguous:
            result = empty(tuple([len(one) for one in wanted]), dtype)
        joined, joined_shape = _joined(wanted, shape)
        _read_box(result.reshape([len(one) for one in joined]), joined, joined_shape, read, 0)
        if place is not None and place is not result:
            place[...] = result
            result = place
        return result.T if by_columns else result

    def is_shared(self, array: NDArray[Any], known: int) -> bool:
        """Whether more than the `known` references lead to `array`, or others to its memory."""
        # This function's own, and that of the count, are two more.
        if sys.getrefcount(array) > known + 2:
            return True
        while isinstance(array.base, np.ndarray):
            array = array.base
            # Its view's, the variable's and that of the count.
            if sys.getrefcount(array) > 3:
                return True
        return False


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _bands(array: NDArray[Any]) -> Iterator[memoryview]:
    """The bytes of `array` by rows, a band at a time."""
    if array.nbytes <= BAND or not array.ndim:
        yield _bytes(np.ascontiguousarray(array))
        return
    rows = max(1, BAND * len(array) // array.nbytes)
    for start in range(0, len(array), rows):
        if rows == 1:
            yield from _bands(array[start])
        else:
            yield _bytes(np.ascontiguousarray(array[start : start + rows]))


def _joined(wanted: list[range], shape: tuple[int, ...]) -> tuple[list[range], list[int]]:
    """The same elements of an array in C order with as few axes as tell them.

    Examples
    --------
    >>> _joined([range(2), range(1, 3), range(5), range(4)], (2, 9, 5, 4))
    ([range(0, 2), range(20, 60)], [2, 180])
    """
    places: list[range] = []
    sizes: list[int] = []
    for one, size in zip(reversed(wanted), reversed(shape), strict=True):
        inner = sizes[0] if sizes else 0
        if places and one.step == 1 and places[0] == range(inner):
            places[0] = range(one.start * inner, one.stop * inner)
            sizes[0] = size * inner
        else:
            places.insert(0, one)
            sizes.insert(0, size)
    return places, sizes


def _read_box(
    out: NDArray[Any],
    wanted: Sequence[range],
    shape: Sequence[int],
    read: _Reading,
    offset: int,
) -> None:
    """Fill `out` with the places `wanted` of an array of `shape`, kept by rows from `offset` on."""
    if not out.size:
        return
    rows, inner = wanted[0], wanted[1:]
    row_nbytes = math.prod(shape[1:]) * out.itemsize
    is_whole = all(one == range(size) for one, size in zip(inner, shape[1:], strict=True))
    if is_whole and rows.step == 1:
        read(_bytes(out), offset + rows.start * row_nbytes)
        return
    if len(inner) == 1 and inner[0].step == 1:
        run = len(inner[0]) * out.itemsize
        if run >= LONG or row_nbytes - run > FAR:
            first = offset + inner[0].start * out.itemsize + rows.start * row_nbytes
            read(_bytes(out), first, run, rows.step * row_nbytes)
            return
    if row_nbytes > BAND or len(inner[-1:] and inner[-1]) * out.itemsize >= LONG:
        for place, row in enumerate(rows):
            _read_row(out[place : place + 1], inner, shape[1:], read, offset + row * row_nbytes)
        return
    # Of short rows, or short pieces of them, many are read at once.
    key = tuple([_slice(one) for one in inner])
    count = max(1, BAND // row_nbytes // abs(rows.step))
    for start in range(0, len(rows), count):
        band = rows[start : start + count]
        low, high = min(band[0], band[-1]), max(band[0], band[-1])
        dense = np.empty((high - low + 1, *shape[1:]), out.dtype)
        read(_bytes(dense), offset + low * row_nbytes)
        dense = dense[:: rows.step] if rows.step > 0 else dense[::-1][:: -rows.step]
        out[start : start + count] = dense[(slice(None), *key)]


def _read_row(
    out: NDArray[Any],
    wanted: Sequence[range],
    shape: Sequence[int],
    read: _Reading,
    offset: int,
) -> None:
    """Fill `out`, which has one row, with what is wanted of a row that is kept at `offset`."""
    if wanted:
        _read_box(out[0], wanted, shape, read, offset)
    else:
        read(_bytes(out), offset)


def _slice(places: range) -> slice:
    """The slice that gives `places`."""
    return slice(places.start, places.stop if places.stop >= 0 else None, places.step)


class _Memory(Struct, frozen=True, eq=False):
    """The elements of an array that are meant: all, or those in a band of a matrix.

    ``view`` holds them all, and nothing else where the band is one diagonal.
    """

    view: NDArray[Any]
    matrix: NDArray[Any]
    band: _Band | None = None


def footprints(array: NDArray[Any], part: Part | None = None) -> Sequence[Footprint]:
    """Where the elements of `array`, or the `part` of it, lie.

    Raises
    ------
    TypeError
        Where the part is a function that gives something else than a view of the array.
    """
    if part is None:
        # A view, since the shape of the array itself may be set.
        whole = array.view(np.ndarray)
        memory = _Memory(whole, whole)
    else:
        memory = _part_of(array, part)
    view = memory.view
    if view.size == 0:
        return ()
    address = view.__array_interface__["data"][0]
    is_whole = bool(view.flags.forc)
    low, high = (address, address + view.nbytes) if is_whole else byte_bounds(view)
    is_dense = is_whole and (memory.band is None or memory.view is not memory.matrix)
    key = (address, view.shape, view.strides, view.itemsize, memory.band)
    found = Footprint(key, low, high, is_dense, memory, overlap)
    if array.__class__ is np.ndarray:
        return (found,)
    mask = getattr(array, "_mask", None) if part is None else None
    # A masked array has a second one for its mask.
    return (found, *footprints(mask)) if isinstance(mask, np.ndarray) else (found,)


def _of_buffer(value: Any, part: Part | None = None) -> Sequence[Footprint]:
    """Where the bytes of an object with a buffer lie."""
    return footprints(np.asarray(memoryview(value)), part)


def _of_base(value: Any, part: Part | None = None) -> Sequence[Footprint]:
    """Where the array lies that `value`, a record or an iterator, belongs to."""
    return footprints(value.base, part) if isinstance(value.base, np.ndarray) else ()


def _part_of(array: NDArray[Any], part: Part) -> _Memory:
    if isinstance(part, str):
        view = array[part]
        return _Memory(view, view)
    function, offset = part, 0
    if isinstance(part, partial) and not part.args and set(part.keywords) <= {"k"}:
        function, offset = part.func, part.keywords.get("k", 0)
    if array.ndim == 2 and function is np.triu:
        return _Memory(array, array, (offset, math.inf))
    if array.ndim == 2 and function is np.tril:
        return _Memory(array, array, (-math.inf, offset))
    if array.ndim == 2 and function in (np.diag, np.diagonal):
        return _Memory(np.diagonal(array, offset), array, (offset, offset))
    view = part(array)
    if not isinstance(view, np.ndarray) or not (view.size == 0 or np.may_share_memory(view, array)):
        raise TypeError(
            f"Deps: {part!r} gives no view of the array of shape {array.shape}, but "
            f"{type(view).__name__} of its own; a part is a view of the value, or np.triu, np.tril "
            "or np.diag of a matrix"
        )
    return _Memory(view, view)


def overlap(one: _Memory, other: _Memory) -> bool:
    """Whether two have an element in common; also where finding out takes too much work."""
    try:
        shares = bool(np.shares_memory(one.view, other.view, max_work=EFFORT))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True
    if not shares or (one.band is None and other.band is None):
        return shares
    return _bands_meet(one, other)


def _bands_meet(one: _Memory, other: _Memory) -> bool:
    """Whether bands of matrices have an element in common; also where that is hard to tell."""
    a, b = one.matrix, other.matrix
    if a.ndim != 2 or b.ndim != 2 or a.strides != b.strides or a.itemsize != b.itemsize:
        return True
    bands = [(-math.inf, math.inf) if one.band is None else one.band for one in (one, other)]
    if abs(a.strides[0]) < abs(a.strides[1]):
        a, b = a.T, b.T
        bands = [(-high, -low) for low, high in bands]
    step, item = a.strides
    if item <= 0 or step < item or step % item:
        return True
    if any(matrix.shape[1] * item > step for matrix in (a, b)):
        return True  # rows overlap one another
    # Where the first element of `b` lies, counted in rows and columns of `a`.
    apart = b.__array_interface__["data"][0] - a.__array_interface__["data"][0]
    row, rest = divmod(apart, step)
    column, between = divmod(rest, item)
    if between:
        return True
    places = [(row, column), (row + 1, column - step // item)]
    return any(_meet_at(a.shape, b.shape, place, *bands) for place in places)


def _meet_at(
    shape: tuple[int, ...],
    inner: tuple[int, ...],
    place: tuple[int, int],
    band: _Band,
    other: _Band,
) -> bool:
    """Whether bands meet of a matrix, and of one that lies at `place` in it."""
    row, column = place
    first_row, last_row = max(0, row), min(shape[0], row + inner[0]) - 1
    first, last = max(0, column), min(shape[1], column + inner[1]) - 1
    if first_row > last_row or first > last:
        return False
    # All diagonals from that of the lower left corner to that of the upper right one are there.
    shift = column - row
    low = max(first - last_row, band[0], other[0] + shift)
    return low <= min(last - first_row, band[1], other[1] + shift)


register_footprints(np.ndarray, footprints)
register_footprints(np.void, _of_base)
register_footprints(np.flatiter, _of_base)
for _class in (bytearray, memoryview, plain_array, mmap):
    register_footprints(_class, _of_buffer)
register_frozen(np.ndarray, freeze, copy, thaw, capture)
register_host_arrays(np.ndarray)
register_measure(np.ndarray, measure)
register_pickling(np.ndarray, pickled)
register_raw(np.ndarray, RawArrays())
