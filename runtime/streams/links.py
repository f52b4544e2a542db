"""Edges between workers: what one end sends, what the other takes, and by what credit.

The two ends know each other only by messages, which a `Link` brings in order. On the engine of
several workers in one process that is a call; an engine of several processes brings them its own
way.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from darray.runtime.errors import Failure
from darray.runtime.spaces import Message, Space, packed, unpacked
from darray.runtime.streams.edges import Edge
from darray.runtime.streams.policies import POLICIES

__all__ = ["Direct", "Link", "Receiver", "Sending", "connect", "linked"]


class Value(Struct, frozen=True):
    """The value of that number, from 0."""

    number: int
    content: Message


class Ended(Struct, frozen=True):
    """There are so many values and no more; with a failure the consumer is not to wait for them."""

    count: int
    failure: Failure | None


class Taken(Struct, frozen=True):
    """So many values have been worked on, from the first: there is room for others.

    `epoch` is that of the connection: what comes from one that was cut is too late.
    """

    count: int
    epoch: int


class Left(Struct, frozen=True):
    """Nothing is taken any more."""


Letter: TypeAlias = Value | Ended | Taken | Left


class End(Protocol):
    """One end of an edge between workers."""

    def receive(self, letter: Any) -> None:
        """Take a message of the other end."""


class Link(Protocol):
    """The way from one end to the other: the seam that an engine of processes fills."""

    def send(self, letter: Letter) -> None:
        """Bring `letter` to the other end and let it `receive` it there."""


class Direct:
    """The way to an end that is in this process.

    Once it is cut nothing arrives any more, as from a worker that is lost.
    """

    def __init__(self, end: End) -> None:
        self.end = end
        self.is_cut = False

    def send(self, letter: Letter) -> None:
        """Let the other end receive `letter`, unless the link is cut."""
        if not self.is_cut:
            self.end.receive(letter)


class Sending(Edge):
    """The producer's end: an edge whose buffer is what is under way.

    Its ``items`` are the values, packed, that were sent and of which the consumer has not told
    that they have been worked on. So there are at most ``capacity`` of them anywhere between the
    two, and they can be sent again. ``received`` counts those of which it has told.
    """

    link: Link

    def __init__(self, edge: Edge, source: Space, destination: Space) -> None:
        super().__init__(
            edge.names, POLICIES["block"], edge.capacity, edge.most_bytes, edge.producer
        )
        # Values go one by one.
        self.crossing = (source, destination)
        # How often the connection was cut.
        self.epoch = 0

    def put(self, value: Any, waker: Any = None) -> None:
        """Send a value, for which there is room."""
        assert self.crossing is not None
        content = packed(value, self.crossing[0])
        with self._lock:
            if self.is_left or self.is_ended:
                self.dropped += 1
                return
            number = self.sent
            self.items.append(content)
            self.nbytes += content.nbytes
        self.link.send(Value(number, content))

    def cut(self) -> Receiver:
        """Let nothing arrive at the consumer's end any more, nor from there; that end."""
        assert isinstance(self.link, Direct)
        other = self.link.end
        assert isinstance(other, Receiver)
        assert isinstance(other.link, Direct)
        self.link.is_cut = other.link.is_cut = True
        with self._lock:
            self.epoch += 1
        return other

    def end(self, failure: Failure | None = None) -> None:
        """Send nothing any more; with a `failure` the consumer fails with it."""
        super().end(failure)
        self.link.send(Ended(self.sent, failure))

    def receive(self, letter: Letter) -> None:
        """Hear how far the consumer is, or that it has left."""
        if isinstance(letter, Left):
            self.leave()
            return
        assert isinstance(letter, Taken)
        with self._lock:
            if letter.epoch != self.epoch:
                return
            while self.received < letter.count and self.items:
                self.nbytes -= self.items.popleft().nbytes
                self.received += 1
        if self.producer_waits:
            self.serve()

    def _check(self) -> None:
        with self._lock:
            assert len(self.items) <= self.capacity
            assert self.nbytes == sum(one.nbytes for one in self.items)
            assert not (self.producer_waits and (self.is_left or self.is_ended))


class Receiver:
    """The consumer's end: the producer of the edge from which the consumer takes.

    Values that arrive twice, as after a restart of their producer, are given once.
    """

    is_alarmed = False

    def __init__(self, edge: Edge, destination: Space, first: int = 0) -> None:
        self.edge = edge
        self.space: Space | None = destination
        self.link: Link
        # That of the connection.
        self.epoch = 0
        # Guards the fields below; nothing is called while it is held.
        self._lock = threading.Lock()
        self._next = first
        self._early: dict[int, Message] = {}
        self._ended: Ended | None = None
        # Whether a thread gives values on: it also gives those that arrive meanwhile.
        self._is_giving = False

    def receive(self, letter: Letter) -> None:
        """Give on the values that are next, and the end after the last."""
        with self._lock:
            is_known = isinstance(letter, Value) and letter.number < self._next
            if isinstance(letter, Value) and not is_known:
                self._early[letter.number] = letter.content
            elif isinstance(letter, Ended):
                self._ended = letter
            is_giving, self._is_giving = self._is_giving, True
        if is_known:
            # It holds no room: its producer began anew.
            self.acknowledge_again()
        if not is_giving:
            while self._give_one():
                pass

    def _give_one(self) -> bool:
        """Give the next value, or the end; whether there was one."""
        with self._lock:
            ended, number = self._ended, self._next
            content = self._early.pop(number, None)
            is_through = ended is not None and (ended.failure is not None or number >= ended.count)
            if is_through:
                self._ended = None
            elif content is None:
                self._is_giving = False
                return False
            else:
                self._next += 1
        if is_through:
            assert ended is not None
            self.edge.end(ended.failure)
            return True
        assert content is not None
        assert self.space is not None
        try:
            value = unpacked(content, self.space)
        except Exception as error:
            self.edge.end(Failure.capture(error, f"on the way to {self.edge.names[1]!r}"))
            return True
        self.edge.put(value)
        if self.edge.policy.drops:
            self.acknowledge(number + 1)
        return True

    def acknowledge(self, count: int) -> None:
        """Tell that so many values have been worked on."""
        self.link.send(Taken(count, self.epoch))

    def acknowledge_again(self) -> None:
        """Tell a new producer's end how far the consumer is."""
        self.acknowledge(self.edge.received)

    def wake(self, waker: Any = None) -> None:
        """Do nothing: room is told of by `acknowledge`."""

    def join(self, edge: Edge) -> None:
        """Refuse further edges: it gives values to one."""
        raise AssertionError("a receiver serves one edge")

    def left(self, edge: Edge) -> None:
        """Tell that nothing is taken any more."""
        edge.clear()
        self.link.send(Left())


def connect(sending: Sending, receiver: Receiver) -> tuple[Direct, Direct]:
    """Join two ends in this process; the ways to the receiver and to the sender."""
    forth, back = Direct(receiver), Direct(sending)
    receiver.epoch = sending.epoch
    sending.link = forth
    receiver.link = back
    return forth, back


def linked(edge: Edge, source: Space, destination: Space) -> Sending:
    """The producer's end for `edge`, from which the consumer takes, joined to it."""
    sending = Sending(edge, source, destination)
    receiver = Receiver(edge, destination)
    edge.producer = edge.receiver = receiver
    connect(sending, receiver)
    return sending
