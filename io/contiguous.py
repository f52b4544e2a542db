"""Reading and writing boxes of an array whose elements lie one after another in a file."""

from __future__ import annotations

import math
import os
from io import FileIO
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from darray.runtime.boxes import Box

__all__ = ["Order", "is_scattered", "pieces", "read_contiguous", "write_contiguous"]

Order = Literal["C", "F"]

# A hole of at most this many bytes is read along with what surrounds it: a call of the system
# takes as long as copying that much from the page cache, and a disk reads ahead further.
_HOLE = 32 * 1024
# Runs of at least this many bytes are read one by one, straight to where they belong.
_RUN = 128 * 1024
# Bytes read at once where holes are read along.
_SPAN = 1024 * 1024
# Bytes read before they are written to an output with other strides than the file, and how long
# the runs are in the file and how many elements are wanted next to each other in the output.
_TILE = 4 * 1024 * 1024
_TILE_RUN = 64 * 1024
_TILE_ACROSS = 64
# Where runs begin at most this many bytes from each other, what lies between them is read and
# written along with them: several of them are in each page of the file.
_WRITTEN_ALONG = 4096


def read_contiguous(
    file: FileIO, offset: int, shape: tuple[int, ...], order: Order, box: Box, out: NDArray[Any]
) -> None:
    """Read the elements of `box` into `out`.

    `file` is open without buffering and used by no one else; the array of the given shape, in
    the given order and with the dtype of `out`, begins at byte `offset` of it. `out` has the
    shape of `box` and any strides. Runs that are close to each other are read together, and
    never more than a few MiB beside `out` are held.

    Raises
    ------
    ValueError
        Where the file ends before the last element.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.arange(12).tofile(f"{folder}/raw")
    ...     column = np.empty((3, 1), dtype=int)
    ...     with open(f"{folder}/raw", "rb", buffering=0) as file:
    ...         read_contiguous(file, 0, (3, 4), "C", (slice(0, 3, 1), slice(2, 3, 1)), column)
    >>> column[:, 0]
    array([ 2,  6, 10])
    """
    if out.nbytes == 0:
        return
    if order == "F":
        shape, box, out = shape[::-1], box[::-1], out.T
    if out.flags.c_contiguous:
        _read_runs(file, offset, shape, box, out)
    else:
        _read_tiles(file, offset, shape, box, out)


def is_scattered(
    shape: tuple[int, ...], itemsize: int, chunks: tuple[tuple[int, ...], ...]
) -> bool:
    """Tell whether the pieces of an array in C order take turns within a page of its file.

    Examples
    --------
    >>> is_scattered((9, 2), 8, ((9,), (1, 1))), is_scattered((9, 2), 8, ((4, 5), (2,)))
    (True, False)
    """
    cut = [axis for axis, sizes in enumerate(chunks) if len(sizes) > 1]
    return bool(cut) and cut[-1] > 0 and itemsize * math.prod(shape[cut[-1] :]) <= _WRITTEN_ALONG


