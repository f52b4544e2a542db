"""Exchanging elements between the chunks of a gather's source and those of its result.

Every group of the source's chunks is computed once a round and sends each chunk of the round what
it wants of it. Groups and chunks are so large that there are few pairs of them. The chunks of a
round, with their positions, take a share of the memory; the next round begins when they are put
together. A source that would have to be held to be computed again is exchanged in one round.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from msgspec import Struct

from darray.blocks import chunk_box, largest
from darray.expr import gathers
from darray.expr.positions import piece_counts
from darray.lowering.picks import Receive, Send, SortPositions
from darray.lowering.plans import Draft, Index, Key, Need

if TYPE_CHECKING:
    from darray.lowering.gathering import Gathering, Lane

__all__ = ["exchange"]

# Groups that a source is divided into, if one takes no more than this share of a round.
GROUPS = 64
GROUP_SHARE = 4


class Done(Struct, frozen=True):
    """What marks the end of a round; it holds nothing of what it comes after."""

    reads_parts: ClassVar[bool] = True

    def __call__(self, *values: Any) -> None:
        """Do nothing."""


class Round(Struct):
    """Chunks of a lane that are put together at a time."""

    lane: Lane
    places: list[Index]
    nbytes: int


def rounds_of(work: Gathering, room: int) -> list[Round]:
    """The chunks wanted in rounds of at most `room` bytes, or in one round a lane."""
    repeats = work.is_repeatable()
    positions = 4 * len(work.node.positions)
    found: list[Round] = []
    for lane, places in work.lanes.items():
        found.append(Round(lane, [], 0))
        for at in places:
            nbytes = math.prod(work.picked[at].shape) * (work.element + positions)
            if repeats and found[-1].places and found[-1].nbytes + nbytes > room:
                found.append(Round(lane, [], 0))
            found[-1].places.append(at)
            found[-1].nbytes += nbytes
    return found


class Exchange:
    """The rounds of one gather.

    Attributes
    ----------
    wanted : dict
        By the place of a chunk: for each group that it wants elements of, where these begin
        and end among its sorted positions.
    """

    def __init__(self, work: Gathering, room: int) -> None:
        self.work = work
        nbytes = math.prod(work.node.operand.shape[work.first : work.last]) * work.element
        self.cut = work.source_cut(max(gathers.GRAIN, min(nbytes // GROUPS, room // GROUP_SHARE)))
        self.wanted: dict[Index, dict[int, tuple[int, int]]] = {}
        for at, picked in work.picked.items():
            groups, counts = piece_counts(picked.flat(), self.cut)
            ends = np.cumsum(counts)
            spans = zip((ends - counts).tolist(), ends.tolist(), strict=True)
            self.wanted[at] = dict(zip(groups.tolist(), spans, strict=True))
        itemsize = max(1, work.node.dtype.itemsize)
        self.elements = math.prod(largest(self.cut)) * (work.element // itemsize)

    def plan(self, number: int, total: int, one: Round, before: Key | None) -> list[Need]:
        """Plan a round that begins once `before` is done; its chunks."""
        work = self.work
        # What each group sends: for which chunk of the round, from where to where.
        sent: dict[int, list[tuple[int, int, int]]] = {}
        for chunk, at in enumerate(one.places):
            for group, (start, stop) in self.wanted[at].items():
                sent.setdefault(group, []).append((chunk, start, stop))
        most = max(math.prod(work.picked[at].shape) for at in one.places)
        packets = max(sum(stop - start for _, start, stop in each) for each in sent.values())
        positions = 16 * (len(work.node.positions) + 2)
        parts = [(number + part) / total for part in (0.2, 0.5, 1.0)]
        sorting = work.stage("gather: sort", parts[0], 0, most * positions, reads=False)
        sending = work.stage(
            "gather: send", parts[1], self.elements, packets * (work.element + 16), reads=True
        )
        receiving = work.stage(
            "gather", parts[2], 0, most * (work.element + positions), reads=False
        )
        begin: list[Need] = [] if before is None else [before]
        sorts: list[Key] = [(self, (number, "sort", at)) for at in one.places]
        for key, at in zip(sorts, one.places, strict=True):
            call = SortPositions(work.picked[at], self.cut)
            sorting.drafts.append(Draft(key, After(call) if begin else call, begin))
        items: dict[tuple[int, int], int] = {}
        for group, wants in sorted(sent.items()):
            needs: list[Need] = [sorts[chunk] for chunk, _, _ in wants]
            for item, (chunk, _, _) in enumerate(wants):
                items[group, chunk] = item
            self.send(sending.drafts, (self, (number, group)), one.lane, group, wants, needs)
        ends: list[Need] = []
        for chunk, at in enumerate(one.places):
            wanted = self.wanted[at]
            received = tuple([(items[group, chunk], *span) for group, span in wanted.items()])
            needs = [(self, (number, group)) for group in wanted]
            end: Key = (work.node, work.index(one.lane, at))
            ends.append(end)
            receiving.drafts.append(Draft(end, Receive(work.picked[at], self.cut, received), needs))
        return ends

    def send(
        self,
        drafts: list[Draft],
        key: Key,
        lane: Lane,
        group: int,
        wants: list[tuple[int, int, int]],
        needs: list[Need],
    ) -> None:
        """Plan what one group of the source sends in a round."""
        work = self.work
        place = np.unravel_index(group, [len(sizes) for sizes in self.cut])
        along = chunk_box(self.cut, tuple([int(one) for one in place]))
        spans = tuple([(i, start, stop) for i, (_, start, stop) in enumerate(wants)])
        pieces = work.pieces(lane, along, needs)
        drafts.append(Draft(key, Send(pieces, work.first, spans), needs))


class After(Struct, frozen=True):
    """A call that is made once something else is done."""

    call: Any

    def __call__(self, before: Any) -> Any:
        """What the call gives."""
        return self.call()


def exchange(work: Gathering, room: int) -> None:
    """Plan to exchange what the chunks of `work` want, in rounds of at most `room` bytes."""
    planned = Exchange(work, room)
    rounds = rounds_of(work, room)
    repeats = work.is_repeatable()
    before: Key | None = None
    for number, one in enumerate(rounds):
        chunks = planned.plan(number, len(rounds), one, before)
        if repeats and number < len(rounds) - 1:
            before = (planned, (number, "end"))
            work.planner.plan.stages[-1].drafts.append(Draft(before, Done(), chunks))
