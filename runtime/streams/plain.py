"""Plain stages: streaming tasks whose functions are called in a driver's thread, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
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


def _no_append(value: Any) -> None:
    raise AssertionError("nobody takes it")


class PlainStage(Stage):
    """A streaming task of a plain function, of a generator or an iterator.

    What a source gives after a wait has nothing to be put together with. So where a cheap stage
    waits for it, the source's driver makes that stage's call at once, and the one after that, and
    asks the source again: no value goes through a buffer, and no stage through its lane.

    Each stage is the driver's from before the one ahead of it is let go, so that values keep their
    order. While the driver makes others' calls, the source is to be had: where these take long,
    another driver takes it back, and the values that it gives then wait in the buffer.
    """

    # The driver's task, to the engine, of which the stage's context tells.
    _told_of: Task[Any] | None = None
    # What is to be handed on.
    _lone: Any = NOTHING

    def run(self, driver: Driver, call: Callable[..., Any] | None = None) -> bool:
        """Make calls for a while; whether there is more to do, so that it is queued again."""
        self._begin_run()
        if self._context is None:
            self._context = copy_context()
        has_more, is_own = False, True
        try:
            has_more = self._context.run(self._run_here, driver, call)
            while self._lone is not NOTHING:
                is_taken, is_own = self._hand_on(driver)
                if not is_own:
                    return False
                # As long as what it gives is taken at once, and dear.
                if not is_taken or self.cost <= GLANCE or not driver.is_free():
                    break
                has_more = self._context.run(self._run_here, driver, None)
        finally:
            if is_own:
                has_more = self._wind_up(has_more)
        return has_more

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

    def _make_lone(self, call: Callable[..., Any]) -> None:
        if self.expands:
            call = self._next_of(call)
        began = perf_counter()
        made = 1
        try:
            self._lone = call()
        except StopIteration as ended:
            made = 0
            raise StreamFinished(NOTHING, ended.value) from None
        finally:
            cost = perf_counter() - began
            self.busy += cost
            self.evaluations += made
            self._left -= made
            self._learn(cost)

    def _hand_on(self, driver: Driver) -> tuple[bool, bool]:
        """Give the value that came alone to who waits for it, or else put it into the buffer.

        Whether it was taken at once, and whether the stage is still run by `driver`.
        """
        value, self._lone = self._lone, NOTHING
        giver: PlainStage = self
        # Who ends it sets the alarm and then looks at this: one of the two notices, and no driver
        # is let go, for the source's sake, in the call of another.
        self._handing = driver
        while True:
            edge = giver.outputs[0]
            try:
                if value.__class__ not in LIGHT:
                    value = sealed(value)
                consumer = edge.consumer if edge.consumer_waits and not giver.is_alarmed else None
                if consumer.__class__ is not PlainStage or not consumer._comes_to(edge, driver):
                    giver._put(value, edge, driver)
                    break
            except BaseException as error:
                # What it gave could not be looked at.
                giver._fail_by(error)
                break
            if giver is self:
                # From here on it may be taken back.
                self._is_lent = True
                self.lane.attend()  # type: ignore[union-attr]
            else:
                giver._let_go_of()
            giver = consumer
            value = consumer._called(value, edge, driver)
            if value is NOTHING:
                break
        # It is not to be kept while the source waits for the next one.
        del value
        if giver is not self:
            giver._let_go_of()
        with self._lock:
            is_own = self._handing is driver
            if is_own:
                self._handing, self._is_lent = None, False
        return giver is not self, is_own

    def _put(self, value: Any, edge: Edge, driver: Driver) -> None:
        if value.__class__ not in LIGHT:
            edge.put(value, driver)
            return
        edge.items.append(value)
        if edge.consumer_waits:
            edge.serve(driver)

    def _comes_to(self, edge: Edge, driver: Driver) -> bool:
        """Be the driver's, for one call with a value that is not put into `edge`, if that goes now.

        It goes where a driver would make this call before any other; the stage is idle then, and
        waits for `edge`, which is empty, before and after.
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
        ):
            return False
        with self._lock:
            if self._state != IDLE or self.is_over:
                return False
            self._state = BUSY
            self._is_woken = False
        return True

    def _let_go_of(self) -> None:
        """Be no driver's any more, after one call, whose value the next stage has or its buffer."""
        if self.is_over:
            self._clear_left()
        with self._lock:
            has_more = self._is_woken and not self.is_over
            self._state = QUEUED if has_more else IDLE
        if has_more:
            self.lane.push(self, None)  # type: ignore[union-attr]

    def _called(self, value: Any, edge: Edge, driver: Driver) -> Any:
        """What one call gives, in the context that is the stage's, if that goes anywhere."""
        return self._context.run(self._call_lone, value, edge, driver)  # type: ignore[union-attr]

    def _call_lone(self, value: Any, edge: Edge, driver: Driver) -> Any:
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
                    # Nobody else takes from the edge. Something was put there if the source was
                    # taken back: then the edge knows by itself since when.
                    edge.received += 1
                    if edge.consumer_waits:
                        edge.waits_since += cost
                return value if self.outputs else NOTHING
            except StreamFinished as finished:
                self._finish(finished, driver)
        except BaseException as error:
            self._fail_by(error)
        return NOTHING

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
