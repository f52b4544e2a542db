"""Calls: what the task of one chunk does, as plain data."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, ClassVar, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.io.formats import Parts, Target
from darray.kernels.evaluation import STREAMED, evaluate
from darray.kernels.programs import Program
from darray.kernels.reducing import Reducer, partial_results
from darray.kernels.warnings_ledger import Ledger
from darray.lowering.fusion import Group
from darray.lowering.hulls import Hull, Shown
from darray.lowering.loads import Load, Within
from darray.runtime import events
from darray.runtime.boxes import Box, index_of
from darray.runtime.devices.host import freeze
from darray.runtime.devices.host_buffers import empty, is_own
from darray.runtime.engine import current_engine, publish_move

__all__ = ["Combine", "Evaluate", "Fill", "MapBlock", "PartialReduce", "Write"]

# Makes an array, given its shape and its dtype.
Make: TypeAlias = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]


class Pieces(Struct, frozen=True):
    """A program and what its inputs come from; the part that all calls share.

    ``shape`` is the chunk's; results that broadcasting has not filled are brought to it. With
    ``is_remote`` some inputs come from another machine: the task needs no processor until they
    are there. Some loads may show parts of ``hulls``.
    """

    group: Group
    loads: tuple[Load | Shown, ...]
    shape: tuple[int, ...]
    ledger: Ledger
    is_remote: bool = False
    hulls: tuple[Hull, ...] = ()

    @property
    def program(self) -> Program:
        """What is to be run now, by the kernel that is chosen."""
        return self.group.program_for(math.prod(self.shape))

    def inputs(self, values: tuple[Any, ...]) -> list[NDArray[Any]]:
        """What the program reads."""
        inputs = []
        # What several inputs are boxes of is brought once.
        brought: dict[int, NDArray[Any]] = {}
        wholes = [hull.gather()(values) for hull in self.hulls]
        for load in self.loads:
            if isinstance(load, Shown):
                inputs.append(load.of(self.hulls[load.hull], wholes[load.hull]))
                continue
            if not isinstance(load, Within):
                inputs.append(load(values))
                continue
            key = id(load.whole)
            if key not in brought:
                brought[key] = load.whole(values)
            inputs.append(load.of(brought[key]))
        if self.is_remote:
            engine = current_engine()
            task = engine.current_task()
            # Other tasks, which compute something themselves, need what they said that they need.
            if task is not None and task._options is not None and task._options.reads_ahead:
                engine.occupy()
        return inputs

    def compute(
        self, values: tuple[Any, ...], make: Make = empty, streams: bool = False
    ) -> tuple[NDArray[Any], ...]:
        """What the program gives, each of the chunk's shape; perhaps in arrays that `make` made.

        As `evaluate` does.
        """
        return evaluate(self.program, self.inputs(values), self.shape, self.ledger, make, streams)


class Evaluate(Struct, frozen=True):
    """Compute a chunk and keep it.

    ``streams`` where there are so many of them that no cache holds this one until it is read.
    """

    reads_parts: ClassVar[bool] = True

    pieces: Pieces
    streams: bool = False

    def __call__(self, *values: Any) -> NDArray[Any]:
        """The chunk."""
        (result,) = self.pieces.compute(values, streams=self.streams)
        # A view would keep alive, and hide from the budget, what it looks at.
        return result if is_own(result) else result.copy()


class Fill(Struct, frozen=True):
    """Compute a chunk into its place in an array."""

    reads_parts: ClassVar[bool] = True

    pieces: Pieces
    out: NDArray[Any]
    box: Box

    def __call__(self, *values: Any) -> None:
        """Write the chunk."""
        place = self.out[index_of(self.box)]

        def make(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
            return place if dtype == place.dtype else empty(shape, dtype)

        (result,) = self.pieces.compute(values, make, self.out.nbytes >= STREAMED)
        if result is not place:
            place[...] = result


class Write(Struct, frozen=True):
    """Compute a chunk into its place in a store."""

    reads_parts: ClassVar[bool] = True

    pieces: Pieces
    target: Target | Parts
    box: Box

    def __call__(self, *values: Any) -> None:
        """Write the chunk."""
        (result,) = self.pieces.compute(values)
        began = perf_counter_ns()
        self.target.write(self.box, result)
        if events.consumers:
            publish_move(result.nbytes, "host memory", str(self.target), began)


class PartialReduce(Struct, frozen=True):
    """Compute a chunk and reduce it, by one or several reductions.

    With ``is_whole`` the chunk is all that its one reduction sees, and the result is final.
    """

    reads_parts: ClassVar[bool] = True

    pieces: Pieces
    reducers: tuple[Reducer, ...]
    box: Box
    whole_shape: tuple[int, ...]
    is_whole: bool

    def __call__(self, *values: Any) -> Any:
        """The partial results, one for each reduction, or the final one."""
        pieces = self.pieces
        partials = partial_results(
            pieces.program,
            pieces.inputs(values),
            self.reducers,
            self.box,
            self.whole_shape,
            pieces.ledger,
        )
        if self.is_whole:
            return self.reducers[0].finish(partials[0], pieces.ledger)
        return tuple(partials)


class Combine(Struct, frozen=True):
    """Join partial results; the last join of an array finishes it.

    ``picks`` says, for values that hold partials of several reductions, which is meant.
    """

    reducer: Reducer
    picks: tuple[int | None, ...]
    is_last: bool
    ledger: Ledger

    def __call__(self, *values: Any) -> Any:
        """The joined partial result, or the result."""
        pairs = zip(values, self.picks, strict=True)
        partials = [value if pick is None else value[pick] for value, pick in pairs]
        reducer = self.reducer
        joined = reducer.combine(partials, self.ledger)
        return reducer.finish(joined, self.ledger) if self.is_last else joined


class MapBlock(Struct, frozen=True):
    """Call a user's function on the blocks at one place of the grid."""

    reads_parts: ClassVar[bool] = True

    pieces: Pieces
    function: Any
    index: tuple[int, ...]
    result_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __call__(self, *values: Any) -> NDArray[Any]:
        """The block that the function returns.

        Raises
        ------
        TypeError, ValueError
            When it has another dtype or shape than was declared.
        """
        blocks = [freeze(block) for block in self.pieces.compute(values)]
        result = np.asarray(self.function(*blocks))
        name = getattr(self.function, "__name__", repr(self.function))
        if result.dtype != self.dtype:
            raise TypeError(
                f"map_blocks: {name} returned {result.dtype} for block {self.index}, but the "
                f"result was declared {self.dtype}; pass map_blocks(dtype={str(result.dtype)!r})"
            )
        if result.shape != self.result_shape:
            raise ValueError(
                f"map_blocks: {name} returned a block of shape {result.shape} for block "
                f"{self.index}, expected {self.result_shape}; pass map_blocks(chunks=...) with "
                "the sizes it returns"
            )
        # The function may hold what it returned, or a view of it, and write to it later: besides
        # the name here, and what asks, nothing refers to an array that is nobody else's.
        is_alone = is_own(result) and sys.getrefcount(result) == 2
        return result if is_alone else result.copy()
