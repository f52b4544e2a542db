"""The engine of threads in this process: one seat a processor, one thread on each seat."""

from __future__ import annotations

import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, TypeVar

from darray.runtime import contexts, events, limits
from darray.runtime.arguments import INERT, actions, loaded, sealed
from darray.runtime.budget import Budget
from darray.runtime.errors import DeadlockError, Failure
from darray.runtime.events import TaskBegan, publish, publish_end
from darray.runtime.processor import Processor
from darray.runtime.settings import Settings
from darray.runtime.spaces import nbytes_of
from darray.runtime.spawning import submit
from darray.runtime.state import Schedule
from darray.runtime.tasks import CANCELLED, DONE, FAILED, READY, Task
from darray.runtime.waiting import Countdown, Stack, call_watcher, is_stuck

__all__ = ["ThreadsEngine", "start"]

R = TypeVar("R")

# How deep tasks may run inside the waits of others on one thread. Beyond it a wait blocks
# and a spare thread goes on, so that Python's stack never ends before the work does.
HELPING_DEPTH = 24


def start(settings: Settings) -> ThreadsEngine:
    """Start the engine that `settings` describe."""
    count = settings.threads or limits.processor_count()
    return ThreadsEngine(count, limits.task_memory(settings))


class Seat:
    """The right to run tasks as one processor; held by at most one thread at a time."""

    __slots__ = ("load", "number", "processor", "returning")

    def __init__(self, number: int) -> None:
        self.number = number
        self.processor = Processor(worker=0, kind="cpu", index=number)
        # Threads that waited for a task and want to go on.
        self.returning: deque[Worker] = deque()
        # Sum of the occupancies below 1 of the tasks that run beside the seat's holder.
        self.load = 0.0


class Worker:
    """One thread, with or without a seat."""

    __slots__ = ("aside", "gate", "seat", "seated", "stack", "started")

    def __init__(self) -> None:
        self.seat: Seat | None = None
        # Whether this thread holds its seat; a task of small occupancy runs without.
        self.seated = False
        # The task for which the seat was given up and its occupancy counted instead.
        self.aside: Task[Any] | None = None
        self.started = False
        self.stack = Stack()
        # Released by whoever gives this parked thread a seat, or ends it.
        self.gate = threading.Lock()
        self.gate.acquire()


