"""Lanes: the threads that run streaming tasks, while these have something to do."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from darray.runtime.engine import Engine
from darray.runtime.errors import Failure
from darray.runtime.spaces import register_handle
from darray.runtime.streams.calls import Call
from darray.runtime.tasks import DONE, Task
from darray.runtime.timers import Timers

if TYPE_CHECKING:
    from darray.runtime.streams.stages import Stage

__all__ = ["Driver", "Lane", "timers"]

# Seconds after which a driver gives its processor to what else waits for one.
TURN = 0.01

# Seconds between two looks at a lane: a stage that was ready at both, while no driver has come to
# any, is given a driver of its own.
PATIENCE = 0.005

# Seconds of one call for which it pays to wake another thread, and up to which a driver apart makes
# it all the same, as it is there already.
DEAR = 100e-6
BEARABLE = 500e-6

# Looks in a row that find that nothing was taken, after which a lane without ready stages is left.
QUIET = 4

timers = Timers("darray-streams", tick=PATIENCE)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=timers.abandon)


class Driver:
    """One thread's turn at running stages: those of its lane, and cheap ones of `shared`.

    Used by that thread alone, but that others look at ``stage`` and set ``is_replaced``. ``stage``
    is the one that it runs right now, ``task`` what it is to the engine. To the lanes in ``owed``
    it comes after that: on an engine that runs tasks at once no other thread does.
    ``is_replaced`` is set where another driver runs the lane in its place, and is counted for it.
    """

    __slots__ = ("is_replaced", "lane", "owed", "shared", "stage", "task")

    def __init__(self, lane: Lane, shared: Lane | None, task: Task[Any] | None) -> None:
        self.task = task
        self.lane = lane
        self.shared = shared
        self.stage: Stage | None = None
        self.is_replaced = False
        self.owed: list[Lane] = []

    def is_free(self) -> bool:
        """Whether nothing but its own stage wants this thread, which is beside the processors."""
        # Read without locks: what other threads push from now on they have seen to.
        shared = self.shared
        return shared is not None and not (
            shared._ready or self.lane._is_let_go or self.lane._is_turning
        )


class Lane:
    """Stages that may run on the same processors, and the drivers that run them.

    A driver is a task of the engine: it takes its turn among all other tasks, gives its
    processor up when no stage has anything to do, and goes to the end of the queue after
    `TURN` seconds, unless it runs within what wakes its stages. A lane for one stage, which may
    wait and so runs beside the processors, has its driver also run the cheap stages of a `shared`
    lane, instead of waking a thread for them. Where one of these takes long after all, perhaps
    because it waits for what the lane's own stage does next, another driver takes its place.

    Invariants, guarded by ``_lock`` and checked by `_check`
    -------------------------------------------------------
    * A stage in ``_ready`` is queued, and in it once.
    * While ``_ready`` is not empty there is a timer that will see to it, or a driver that has just
      begun; on an engine that runs tasks at once, a driver, or one that is owed to it.
    * There are at most ``most`` drivers, and one more for each stage while tasks wait in calls.

    Parameters
    ----------
    spawn : callable
        Spawns a driver: a task of the engine that calls what it is given with the lane.
    most : int
        How many drivers there may be.
    shared : Lane, optional
        Whose cheap stages its driver runs in between.
    is_turning : bool
        Whether its driver goes to the end of the queue from time to time.
    is_awaited : bool
        Whether what its one stage calls is awaited.
    is_single : bool
        Whether it is a lane for one stage.
    """

    def __init__(
        self,
        engine: Engine,
        spawn: Callable[[Lane, Callable[..., Any]], Task[Any]],
        most: int,
        shared: Lane | None = None,
        is_turning: bool = True,
        is_awaited: bool = False,
        is_single: bool = False,
    ) -> None:
        # Guards the fields below; no other lock is taken and nothing of the user's is called
        # while it is held.
        self._lock = threading.Lock()
        self._engine = engine
        self._spawn = spawn
        self._shared = shared
        # A driver that runs within what wakes its stages ends before others can have a turn.
        self._is_turning = is_turning and not engine.runs_at_once
        self._driving = drive_awaiting if is_awaited else drive
        self._most = most
        self._is_single = is_single
        # The driver of a single stage, to the engine and by itself, and whether it was let go.
        self._driver: Task[Any] | None = None
        self._own: Driver | None = None
        self._is_let_go = False
        self._ready: deque[Stage] = deque()
        self._drivers = 0
        # Drivers of other lanes that come to its cheap stages.
        self._helpers = 0
        # How often a stage was taken, and how often when the timer was set.
        self._taken = 0
        self._timed = -1
        # Whether stages were ready at the last look, and at how many looks nothing was taken.
        self._was_ready = False
        self._quiet = 0
        # What the single stage had handed on at the last look, and was not through with.
        self._handed: object = None
        # Those to fail when no processor may run them any more.
        self.stages: list[Stage] = []

    def push(self, stage: Stage, waker: Driver | None) -> None:
        """Let `stage`, which is queued, be run soon; `waker` is the driver that calls."""
        with self._lock:
            self._ready.append(stage)
            begins = self._drivers < self._most and self._is_worth(stage, waker)
            if begins:
                self._drivers += 1
            elif self._engine.runs_at_once and waker is not None:
                waker.owed.append(self)
            else:
                self._see_to_it()
        if begins:
            self._begin()

    def _is_worth(self, stage: Stage, waker: Driver | None) -> bool:
        """Whether a further driver is to begin for `stage` at once; lock held."""
        if self._engine.runs_at_once:
            return waker is None
        if stage.cost > DEAR:
            return True
        if waker is None or waker.stage is None:
            return not self._drivers
        if waker.lane is self:
            return waker.stage.cost > DEAR
        if waker.shared is self:
            # It comes to it after the call that it makes, if it knows it to be cheap.
            return not stage.cost and not self._drivers
        return not self._drivers

    def _see_to_it(self) -> None:
        """Set the timer, unless it is set; lock held."""
        if self._timed < 0 and not self._engine.runs_at_once:
            self._set_timer()

    def _set_timer(self) -> None:
        self._timed = self._taken
        timers.call_later(PATIENCE, self._look)

    def attend(self) -> None:
        """Look from time to time whether what the single stage hands on takes long."""
        # Only looks read this: one that misses a count is one more that finds nothing taken.
        self._taken += 1
        if self._timed < 0:
            with self._lock:
                self._see_to_it()

    def _look(self) -> None:
        """Begin a driver where stages have been ready for a while and none was taken."""
        begins = False
        with self._lock:
            timed, self._timed = self._timed, -1
            # Those that were ended meanwhile need no driver, unless to close what they awaited.
            self._ready = deque(
                one for one in self._ready if one.is_awaited or not one.is_through()
            )
            is_quiet = self._taken == timed
            self._quiet = self._quiet + 1 if is_quiet else 0
            if self._ready and self._was_ready and is_quiet:
                # A call that waits gives its processor up, perhaps for one of these stages.
                waits = 0 if self._is_single else len(self.stages) * self._engine.has_waits()
                if self._drivers < self._most + waits:
                    begins = True
                    self._drivers += 1
                elif self._own is not None and self._own.stage is not None:
                    # Its driver is in a call of another lane's stage.
                    begins = self._replace(self._own)
            self._was_ready = bool(self._ready)
            stages = list(self.stages)
            before, self._handed = self._handed, stages[0].handed() if self._is_single else None
            if self._ready or self._quiet < QUIET or self._handed is not None:
                # Setting the timer anew for each value would delay those that come alone.
                self._set_timer()
        if self._handed is not None and self._handed == before:
            begins = stages[0].take_back() or begins
        if begins:
            self._begin_or_fail(stages)

    def _begin_or_fail(self, stages: list[Stage]) -> None:
        try:
            self._begin()
        except Exception as error:
            # The engine was closed: no processor runs them any more.
            failure = Failure(error)
            for stage in stages:
                stage.fail(failure)

    def take_back(self, stage: Stage, driver: Driver) -> bool:
        """Queue the single stage, whose `driver` is busy; whether another one is to begin."""
        with self._lock:
            self._ready.append(stage)
            return self._replace(driver)

    def _replace(self, driver: Driver) -> bool:
        """Have another driver go on in the place of one; whether it is to begin; lock held."""
        if driver.is_replaced or self._is_let_go:
            return False
        driver.is_replaced = True
        # Who lets the stage's driver go means the other one.
        self._driver = None
        return True

    def come(self, is_waited_for: bool = False) -> None:
        """Begin a driver that is owed, where stages are ready still, beside one that waits too."""
        with self._lock:
            most = self._most + len(self.stages) * is_waited_for
            begins = bool(self._ready) and self._drivers < most
            self._drivers += begins
        if begins:
            self._begin()

    def _begin(self) -> None:
        """Spawn a driver, which is counted already."""
        try:
            task = self._spawn(self, self._driving)
        except BaseException:
            with self._lock:
                self._drivers -= 1
            raise
        with self._lock:
            if self._is_single:
                self._driver = task
            is_let_go = self._is_let_go
        self._engine.watch(task, self._ended)
        if is_let_go:
            self._engine.cancel(task)

    def let_go(self) -> None:
        """Abandon the driver of the one stage, which is over, in a call that nobody needs."""
        if not self._is_single or self._engine.runs_at_once:
            return
        with self._lock:
            self._is_let_go = True
            driver = self._driver
        if driver is not None:
            self._engine.cancel(driver)

    def _ended(self, task: Task[Any]) -> None:
        """Fail the stages where their driver could not run."""
        if task._state == DONE:
            return
        with self._lock:
            if task.processor is None:
                self._drivers -= 1
            stages = list(self.stages)
        for stage in stages:
            stage.fail(task._value)

    def _take(self, only_cheap: bool = False) -> Stage | None:
        with self._lock:
            if not self._ready or (only_cheap and not 0 < self._ready[0].cost <= BEARABLE):
                return None
            self._taken += 1
            return self._ready.popleft()

    def put_back(self, stage: Stage) -> None:
        """Queue a stage that has more to do; the calling driver comes to it."""
        with self._lock:
            self._ready.append(stage)
            self._see_to_it()

    def drive(self, call: Callable[..., Any] | None = None) -> None:
        """Run stages until none has anything to do, or the turn is over.

        The one of a lane of its own makes `call`, if there is one.
        """
        shared = self._shared
        if shared is not None:
            shared._help(1)
        driver = Driver(self, shared, self._engine.current_task())
        if self._is_single:
            with self._lock:
                self._own = driver
        try:
            self._drive(driver, call)
        finally:
            if shared is not None:
                shared._help(-1)

    def _drive(self, driver: Driver, call: Callable[..., Any] | None) -> None:
        shared = driver.shared
        ends = perf_counter() + TURN
        is_dear = False
        helps = 0.0
        while True:
            lane, stage = self, None
            if shared is not None and perf_counter() < helps:
                # What its own stage has given is worked on before that may wait again.
                lane, stage = shared, shared._take(only_cheap=True)
            if stage is None:
                lane, stage = self, self._take()
            if stage is None and shared is not None:
                lane, stage = shared, shared._take(only_cheap=True)
            if stage is None:
                with self._lock:
                    if not self._ready:
                        self._drivers -= 1
                        return
                continue
            driver.stage = stage
            try:
                has_more = stage.run(driver, call if lane is self else None)
            except BaseException as error:
                self._broken_off(driver, error)
                raise
            if has_more:
                lane.put_back(stage)
            with self._lock:
                # At once: it is replaced only while it is at a stage.
                driver.stage = None
                is_replaced = driver.is_replaced
            if is_replaced:
                return
            if lane is self:
                helps = perf_counter() + PATIENCE
            while driver.owed:
                driver.owed.pop().come()
            is_dear = is_dear or stage.cost > DEAR
            if self._is_let_go:
                # It was abandoned: what others wait for is not for it to do.
                with self._lock:
                    self._drivers -= 1
                return
            if self._is_turning and perf_counter() > ends:
                self._pass_on(is_dear)
                return

    def _broken_off(self, driver: Driver, error: BaseException) -> None:
        """Count a driver no more that ends with `error`."""
        if driver.is_replaced:
            return
        if self._engine.runs_at_once and isinstance(error, KeyboardInterrupt):
            # It goes on through whoever began the driver, who does this.
            return
        with self._lock:
            self._drivers -= 1

    def _help(self, change: int) -> None:
        """Count the drivers of other lanes that run cheap stages of this one."""
        with self._lock:
            self._helpers += change

    def _pass_on(self, is_dear: bool) -> None:
        """End a driver's turn: another one goes on, unless there are enough for cheap stages."""
        with self._lock:
            goes_on = is_dear or self._drivers + self._helpers == 1
            if not goes_on:
                self._drivers -= 1
        if goes_on:
            # Still counted: it goes on in this one's place.
            self._begin()

    async def drive_awaiting(self, call: Callable[..., Any] | None = None) -> None:
        """Do what `drive` does, on the event loop, for the one stage of the lane."""
        driver = Driver(self, None, self._engine.current_task())
        while True:
            stage = self._take()
            if stage is None:
                with self._lock:
                    if not self._ready:
                        self._drivers -= 1
                        return
                continue
            try:
                has_more = await stage.run_awaiting(driver, call)
            except BaseException as error:
                self._broken_off(driver, error)
                raise
            if has_more:
                self.put_back(stage)
            while driver.owed:
                driver.owed.pop().come()

    def _check(self) -> None:
        with self._lock:
            assert len(set(map(id, self._ready))) == len(self._ready)
            assert 0 <= self._drivers <= self._most + len(self.stages)
            comes = self._drivers or self._timed >= 0
            assert not self._ready or comes or self._engine.runs_at_once


register_handle(Lane)


def drive(lane: Lane, *call: Any) -> None:
    """Be a driver of `lane`, whose one stage makes `call`, where something is given."""
    lane.drive(Call(*call).direct if call else None)


async def drive_awaiting(lane: Lane, *call: Any) -> None:
    """Be a driver of `lane`, whose one stage awaits `call`, where something is given."""
    await lane.drive_awaiting(Call(*call).direct if call else None)
