"""Standstills: streaming tasks that wait for one another for ever, found and ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from darray.runtime.calling import captured
from darray.runtime.errors import DeadlockError
from darray.runtime.streams.edges import Edge
from darray.runtime.streams.lanes import timers
from darray.runtime.streams.links import Direct, Receiver, Sending
from darray.runtime.streams.operators import Operator
from darray.runtime.streams.parallel import ParallelStage
from darray.runtime.streams.stages import IDLE, Stage
from darray.runtime.streams.taps import Tap
from darray.runtime.tasks import DONE

__all__ = ["look_out"]

# Seconds between two looks at a region; they grow to the second while nothing changes, or no task
# is held back.
SOON = 0.1
LATE = 2.0

Member: TypeAlias = Stage | Tap


class Way(NamedTuple):
    """From one task to another: a buffer, or that of its producer and that of its consumer."""

    producer: Stage
    consumer: Member
    front: Edge
    back: Edge

    def is_full(self) -> bool:
        """Whether the producer is held back."""
        return not self.front.is_ended and self.front._room() <= 0

    def is_empty(self) -> bool:
        """Whether the consumer has nothing, and nothing is under way to it."""
        return not self.back.items and not self.front.items

    def is_through(self) -> bool:
        """Whether nothing comes any more."""
        return self.back.is_ended or self.front.is_ended

    def described(self, member: Member) -> str:
        """What `member`, one of its two ends, waits for."""
        producer, consumer = self.back.names
        if member is self.consumer:
            return f"{consumer!r} for a value of {producer!r}"
        count = len(self.front.items)
        return f"{producer!r} for room in its buffer to {consumer!r}, full with {count:,} value(s)"


def _way_to(consumer: Member, edge: Edge) -> Way | None:
    """The way that ends with `edge`; None where it begins in another process."""
    front, producer = edge, edge.producer
    if isinstance(producer, Receiver):
        link = producer.link
        if not (isinstance(link, Direct) and isinstance(link.end, Sending)):
            return None
        front, producer = link.end, link.end.producer
    assert isinstance(producer, Stage)
    return Way(producer, consumer, front, edge)


def _ways_into(stage: Stage) -> list[Way]:
    ways = [_way_to(stage, edge) for edge in stage.inputs]
    return [way for way in ways if way is not None]


def _ways_out_of(stage: Stage) -> list[Way]:
    with stage._lock:
        fronts = (*stage.outputs, *stage._joining)
    ways = []
    for front in fronts:
        back = front
        if isinstance(front, Sending):
            link = front.link
            if not (isinstance(link, Direct) and isinstance(link.end, Receiver)):
                continue
            back = link.end.edge
        if isinstance(back.consumer, Stage | Tap) and not (front.is_left or back.is_left):
            ways.append(Way(stage, back.consumer, front, back))
    return ways


def _around(stages: Iterable[Stage]) -> list[Stage]:
    """The stages that hang together with `stages`, those of other regions among them."""
    found = dict.fromkeys(stages)
    pending = list(found)
    while pending:
        stage = pending.pop()
        near = [way.producer for way in _ways_into(stage)]
        near += [way.consumer for way in _ways_out_of(stage) if isinstance(way.consumer, Stage)]
        for one in near:
            if one not in found:
                found[one] = None
                pending.append(one)
    return list(found)


def _may_stand_still(stages: Iterable[Stage]) -> bool:
    """Whether values may come to some task in two ways.

    Where they cannot, no tasks can wait for one another in a circle: each would wait for the
    next by another buffer, and these buffers would be two ways from one of the tasks to another.
    """
    left = set(_around(stages))
    while left:
        part = _around([next(iter(left))])
        if sum(len(_ways_into(stage)) for stage in part) >= len(part):
            return True
        left.difference_update(part)
    return False


def _parked(member: Member) -> Any:
    """What tells one time of waiting from another; None where it does not wait for an edge."""
    if isinstance(member, Tap):
        return None if member.may_give_up else member.call
    with member._lock:
        waits = member.lane is not None and not member.is_over and member._state == IDLE
        # Of a turn within another stage's the calls tell.
        turn = (member.turns, member.evaluations)
        return turn if waits and member.task._state < DONE else None


def _held_by(member: Member, among: set[Member]) -> Way | None:
    """A way at which `member` cannot go on before another of `among` does; None if it may."""
    if isinstance(member, Tap):
        way = _way_to(member, member.edge)
        return way if way is not None and _starves(way, among) else None
    into, out_of = _ways_into(member), _ways_out_of(member)
    if len(into) < len(member.inputs) or any(way.back.failure is not None for way in into):
        return None
    if member.teardown and member._had_outputs and not any(way.consumer in among for way in out_of):
        # It ends when those that take from it do.
        return None
    full = next((way for way in out_of if way.is_full() and way.consumer in among), None)
    if isinstance(member, Operator):
        wanted = [way for number, way in enumerate(into) if member.wants(number)]
        wanted = [way for way in wanted if not (way.is_through() and way.is_empty())]
        is_starved = wanted and all(_starves(way, among) for way in wanted)
        return full or (wanted[0] if is_starved and not member.goes_on_alone() else None)
    if member._values is not None:
        return full
    empty = [way for way in into if way.is_empty()]
    if not all(_starves(way, among) for way in empty) or _is_calling(member):
        # It ends with the first of its inputs.
        return None
    return full or next(iter(empty), None)


def _is_calling(stage: Stage) -> bool:
    return isinstance(stage, ParallelStage) and bool(stage._pending)


def _starves(way: Way, among: set[Member]) -> bool:
    """Whether nothing comes this way before a member of `among` goes on."""
    return way.is_empty() and not way.is_through() and way.producer in among


class Lookout:
    """Looks from time to time whether tasks of a region wait for one another for ever.

    A task waits for the one that takes from it, if the buffer between them is full, or for the
    one that gives to it, if that is empty. It is given up where all of this is seen, for a set of
    tasks:

    1. At two looks each of the set waited for its edges, and made no turn in between. So there
       was a moment between the two at which all of the set waited.
    2. Between the two looks each was seen to be unable to go on before another one of the set: a
       buffer from it to one of the set is full and blocks; or one of the set is to give it what
       it has nothing of, and, where it takes values as they come, all that it takes are such.
       Only the two ends of a buffer change it, and none of them made a turn: so what was seen
       one after another held at once.
    3. Nothing else lets one of the set go on or end in order: no timer of its own, no call of its
       own that is still made, no input from outside that is empty and might end, and, where it
       ends with those that take from it, one of these is of the set. The caller, who may close an
       output at any time, is of the set only while its thread is blocked in that output: not while
       it awaits, which it may be told to give up. That another thread might close the output is
       not reckoned with.

    By induction none of the set ever takes or gives a value again. Only a cancel, or a failure
    elsewhere, could end them. So no stream that might go on, or end in order, is given up.

    It looks on the thread of the timers.

    Parameters
    ----------
    stages : callable
        Gives the stages of the region.
    """

    def __init__(self, stages: Callable[[], list[Stage]]) -> None:
        self._stages = stages
        self._seen: dict[Member, Any] = {}
        self._pause = SOON

    def look_often(self) -> None:
        """Look now and later, until the region has ended."""
        stages = self._stages()
        if all(stage.is_over for stage in stages):
            self._seen = {}
            return
        self._pause = SOON if self.look(stages) else min(LATE, 2 * self._pause)
        timers.call_later(self._pause, self.look_often)

    def look(self, stages: list[Stage]) -> bool:
        """End tasks that have stood still since the look before; whether to look again soon."""
        stages = _around(stages)
        ways = [way for stage in stages for way in _ways_out_of(stage)]
        if not any(way.front.producer_waits for way in ways):
            # In a circle of tasks one at least is.
            self._seen = {}
            return False
        members: list[Member] = list(stages)
        members += [way.consumer for way in ways if isinstance(way.consumer, Tap)]
        stuck = self._stuck([one for one in members if self._seen.get(one) is not None])
        before, self._seen = self._seen, {one: _parked(one) for one in members}
        if stuck and all(self._seen[one] == before[one] for one in stuck):
            _give_up(stuck)
        return self._seen != before

    def _stuck(self, members: list[Member]) -> dict[Member, Way]:
        """Those that can go on only after others of them, and at which way each is held."""
        among = set(members)
        while True:
            held: dict[Member, Way] = {}
            for one in among:
                way = _held_by(one, among)
                if way is not None:
                    held[one] = way
            if len(held) == len(among):
                return held
            among = set(held)


def look_out(stages: Callable[[], list[Stage]], at_once: bool) -> None:
    """Look from now on for tasks that wait for one another, in a region that has begun.

    With `at_once`, as on an engine that runs tasks at once, they have come as far as they can.
    """
    if _may_stand_still(stages()):
        lookout = Lookout(stages)
        if at_once:
            lookout.look(stages())
        lookout.look_often()


def _give_up(stuck: dict[Member, Way]) -> None:
    """Fail the task by which the others of a circle are held, and which waits for them."""
    member = next(iter(stuck))
    passed: list[Member] = []
    while member not in passed:
        passed.append(member)
        way = stuck[member]
        member = way.consumer if way.producer is member else way.producer
    circle = passed[passed.index(member) :]
    for place, one in enumerate(circle):
        full, empty = stuck[circle[place - 1]], stuck[one]
        if full.consumer is one and empty.consumer is one and isinstance(one, Stage):
            # When it fails the circle is open: what it takes is not full any more.
            circle = circle[place:] + circle[:place]
            error = DeadlockError(_told(one, [stuck[other].described(other) for other in circle]))
            one.fail(captured(one.task, error))
            return
    raise AssertionError("values flow in no circle")


def _told(stage: Stage, circle: list[str]) -> str:
    return (
        f"streaming tasks wait for one another for ever: {'; '.join(circle)}. Where values come to "
        f"{stage.task.name!r} in two ways, and later or fewer of them in one, the other one needs "
        "room for all that comes meanwhile: give it a bigger buffer, da.buffered(stream, "
        "buffer=...), or take both at the same rate"
    )
