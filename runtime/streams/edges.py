"""Edges: the bounded buffers through which values go from one streaming task to another."""

from __future__ import annotations

import threading
from collections import deque
from time import perf_counter
from typing import Any, Protocol

from darray.runtime.errors import Failure
from darray.runtime.spaces import Space, brought, nbytes_of
from darray.runtime.streams.policies import Policy
from darray.runtime.streams.statistics import EdgeStatistics

__all__ = ["LIGHT", "UNBOUNDED", "Edge", "Heavy", "Party", "Producer"]

# Classes whose values are so small that only their number is limited.
LIGHT = frozenset((int, float, bool, complex, type(None)))

# The room of a buffer that never holds its producer back.
UNBOUNDED = 2**62


class Heavy:
    """A value in a buffer that is limited by its bytes as well, and these."""

    __slots__ = ("nbytes", "value")

    def __init__(self, value: Any, nbytes: int) -> None:
        self.value = value
        self.nbytes = nbytes


class Party(Protocol):
    """Who gives values to edges, or takes them from some."""

    # Set without a lock by whoever wants the party to look at its edges soon.
    is_alarmed: bool
    # Where it is; None while that is not known.
    space: Space | None

    def wake(self, waker: Any = None) -> None:
        """Go on, for an edge that it waited for has changed."""


class Producer(Party, Protocol):
    """Who gives values to edges."""

    def join(self, edge: Edge) -> None:
        """Give values to `edge` as well, from now on."""

    def left(self, edge: Edge) -> None:
        """Go on without `edge`, from which nothing is taken any more."""


class Acknowledging(Protocol):
    """What tells a producer on another worker how far its consumer is."""

    def acknowledge(self, count: int) -> None:
        """Tell that so many values have been worked on."""


