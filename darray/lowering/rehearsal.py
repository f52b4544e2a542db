"""Rehearsing: a plan played through without doing anything, to see what it would hold."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from darray.blocks import chunk_box, grid_shape, largest
from darray.expr.nodes import Expression
from darray.lowering.calls import Combine, Fill, Write
from darray.lowering.planning import Bundle
from darray.lowering.plans import Draft, Key, Plan, Stage
from darray.lowering.reading_ahead import is_remote, most_at_once
from darray.lowering.sizing import partial_nbytes
from darray.runtime import Task
from darray.runtime.boxes import box_shape

__all__ = ["Rehearsal"]

# How much longer than elsewhere a task takes on a thread that is held up by others.
HELD_UP = 8


class Rehearsal:
    """The tasks of a plan: what each of them holds and gives, and which wait for which.

    Parameters
    ----------
    plan : Plan
        What is rehearsed.
    keepers : collection of Expression
        Those whose chunks are kept.
    in_order : bool
        Whether tasks run in the order in which they were planned and all results are held to
        the end, as by the serial engine, which carries out a plan while it is handed over.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> from darray.lowering.planning import Planner
    >>> planner = Planner()
    >>> planner.fill((da.arange(8, blocks=2) + 1).expression, np.empty(8, int))
    >>> Rehearsal(planner.run(), [], in_order=False).peak(threads=2)
    64
    """

    def __init__(self, plan: Plan, keepers: Collection[Expression], in_order: bool) -> None:
        drafts = list(plan.drafts())
        places: dict[Key, int] = {draft.key: place for place, draft in enumerate(drafts)}
        self._needs: list[list[int]] = [
            [places[need] for need in dict.fromkeys(draft.needs) if not isinstance(need, Task)]
            for draft in drafts
        ]
        self._consumers: list[list[int]] = [[] for _ in drafts]
        for place, needs in enumerate(self._needs):
            for need in needs:
                self._consumers[need].append(place)
        self._memory: list[int] = []
        self._results: list[int] = []
        self._urgency: list[int] = []
        # The stages of tasks that read ahead, and how many of each do.
        self._ahead: list[int | None] = []
        self._lanes: dict[int, int] = {}
        for rank, stage in enumerate(plan.stages):
            reads_at_once = 0 if in_order else most_at_once(plan, stage)
            self._lanes[rank] = reads_at_once
            self._ahead += [
                rank if reads_at_once and is_remote(draft) else None for draft in stage.drafts
            ]
            self._memory += [stage.memory] * len(stage.drafts)
            self._results += [_result_nbytes(draft, stage) for draft in stage.drafts]
            # Later stages go first.
            self._urgency += [0 if in_order else -rank] * len(stage.drafts)
        stays = set(keepers)
        self._is_held = [in_order or draft.key[0] in stays for draft in drafts]

    def peak(self, threads: int) -> int:
        """The most bytes that tasks that run, and results that wait or are kept, hold at a time.

        Both where all tasks take the same time, and where one of the threads is slow, so that
        what needs its results waits.
        """
        paces = [[1] * threads]
        if threads > 1:
            paces.append([HELD_UP] + [1] * (threads - 1))
        return max([self._played(one) for one in paces])

    def _played(self, paces: Sequence[int]) -> int:
        """The same where a task takes ``paces[t]`` on thread t."""
        missing = [len(needs) for needs in self._needs]
        waited_for = [
            len(consumers) + is_held
            for consumers, is_held in zip(self._consumers, self._is_held, strict=True)
        ]
        ready: list[tuple[int, int]] = []
        idle = list(range(len(paces)))
        # (when it ends, thread, task)
        running: list[tuple[int, int, int]] = []
        now = held = reserved = peak = 0
        lanes = dict(self._lanes)
        in_turn: dict[int, deque[int]] = {rank: deque() for rank in lanes}

        def could_begin(place: int) -> None:
            """Have a task be ready; what it reads ahead is there at once, as if it took no time."""
            nonlocal reserved
            rank = self._ahead[place]
            if rank is not None and not lanes[rank]:
                in_turn[rank].append(place)
                return
            if rank is not None:
                lanes[rank] -= 1
                reserved += self._memory[place]
            heapq.heappush(ready, (self._urgency[place], place))

        for at, count in enumerate(missing):
            if not count:
                could_begin(at)
        while ready or running:
            while ready and idle:
                thread, place = idle.pop(), heapq.heappop(ready)[1]
                heapq.heappush(running, (now + paces[thread], thread, place))
                reserved += self._memory[place] if self._ahead[place] is None else 0
            peak = max(peak, held + reserved)
            now, thread, place = heapq.heappop(running)
            idle.append(thread)
            reserved -= self._memory[place]
            rank = self._ahead[place]
            if rank is not None:
                lanes[rank] += 1
                if in_turn[rank]:
                    could_begin(in_turn[rank].popleft())
            held += self._results[place] if waited_for[place] else 0
            for need in self._needs[place]:
                waited_for[need] -= 1
                held -= 0 if waited_for[need] else self._results[need]
            peak = max(peak, held + reserved)
            for consumer in self._consumers[place]:
                missing[consumer] -= 1
                if not missing[consumer]:
                    could_begin(consumer)
        return peak


def _result_nbytes(draft: Draft, stage: Stage) -> int:
    """Bytes of what a task gives."""
    node, index = draft.key
    if isinstance(draft.call, Fill | Write):
        return 0
    if isinstance(node, Bundle):
        return sum([partial_nbytes(member) for member, _ in node.members])
    if isinstance(draft.call, Combine) and not draft.call.is_last:
        return partial_nbytes(node)
    if not isinstance(node, Expression):
        return stage.memory
    if _is_place(index, grid_shape(node.chunks)):
        return math.prod(box_shape(chunk_box(node.chunks, index))) * node.dtype.itemsize
    # Something on the way to a chunk.
    return min(stage.memory, math.prod(largest(node.chunks)) * node.dtype.itemsize)


def _is_place(index: Any, grid: tuple[int, ...]) -> bool:
    return (
        isinstance(index, tuple)
        and len(index) == len(grid)
        and all(isinstance(at, int) and at < size for at, size in zip(index, grid, strict=True))
    )
