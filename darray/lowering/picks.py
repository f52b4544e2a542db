"""Calls that pick elements out of chunks and put elements into them, as plain data."""

from __future__ import annotations

import math
import threading
import weakref
from typing import Any, ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.blocks import Chunks, boundaries, chunk_count, grid_shape
from darray.expr.positions import Positions, piece_numbers, stable_order
from darray.lowering.calls import Pieces
from darray.runtime.boxes import Box, index_of
from darray.runtime.devices.host_buffers import empty, is_own

__all__ = [
    "Assembly",
    "DepositChunk",
    "ExtractChunk",
    "Fetch",
    "FillPart",
    "JoinParts",
    "Picked",
    "Receive",
    "ScatterChunk",
    "Send",
    "SortPositions",
    "Take",
    "Written",
]


def behind(first: int, *key: Any) -> tuple[Any, ...]:
    """The key of an array's axes from `first` on."""
    return (*(slice(None),) * first, *key)


def taken(source: NDArray[Any], first: int, positions: Positions) -> NDArray[Any]:
    """Elements of `source` at positions, which are within bounds, along axes from `first` on."""
    if source.flags.c_contiguous:
        last = first + len(positions)
        if len(positions) > 1:
            along = source.shape[first:last]
            source = source.reshape(*source.shape[:first], math.prod(along), *source.shape[last:])
            positions = (np.asarray(np.ravel_multi_index(positions, along)),)
        # Clipping spares NumPy a second look at the bounds.
        return source.take(positions[0], axis=first, mode="clip")
    # Here `take` would copy all of the source first.
    return np.ascontiguousarray(source[behind(first, *positions)])


class Picked(Struct, frozen=True):
    """The positions of one chunk of a gather, for each axis, in shapes that broadcast.

    ``shape`` is what they broadcast to.
    """

    first: int
    positions: Positions
    shape: tuple[int, ...]

    def flat(self) -> Positions:
        """The positions in C order."""
        if len(self.positions) == 1:
            return (self.positions[0].reshape(-1),)
        return tuple([np.broadcast_to(one, self.shape).reshape(-1) for one in self.positions])

    def shaped(self, chunk: NDArray[Any]) -> NDArray[Any]:
        """A chunk with one axis for the positions, as one that has theirs."""
        if len(self.shape) == 1:
            return chunk
        before, after = chunk.shape[: self.first], chunk.shape[self.first + 1 :]
        return chunk.reshape(before + self.shape + after)


class Take(Struct, frozen=True):
    """Pick a chunk out of an array: one that is there, or the value of a task.

    ``box`` is where the array lies along the axes of the positions.
    """

    picked: Picked
    box: Box
    source: NDArray[Any] | None

    def __call__(self, *values: Any) -> NDArray[Any]:
        """The chunk."""
        source = values[0] if self.source is None else self.source
        positions = moved(self.picked.flat(), self.box)
        return self.picked.shaped(taken(source, self.picked.first, positions))


class Fetch(Struct, frozen=True):
    """Pick a chunk out of parts of an array, which are computed here, one by one.

    ``parts`` holds for each the number of its piece in ``cut``, what computes it, and where it
    lies along the axes of the positions.
    """

    reads_parts: ClassVar[bool] = True

    picked: Picked
    cut: Chunks
    parts: tuple[tuple[int, Pieces, Box], ...]

    def __call__(self, *values: Any) -> NDArray[Any]:
        """The chunk."""
        picked = self.picked
        first, positions = picked.first, picked.flat()
        if len(self.parts) == 1:
            _, pieces, box = self.parts[0]
            (part,) = pieces.compute(values)
            return picked.shaped(taken(part, first, moved(positions, box)))
        numbers = piece_numbers(positions, self.cut)
        order = stable_order(numbers, chunk_count(self.cut))
        ends = np.searchsorted(numbers[order], [number for number, _, _ in self.parts], "right")
        result: NDArray[Any] | None = None
        start = 0
        for (_, pieces, box), end in zip(self.parts, ends.tolist(), strict=True):
            (part,) = pieces.compute(values)
            if result is None:
                rest = part.shape[first + len(positions) :]
                result = empty((*part.shape[:first], order.size, *rest), part.dtype)
            places = order[start:end]
            local = moved(tuple([one[places] for one in positions]), box)
            result[behind(first, places)] = taken(part, first, local)
            start = end
        assert result is not None
        return picked.shaped(result)


