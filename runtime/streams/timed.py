"""Windows by time: lists of the values that came within so many seconds."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any

from darray.runtime.streams.lanes import timers
from darray.runtime.streams.operators import Operator

__all__ = ["Spans", "TimedWindow"]


class Spans:
    """Values by the time at which they came, put together by spans of time.

    Span ``k`` has the values that came from ``k * step`` seconds after the first on, for `length`
    seconds. Spans without values are left out.

    Invariants, checked by `_check`
    -------------------------------
    * The values held are in the order of their times, and none is before the span that is next.
    * ``new`` of them, the last ones, were in no span that was given.
    """

    def __init__(self, length: float, step: float) -> None:
        self._length = length
        self._step = step
        self._first: float | None = None
        # The number of the span that is next.
        self._number = 0
        self._held: deque[tuple[float, Any]] = deque()
        self.new = 0

    def add(self, time: float, value: Any) -> None:
        """Note a value that came at `time`, which is not before the last one."""
        if self._first is None:
            self._first = time
        if not self._held:
            passed = (time - self._first - self._length) / self._step
            self._number = max(self._number, int(passed))
            while time >= self._end():
                self._number += 1
        if self._held or time >= self._start():
            self._held.append((time, value))
            self.new += 1

    def _start(self) -> float:
        assert self._first is not None
        return self._first + self._number * self._step

    def _end(self) -> float:
        return self._start() + self._length

    def due(self) -> float | None:
        """When the next span with values ends; None while there are none."""
        return self._end() if self._held else None

    def take(self) -> list[Any]:
        """The values of the next span, which is over."""
        end = self._end()
        span = [value for time, value in self._held if time < end]
        self._number += 1
        while self._held and self._held[0][0] < self._start():
            self._held.popleft()
        while self._held and self._held[0][0] >= self._end():
            self._number += 1
            while self._held and self._held[0][0] < self._start():
                self._held.popleft()
        self.new = sum(time >= end for time, _ in self._held)
        return span

    def rest(self) -> list[Any]:
        """All that is held, where some of it was in no span."""
        rest = [value for _, value in self._held] if self.new else []
        self._held.clear()
        self.new = 0
        return rest

    def _check(self) -> None:
        times = [time for time, _ in self._held]
        assert times == sorted(times)
        assert not times or self._start() <= times[0] < self._end()
        assert 0 <= self.new <= len(times)


class TimedWindow(Operator):
    """Gives lists of the values that came within `seconds`, each `step` seconds after the last."""

    def __init__(self, *args: Any, seconds: float, step: float) -> None:
        super().__init__(*args)
        self._spans = Spans(seconds, step)
        self._timer: Any = None
        self._is_due = False

    def take(self, number: int, value: Any) -> tuple[Any, ...]:
        """Keep the value until its windows end."""
        self._spans.add(monotonic(), value)
        self._set_timer()
        return ()

    def _set_timer(self) -> None:
        due = self._spans.due()
        if self._timer is None and due is not None:
            self._timer = timers.call_later(max(0.0, due - monotonic()), self._come_due)

    def _come_due(self) -> None:
        self._is_due = True
        self.wake()

    def goes_on_alone(self) -> bool:
        """Whether it has a window that will end."""
        return self._spans.due() is not None

    def held(self) -> int:
        """How many values were in no window."""
        return self._spans.new

    def _granted(self) -> int:
        if self._is_due:
            self._is_due, self._timer = False, None
        while (due := self._spans.due()) is not None and due <= monotonic():
            if not self._room():
                return 0
            self._give(self._spans.take(), None)
        self._set_timer()
        return super()._granted()

    def rest(self) -> tuple[Any, ...]:
        """The values of a last window, which has not ended, where some were in none."""
        rest = self._spans.rest()
        return (rest,) if rest else ()

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._spans.rest()
        super()._close()
