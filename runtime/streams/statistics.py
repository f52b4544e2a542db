"""What is known of a region at work: how fast values flow, and who waits for whom."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["EdgeStatistics", "StreamStatistics", "StreamTaskStatistics"]


class StreamTaskStatistics(Struct, frozen=True, gc=False):
    """One streaming task: its state, the calls that it made, and the seconds spent in them."""

    name: str
    state: str
    calls: int
    busy: float


class EdgeStatistics(Struct, frozen=True, gc=False):
    """The way from one streaming task to another.

    Attributes
    ----------
    sent, received, dropped, buffered : int
        Values that the producer gave, of which so many were taken, dropped, or are in the buffer.
        While a task runs they may be behind by the calls that it makes without looking up, 64 at
        most.
    nbytes : int
        Bytes of those in the buffer, small values not counted.
    rate : float
        Values taken in a second, on the average.
    producer_waited, consumer_waited : float
        Seconds that the one waited for room, the other for values.
    """

    producer: str
    consumer: str
    sent: int
    received: int
    dropped: int
    buffered: int
    nbytes: int
    rate: float
    producer_waited: float
    consumer_waited: float


class StreamStatistics(Struct, frozen=True):
    """A streaming region since it began, `seconds` ago or until it ended.

    Prints as a table of its edges.
    """

    seconds: float
    tasks: tuple[StreamTaskStatistics, ...]
    edges: tuple[EdgeStatistics, ...]

    def __str__(self) -> str:
        rows = [
            ("from", "to", "values", "a second", "dropped", "there", "held back", "starved"),
            *(
                (
                    one.producer, one.consumer, f"{one.received:,}", f"{one.rate:,.0f}",
                    f"{one.dropped:,}", f"{one.buffered:,}", f"{one.producer_waited:.3f} s",
                    f"{one.consumer_waited:.3f} s",
                )
                for one in self.edges
            ),
        ]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            texts = [text.ljust(width) for text, width in zip(row[:2], widths[:2], strict=True)]
            texts += [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
            lines.append("  ".join(texts).rstrip())
        return "\n".join(lines)