def moved(positions: Positions, box: Box) -> Positions:
    """Positions counted from the begin of a box."""
    pairs = zip(positions, box, strict=True)
    return tuple([one - part.start if part.start else one for one, part in pairs])


class Assembly:
    """The memory of an array that several tasks of this process write their parts of.

    It is there as long as one of the parts is. Sent to another process it is another one.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        # Guards `_buffer`.
        self._lock = threading.Lock()
        self._buffer: weakref.ref[NDArray[Any]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (Assembly, (self.shape, self.dtype))

    def buffer(self) -> NDArray[Any]:
        """The array; to be held by the caller."""
        with self._lock:
            found = None if self._buffer is None else self._buffer()
            if found is None:
                found = empty(self.shape, self.dtype)
                self._buffer = weakref.ref(found)
            return found


class FillPart(Struct, frozen=True):
    """Compute a chunk into its place in an assembly; the value is that part of it."""

    reads_parts: ClassVar[bool] = True

    pieces: Pieces
    assembly: Assembly
    box: Box

    def __call__(self, *values: Any) -> NDArray[Any]:
        """Write the part."""
        (chunk,) = self.pieces.compute(values)
        part: NDArray[Any] = self.assembly.buffer()[index_of(self.box)]
        part[...] = chunk
        return part


class JoinParts(Struct, frozen=True):
    """Give the array that parts were filled of, without a copy where they share memory."""

    boxes: tuple[Box, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __call__(self, *parts: Any) -> NDArray[Any]:
        """The array."""
        owner = parts[0].base
        if isinstance(owner, np.ndarray) and all(part.base is owner for part in parts):
            return owner
        whole = empty(self.shape, self.dtype)
        for part, box in zip(parts, self.boxes, strict=True):
            whole[index_of(box)] = part
        return whole


class SortPositions(Struct, frozen=True):
    """Sort the positions of a chunk by the group of the source that they lie in."""

    picked: Picked
    groups: Chunks

    def __call__(self) -> tuple[NDArray[Any], ...]:
        """For each axis the positions, counted from the begin of their group."""
        positions = self.picked.flat()
        numbers = piece_numbers(positions, self.groups)
        order = stable_order(numbers, chunk_count(self.groups))
        grid = np.unravel_index(numbers[order], grid_shape(self.groups))
        found = []
        for one, sizes, places in zip(positions, self.groups, grid, strict=True):
            local = one[order] - np.asarray(boundaries(sizes))[places]
            # They are held until all groups have been computed.
            found.append(local.astype(np.int32) if max(sizes) < 2**31 else local)
        return tuple(found)


class Send(Struct, frozen=True):
    """Compute a group of the source and pick out of it what each of several chunks wants.

    ``wants`` holds, for each chunk, where among the values its sorted positions are, and
    which of them lie in this group.
    """

    reads_parts: ClassVar[bool] = True

    pieces: Pieces
    first: int
    wants: tuple[tuple[int, int, int], ...]

    def __call__(self, *values: Any) -> tuple[NDArray[Any], ...]:
        """The elements for each of the chunks."""
        (source,) = self.pieces.compute(values)
        packets = []
        for value, start, stop in self.wants:
            positions = tuple([one[start:stop] for one in values[value]])
            packets.append(taken(source, self.first, positions))
        return tuple(packets)


class Receive(Struct, frozen=True):
    """Put a chunk together from what the groups of the source sent.

    ``packets`` holds, for each value, which item of it is meant, and which of the sorted
    positions it is for.
    """

    reads_parts: ClassVar[bool] = True

    picked: Picked
    groups: Chunks
    packets: tuple[tuple[int, int, int], ...]

    def __call__(self, *sent: Any) -> NDArray[Any]:
        """The chunk."""
        first = self.picked.first
        numbers = piece_numbers(self.picked.flat(), self.groups)
        order = stable_order(numbers, chunk_count(self.groups))
        sample = sent[0][self.packets[0][0]]
        shape = (*sample.shape[:first], order.size, *sample.shape[first + 1 :])
        result = empty(shape, sample.dtype)
        for value, (item, start, stop) in zip(sent, self.packets, strict=True):
            result[behind(first, order[start:stop])] = value[item]
        return self.picked.shaped(result)


class ExtractChunk(Struct, frozen=True):
    """Compute a chunk and a mask, and pick the elements where the mask is true."""

    reads_parts: ClassVar[bool] = True

    pieces: Pieces
    first: int
    dimensions: int
    count: int

    def __call__(self, *values: Any) -> NDArray[Any]:
        """The elements, along one axis for those of the mask."""
        chunk, broadcast = self.pieces.compute(values)
        mask = own_axes(broadcast, self.first, self.dimensions)
        if mask is None:
            last = self.first + self.dimensions
            return np.empty(
                (*chunk.shape[: self.first], self.count, *chunk.shape[last:]), chunk.dtype
            )
        result = np.ascontiguousarray(chunk[behind(self.first, mask)])
        check_count(result.shape[self.first], self.count)
        return result


class DepositChunk(Struct, frozen=True):
    """Compute a chunk and a mask, and put values where the mask is true."""

    reads_parts: ClassVar[bool] = True

    pieces: Pieces
    values: Pieces
    first: int
    dimensions: int
    count: int

    def __call__(self, *needed: Any) -> NDArray[Any]:
        """The changed chunk."""
        chunk, broadcast = self.pieces.compute(needed)
        result = owned(self.pieces, chunk)
        mask = own_axes(broadcast, self.first, self.dimensions)
        if mask is not None:
            check_count(int(np.count_nonzero(mask)), self.count)
            (values,) = self.values.compute(needed)
            result[behind(self.first, mask)] = values
        return result


class Written(Struct, frozen=True):
    """What is written along some axes: a slice of the chunk, or positions that lie in `box`."""

    axes: tuple[int, ...]
    where: slice | Positions
    box: Box


class ScatterChunk(Struct, frozen=True):
    """Compute a chunk and put values in it, which have one axis for each of `written`."""

    reads_parts: ClassVar[bool] = True

    pieces: Pieces
    values: Pieces
    written: tuple[Written, ...]

    def __call__(self, *needed: Any) -> NDArray[Any]:
        """The changed chunk."""
        (chunk,) = self.pieces.compute(needed)
        result = owned(self.pieces, chunk)
        (values,) = self.values.compute(needed)
        result[self.key(chunk.ndim)] = values
        return result

    def key(self, dimensions: int) -> tuple[Any, ...]:
        """The key that gives the elements the axes that their values have."""
        found: list[Any] = [None] * dimensions
        groups = [one.axes for one in self.written if not isinstance(one.where, slice)]
        # A single group of axes in a row leaves its axis in its place, beside slices.
        is_simple = not groups or (
            len(groups) == 1 and groups[0][-1] - groups[0][0] == len(groups[0]) - 1
        )
        for number, one in enumerate(self.written):
            where: Any = one.where
            if not isinstance(where, slice):
                where = moved(where, one.box)
            elif is_simple:
                found[one.axes[0]] = where
                continue
            else:
                where = (np.arange(where.start, where.stop, where.step),)
            behind = 0 if is_simple else len(self.written) - 1 - number
            for axis, positions in zip(one.axes, where, strict=True):
                found[axis] = positions.reshape(-1, *(1,) * behind)
        return tuple(found)


def own_axes(broadcast: NDArray[Any], first: int, dimensions: int) -> NDArray[Any] | None:
    """A mask without the axes that it was broadcast along; None where they have no elements."""
    if not broadcast.size:
        return None
    rest = broadcast.ndim - first - dimensions
    key: tuple[Any, ...] = (*(0,) * first, ..., *(0,) * rest)
    mask: NDArray[Any] = broadcast[key]
    return mask


def owned(pieces: Pieces, chunk: NDArray[Any]) -> NDArray[Any]:
    """`chunk`, which `pieces` computed, if it is nobody else's, or a copy that may be written."""
    # What was only loaded may be an array of the user's.
    if pieces.group.program.instructions and is_own(chunk) and chunk.flags.writeable:
        return chunk
    return chunk.copy(order="C")


def check_count(found: int, expected: int) -> None:
    """Refuse a mask that has changed since it was counted."""
    if found != expected:
        raise RuntimeError(
            f"a mask had {expected} true elements when it was counted, and {found} when it was "
            "used: it comes from a function that does not give the same twice; persist() it first"
        )
