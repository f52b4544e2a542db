"""The serial engine, the definition of all others: a task runs when it is spawned."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from time import perf_counter_ns
from types import CoroutineType
from typing import Any, TypeVar

from darray.runtime import contexts, events, kinds, limits
from darray.runtime.budget import Budget, make_room
from darray.runtime.calling import (
    apart,
    attempted,
    attempted_in,
    captured,
    handed_out,
    is_shallow,
    measured,
    overtime,
    settled,
    state_after,
)
from darray.runtime.errors import Failure
from darray.runtime.explaining import Survey
from darray.runtime.graphs import following
from darray.runtime.listeners import Listeners
from darray.runtime.processor import Processor
from darray.runtime.promising import promise
from darray.runtime.refusals import no_room, nowhere
from darray.runtime.scope_keys import know
from darray.runtime.settings import Settings
from darray.runtime.shortage import RunningTasks, Shortage
from darray.runtime.spaces import Origin, Placed, has_spaces, here, measured_nbytes, space_of
from darray.runtime.spawning import submit
from darray.runtime.spiller import Spiller
from darray.runtime.state import Schedule
from darray.runtime.stopping import Stopping
from darray.runtime.tasks import DONE, FAILED, READY, RUNNING, Task, Watcher
from darray.runtime.timers import Timers
from darray.runtime.waiting import (
    Arrival,
    Stack,
    add_watcher,
    arrived,
    call_watcher,
    endless,
    is_stuck,
    refuse_abandoned,
)
from darray.runtime.watchdog import Watchdog

__all__ = ["SerialEngine", "start"]

R = TypeVar("R")


def _processors() -> tuple[Processor, ...]:
    every = (Processor(worker=0, kind=kinds.CPU, index=0), *kinds.registered(0))
    know(every)
    return every


def start(settings: Settings) -> SerialEngine:
    """Start the serial engine."""
    return SerialEngine(limits.task_memory(settings), settings.watchdog)


class SerialEngine(Stopping):
    """Runs every task in the thread that spawns it, before `spawn` returns.

    It has one processor, and those that were registered, all on that thread. A task that it
    is given is therefore finished, failed or, where a task waits for one that it runs in, stuck.
    One that uses a value which a task of the same stack, or of another thread, uses in place runs
    when that has ended.
    """

    runs_at_once = True

    def __init__(self, memory: int, watchdog: float | None = None) -> None:
        # Guards the schedule, what is set below and the tasks' fields; held for a few operations,
        # never while a task or a callback runs.
        self._lock = threading.Lock()
        self._schedule = Schedule(_processors(), Budget(memory))
        self.has_spaces = has_spaces(self._schedule.present)
        # Whoever comes by next runs them, as their own threads have gone on.
        self._released: list[Task[Any]] = []
        self._schedule.released = self._released
        self._spiller = Spiller(self._schedule, self._lock, is_alone=True)
        self._local = threading.local()
        # Threads with waits inside tasks.
        self._stacks: set[Stack] = set()
        # The tasks whose functions are being called, and what those that wait block on.
        self._running = RunningTasks(self._lock)
        self._waits: dict[Task[Any], Arrival] = {}
        self._closed = False
        self._timers = Timers()
        self.losses: Listeners[[int]] = Listeners()
        self.waits: Listeners[[]] = Listeners()
        self.watchdog = Watchdog(self._survey, watchdog)

    def spawn(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Task[Any]:
        """Spawn a task under the contextual options."""
        return submit(self, function, args, None, contexts.current.get(), sys._getframe(2))

    def submit(self, task: Task[Any], needs: Sequence[Task[Any]] | None) -> None:
        """Run `task`."""
        self.submit_all([(task, needs)])

    def submit_all(self, tasks: Sequence[tuple[Task[Any], Sequence[Task[Any]] | None]]) -> None:
        """Run tasks, in order."""
        for task, needs in tasks:
            if self.has_spaces:
                task._origin = Origin(here.get(), measured_nbytes(task._args or ()))
            self._refuse_foreign(needs or ())
            with self._lock:
                if self._closed:
                    raise RuntimeError("this engine is closed and takes no more tasks")
                finished = list(self._schedule.add(task, needs))
            self._tell(finished)
            self._run_ready([task])

    def _run_ready(self, tasks: list[Task[Any]]) -> None:
        """Run those of `tasks` that are READY, in order, each followed by what it made so."""
        pending = tasks[::-1]
        while task := self._next_released() or (pending.pop() if pending else None):
            following: list[Task[Any]] = []
            try:
                with self._lock:
                    began = self._take(task)
                    goes_on = began or (task._state == READY and not self._is_aside(task))
                # Otherwise it ran, or runs when what it uses is free.
                if goes_on:
                    self._tell(self._carry_out(task, began, following))
            except BaseException:
                self._break_off(task)
                raise
            pending += [one for one in reversed(following) if one._state == READY]

    def _break_off(self, task: Task[Any]) -> None:
        """Cancel `task` of this thread, broken off by Ctrl-C or for want of a thread."""
        with self._lock:
            finished: list[Task[Any]] = []
            if self._running.stacks.get(task) is self._stack():
                self._running.end(task)
            elif task._state == RUNNING:
                # Another thread was quicker.
                return
            if task._state == RUNNING:
                finished = self._schedule.interrupted(task)
            elif task._state < DONE:
                finished = self._schedule.cancel(task)
        # Where it had ended, its waiters may not have heard of it.
        self._tell(finished or [task])

    def _next_released(self) -> Task[Any] | None:
        """A task that can run now, and that no thread came back to, if there is one."""
        if not (self._released or self._schedule.sharded):
            return None
        with self._lock:
            if self._released:
                return self._released.pop(0)
            for queue in self._schedule.open(None):
                task = queue.first()
                queue.drop_first()
                return task
        return None

    def _refuse_foreign(self, tasks: Iterable[Task[Any]]) -> None:
        for task in tasks:
            if task._engine is not self and task._state < DONE:
                raise RuntimeError(
                    f"{task!r} belongs to an engine that is gone (this process was forked, or "
                    "darray reconfigured, since it was spawned); spawn it again here"
                )

    def _take(self, task: Task[Any]) -> bool:
        """Begin `task` if it is READY and there is memory; the lock is held.

        It is in no queue then, for nobody but its own thread ever looks for it, unless it waits
        for a piece of a shard.
        """
        schedule = self._schedule
        seats = schedule.seats(task)
        seat = next((one for one in seats if schedule.is_open(task, one)), None)
        began = task._state == READY and seat is not None and schedule.begin(task, seat)
        if began:
            self._running.begin(task, self._stack())
        elif task._state == READY and self._is_aside(task):
            schedule.push(task)
        schedule.drop_queued(sharded=False)
        return began

    def _is_aside(self, task: Task[Any]) -> bool:
        """Whether `task`, a READY one, waits for a piece of a shard; lock held."""
        return bool(self._schedule.seats(task)) and not self._is_open(task)

    def _is_open(self, task: Task[Any]) -> bool:
        """Whether `task`, a READY one, lacks nothing but memory; lock held."""
        return any(self._schedule.is_open(task, one) for one in self._schedule.seats(task))

    def _carry_out(
        self, task: Task[Any], began: bool, following: list[Task[Any]]
    ) -> list[Task[Any]]:
        """Run a task, or fail it for want of memory; the tasks that this finished.

        Those that need it are added to `following`.
        """
        if not (began or self._begun_with_room(task)):
            # Results in reference cycles hold memory that nobody can reach, their own or others'.
            gc.collect()
            if not self._begun_after_others(task):
                with self._lock:
                    schedule = self._schedule
                    if not self._take(task):
                        if task._state != READY or self._is_aside(task):
                            # Another thread was quicker.
                            return []
                        failure = nowhere(task, schedule.present)
                        if schedule.seats(task):
                            failure = no_room(task, schedule.budget)
                        return schedule.fail(task, failure, FAILED)
        if is_shallow():
            return self._run(task, following)
        # Python's stack must not end before the tasks do: go on with a fresh one.
        finished: list[Task[Any]] = []
        stack = self._stack()

        def go_on() -> None:
            self._local.stack = stack
            finished.extend(self._run(task, following))

        thread = threading.Thread(target=go_on, name="darray-serial")
        thread.start()
        thread.join()
        return finished

    def _begun_with_room(self, task: Task[Any]) -> bool:
        """Begin a READY task once results went to disk for it; whether that could be."""
        while task._state == READY and self._schedule.budget.candidates:
            if not self._spiller.make_room_for(task, self._begun_or_ready):
                return False
            with self._lock:
                if self._take(task):
                    return True
                if not self._is_open(task):
                    return False
            # Another thread has taken the room.
        return False

    def _begun_after_others(self, task: Task[Any]) -> bool:
        """Do what `_begun_with_room` does, as often as tasks of other threads end; the same."""
        shortage = Shortage(self._running, self._stack())
        while True:
            shortage.look()
            if self._begun_with_room(task):
                return True
            with self._lock:
                if self._take(task):
                    return True
                # Who hears of a value on its way must not wait: its way goes on only afterwards.
                if task._state != READY or not self._is_open(task) or self._spiller.is_heard():
                    return False
                if shortage.wait():
                    continue
            if not shortage.collect():
                return False

    def _stack(self) -> Stack:
        stack: Stack | None = getattr(self._local, "stack", None)
        if stack is None:
            stack = self._local.stack = Stack()
        return stack

    def _run(self, task: Task[Any], following: list[Task[Any]]) -> list[Task[Any]]:
        """Call the task's function and store what it gave; the tasks that this finished."""
        options = task._options
        inherited = options.outer if options is not None and options.own else options
        stack = self._stack().tasks
        token = contexts.current.set(inherited)
        stack.append(task)
        timer = None
        try:
            if options is not None and options.memory:
                make_room()
            began = perf_counter_ns()
            if events.consumers:
                events.publish(events.TaskBegan(task.number, task.name, task._processor, began))
            if options is not None and options.timeout is not None:
                timer = self._timers.call_later(
                    options.timeout, lambda: self._abandon(task, overtime(task), FAILED)
                )
            outcome = next(apart(self._outcome, task))
        except KeyboardInterrupt:
            # Pressed by the user, who waits here: it is not the task's own failure.
            self._break_off(task)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            stack.pop()
            contexts.current.reset(token)
        if events.consumers:
            events.publish_end(task, began, outcome)
        nbytes = measured(task, outcome)
        with self._lock:
            self._running.end(task)
            if task._state == RUNNING:
                if outcome.__class__ is Failure:
                    return self._schedule.fail(task, outcome, state_after(task, outcome))
                following += task._dependents or ()
                self._schedule.finish(task, outcome, nbytes)
                return [task, *self._schedule.refuse_stranded()]
        # It was abandoned: nothing that it was given is in use any more.
        task._function = task._args = task._kwargs = task._needs = task._hold = None
        return []

    def _ended(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What a coroutine returns; awaited on a fresh thread, as a loop may run on this one."""
        import asyncio

        future: Future[Any] = Future()
        stack, context = self._stack(), copy_context()

        def end() -> None:
            self._local.stack = stack
            try:
                future.set_result(asyncio.run(coroutine))
            except BaseException as error:
                future.set_exception(error)

        thread = threading.Thread(target=context.run, args=(end,), name="darray-serial")
        thread.start()
        thread.join()
        return future.result()

    def _outcome(self, task: Task[Any]) -> Any:
        """Call the task's function; its value, or the `Failure` that it ended with."""
        try:
            if self.has_spaces:
                return self._placed(task)
            value = attempted(task)
            return handed_out(self._ended(value) if value.__class__ is CoroutineType else value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            try:
                return captured(task, error)
            finally:
                # The failure's frames keep this one: it must not keep the failure.
                del task

    def _placed(self, task: Task[Any]) -> Any:
        """Call the task's function in the space of its processor; its value, placed."""
        space = space_of(task._processor)
        value = attempted_in(task, space)
        if value.__class__ is not CoroutineType:
            return value
        token = here.set(space)
        try:
            return Placed(handed_out(self._ended(value)), space)
        finally:
            here.reset(token)

    def _tell(self, finished: list[Task[Any]], abandoned: Task[Any] | None = None) -> None:
        """Drop what finished tasks were given and call their watchers, each exactly once.

        The function of an `abandoned` one still uses what it was given.
        """
        for task in finished:
            if task is not abandoned:
                task._function = task._args = task._kwargs = task._needs = None
            with self._lock:
                watchers = arrived(task)
            for watcher in watchers or ():
                call_watcher(watcher, task)

    def watch(self, task: Task[Any], watcher: Watcher) -> None:
        """Call ``watcher(task)`` when the task is finished, at once if it is."""
        with self._lock:
            if task._state < DONE:
                add_watcher(task, watcher)
                return
        call_watcher(watcher, task)

    def wait(
        self,
        tasks: list[Task[Any]],
        timeout: float | None,
        count: int | None = None,
        first_failure: bool = False,
    ) -> bool:
        """Wait until `count` of the tasks, or all, are finished; whether they are.

        With `first_failure` the wait also ends when one of them fails. Only another
        thread's task can be unfinished without a deadlock.
        """
        if any(task in self._schedule.promised for task in tasks):
            # Whoever carries them out may do so in this thread alone.
            self.waits.tell()
        unfinished = [task for task in tasks if task._state < DONE]
        missing = (len(tasks) if count is None else count) - len(tasks) + len(unfinished)
        if missing <= 0 or (first_failure and any(task._state > DONE for task in tasks)):
            return True
        self._refuse_foreign(unfinished)
        self._run_ready([])
        stack = self._stack()
        if stack.tasks:
            refuse_abandoned(stack.tasks[-1])
        is_whole = missing == len(unfinished) and not first_failure
        arrival = Arrival(first_failure, unfinished)
        options = contexts.current.get()
        waits = bool(stack.tasks) and timeout is None
        before = stack.arrival
        try:
            with self._lock:
                if waits:
                    self._refuse_stuck(stack, unfinished, missing)
                    # All below wait for those above; of some of many tasks it is not known
                    # which are waited for.
                    stack.waits = [(depth, []) for depth in range(len(stack.tasks))]
                    stack.waits[-1] = (len(stack.tasks) - 1, unfinished if is_whole else [])
                    self._stacks.add(stack)
                if options is not None and options.queue is not None:
                    # The queue may let go of what it holds only when this wait has ended.
                    self._schedule.refuse_held(unfinished)
                if self._closed:
                    raise RuntimeError("this engine is closed: its unfinished tasks never run")
                if arrival.watch(unfinished, missing):
                    return True
                if stack.tasks:
                    self._waits[stack.tasks[-1]] = stack.arrival = arrival
                    self._running.note_wait()
            return arrival.wait(timeout, self.watchdog)
        finally:
            with self._lock:
                if stack.tasks:
                    self._waits.pop(stack.tasks[-1], None)
                arrival.forget(unfinished)
                stack.waits = []
                stack.arrival = before
                self._stacks.discard(stack)

    def _refuse_stuck(self, stack: Stack, tasks: list[Task[Any]], missing: int) -> None:
        """Raise `DeadlockError` if too few of `tasks` can finish before the waiting task does.

        Lock held.
        """
        in_the_way = self._schedule.in_the_way
        stuck = [task for task in tasks if is_stuck(stack, [task], self._stacks, in_the_way)]
        if len(tasks) - len(stuck) < missing:
            raise endless(stack.tasks[-1], stuck[0])

    @contextmanager
    def awaiting(self, task: Task[Any]) -> Iterator[None]:
        """Refuse that the calling coroutine awaits `task` where that cannot end."""
        stack = self._stack()
        if not stack.tasks:
            yield
            return
        try:
            with self._lock:
                self._refuse_stuck(stack, [task], 1)
                stack.awaited.append(task)
                self._running.note_wait()
            yield
        finally:
            # Without the lock, which this thread may hold where a finaliser ends the coroutine.
            if task in stack.awaited:
                stack.awaited.remove(task)

    def unfinished(self) -> list[Task[Any]]:
        """Every unfinished task that was submitted."""
        with self._lock:
            return following([*self._running.stacks, *self._released, *self._schedule.promised])

    def occupy(self) -> None:
        """Do nothing: every task has the one processor."""

    def block(self, wait: Callable[[], R]) -> R:
        """Call ``wait()``, which blocks: whoever wants memory does not wait for this thread."""
        stack = self._stack()
        before = stack.is_stopped
        try:
            with self._lock:
                stack.is_stopped = True
                self._running.note_wait()
            return wait()
        finally:
            stack.is_stopped = before

    def has_waits(self) -> bool:
        """No: what they wait for has run."""
        return False

    def promise(self, task: Task[Any], processor: Processor) -> bool:
        """Begin a HELD task that ends when `deliver` is called; whether it was not cancelled."""
        with self._lock:
            if self._closed:
                raise RuntimeError("this engine is closed and takes no more tasks")
            return promise(self._schedule, task, processor)

    def deliver(self, task: Task[Any], outcome: Any, began: int) -> None:
        """End a promised task with a value, or a `Failure`, unless it was cancelled."""
        if outcome.__class__ is not Failure:
            outcome = settled(task, outcome, self.has_spaces)
        if events.consumers:
            events.publish_end(task, began, outcome)
        finished: list[Task[Any]] = []
        following: list[Task[Any]] = []
        with self._lock:
            if task._state == RUNNING and outcome.__class__ is Failure:
                finished = self._schedule.fail(task, outcome, state_after(task, outcome))
            elif task._state == RUNNING:
                following += task._dependents or ()
                self._schedule.finish(task, outcome)
                finished = [task]
        self._tell(finished)
        self._run_ready([one for one in following if one._state == READY])

    def _begun_or_ready(self) -> list[Task[Any]]:
        """The tasks whose functions are being called; lock held."""
        return [*self._schedule.promised, *self._running.stacks]

    def _cancel(self, tasks: list[Task[Any]], begun: bool) -> None:
        super()._cancel(tasks, begun)
        self._run_ready([])

    def _fill_all(self) -> None:
        """Run the tasks that others have let go on."""
        self._run_ready([])

    def _abandon(self, task: Task[Any], failure: Failure, state: int) -> None:
        """End a RUNNING task in `state`, although its function goes on."""
        with self._lock:
            finished = self._schedule.abandon(task, failure, state)
        self._tell(finished, task)

    def current_task(self) -> Task[Any] | None:
        """The task that the calling thread runs."""
        stack = self._stack().tasks
        return stack[-1] if stack else None

    def processors(self) -> tuple[Processor, ...]:
        """Every processor."""
        return self._schedule.present

    def reseat(self) -> None:
        """Find out again which processors there are, and which scopes they are in."""
        every = _processors()
        with self._lock:
            self._schedule.reseat(every)
            # For good: tasks that are done may have left values in other spaces.
            self.has_spaces = self.has_spaces or has_spaces(every)
            self._schedule.leaving.clear()
            finished = self._schedule.refuse_stranded()
        self._tell(finished)

    def explain(self, task: Task[Any]) -> str:
        """Why `task` is in the state that it is in."""
        return self.watchdog.explain(task)

    def _survey(self) -> Survey:
        """What is going on now."""
        running: dict[Task[Any], list[Task[Any]]] = {}
        abandoned = set()
        with self._lock:
            outstanding = self._schedule.outstanding
            running.update((task, []) for task in self._schedule.promised)
            for task, stack in self._running.stacks.items():
                inside = list(stack.tasks)
                waited = self._waits[task].tasks if task in self._waits else ()
                above = inside[inside.index(task) + 1 :] if task in inside else []
                if task._state == RUNNING:
                    running[task] = [*waited, *above]
                else:
                    abandoned.add(task)
        return Survey(outstanding, running, abandoned=abandoned, closed=self._closed)

    def close(self, finish: bool = True) -> None:
        """Take no more tasks; none is left and there is no thread."""
        self._closed = True

    def take_over(self, former: Any) -> None:
        """Count what results hold that the engine counted which is closed now."""
        self._spiller.take_over(former._spiller)

    def abandon(self) -> None:
        """Refuse everything from now on, in the child of a fork."""
        self._lock = threading.Lock()
        self._running = RunningTasks(self._lock)
        self._spiller.abandon()
        self._closed = True
        self.watchdog.abandon()
