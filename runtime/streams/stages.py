"""Stages: what a streaming task does, value by value."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from time import perf_counter, perf_counter_ns
from typing import Any

from darray.runtime import contexts
from darray.runtime.arguments import REF, TASK, actions, sealed
from darray.runtime.calling import captured
from darray.runtime.contexts import Options
from darray.runtime.errors import CancelledError, Failure
from darray.runtime.spaces import Space
from darray.runtime.streams.calls import NOTHING, StreamFinished, retried
from darray.runtime.streams.edges import UNBOUNDED, Acknowledging, Edge
from darray.runtime.streams.lanes import Driver, Lane
from darray.runtime.streams.unseen import note_dropped
from darray.runtime.tasks import DONE, HELD, Task

__all__ = ["NOTHING", "Stage", "StreamFinished", "arrived"]

# Seconds that a stage runs before others do.
SLICE = 0.005

# Seconds that pass, and calls that are made, before a stage looks up.
GLANCE = 50e-6
MOST_CALLS = 64

# How a stage stands to its drivers.
IDLE = 0
QUEUED = 1
BUSY = 2


def _unplaced(*row: Any) -> Any:
    raise AssertionError("a stage runs once its lane is known")


class Stage:
    """A streaming task at work: takes a value of every input, calls, gives the result on.

    It is run by one driver at a time. ``is_alarmed`` is set by any thread, without a lock, when
    the stage is to look at its edges, or at what is asked of it, before its next call.

    Invariants, guarded by ``_lock``
    --------------------------------
    * ``_state`` is QUEUED while the stage is in its lane, BUSY while a driver runs it. Who wakes
      it meanwhile sets ``_is_woken``, and the driver lets it run again.
    * Once ``is_over`` no call begins, all edges are ended or left, and the task is finished, or
      is being so by the thread that set it.

    Attributes
    ----------
    cost : float
        Seconds of a call, lately; 0 before the first.
    evaluations, turns : int
        Calls made; times that a driver ran it.
    space : Space or None
        Where it runs, once that is known.
    has_call : bool
        Whether it knows what to call.
    lost : int
        Values that it had taken, and not used, when it failed.
    """

    is_awaited = False

    def __init__(
        self,
        task: Task[Any],
        inputs: tuple[Edge, ...],
        options: Options,
        teardown: bool,
        expands: bool = False,
    ) -> None:
        # Taken before the lane's lock and before those of edges, never while one is held.
        self._lock = threading.Lock()
        self._state = IDLE
        self._is_woken = False
        self.is_alarmed = True
        self.is_over = False
        self.task = task
        self.call: Callable[..., Any] = _unplaced
        self.has_call = False
        self.inputs = inputs
        self.outputs: tuple[Edge, ...] = ()
        self._joining: list[Edge] = []
        self.lane: Lane | None = None
        self.space: Space | None = None
        self.cost = 0.0
        self.busy = 0.0
        self.evaluations = self.turns = self.lost = 0
        self.began = perf_counter_ns()
        self.expands = expands
        # What the call that is not through yet goes on to give.
        self._values: Iterator[Any] | None = None
        self._options = options
        self._left = UNBOUNDED if options.max_evals is None else options.max_evals
        self.teardown = teardown
        self._had_outputs = False
        self._calls = 1
        # What its calls see of context variables, from the first turn on.
        self._context: Context | None = None
        # Known once it has looked at its edges, which it is alarmed to do at first.
        self._is_single = False
        self._receivers: tuple[tuple[Edge, Acknowledging], ...] = ()
        # The driver that hands on what this one gave, and whether it makes another stage's call
        # with that: then the stage may be taken back.
        self._handing: Driver | None = None
        self._is_lent = False

    # From outside

    def use(self, call: Callable[..., Any]) -> None:
        """Make `call` from now on, again after failures that the options name."""
        self.call = retried(call, self._options)
        self.has_call = True

    def begin(self, lane: Lane | None) -> None:
        """Be run by the drivers of `lane` from now on; before, nothing wakes the stage."""
        with self._lock:
            self.lane = lane
        self.wake()

    def is_through(self) -> bool:
        """Whether no call begins any more: it has ended, or its task was ended from outside."""
        return self.is_over or self.task._state >= DONE

    def wake(self, waker: Driver | None = None) -> None:
        """Let a driver run it soon."""
        with self._lock:
            lane = self.lane
            if lane is None or self.is_over or self.task._state >= DONE:
                # Its region has not begun, or there is nothing to do any more.
                return
            if self._state != IDLE:
                self._is_woken = True
                return
            self._state = QUEUED
        lane.push(self, waker)

    async def run_awaiting(self, driver: Driver, call: Callable[..., Any] | None = None) -> bool:
        """Do what `run` does, on the event loop."""
        raise NotImplementedError

    def join(self, edge: Edge) -> None:
        """Give the values of calls that begin from now on to `edge` as well."""
        with self._lock:
            if not self.is_over:
                self._had_outputs = True
                if self.lane is None:
                    self.outputs += (edge,)
                else:
                    self._joining.append(edge)
                    self.is_alarmed = True
                return
        edge.end(self.task._value if self.task._state > DONE else None)  # it ended before

    def fail(self, failure: Failure) -> None:
        """End the task with a failure, from any thread."""
        self._end(failure, failure)

    def left(self, edge: Edge) -> None:
        """Go on without `edge`, from which nothing is taken any more; end, if it was the last."""
        can_wait = self.is_awaited or not self.inputs
        if self.teardown and can_wait and self._is_alone():
            # What it does now, or waits for, nobody needs.
            self._end(None, None)
        else:
            self.wake()

    def _is_alone(self) -> bool:
        """Whether there were consumers and none is left."""
        with self._lock:
            every = (*self.outputs, *self._joining)
            return self._had_outputs and all(edge.is_left for edge in every)

    def retire(self) -> bool:
        """Make no more calls, but end nothing: another stage goes on; False if it had ended."""
        with self._lock:
            if self.is_over:
                return False
            self.is_over = self.is_alarmed = True
            return True

    def resume(self, outputs: tuple[Edge, ...], count: int) -> None:
        """Go on, before it has begun, where another stage made `count` calls."""
        with self._lock:
            self.outputs = outputs
            self._had_outputs = bool(outputs)
            self._left -= count

    def held(self) -> int:
        """How many values it has taken that are in nothing that it gave."""
        return 0

    def handed(self) -> object:
        """What tells one value from the next that another stage works on within its turn."""
        return (self._handing, self.evaluations) if self._is_lent else None

    def take_back(self) -> bool:
        """Be run by another driver, if its own works on what was handed on; whether one begins."""
        with self._lock:
            driver, lane = self._handing, self.lane
            if not self._is_lent or driver is None or lane is None or self.is_over:
                return False
            self._handing, self._is_lent = None, False
            self._state = QUEUED
            # With the lock held: its own driver looks at the one, and then at the other.
            return lane.take_back(self, driver)

    def told(self, task: Task[Any]) -> None:
        """End with the task, which somebody cancelled."""
        self._end(task._value if task._state > DONE else None, NOTHING)

    # Running

    def run(self, driver: Driver, call: Callable[..., Any] | None = None) -> bool:
        """Make calls for a while; whether there is more to do, so that it is queued again."""
        self._begin_run()
        if self._context is None:
            self._context = copy_context()
        has_more = False
        try:
            has_more = self._context.run(self._run_here, driver, call)
        finally:
            has_more = self._wind_up(has_more)
        return has_more

    def _run_here(self, driver: Driver, call: Callable[..., Any] | None) -> bool:
        """Do what `run` does, in the context that is the stage's own.

        A generator may set variables of its context, and set them back in a later turn.
        """
        token = contexts.streaming.set((driver.task, self.task))
        try:
            if call is not None:
                self.use(call)
            try:
                return self._run(driver, self.call)
            except StreamFinished as finished:
                self._finish(finished, driver)
        except KeyboardInterrupt as error:
            engine: Any = self.task._engine
            if engine.runs_at_once:
                # Pressed by the user, who waits in this thread.
                self.task.cancel()
                raise
            self._fail_by(error)
        except BaseException as error:
            self._fail_by(error)
        finally:
            contexts.streaming.reset(token)
        return False

    def _fail_by(self, error: BaseException) -> None:
        failure = captured(self.task, error)
        self._end(failure, failure)

    def _clear_left(self) -> None:
        """Drop what another thread, which ended the stage, left while a value was being put."""
        for edge in self.outputs:
            if edge.is_left:
                edge.clear()

    def _begin_run(self) -> None:
        with self._lock:
            self._state = BUSY
            self._is_woken = False
            self.turns += 1

    def _wind_up(self, has_more: bool) -> bool:
        """Run no more, and close what is over; whether the stage is queued again."""
        if self.is_over:
            self._close()
            self._clear_left()
        return self._end_run(has_more)

    def _end_run(self, has_more: bool) -> bool:
        """Run no more; whether the stage is queued again."""
        with self._lock:
            has_more = not self.is_over and (has_more or self._is_woken)
            self._state = QUEUED if has_more else IDLE
        return has_more

    def _run(self, driver: Driver, call: Callable[..., Any]) -> bool:
        began = perf_counter()
        while True:
            if self.is_alarmed:
                self._attend()
            if self.is_over:
                return False
            left = self._calls_left()
            if not left:
                self._end(None, None)
                return False
            count = min(self._granted(), left)
            if not count:
                if self.is_alarmed:
                    continue
                if not self._is_exhausted():
                    return False
                if self._exhausted(driver):
                    self._end(None, None)
                return False
            if count == 1 and self._comes_alone(driver):
                self._make_lone(call)
                return True
            before = self.evaluations
            then = now = perf_counter()
            try:
                self._make(call, count, driver)
            finally:
                now = perf_counter()
                self.busy += now - then
                made = self.evaluations - before
                self._left -= made
                self._learn((now - then) / max(1, made))
            if self._receivers and not self.is_over:
                self._acknowledge()
            if (now - began > SLICE or self.cost > GLANCE) and not driver.is_free():
                return True

    def _acknowledge(self) -> None:
        """Tell producers on other workers how many of their values have been worked on."""
        for edge, receiver in self._receivers:
            receiver.acknowledge(edge.received)

    def _calls_left(self) -> int:
        """How many calls may be made still, the one that is not through yet among them."""
        return self._left or (self._values is not None and bool(self.inputs))

    def _learn(self, cost: float) -> None:
        # A thread that was made to wait makes calls look dear: the next ones tell better.
        self.cost = cost if cost < self.cost or not self.cost else 0.5 * (self.cost + cost)
        if cost > GLANCE:
            self.cost, self._calls = cost, 1
        else:
            self._calls = min(MOST_CALLS, 2 * self._calls)

    def _granted(self) -> int:
        """How many calls may be made now; where none, the stage waits for that to change."""
        count = self._calls
        for edge in self.outputs:
            room = edge.room()
            if not room:
                return 0
            if room < count:
                count = room
        if self._values is None:
            for edge in self.inputs:
                there = edge.available()
                if not there:
                    return 0
                if there < count:
                    count = there
        return count

    def _is_exhausted(self) -> bool:
        """Whether no further call can ever be made."""
        return self._values is None and any(
            edge.is_ended and not edge.items for edge in self.inputs
        )

    def _exhausted(self, driver: Driver) -> bool:
        """Give what is to be given when the inputs have ended; whether there was room for it."""
        return True

    def _attend(self) -> None:
        """Look at the edges, and at what is asked."""
        self.is_alarmed = False
        with self._lock:
            if self._joining and not self.is_over:
                self.outputs += tuple(self._joining)
                self._joining = []
        gone = [edge for edge in self.outputs if edge.is_left]
        if gone:
            with self._lock:
                self.outputs = tuple(edge for edge in self.outputs if edge not in gone)
            for edge in gone:
                edge.clear()
        self._look_at_edges()
        failed = next((edge.failure for edge in self.inputs if edge.failure is not None), None)
        if failed is not None:
            self._end(failed, failed)
            return
        if self.teardown and self._had_outputs and not self.outputs:
            self._end(None, None)
            return

    # Calls

    def _comes_alone(self, driver: Driver) -> bool:
        """Whether `_make_lone` makes the next call."""
        return False

    def _make_lone(self, call: Callable[..., Any]) -> None:
        """Make a call whose value comes alone, and have that handed on after it."""
        raise NotImplementedError

    def _make(self, call: Callable[..., Any], count: int, driver: Driver) -> None:
        """Make `count` calls, or fewer, and give on what they give."""
        raise NotImplementedError

    def _look_at_edges(self) -> None:
        """Find out again how values go: to be called when outputs have come or gone."""
        edges = self.inputs + self.outputs
        self._is_single = (
            len(self.inputs) < 2
            and len(self.outputs) < 2
            and not any(edge.crossing or edge.receiver or edge.policy.drops for edge in edges)
        )
        self._receivers = tuple(
            (edge, edge.receiver) for edge in self.inputs if edge.receiver is not None
        )

    def _row(self, driver: Driver) -> list[Any] | None:
        """A value of each input; None where a policy has dropped what was there for a newer one."""
        for edge in self.inputs:
            if not edge.items:
                return None
        # Of what is there a policy leaves one at least.
        return [arrived(edge.pop(driver)) for edge in self.inputs]

    def _has_room(self) -> bool:
        for edge in self.outputs:
            if edge.nbytes >= edge.most_bytes and not edge.policy.drops:
                return False
        return True

    def _give(self, value: Any, driver: Driver | None) -> None:
        """Put a value into every output."""
        value = sealed(value)
        for edge in self.outputs:
            edge.put(value, driver)

    # The end

    def _finish(self, finished: StreamFinished, driver: Driver) -> None:
        """End in order, after the last value."""
        if finished.value is not NOTHING:
            self._give(finished.value, driver)
        self._end(None, finished.result)

    def _end(self, failure: Failure | None, outcome: Any) -> None:
        """End the task with `outcome`, and all its edges; done once."""
        with self._lock:
            if self.is_over:
                return
            self.is_over = True
            self.is_alarmed = True
            outputs = (*self.outputs, *self._joining)
            self._joining = []
            is_busy = self._state == BUSY
        if failure is None:
            self._deliver(outcome)
        dropped = sum([edge.leave() for edge in self.inputs])
        if failure is not None:
            self.lost = self.held()
            note_dropped(failure, self.task, dropped + self.lost)
            self._deliver(outcome)
            own = self.task._value
            if own is not failure and own.__class__ is Failure:
                # It was cancelled, for what gives to it was: that is told in both.
                note_dropped(own, self.task, dropped + self.lost)
        for edge in outputs:
            edge.end(failure)
        if not is_busy or self.is_awaited:
            self._close()
        elif self.lane is not None and self._handing is None and not self._is_calling():
            self.lane.let_go()

    def _is_calling(self) -> bool:
        """Whether this thread runs the stage."""
        streaming = contexts.streaming.get()
        return streaming is not None and streaming[1] is self.task

    def _deliver(self, outcome: Any) -> None:
        """Finish the task, unless it is."""
        if outcome is NOTHING:
            return
        engine: Any = self.task._engine
        if self.task._state == HELD:
            # Its region never began.
            engine.cancel(self.task)
        elif outcome.__class__ is Failure and isinstance(outcome.exception, CancelledError):
            engine.cancel(self.task)
        else:
            engine.deliver(self.task, outcome, self.began)

    def _close(self) -> None:
        """Close the generator that it has not come to the end of; it runs no more."""
        with self._lock:
            values, self._values = self._values, None
        close = getattr(values, "close", None)
        if close is None:
            return
        try:
            if self._context is None:
                close()
            else:
                self._context.run(close)
        except Exception:
            # The task has ended, and with it nobody hears of what its generator raises at last.
            logging.getLogger("darray").exception("closing the generator of %r failed", self.task)


def arrived(value: Any) -> Any:
    """`value` as a call is given it: of a ref or task what it stands for."""
    return value.result() if actions.get(value.__class__) in (REF, TASK) else value