class ThreadsEngine:
    """Tasks on the threads of this process.

    Invariants, guarded by ``_lock``
    --------------------------------
    * Every seat is either in ``_idle`` or held by exactly one worker with ``seated`` true.
    * A worker in ``_parked`` has no seat and blocks on its gate, or is about to.
    * While ``_idle`` is not empty there is no ready task that an idle seat could run and
      that the memory budget admits, but for the moment in which a seat is being filled.
    """

    def __init__(self, count: int, memory: int) -> None:
        # Guards the schedule, the seats, `_idle`, `_parked`, `_stacks` and the tasks'
        # fields as `Task` says. Held for a few operations; no other lock is taken and no
        # callback, task or finaliser of the user's is run while it is held.
        self._lock = threading.Lock()
        self._seats = [Seat(number) for number in range(count)]
        self._schedule = Schedule(
            tuple(seat.processor for seat in self._seats), Budget(memory), nbytes_of
        )
        self._idle = self._seats[::-1]
        self._parked: list[Worker] = []
        self._stacks: set[Stack] = set()
        self._local = threading.local()
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []
        self._drained: threading.Lock | None = None
        self._closed = False
        self._pools = limits.ThreadPools()

    # Submitting

    def spawn(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Task[Any]:
        """Spawn a task under the contextual options."""
        return submit(self, function, args, None, contexts.current.get(), sys._getframe(2))

    def submit(self, task: Task[Any], needs: list[Task[Any]] | None) -> None:
        """Take a new task that runs once `needs` are done."""
        if needs:
            self._refuse_foreign(needs)
        with self._lock:
            if self._closed:
                raise RuntimeError("this engine is closed and takes no more tasks")
            finished = self._schedule.add(task, needs)
            worker = self._fill() if self._idle and task._state == READY else None
        if worker is not None:
            self._go(worker)
        if finished:
            self._tell(finished)

    def submit_all(self, tasks: list[tuple[Task[Any], list[Task[Any]] | None]]) -> None:
        """Take new tasks, none of which begins before all are taken."""
        finished: list[Task[Any]] = []
        woken: list[Worker] = []
        for _, needs in tasks:
            self._refuse_foreign(needs or [])
        with self._lock:
            if self._closed:
                raise RuntimeError("this engine is closed and takes no more tasks")
            for task, needs in tasks:
                finished.extend(self._schedule.add(task, needs))
            while (worker := self._fill()) is not None:
                woken.append(worker)
        for worker in woken:
            self._go(worker)
        self._tell(finished)

    def _refuse_foreign(self, needs: list[Task[Any]]) -> None:
        for need in needs:
            if need._engine is not self and need._state < DONE:
                raise RuntimeError(
                    f"{need!r} belongs to an engine that is gone (this process was forked, or "
                    "darray reconfigured, since it was spawned); spawn it again here"
                )

    def _fill(self) -> Worker | None:
        """Give an idle seat that has work to a thread, which the caller lets go."""
        for position in range(len(self._idle) - 1, -1, -1):
            seat = self._idle[position]
            if self._schedule.has_work(seat.number) and seat.load < 1:
                if len(self._idle) == len(self._seats):
                    self._pools.restrict()
                del self._idle[position]
                worker = self._parked.pop() if self._parked else Worker()
                worker.seat, worker.seated = seat, True
                return worker
        return None

    def _go(self, worker: Worker) -> None:
        """Let a parked or new thread, which was given a seat, run."""
        if not worker.started:
            worker.started = True
            thread = threading.Thread(
                target=self._live,
                args=(worker,),
                name=f"darray-{next(self._numbers)}",
                daemon=True,
            )
            self._threads.append(thread)
            thread.start()
        else:
            worker.gate.release()

    # Running

    def _live(self, worker: Worker) -> None:
        """Be a thread: serve on the seat given, park, and again."""
        self._local.worker = worker
        while worker.seat is not None:
            with self._lock:
                task = self._next(worker)
                finished = [] if task is not None else self._schedule.relieve()
            self._tell(finished)
            while task is not None:
                outcome = self._call(worker, task)
                task = self._complete(worker, task, outcome)
            worker.gate.acquire()

    def _next(self, worker: Worker) -> Task[Any] | None:
        """The next task for the worker, which is parked if there is none; lock held."""
        seat = worker.seat
        assert seat is not None
        if worker.seated and not seat.returning and not self._closed:
            task = self._schedule.take(seat.number)
            if task is not None:
                return task
        if worker.seated:
            self._vacate(worker)
        worker.seat = None
        if self._closed:
            worker.gate.release()
        else:
            self._parked.append(worker)
        return None

    def _vacate(self, worker: Worker) -> None:
        """Give the worker's seat to a returning thread, or make it idle; lock held."""
        seat = worker.seat
        assert seat is not None and worker.seated
        worker.seated = False
        if seat.returning:
            back = seat.returning.popleft()
            back.seated = True
            back.gate.release()
            return
        self._idle.append(seat)
        if len(self._idle) == len(self._seats):
            self._pools.release()

    def _call(self, worker: Worker, task: Task[Any]) -> Any:
        """Call the task's function; its value, or the `Failure` that it ended with."""
        function, args, kwargs, lazy = task._call
        options = task._options
        inherited = options.outer if options is not None and options.own else options
        if contexts.current.get() is not inherited:
            contexts.current.set(inherited)
        if options is not None and options.occupancy < 1:
            self._stand_aside(worker, task, options.occupancy)
        running = worker.stack.tasks
        running.append(task)
        began = 0
        if events.consumers:
            began = perf_counter_ns()
            publish(TaskBegan(id(task), task.name, task.processor, began))
        try:
            if lazy:
                function = loaded(function)
                args = tuple([loaded(arg) for arg in args])
                if kwargs:
                    kwargs = {key: loaded(arg) for key, arg in kwargs.items()}
            value = function(*args, **kwargs) if kwargs else function(*args)
            if actions.get(value.__class__) != INERT:
                value = sealed(value)
        except BaseException as error:
            value = Failure.capture(
                error,
                f"in task {task.name!r} on {task._processor}, spawned at {task.spawned_at}",
                ThreadsEngine._call.__code__,
            )
        running.pop()
        if events.consumers:
            publish_end(task, began, value)
        return value

    def _stand_aside(self, worker: Worker, task: Task[Any], occupancy: float) -> None:
        """Run a task of small occupancy beside the seat, for others to use the seat."""
        if not worker.seated:
            return
        worker.aside = task
        with self._lock:
            assert worker.seat is not None
            worker.seat.load += occupancy
            self._vacate(worker)
            other = self._fill()
        if other is not None:
            self._go(other)

    def _complete(self, worker: Worker, task: Task[Any], outcome: Any) -> Task[Any] | None:
        """Store what a task gave; the next task for the worker."""
        schedule = self._schedule
        other = None
        finished: list[Task[Any]] | None = None
        with self._lock:
            if worker.aside is task:
                self._come_back(worker, task)
            if outcome.__class__ is Failure:
                finished = schedule.fail(task, outcome, FAILED)
                following = None
            else:
                following = schedule.finish(task, outcome)
                if task._watchers is not None:
                    finished = [task]
            if following is not None:
                if worker.seated and not worker.seat.returning:  # type: ignore[union-attr]
                    schedule.begin(following, worker.seat.number)  # type: ignore[union-attr]
                else:
                    schedule.push(following)
                    following = None
            if following is None:
                following = self._next(worker)
                if following is None and schedule.starved:
                    finished = [*(finished or ()), *schedule.relieve()]
            if self._idle:
                other = self._fill()
            if self._drained is not None and schedule.outstanding == 0:
                self._drained.release()
                self._drained = None
        if other is not None:
            self._go(other)
        if finished is not None:
            self._tell(finished)
        return following

    def _come_back(self, worker: Worker, task: Task[Any]) -> None:
        """End running beside the seat; take the seat if it is idle. Lock held."""
        seat = worker.seat
        assert seat is not None and task._options is not None
        worker.aside = None
        seat.load -= task._options.occupancy
        self._reclaim(worker, seat)

    def _reclaim(self, worker: Worker, seat: Seat) -> None:
        """Take the seat if it is idle; lock held."""
        if seat in self._idle:
            if len(self._idle) == len(self._seats):
                self._pools.restrict()
            self._idle.remove(seat)
            worker.seated = True

    def _tell(self, finished: list[Task[Any]]) -> None:
        """Call the watchers of finished tasks, each exactly once."""
        for task in finished:
            with self._lock:
                watchers, task._watchers = task._watchers, None
            for watcher in watchers or ():
                call_watcher(watcher, task)

    # Waiting

    def watch(self, task: Task[Any], watcher: Callable[[Any], object]) -> None:
        """Call ``watcher(task)`` when the task is finished, at once if it is."""
        with self._lock:
            if task._state < DONE:
                if task._watchers is None:
                    task._watchers = [watcher]
                else:
                    task._watchers.append(watcher)
                return
        call_watcher(watcher, task)

    def wait(
        self, tasks: list[Task[Any]], timeout: float | None, count: int | None = None
    ) -> bool:
        """Wait until `count` of the tasks, or all, are finished; whether they are."""
        worker: Worker | None = getattr(self._local, "worker", None)
        for_all = timeout is None and (count is None or count >= len(tasks))
        if worker is not None and worker.stack.tasks and for_all:
            return self._wait_in_task(worker, tasks)
        arrival = Countdown()
        with self._lock:
            if self._closed:
                raise RuntimeError("this engine is closed: its unfinished tasks never run")
            unfinished = [task for task in tasks if task._state < DONE]
            missing = (len(tasks) if count is None else count) - len(tasks) + len(unfinished)
            if missing <= 0:
                return True
            arrival.expect(missing)
            for task in unfinished:
                task._watchers = [*(task._watchers or ()), arrival]
            self._schedule.waiters += 1
            finished = self._schedule.relieve()
            other = self._fill() if self._idle and self._schedule.starved else None
        if other is not None:
            self._go(other)
        self._tell(finished)
        arrived = False
        try:
            arrived = self.block(lambda: arrival.wait(timeout))
        except KeyboardInterrupt:
            self.cancel_graph(unfinished)
            raise
        finally:
            with self._lock:
                self._schedule.waiters -= 1
                if not arrived or count is not None:
                    for task in unfinished:
                        if task._watchers is not None and arrival in task._watchers:
                            task._watchers.remove(arrival)
        return arrived

    def _wait_in_task(self, worker: Worker, tasks: list[Task[Any]]) -> bool:
        """Wait for all `tasks` inside a task: run what they need, else give the seat up."""
        arrival = Countdown()
        stack = worker.stack
        with self._lock:
            unfinished = [task for task in tasks if task._state < DONE]
            if not unfinished:
                return True
            if is_stuck(stack, unfinished, self._stacks):
                raise DeadlockError(
                    f"task {stack.tasks[-1].name!r} waits for {unfinished[0]!r}, which cannot "
                    "finish before the waiting task does; do not wait for it here"
                )
            stack.waits.append((len(stack.tasks) - 1, unfinished))
            self._stacks.add(stack)
        try:
            if worker.seated and len(stack.waits) < HELPING_DEPTH:
                self._help(worker, unfinished)
            with self._lock:
                unfinished = [task for task in unfinished if task._state < DONE]
                arrival.expect(len(unfinished))
                for task in unfinished:
                    task._watchers = [*(task._watchers or ()), arrival]
            if unfinished:
                self.block(lambda: arrival.wait(None))
        finally:
            with self._lock:
                stack.waits.pop()
                if not stack.waits:
                    self._stacks.discard(stack)
        return True

    def _help(self, worker: Worker, targets: list[Task[Any]]) -> None:
        """Run, on this thread, the unstarted tasks that `targets` need."""
        schedule, seat = self._schedule, worker.seat
        assert seat is not None
        context = contexts.current.get()
        with self._lock:
            wanted = schedule.closure(targets)
            ready = [task for task in wanted if task._state == READY]
        among = set(wanted)
        while ready and worker.seated:
            task = ready.pop()
            with self._lock:
                if task._state != READY or seat.number not in schedule.seats(task):
                    continue
                if not schedule.begin(task, seat.number):
                    continue
                dependents = [one for one in task._dependents or () if one in among]
            outcome = self._call(worker, task)
            self._complete_helped(worker, task, outcome)
            ready.extend(one for one in reversed(dependents) if one._state == READY)
        contexts.current.set(context)

    def _complete_helped(self, worker: Worker, task: Task[Any], outcome: Any) -> None:
        """Store what a task gave that ran inside the wait of another."""
        other = None
        with self._lock:
            if worker.aside is task:
                self._come_back(worker, task)
            if outcome.__class__ is Failure:
                finished = self._schedule.fail(task, outcome, FAILED)
            else:
                following = self._schedule.finish(task, outcome)
                if following is not None:
                    self._schedule.push(following)
                finished = [task]
            if self._idle:
                other = self._fill()
        if other is not None:
            self._go(other)
        self._tell(finished)

    def block(self, wait: Callable[[], R]) -> R:
        """Call ``wait()``, which blocks, with the calling task's processor given up."""
        worker: Worker | None = getattr(self._local, "worker", None)
        if worker is None or not worker.stack.tasks or not worker.seated:
            return wait()
        seat = worker.seat
        assert seat is not None
        with self._lock:
            self._schedule.blocked += 1
            self._vacate(worker)
            other = self._fill()
            finished = self._schedule.relieve()
        if other is not None:
            self._go(other)
        if finished:
            self._tell(finished)
        try:
            return wait()
        finally:
            with self._lock:
                self._schedule.blocked -= 1
                self._reclaim(worker, seat)
                if not worker.seated:
                    seat.returning.append(worker)
            if not worker.seated:
                worker.gate.acquire()

    def current_task(self) -> Task[Any] | None:
        """The task that the calling thread runs."""
        worker: Worker | None = getattr(self._local, "worker", None)
        return worker.stack.tasks[-1] if worker is not None and worker.stack.tasks else None

    def processors(self) -> tuple[Processor, ...]:
        """Every processor."""
        return self._schedule.processors

    # Ending

    def cancel(self, task: Task[Any]) -> bool:
        """Cancel `task` unless it began; whether it will never run."""
        with self._lock:
            finished = self._schedule.cancel(task)
        self._tell(finished)
        return task._state == CANCELLED

    def cancel_graph(self, tasks: list[Task[Any]]) -> None:
        """Cancel those of `tasks`, and of all that they need, that have not begun."""
        finished: list[Task[Any]] = []
        with self._lock:
            for task in self._schedule.closure(tasks):
                finished.extend(self._schedule.cancel(task))
        self._tell(finished)

    def close(self) -> None:
        """Finish what was submitted and end the threads."""
        with self._lock:
            drained = None
            if self._schedule.outstanding:
                drained = self._drained = threading.Lock()
                drained.acquire()
        try:
            if drained is not None:
                drained.acquire()
        finally:
            self._end()

    def _end(self) -> None:
        """Let no task begin any more and end the threads, those that run a task later."""
        with self._lock:
            running = self._schedule.running
            self._closed = True
            ending, self._parked = self._parked, []
            for worker in ending:
                worker.gate.release()
        if not running:
            for thread in self._threads:
                thread.join()
        self._threads.clear()

