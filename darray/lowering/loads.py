"""Loads: how a chunk task comes by the pieces that its program reads."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.index_maps import IndexMap
from darray.io.formats import Chunked
from darray.runtime import events
from darray.runtime.boxes import Box, index_of
from darray.runtime.devices.host_buffers import empty
from darray.runtime.engine import publish_move
from darray.runtime.spilling import Spilled

__all__ = ["Gather", "Generate", "Load", "Read", "Ready", "Within"]


class Load(Protocol):
    """One input of a chunk's program."""

    def __call__(self, values: tuple[Any, ...]) -> NDArray[Any]:
        """The piece, given the values of the tasks that the chunk's task needs."""


class Ready(Struct, frozen=True, gc=False):
    """A piece of an array in memory."""

    piece: NDArray[Any]

    def __call__(self, values: tuple[Any, ...]) -> NDArray[Any]:
        """The piece itself."""
        return self.piece


class Read(Struct, frozen=True):
    """A box of a stored array, perhaps on another machine."""

    source: Chunked
    box: Box
    index_map: IndexMap
    is_remote: bool = False

    def __call__(self, values: tuple[Any, ...]) -> NDArray[Any]:
        """Read the box."""
        if not events.consumers:
            return self.index_map.arrange(self.source.read(self.box), self.box)  # type: ignore[no-any-return]
        began = perf_counter_ns()
        piece = self.source.read(self.box)
        publish_move(piece.nbytes, str(self.source), "host memory", began)
        return self.index_map.arrange(piece, self.box)  # type: ignore[no-any-return]


class Generate(Struct, frozen=True):
    """A box of an array whose elements follow from their place."""

    function: Callable[[Box], NDArray[Any]]
    box: Box
    step: tuple[slice, ...] | None
    index_map: IndexMap

    def __call__(self, values: tuple[Any, ...]) -> NDArray[Any]:
        """Make the box."""
        piece = self.function(self.box)
        if self.step is not None:
            piece = piece[self.step]
        return self.index_map.arrange(piece, self.box)  # type: ignore[no-any-return]


class Gather(Struct, frozen=True):
    """A box of an array whose chunks are the values of tasks, or there already.

    ``pieces`` holds (position, part, place in the box): the position is that among the values,
    or, where it is negative, ~position that among `ready`.
    """

    pieces: tuple[tuple[int, Box, Box], ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    index_map: IndexMap
    box: Box
    ready: tuple[NDArray[Any], ...] = ()

    def __call__(self, values: tuple[Any, ...]) -> NDArray[Any]:
        """Put the pieces together; a box within one chunk is a view of it."""
        ready = self.ready
        if len(self.pieces) == 1:
            position, part, _ = self.pieces[0]
            chunk = values[position] if position >= 0 else ready[~position]
            whole = chunk[index_of(part)]
        else:
            whole = empty(self.shape, self.dtype)
            for position, part, place in self.pieces:
                chunk = values[position] if position >= 0 else ready[~position]
                if chunk.__class__ is Spilled:
                    chunk.part(index_of(part), whole[index_of(place)])
                else:
                    whole[index_of(place)] = chunk[index_of(part)]
        return self.index_map.arrange(whole, self.box)  # type: ignore[no-any-return]


class Within(Struct, frozen=True):
    """A box of what another load brings, which several share."""

    whole: Gather
    part: Box
    index_map: IndexMap
    box: Box

    def __call__(self, values: tuple[Any, ...]) -> NDArray[Any]:
        """The box of the whole, brought for it alone."""
        return self.of(self.whole(values))

    def of(self, whole: NDArray[Any]) -> NDArray[Any]:
        """The box of the whole, which is there."""
        return self.index_map.arrange(whole[index_of(self.part)], self.box)  # type: ignore[no-any-return]


def generate(function: Callable[[Box], NDArray[Any]], box: Box, index_map: IndexMap) -> Generate:
    """Load of `box`, whose steps may be greater than 1, from a function of boxes."""
    if all(part.step == 1 for part in box):
        return Generate(function, box, None, index_map)
    dense = tuple([slice(part.start, part.stop, 1) for part in box])
    return Generate(function, dense, tuple([slice(None, None, p.step) for p in box]), index_map)