def write_contiguous(
    descriptor: int,
    offset: int,
    shape: tuple[int, ...],
    box: Box,
    array: NDArray[Any],
    scattered: bool,
) -> None:
    r"""Write `array` as the elements of `box` of an array in C order, at `offset` of a file.

    Many threads may write boxes without common elements at once. With `scattered`, as
    `is_scattered` tells it, bytes between those of the box are read and written back: then one
    thread writes at a time, whichever box, and the descriptor is to be readable.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     box = (slice(0, 2, 1), slice(1, 2, 1))
    ...     write_contiguous(file.fileno(), 0, (2, 2), box, np.array([[7], [8]], "u1"), False)
    ...     file.read()
    b'\x00\x07\x00\x08'
    """
    if array.nbytes == 0:
        return
    # The shape of an array with zero axes would become (1,) here.
    array = np.ascontiguousarray(array).reshape(array.shape)
    begin, run, levels = _runs(offset, shape, array.itemsize, box)
    along = len(levels)
    while scattered and along > 0 and levels[along - 1][1] <= _WRITTEN_ALONG:
        along -= 1
    outer = [range(0, count * stride, stride) for count, stride in levels[:along]]
    if along == len(levels):
        source = array.reshape(-1).view(np.uint8).data
        for number, starts in enumerate(product(*outer)):
            part = source[number * run : (number + 1) * run]
            _write_exactly(descriptor, begin + sum(starts), part)
        return
    counts = [count for count, _ in levels[along + 1 :]] + [run // array.itemsize]
    strides = [stride for _, stride in levels[along:]] + [array.itemsize]
    inner = run + sum((count - 1) * stride for count, stride in levels[along + 1 :])
    count, stride = levels[along]
    group = min(count, max(1, _SPAN // stride))
    for part, starts in zip(array.reshape(-1, count, *counts), product(*outer), strict=True):
        for first in range(0, count, group):
            size = min(group, count - first)
            position = begin + sum(starts) + first * stride
            span = bytearray(os.pread(descriptor, (size - 1) * stride + inner, position))
            seen: NDArray[Any] = np.ndarray(
                (size, *counts), array.dtype, buffer=span, strides=strides
            )
            seen[...] = part[first : first + size]
            _write_exactly(descriptor, position, memoryview(span))


def pieces(length: int, size: int) -> tuple[int, ...]:
    """Return the sizes of the pieces of an axis cut every `size` elements.

    Examples
    --------
    >>> pieces(10, 4), pieces(3, 4), pieces(0, 4)
    ((4, 4, 2), (3,), (0,))
    """
    if length == 0:
        return (0,)
    size = max(1, size)
    rest = length % size
    return (size,) * (length // size) + ((rest,) if rest else ())


def _read_runs(
    file: FileIO, offset: int, shape: tuple[int, ...], box: Box, out: NDArray[Any]
) -> None:
    """Read `box` of an array in C order into the C-contiguous `out`."""
    begin, run, levels = _runs(offset, shape, out.itemsize, box)
    # Levels from `merged` on are read with the holes between their runs; their extent is small
    # for all but the outermost of them, which is read in groups.
    merged = len(levels)
    inner, extent = run, run
    while merged > 0 and extent < _RUN and levels[merged - 1][1] - extent <= _HOLE:
        merged -= 1
        count, stride = levels[merged]
        inner, extent = extent, extent + (count - 1) * stride
    outer = [range(0, count * stride, stride) for count, stride in levels[:merged]]
    if merged == len(levels):
        target = out.reshape(-1).view(np.uint8).data
        for number, starts in enumerate(product(*outer)):
            _read_exactly(file, begin + sum(starts), target[number * run : (number + 1) * run])
        return
    count, stride = levels[merged]
    group = min(count, max(1, _SPAN // stride))
    counts = [count for count, _ in levels[merged + 1 :]] + [run // out.itemsize]
    strides = [stride for _, stride in levels[merged:]] + [out.itemsize]
    span = np.empty((group - 1) * stride + inner, dtype=np.uint8)
    parts = out.reshape(-1, count, *counts)
    for part, starts in zip(parts, product(*outer), strict=True):
        for first in range(0, count, group):
            size = min(group, count - first)
            read = span.data[: (size - 1) * stride + inner]
            _read_exactly(file, begin + sum(starts) + first * stride, read)
            part[first : first + size] = np.ndarray(
                (size, *counts), out.dtype, buffer=span, strides=strides
            )


def _runs(
    offset: int, shape: tuple[int, ...], itemsize: int, box: Box
) -> tuple[int, int, list[tuple[int, int]]]:
    """Return where `box` begins, the bytes of its runs, and (count, stride in bytes) of them.

    The counts and strides come per axis that is left, outermost first.
    """
    begin, run, stride = offset, itemsize, itemsize
    levels = []
    for length, cut in zip(reversed(shape), reversed(box), strict=True):
        count = len(range(cut.start, cut.stop, cut.step))
        begin += cut.start * stride
        # The run covers the axes further in whole, so this axis makes it longer.
        if run == stride and (cut.step == 1 or count == 1):
            run *= count
        elif count > 1:
            levels.append((count, cut.step * stride))
        stride *= length
    return begin, run, levels[::-1]


def _read_tiles(
    file: FileIO, offset: int, shape: tuple[int, ...], box: Box, out: NDArray[Any]
) -> None:
    """Read `box` of an array in C order into `out` of any strides, a few MiB at a time."""
    tile = _tile_shape(out.shape, out.itemsize)
    space = np.empty(math.prod(tile), dtype=out.dtype)
    steps = (range(0, length, size) for length, size in zip(out.shape, tile, strict=True))
    for starts in product(*steps):
        part = out[tuple(slice(a, a + size) for a, size in zip(starts, tile, strict=True))]
        wanted = tuple(
            slice(cut.start + a * cut.step, min(cut.stop, cut.start + (a + n) * cut.step), cut.step)
            for cut, a, n in zip(box, starts, part.shape, strict=True)
        )
        read = space[: part.size].reshape(part.shape)
        _read_runs(file, offset, shape, wanted, read)
        part[...] = read


def _tile_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the shape of tiles with long runs in the file as well as in a transposed output."""
    tile = [1] * len(shape)
    tile[-1] = min(shape[-1], max(1, _TILE_RUN // itemsize))
    if len(shape) > 1:
        tile[0] = min(shape[0], _TILE_ACROSS)
    room = _TILE // (itemsize * tile[-1] * tile[0])
    for axis in reversed(range(1, len(shape) - 1)):
        tile[axis] = min(shape[axis], max(1, room))
        room //= tile[axis]
    return tuple(tile)


def _read_exactly(file: FileIO, position: int, target: memoryview) -> None:
    file.seek(position)
    done = 0
    while done < len(target):
        # One call gives at most 2 GiB, and less when a signal arrives.
        count = file.readinto(target[done:])
        if not count:
            raise ValueError(
                f"{file.name!r} is truncated: bytes {position + done} to "
                f"{position + len(target)} of it are wanted; write the file again"
            )
        done += count


def _write_exactly(descriptor: int, position: int, source: memoryview) -> None:
    done = 0
    while done < len(source):
        # One call writes at most 2 GiB, and less when the disk is full or a signal arrives.
        done += os.pwrite(descriptor, source[done:], position + done)