class Edge:
    """A bounded buffer from one producer to one consumer.

    ``items`` is used by both without the lock: a deque is safe for an append at one end while
    another thread pops at the other, and counts itself. Only who drops values from it, by the
    edge's policy or because one side has gone, holds the lock, and so does then whoever pops.

    A party that finds nothing to do sets its flag, ``producer_waits`` or ``consumer_waits``,
    under the lock, and looks once more; the other one, each time that it has changed the buffer,
    looks at the flag and calls `serve`. So one of them always notices. A value that comes alone,
    while the consumer waits, may be given to it past the buffer, and is counted as received.

    Invariants, guarded by ``_lock`` and checked by `_check`
    -------------------------------------------------------
    * There are at most ``capacity`` items. Their bytes reach ``most_bytes`` by the last alone.
      Once ``is_left`` there may be more, which the producer is about to drop.
    * An item is a value whose class is `LIGHT`, or `Heavy`; ``nbytes`` sums the bytes of those.
    * Once ``is_ended`` no item is added; once ``is_left`` none is taken, and the producer, if it
      is there, drops what there is.
    * ``sent`` values were put; each was received, dropped, or is in the buffer.
    * A party waits only while the other one is there.

    Attributes
    ----------
    crossing : tuple of two spaces, or None
        Those that the values are brought from and to, where they are not the same.
    receiver : Acknowledging or None
        Whom to tell how many values have been worked on, where the producer is on another worker.
    """

    __slots__ = (
        "_lock",
        "capacity",
        "consumer",
        "consumer_waits",
        "crossing",
        "dropped",
        "failure",
        "is_ended",
        "is_left",
        "items",
        "most_bytes",
        "names",
        "nbytes",
        "policy",
        "producer",
        "producer_waits",
        "received",
        "receiver",
        "starved",
        "throttled",
        "waits_since",
    )

    def __init__(
        self,
        names: tuple[str, str],
        policy: Policy,
        capacity: int,
        most_bytes: int,
        producer: Producer,
    ) -> None:
        # Guards all that is changed below, `items` as said above. Taken after no other lock of
        # this package; nothing is called while it is held that takes another.
        self._lock = threading.Lock()
        # Of the producer and of the consumer.
        self.names = names
        self.policy = policy
        self.capacity = capacity
        self.most_bytes = most_bytes
        self.producer = producer
        self.consumer: Party | None = None
        self.crossing: tuple[Space, Space] | None = None
        self.receiver: Acknowledging | None = None
        self.items: deque[Any] = deque()
        self.nbytes = 0
        self.received = 0
        self.dropped = 0
        self.is_ended = False
        self.failure: Failure | None = None
        self.is_left = False
        self.producer_waits = False
        self.consumer_waits = False
        # Seconds that the producer was held back, and that the consumer had nothing.
        self.throttled = 0.0
        self.starved = 0.0
        self.waits_since = 0.0

    @property
    def sent(self) -> int:
        """How many values the producer has put."""
        return self.received + self.dropped + len(self.items)

    # The producer's side

    def room(self) -> int:
        """How many values may be put now; where there is no room the producer waits from now on."""
        room = self._room()
        if room:
            return room
        with self._lock:
            self._wait(producer=True)
            room = self._room()
            if room:
                self._stop_waiting(producer=True)
        return room

    def _room(self) -> int:
        if self.policy.drops or self.is_left:
            return UNBOUNDED
        return self.capacity - len(self.items) if self.nbytes < self.most_bytes else 0

    def put(self, value: Any, waker: Any = None) -> None:
        """Put a value for which there is room, or for which the policy makes some."""
        # As it is where the consumer is.
        item = value if self.crossing is None else brought(value, *self.crossing)
        nbytes = 0
        if item.__class__ not in LIGHT:
            # Measuring may run the user's code: not under the lock, and once.
            nbytes = nbytes_of(item)
            item = Heavy(item, nbytes)
        with self._lock:
            if self.is_left or self.is_ended:
                self.dropped += 1
                return
            self.nbytes += nbytes
            self.items.append(item)
            dropped: list[Any] = []
            if self.policy.drops and (
                len(self.items) > self.capacity or self.nbytes > self.most_bytes
            ):
                dropped = self._drop_some()
        # What they hold goes when no lock is held.
        dropped.clear()
        if self.consumer_waits:
            self.serve(waker)

    def _drop_some(self) -> list[Any]:
        """Drop what the policy says; what was dropped. Lock held."""
        dropped = []
        while len(self.items) > self.capacity or (
            self.nbytes > self.most_bytes and len(self.items) > 1
        ):
            one = self.policy.drop(self.items)
            self.nbytes -= one.nbytes if one.__class__ is Heavy else 0
            self.dropped += 1
            dropped.append(one)
        return dropped

    def clear(self) -> None:
        """Drop what is left in the buffer, which the consumer has left."""
        with self._lock:
            left = list(self.items)
            self.items.clear()
            self.dropped += len(left)
            self.nbytes = 0
        # What they hold goes when no lock is held.
        left.clear()

    def end(self, failure: Failure | None = None) -> None:
        """Put nothing any more; with a `failure` the consumer fails with it."""
        with self._lock:
            if self.is_ended:
                return
            self.is_ended = True
            self.failure = failure
            self._stop_waiting(producer=True)
            self._stop_waiting(producer=False)
            consumer = self.consumer
            is_left = self.is_left
        if is_left:
            # The producer comes to it no more.
            self.clear()
        if consumer is not None:
            consumer.is_alarmed = True
            consumer.wake()

    # The consumer's side

    def available(self) -> int:
        """How many values are there; where there are none the consumer waits from now on."""
        count = len(self.items)
        if count or self.is_ended:
            return count
        with self._lock:
            self._wait(producer=False)
            count = len(self.items)
            if count or self.is_ended:
                self._stop_waiting(producer=False)
        return count

    def pop(self, waker: Any = None) -> Any:
        """Take the first value, which is there.

        Raises
        ------
        IndexError
            Where there is none, as the policy has dropped it.
        """
        with self._lock:
            value = self.items.popleft()
            self.received += 1
            if value.__class__ is Heavy:
                self.nbytes -= value.nbytes
                value = value.value
        if self.producer_waits:
            self.serve(waker)
        return value

    def unwrapped(self, item: Any) -> Any:
        """The value of an item that is not light, which the consumer itself took."""
        with self._lock:
            self.nbytes -= item.nbytes
        return item.value

    def leave(self) -> int:
        """Take nothing any more; how many values are dropped by that."""
        with self._lock:
            if self.is_left:
                return 0
            self.is_left = True
            left = len(self.items)
            self._stop_waiting(producer=True)
            self._stop_waiting(producer=False)
            is_ended = self.is_ended
        if is_ended:
            self.clear()
        else:
            # It may be putting a value right now: what is in the buffer it drops itself.
            self.producer.is_alarmed = True
            self.producer.left(self)
        return left

    # Both

    def serve(self, waker: Any = None) -> None:
        """Wake whoever waits for what there is now."""
        if not (self.consumer_waits or self.producer_waits):
            return
        woken: list[Party] = []
        with self._lock:
            if self.consumer_waits and self.items:
                self._stop_waiting(producer=False)
                if self.consumer is not None:
                    woken.append(self.consumer)
            has_room = len(self.items) < self.capacity and self.nbytes < self.most_bytes
            if self.producer_waits and has_room:
                self._stop_waiting(producer=True)
                woken.append(self.producer)
        for one in woken:
            one.wake(waker)

    def statistics(self, seconds: float) -> EdgeStatistics:
        """What has gone this way in so many seconds."""
        with self._lock:
            waits = perf_counter() - self.waits_since
            return EdgeStatistics(
                *self.names,
                self.sent,
                self.received,
                self.dropped,
                len(self.items),
                self.nbytes,
                self.received / seconds if seconds else 0.0,
                self.throttled + waits * self.producer_waits,
                self.starved + waits * self.consumer_waits,
            )

    def _wait(self, producer: bool) -> None:
        """Let one of the parties wait; lock held."""
        if producer:
            self.producer_waits = True
        else:
            self.consumer_waits = True
        self.waits_since = perf_counter()

    def _stop_waiting(self, producer: bool) -> None:
        """Let one of the parties wait no more; lock held."""
        if producer and self.producer_waits:
            self.producer_waits = False
            self.throttled += perf_counter() - self.waits_since
        elif not producer and self.consumer_waits:
            self.consumer_waits = False
            self.starved += perf_counter() - self.waits_since

    def _check(self) -> None:
        """Assert the invariants; neither party runs."""
        with self._lock:
            assert len(self.items) <= self.capacity or self.is_left
            heavy = [one.nbytes for one in self.items if one.__class__ is Heavy]
            assert self.nbytes == sum(heavy)
            assert not heavy or self.nbytes - heavy[-1] < self.most_bytes or self.is_left
            assert not (self.is_left and self.is_ended and self.items)
            assert not (self.producer_waits and (self.is_left or self.is_ended))
            assert not (self.consumer_waits and self.is_ended)
