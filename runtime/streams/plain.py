"""Plain stages: streaming tasks whose functions are called in a driver's thread, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from darray.runtime import contexts
from darray.runtime.arguments import sealed
from darray.runtime.streams.calls import NOTHING, StreamFinished
from darray.runtime.streams.edges import LIGHT, Edge, Heavy
from darray.runtime.streams.lanes import DEAR, Driver
from darray.runtime.streams.stages import BUSY, GLANCE, IDLE, QUEUED, Stage, arrived
from darray.runtime.tasks import Task

__all__ = ["PlainStage"]

# How many stages are called within one another's turns at most.
MOST_DEEP = 8


def _no_append(value: Any) -> None:
    raise AssertionError("nobody takes it")


class PlainStage(Stage):
    """A streaming task of a plain function, of a generator or an iterator.

    What a source gives after a wait has nothing to be put together with. So where a cheap stage
    waits for it, the source's driver makes that stage's call at once, and the one after that, and
    asks the source again: no value goes through a buffer, and no stage through its lane.
    """

    # The driver's task, to the engine, of which the stage's context tells.
    _told_of: Task[Any] | None = None

    def _make(self, call: Callable[..., Any], count: int, driver: Driver) -> None:
        """Make `count` calls, or fewer."""
        inputs = self.inputs
        if self.expands and not inputs:
            call = self._next_of(call)
        elif self.expands:
            self._expand(call, count, driver)
            return
        if self._is_slow():
            self._make_slowly(call, count, driver)
        elif inputs:
            self._make_of_one(call, count, driver)
        else:
            self._make_of_none(call, count, driver)

    def _next_of(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """What gives the values, one by one, that `call` gives."""
        if self._values is None:
            self._values = iter(call())
        return self._values.__next__

    def _comes_alone(self, driver: Driver) -> bool:
        is_lone = self.cost > GLANCE and self._is_single and not self.inputs
        return is_lone and bool(self.outputs) and driver.is_free()

    def _make_lone(self, call: Callable[..., Any], driver: Driver) -> float:
        # As long as what they give is taken at once, and they are dear.
        if self.expands:
            call = self._next_of(call)
        edge = self.outputs[0]
        began = perf_counter()
        while True:
            made = 1
            try:
                value = call()
            except StopIteration as ended:
                made = 0
                raise StreamFinished(NOTHING, ended.value) from None
            finally:
                cost = perf_counter() - began
                self.busy += cost
                self.evaluations += made
                self._left -= made
            # Who ends the stage sets the alarm and then looks at this: one of the two notices, and
            # no driver is let go, for this stage's sake, in the call of another.
            self._is_handing = True
            is_taken = self._hand_on(value, edge, driver, not self.is_alarmed)
            self._is_handing = False
            # It is not to be kept while the source waits for the next one.
            del value
            began = perf_counter()
            if not is_taken or cost <= GLANCE or self.is_alarmed or not self._left:
                break
            if not driver.is_free():
                break
        self._learn(cost)
        return began

    def _hand_on(self, value: Any, edge: Edge, driver: Driver, is_direct: bool = True) -> bool:
        """Give a value to who waits for it, or else put it into `edge`; whether that is empty."""
        is_light = value.__class__ in LIGHT
        if not is_light:
            value = sealed(value)
        if is_direct and edge.consumer_waits:
            consumer = edge.consumer
            if consumer.__class__ is PlainStage and consumer._take_lone(value, edge, driver):
                return True
        if is_light:
            edge.items.append(value)
            if edge.consumer_waits:
                edge.serve(driver)
        else:
            edge.put(value, driver)
        return False

    def _take_lone(self, value: Any, edge: Edge, driver: Driver) -> bool:
        """Make a call with a value that was not put into `edge`, which is empty, if that goes now.

        It goes where a driver would make this call before any other; the stage is idle then, and
        waits for `edge` before and after.
        """
        outputs = self.outputs
        if (
            not 0 < self.cost <= DEAR
            or self.lane is not driver.shared
            or self.is_alarmed
            or not self._is_single
            or self.expands
            or self._left < 2
            or edge.items
            or (outputs and outputs[0].items)
            or driver.depth == MOST_DEEP
        ):
            return False
        with self._lock:
            is_idle = self._state == IDLE and not self.is_over
            if not is_idle:
                return False
            self._state = BUSY
            self._is_woken = False
        driver.depth += 1
        try:
            self._context.run(self._run_lone, value, edge, driver)  # type: ignore[union-attr]
        finally:
            driver.depth -= 1
            if self.is_over:
                self._clear_left()
            with self._lock:
                has_more = self._is_woken and not self.is_over
                self._state = QUEUED if has_more else IDLE
        if has_more:
            self.lane.push(self, driver)  # type: ignore[union-attr]
        return True

    def _run_lone(self, value: Any, edge: Edge, driver: Driver) -> None:
        """Make one call with a value that comes by `edge`, in the context that is the stage's."""
        if self._told_of is not driver.task:
            self._told_of = driver.task
            contexts.streaming.set((driver.task, self.task))
        try:
            try:
                began = perf_counter()
                try:
                    if value.__class__ not in LIGHT:
                        value = arrived(value)
                    value = self.call(value)
                finally:
                    cost = perf_counter() - began
                    self.busy += cost
                    self.evaluations += 1
                    self._left -= 1
                    self._learn(cost)
                    # Nobody else changes these now: the producer is whose driver this is.
                    edge.received += 1
                    edge.waits_since += cost
                if self.outputs:
                    self._hand_on(value, self.outputs[0], driver)
            except StreamFinished as finished:
                self._finish(finished, driver)
        except BaseException as error:
            self._fail_by(error)

    def _is_slow(self) -> bool:
        """Whether values go one by one, as they have several ways or their bytes are counted."""
        if not self._is_single:
            return True
        inputs, outputs = self.inputs, self.outputs
        return bool((inputs and inputs[0].nbytes) or (outputs and outputs[0].nbytes))

    def _make_of_none(self, call: Callable[..., Any], count: int, driver: Driver) -> None:
        output = self.outputs[0] if self.outputs else None
        append = _no_append if output is None else output.items.append
        done = 0
        try:
            for done in range(1, count + 1):
                if self.is_alarmed:
                    done -= 1
                    return
                value = call()
                if output is None:
                    continue
                if value.__class__ not in LIGHT:
                    self._give(value, driver)
                    return
                append(value)
                if output.consumer_waits:
                    output.serve(driver)
        except StopIteration as ended:
            done -= 1
            raise StreamFinished(NOTHING, ended.value) from None
        finally:
            self.evaluations += done

    def _make_of_one(self, call: Callable[..., Any], count: int, driver: Driver) -> None:
        edge = self.inputs[0]
        popleft = edge.items.popleft
        output = self.outputs[0] if self.outputs else None
        append = _no_append if output is None else output.items.append
        light = int
        done = 0
        try:
            for done in range(1, count + 1):
                if self.is_alarmed:
                    done -= 1
                    return
                value = popleft()
                if value.__class__ is not light:
                    if value.__class__ is Heavy:
                        value = arrived(edge.unwrapped(value))
                    else:
                        light = value.__class__
                if edge.producer_waits:
                    # What this call does may depend on what the producer gives next.
                    edge.serve(driver)
                value = call(value)
                if output is None:
                    continue
                if value.__class__ is not light and value.__class__ not in LIGHT:
                    self._give(value, driver)
                    return
                append(value)
                if output.consumer_waits:
                    output.serve(driver)
        finally:
            self.evaluations += done
            edge.received += done

    def _make_slowly(self, call: Callable[..., Any], count: int, driver: Driver) -> None:
        for _ in range(count):
            row = self._row(driver)
            if row is None:
                return
            self.evaluations += 1
            try:
                value = call(*row)
            except StopIteration as ended:
                if self.inputs:
                    raise
                self.evaluations -= 1
                raise StreamFinished(NOTHING, ended.value) from None
            self._give(value, driver)
            if self._receivers and not self.is_over:
                self._acknowledge()
            if self.is_alarmed or not self._has_room():
                return

    def _expand(self, call: Callable[..., Any], count: int, driver: Driver) -> None:
        """Give on up to `count` of the values that one call gives."""
        if self._values is None:
            row = self._row(driver)
            if row is None:
                return
            self._values = iter(call(*row))
            self.evaluations += 1
        values = self._values
        for _ in range(count):
            try:
                value = next(values)
            except StopIteration:
                self._values = None
                return
            self._give(value, driver)
            if self.is_alarmed or not self._has_room():
                return
