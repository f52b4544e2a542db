"""Operators: streaming tasks that put streams together, or values of a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from darray.runtime.streams.edges import Edge
from darray.runtime.streams.lanes import Driver, timers
from darray.runtime.streams.stages import Stage, arrived

__all__ = ["Batch", "Join", "Merge", "Operator", "Window"]


class Operator(Stage):
    """A stage that takes values as they come, from any of its inputs.

    For each value that it takes it gives one at most, so that it takes none for which there is
    no room.
    """

    # The input that is looked at first, each in turn: one that always has something does not keep
    # the others from being taken.
    _turn = 0

    def take(self, number: int, value: Any) -> tuple[Any, ...]:
        """Take a value of the input of that number; the values to give."""
        raise NotImplementedError

    def rest(self) -> tuple[Any, ...]:
        """The values to give when all inputs have ended: one at most."""
        return ()

    def wants(self, number: int) -> bool:
        """Whether it takes a value of the input of that number now."""
        return True

    def goes_on_alone(self) -> bool:
        """Whether it is to give something although nothing may come."""
        return False

    def _granted(self) -> int:
        room = self._room()
        if not room:
            return 0
        count = 0
        for number, edge in enumerate(self.inputs):
            if self.wants(number):
                count += edge.available()
        return min(count, room)

    def _room(self) -> int:
        return min([edge.room() for edge in self.outputs], default=2**62)

    def _is_exhausted(self) -> bool:
        return all(map(_is_through, self.inputs))

    def _exhausted(self, driver: Driver) -> bool:
        if not self._room():
            return False
        for value in self.rest():
            self._give(value, driver)
        return True

    def _make(self, call: Callable[..., Any], count: int, driver: Driver) -> None:
        turn = self._turn
        self._turn = (turn + 1) % len(self.inputs)
        for number in (*range(turn, len(self.inputs)), *range(turn)):
            edge = self.inputs[number]
            while count and edge.items and self.wants(number) and not self.is_alarmed:
                self._take_one(number, edge, driver)
                count -= 1
                if not self._has_room():
                    return

    def _take_one(self, number: int, edge: Edge, driver: Driver) -> None:
        try:
            value = edge.pop(driver)
        except IndexError:
            return
        self.evaluations += 1
        for one in self.take(number, arrived(value)):
            self._give(one, driver)


class Merge(Operator):
    """Gives what comes, as it comes."""

    def take(self, number: int, value: Any) -> tuple[Any, ...]:
        """The value itself."""
        return (value,)


class Join(Operator):
    """Gives tuples of values, one of each input, that have the same key.

    Values of an input that wait for others are `most` at most; then the input is held back. Where
    all are, or have ended, no tuple can come any more, which is an error.
    """

    def __init__(self, *args: Any, keys: tuple[Callable[[Any], Any], ...], most: int) -> None:
        super().__init__(*args)
        self._keys = keys
        self._most = most
        self._waiting: list[dict[Hashable, deque[Any]]] = [{} for _ in self.inputs]
        self._counts = [0] * len(self.inputs)

    def wants(self, number: int) -> bool:
        """Whether fewer values than `most` of that input wait."""
        return self._counts[number] < self._most

    def take(self, number: int, value: Any) -> tuple[Any, ...]:
        """The tuple that the value completes, if it does."""
        key = self._keys[number](value)
        self._waiting[number].setdefault(key, deque()).append(value)
        self._counts[number] += 1
        if not all(key in one for one in self._waiting):
            return ()
        row = []
        for place, one in enumerate(self._waiting):
            row.append(one[key].popleft())
            self._counts[place] -= 1
            if not one[key]:
                del one[key]
        return (tuple(row),)

    def held(self) -> int:
        """How many values wait for others."""
        return sum(self._counts)

    def _close(self) -> None:
        self._waiting = [{} for _ in self.inputs]
        super()._close()

    def _granted(self) -> int:
        if not self._is_exhausted() and not any(
            self.wants(number) and not _is_through(edge) for number, edge in enumerate(self.inputs)
        ):
            raise ValueError(
                f"join() holds {self._counts} values of its streams, no key of which is in all of "
                f"them, and takes {self._most} of a stream at most; check key=, or give a greater "
                "most="
            )
        return super()._granted()

    def _is_exhausted(self) -> bool:
        return (
            any(
                _is_through(edge) and not count
                for edge, count in zip(self.inputs, self._counts, strict=True)
            )
            or super()._is_exhausted()
        )


class Batch(Operator):
    """Gives lists of `most` values, or of those that came within `seconds` of the first."""

    def __init__(self, *args: Any, most: int | None, seconds: float | None) -> None:
        super().__init__(*args)
        self._most = most
        self._seconds = seconds
        self._held: list[Any] = []
        self._timer: Any = None
        # How many batches were given, and the number of the one whose time came last.
        self._batches = 0
        self._due = -1

    def take(self, number: int, value: Any) -> tuple[Any, ...]:
        """The list that the value completes, if it does."""
        self._held.append(value)
        if len(self._held) == self._most:
            return self.rest()
        if self._seconds is not None and self._timer is None:
            number = self._batches
            self._timer = timers.call_later(self._seconds, lambda: self._come_due(number))
        return ()

    def goes_on_alone(self) -> bool:
        """Whether it has a batch whose time will come."""
        return self._timer is not None

    def _come_due(self, number: int) -> None:
        # On the timers' thread, perhaps when that batch is complete already.
        self._due = number
        self.wake()

    def _granted(self) -> int:
        if self._due == self._batches and self._held:
            if not self._room():
                return 0
            for value in self.rest():
                self._give(value, None)
        return super()._granted()

    def rest(self) -> tuple[Any, ...]:
        """What it holds, as a list, if that is anything."""
        if self._timer is not None:
            self._timer.cancel()
        held, self._held, self._timer = self._held, [], None
        self._batches += 1
        return (held,) if held else ()

    def held(self) -> int:
        """How many values are in a batch that is not complete."""
        return len(self._held)

    def _close(self) -> None:
        timer, self._held = self._timer, []
        if timer is not None:
            timer.cancel()
        super()._close()


class Window(Operator):
    """Gives lists of `size` values that follow one another, each `step` after the one before."""

    def __init__(self, *args: Any, size: int, step: int) -> None:
        super().__init__(*args)
        self._size = size
        self._step = step
        self._held: deque[Any] = deque()
        # How many values are to go by before the next window, and how many were in none so far.
        self._skip = 0
        self._new = 0

    def take(self, number: int, value: Any) -> tuple[Any, ...]:
        """The window that the value completes, if it does."""
        if self._skip:
            self._skip -= 1
            return ()
        self._held.append(value)
        self._new += 1
        if len(self._held) < self._size:
            return ()
        window = list(self._held)
        self._new = 0
        for _ in range(min(self._step, self._size)):
            self._held.popleft()
        self._skip = max(0, self._step - self._size)
        return (window,)

    def held(self) -> int:
        """How many values were in no window."""
        return self._new

    def _close(self) -> None:
        self._held.clear()
        super()._close()

    def rest(self) -> tuple[Any, ...]:
        """The values of a last window that is shorter, where some were in none."""
        held, new = list(self._held), self._new
        self._held.clear()
        self._new = 0
        return (held,) if new else ()


def _is_through(edge: Edge) -> bool:
    """Whether nothing comes from `edge` any more."""
    return edge.is_ended and not edge.items
