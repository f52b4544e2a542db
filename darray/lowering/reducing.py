"""Reducing a chunk of a store while it is read, part by part.

Parts fit a core's cache, so that each is reduced where it was just read to: the chunk is neither
written to memory nor read from there, and reading it costs little more than the copy that the
system makes. What a store has to decode is read whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from time import perf_counter_ns
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from darray.io.files import File
from darray.io.formats import PartsReader
from darray.kernels.reducing import Reducer
from darray.kernels.reductions import Partial
from darray.kernels.warnings_ledger import Ledger
from darray.lowering.calls import PartialReduce
from darray.lowering.loads import Read, Ready
from darray.runtime import events
from darray.runtime.devices.host_buffers import empty
from darray.runtime.engine import publish_move

__all__ = ["ReduceByParts", "by_parts"]

# Bytes of a part: the least that costs no more in Python than it saves in memory traffic.
PART = 2**21


class ReduceByParts(Struct, frozen=True):
    """Read, compute and reduce a chunk in parts of `length` along `axis`, and join the results.

    A part is read into where the one before it was.
    """

    whole: PartialReduce
    readers: tuple[PartsReader, ...]
    axis: int
    length: int

    def __call__(self, *values: Any) -> Any:
        """What the chunk as a whole gives, but for rounding."""
        whole, ledger = self.whole, self.whole.pieces.ledger
        began = perf_counter_ns()
        found = list(self.parts())
        if events.consumers:
            for load in whole.pieces.loads:
                assert isinstance(load, Read)
                nbytes = math.prod(whole.pieces.shape) * load.source.dtype.itemsize
                publish_move(nbytes, str(load.source), "host memory", began)
        partials = [
            self.joined(reducer, [one[number] for one in found], ledger)
            for number, reducer in enumerate(whole.reducers)
        ]
        if whole.is_whole:
            return whole.reducers[0].finish(partials[0], ledger)
        return tuple(partials)

    def parts(self) -> Iterator[tuple[Partial, ...]]:
        """What each part gives, of each reduction."""
        whole, axis = self.whole, self.axis
        shape = list(whole.pieces.shape)
        size = shape[axis]
        lengths = [min(self.length, size - start) for start in range(0, size, self.length)]
        shape[axis] = self.length
        reading = []
        for reader, load in zip(self.readers, whole.pieces.loads, strict=True):
            assert isinstance(load, Read)
            space = empty(tuple(shape), load.source.dtype)
            outs = [space if n == self.length else _first(space, axis, n) for n in lengths]
            reading.append(reader.read_parts(load.box, axis, outs))
        start = whole.box[axis].start
        for length, *read in zip(lengths, *reading, strict=True):
            shape[axis] = length
            loads = tuple(map(Ready, read))
            pieces = replace(whole.pieces, loads=loads, shape=tuple(shape))
            place = slice(start, start + length, 1)
            start += length
            box = (*whole.box[:axis], place, *whole.box[axis + 1 :])
            partials = replace(whole, pieces=pieces, box=box, is_whole=False)()
            # What they share with the space would be another part's by the next one.
            yield tuple([tuple([_apart(one, read) for one in each]) for each in partials])

    def joined(self, reducer: Reducer, partials: list[Partial], ledger: Ledger) -> Partial:
        """The partial results of all parts as one."""
        if self.axis in reducer.axes:
            return reducer.combine(partials, ledger)
        arrays = []
        for each in zip(*partials, strict=True):
            # What is the same along the axis, a count, may have length 1 there.
            length = sum([one.shape[self.axis] for one in each])
            is_one = length != self.whole.pieces.shape[self.axis]
            arrays.append(each[0] if is_one else np.concatenate(each, axis=self.axis))
        return tuple(arrays)


def by_parts(call: PartialReduce) -> PartialReduce | ReduceByParts:
    """The same reduction part by part, where all that it reads lies plainly in files."""
    loads = call.pieces.loads
    if not loads or loads[0].__class__ is not Read:
        return call
    shape = call.pieces.shape
    axis = next((i for i, size in enumerate(shape) if size > 1), None)
    itemsize = 0
    readers = []
    for load in loads:
        if not isinstance(load, Read) or not load.index_map.is_identity or load.box != call.box:
            return call
        reader = load.source.parts_of(load.box) if isinstance(load.source, File) else None
        if reader is None:
            return call
        readers.append(reader)
        itemsize += load.source.dtype.itemsize
    nbytes = math.prod(shape) * itemsize
    if axis is None or nbytes < 2 * PART:
        return call
    length = max(1, PART * shape[axis] // nbytes)
    return ReduceByParts(call, tuple(readers), axis, length) if length < shape[axis] else call


def _first(space: NDArray[Any], axis: int, length: int) -> NDArray[Any]:
    """The first elements of an array along an axis before which all have length 1."""
    part: NDArray[Any] = space[(slice(None),) * axis + (slice(0, length),)]
    return part


def _apart(array: NDArray[Any], spaces: list[NDArray[Any]]) -> NDArray[Any]:
    """An array, or a copy of it where it lies in one of `spaces`."""
    return array.copy() if any(np.may_share_memory(array, one) for one in spaces) else array
