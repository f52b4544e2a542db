"""The schedule: which task runs next. Pure state, no threads and no clocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from darray.runtime import refusals
from darray.runtime.budget import Budget
from darray.runtime.errors import Failure
from darray.runtime.graphs import closure, following
from darray.runtime.kinds import is_default
from darray.runtime.pieces import Pieces, check_shared, is_free, users_in_the_way, waits_for_turn
from darray.runtime.processor import Processor
from darray.runtime.promising import keep_promise
from darray.runtime.ready import Queue
from darray.runtime.refusals import cancellation
from darray.runtime.scopes import Scope
from darray.runtime.spilling import asked
from darray.runtime.tasks import CANCELLED, DONE, FAILED, HELD, READY, RUNNING, WAITING, Task
from darray.runtime.turns import leave, line_up, pass_over
from darray.runtime.waiting import held_back, is_waited

__all__ = ["Schedule"]


class Schedule:
    """Tasks and what they wait for: other tasks, a processor, memory.

    Every method is called with the engine's lock held. A *seat* is the number of a
    processor in ``processors``. Signal handlers may raise between any two calls, so what
    must change together is changed by assignments that follow one another without a call.

    Invariants, checked by `_check`
    -------------------------------
    * A WAITING task is in the ``_dependents`` of ``_missing`` unfinished tasks, and
      ``_missing`` is positive.
    * Any other READY task is in ``shared``, in ``pinned[s]`` for every seat s of its scope, in a
      queue of ``starved``, or in ``stranded`` until the engine fails it. A queue may also
      hold tasks that are READY no more, which it drops.
    * Tasks in ``shared`` may run on every seat but those in ``apart``, and no seat in
      ``apart`` takes them. No task begins on a seat whose processor is not ``present``.
    * Unless ``special`` is true, all queues but ``shared.plain`` are empty.
    * ``running`` counts the RUNNING tasks, ``outstanding`` those not finished.
    * A task with a ``memory=`` option is RUNNING only while the budget holds its bytes, and those
      in ``reading``: of what it is given that was on disk when it began.
    * A task that uses values in place is in their lines while it is unfinished; it is READY
      only when all that it follows there are finished, however they ended.
    * A task that uses shards is, while READY, in a queue of ``sharded`` or ``starved``; while
      RUNNING, it is among the users of the pieces of its processor.
    * ``in_turn`` has every READY task that has not all its turns, and no other.
    """

    def __init__(self, processors: tuple[Processor, ...], budget: Budget) -> None:
        # The processors of the seats, and those of them that are there now.
        self.processors = processors
        self.present = processors
        self.budget = budget
        self.shared = Queue()
        self.pinned = [Queue() for _ in processors]
        # Ready tasks for which there was no memory, by their bytes and their seats.
        self.starved: dict[tuple[int, tuple[int, ...]], Queue] = {}
        # Bytes that running tasks read from disk, where they are given such values.
        self.reading: dict[Task[Any], int] = {}
        # Ready tasks that use shards, by these and by their seats.
        self.sharded: dict[tuple[tuple[tuple[Pieces, bool], ...], tuple[int, ...]], Queue] = {}
        # Ready tasks that wait for a turn.
        self.in_turn: dict[Task[Any], None] = {}
        # Ready tasks for which no processor is left.
        self.stranded: list[Task[Any]] = []
        # Seats that run only tasks whose scope asks for them, or none any more; of the
        # latter those that may still be held by a thread that runs a task.
        self.apart: set[int] = set()
        self.leaving: set[int] = set()
        # Whether tasks may be queued anywhere but in ``shared.plain``.
        self.special = False
        self.running = 0
        self.outstanding = 0
        # How many of the running tasks cannot go on before others are finished, and what stands
        # for each thread that waits from outside a task; it goes on once its ``missing`` is 0.
        self.blocked = 0
        self.waiters: set[object] = set()
        # The running tasks that no seat runs, as `promising` says, those that began first before
        # others; they count as blocked.
        self.promised: dict[Task[Any], None] = {}
        # How many tasks became READY as one that they only follow failed; where an engine wants
        # to know, those tasks, which are queued as well.
        self.releases = 0
        self.released: list[Task[Any]] | None = None
        self._every: tuple[int, ...] = ()
        self._seats: dict[Scope, tuple[int, ...]] = {}
        self.reseat(processors)

    def reseat(self, present: tuple[Processor, ...]) -> None:
        """Have the processors `present` from now on, whose scopes may have changed.

        New ones are given seats, and tasks that were queued are queued where they may run
        now. What runs goes on.
        """
        queued = self.queued()
        self.drop_queued()
        there = set(present)
        before = {seat for seat, one in enumerate(self.processors) if one in self.present}
        new = tuple(one for one in present if one not in self.processors)
        self.processors += new
        self.pinned += [Queue() for _ in new]
        self.present = present
        absent = {seat for seat, one in enumerate(self.processors) if one not in there}
        self.leaving = (self.leaving | before) & absent
        self.apart = absent | {
            seat for seat, one in enumerate(self.processors) if not is_default(one.kind)
        }
        every = range(len(self.processors))
        self._every = tuple(seat for seat in every if seat not in self.apart)
        self._seats.clear()
        self.special = self.special or bool(self.leaving)
        for task in queued:
            self.push(task)

    # Taking tasks in

    def add(self, task: Task[Any], needs: Sequence[Task[Any]] | None) -> list[Task[Any]]:
        """Take a new task that needs `needs` first; the tasks that this finished."""
        if task._state != WAITING:
            if task._state != HELD:
                # Cancelled while a queue held it.
                return _NONE
            task._hold = None
            task._state = WAITING
        options = task._options
        if options is not None:
            failure = self._refusal(task)
            if failure is not None:
                self.outstanding += 1
                for need in needs or ():
                    if need._state > DONE:
                        # Where what it needs has failed, that is what its user is to hear of.
                        return self.fail(task, need._value, need._state)
                return self.fail(task, failure, FAILED)
            if hasattr(task, "_uses"):
                needs = line_up(task, needs or ())
                if task._dependents is not None:
                    failure = self._refusal_in_line(task)
                    if failure is not None:
                        self.outstanding += 1
                        return self.fail(task, failure, FAILED)
        if needs:
            missing = 0
            for need in needs:
                if need._state < DONE:
                    missing += 1
                    dependents = need._dependents
                    if dependents is None:
                        need._dependents = [task]
                    else:
                        dependents.append(task)
                elif need._state != DONE:
                    self.outstanding += 1
                    return self.fail(task, need._value, need._state)
            task._needs = needs
            if missing:
                task._missing = missing
                self.outstanding += 1
                return _NONE
        task._state = READY
        self.outstanding += 1
        self.push(task)
        return _NONE

    def withdraw(self, task: Task[Any], needs: Sequence[Task[Any]] | None) -> list[Task[Any]]:
        """Undo an `add` that an exception broke off; the tasks that this finished."""
        if task._state in (READY, WAITING) and (task._state == READY or task._missing):
            return self.cancel(task)
        for need in (*(needs or ()), *getattr(task, "_after", ())):
            if need._dependents is not None and task in need._dependents:
                need._dependents = [one for one in need._dependents if one is not task]
        if task._state < DONE:
            task._value = Failure(cancellation(task))
            task._state = CANCELLED
        leave(task)
        return [task]

    def _pass_over(self, ended: Task[Any], task: Task[Any]) -> None:
        """Let `task`, which only follows `ended`, go on although that failed."""
        if task._state != WAITING:
            return
        pass_over(task, ended)
        if task._missing == 0:
            task._state = READY
            self.release(task)

    def release(self, task: Task[Any]) -> None:
        """Queue a READY task that another one held up which it does not need."""
        self.push(task)
        self.releases += 1
        if self.released is not None:
            self.released.append(task)

    def push(self, task: Task[Any]) -> None:
        """Queue a READY task where its scope allows."""
        options = task._options
        if options is None:
            self.shared.plain.append(task)
            return
        if hasattr(task, "_turns") and waits_for_turn(task, self.in_turn):
            return
        if hasattr(task, "_pieces"):
            self.special = True
            seats = self.seats(task)
            if seats:
                key = (tuple(task._pieces.items()), seats)
                self.sharded.setdefault(key, Queue()).push(task)
            else:
                self.stranded.append(task)
            return
        if options.scope is None:
            self.special = self.special or options.priority != 0
            self.shared.push(task)
            return
        self.special = True
        seats = self.seats(task)
        if seats == self._every:
            self.shared.push(task)
            return
        if not seats:
            self.stranded.append(task)
        for seat in seats:
            self.pinned[seat].push(task)

    def seats(self, task: Task[Any]) -> tuple[int, ...]:
        """The seats that the task's scope allows."""
        scope = None if task._options is None else task._options.scope
        if scope is None:
            return self._every
        seats = self._seats.get(scope)
        if seats is None:
            if len(self._seats) > 1000:
                # Scopes made on the fly must not be kept for ever.
                self._seats.clear()
            there = set(self.present)
            seats = tuple(
                seat
                for seat, processor in enumerate(self.processors)
                if processor in there and processor in scope
            )
            self._seats[scope] = seats
        return seats

    def _refusal_in_line(self, task: Task[Any]) -> Failure | None:
        """Why `task`, which a queue held back, cannot follow those before it; None if it can."""
        needing = set(following(task._dependents or ()))
        earlier = next((one for one in task._after if one in needing), None)
        return None if earlier is None else refusals.out_of_order(task, earlier)

    def _refusal(self, task: Task[Any]) -> Failure | None:
        """Why `task` can never run, or None."""
        options = task._options
        assert options is not None
        if options.conflict is not None:
            return refusals.conflicting(task, options.conflict)
        for name in _KEPT:
            for one in getattr(task, name, ()):
                if one.owner is not self and one:
                    return refusals.foreign(task)
                one.owner = self
        if not self.seats(task):
            return refusals.nowhere(task, self.present)
        if options.memory > self.budget.limit:
            return refusals.too_big(task, self.budget)
        return None

    def refuse_stranded(self) -> list[Task[Any]]:
        """Fail the ready tasks for which no processor is left; the tasks that this finished."""
        finished: list[Task[Any]] = []
        while self.stranded:
            task = self.stranded.pop()
            if task._state == READY:
                finished += self.fail(task, refusals.nowhere(task, self.present), FAILED)
        return finished

    # Running tasks

    def take(self, seat: int) -> Task[Any] | None:
        """Begin the next task for `seat`, if there is one and there is memory for it."""
        if seat in self.apart:
            self.leaving.discard(seat)
        while not self.special and seat not in self.apart:
            if not self.shared.plain:
                return None
            task = self.shared.plain.popleft()
            if task._state == READY and self.begin(task, seat):
                return task
        while True:
            found = self.best(seat)
            if found is None:
                self.special = self._is_special()
                return None
            queue, task = found
            queue.drop_first()
            if self.begin(task, seat):
                return task

    def best(self, seat: int) -> tuple[Queue, Task[Any]] | None:
        """The ready task of the greatest priority for `seat`, and the queue it is first in.

        Of equal ones, those that waited for memory come first, then those that waited for a
        piece of a shard, then those that may run nowhere else.
        """
        best: tuple[Queue, Task[Any]] | None = None
        greatest = 0
        for queue in (
            *self._fitting(seat),
            *self.open(seat),
            self.pinned[seat],
            *self._common(seat),
        ):
            task = queue.first()
            if task is not None:
                priority = 0 if task._options is None else task._options.priority
                if best is None or priority > greatest:
                    best, greatest = (queue, task), priority
        return best

    def _common(self, seat: int) -> tuple[Queue, ...]:
        """The queues that `seat` takes from as others do."""
        return () if seat in self.apart else (self.shared,)

    def _is_special(self) -> bool:
        """Whether a queue other than ``shared.plain`` may hold tasks."""
        others = (self.shared.ordered, *self.pinned, self.starved, self.sharded)
        return any(others) or bool(self.stranded or self.leaving)

    def queues(self) -> tuple[Queue, ...]:
        """Every queue but those of starved tasks."""
        return (self.shared, *self.pinned)

    def _fitting(self, seat: int | None) -> list[Queue]:
        """The queues of starved tasks that `seat`, or any seat, has memory for now."""
        if not self.starved:
            return []
        room = self.budget.room()
        fitting: list[Queue] = []
        for key, queue in list(self.starved.items()):
            if queue.first() is None:
                del self.starved[key]
            elif key[0] <= room and (seat is None or seat in key[1]):
                fitting.append(queue)
        return fitting

    def open(self, seat: int | None) -> list[Queue]:
        """The queues of tasks whose pieces `seat`, or any seat, has free now."""
        if not self.sharded:
            return []
        found: list[Queue] = []
        for key, queue in list(self.sharded.items()):
            pieces, seats = key
            if queue.first() is None:
                del self.sharded[key]
            elif any(
                seat in (None, one) and not users_in_the_way(pieces, self.processors[one])
                for one in seats
            ):
                found.append(queue)
        return found

    def in_the_way(self, task: Task[Any]) -> list[list[Task[Any]]]:
        """For each piece that `task` could use, those that must end first."""
        pieces = task._pieces.items()
        choices = {
            tuple(one.place(self.processors[seat]) for one, _ in pieces): users_in_the_way(
                pieces, self.processors[seat]
            )
            for seat in self.seats(task)
        }
        return list(choices.values())

    def is_open(self, task: Task[Any], seat: int) -> bool:
        """Whether `task` could begin on `seat` as far as what it shares with others goes."""
        return is_free(task, self.processors[seat])

    def begin(self, task: Task[Any], seat: int) -> bool:
        """Make a READY task RUNNING on `seat`; where that cannot be yet, queue it again.

        For want of memory it is put to starved, for want of a piece of a shard to sharded.
        """
        options = task._options
        if options is not None and not self.is_open(task, seat):
            self.push(task)
            return False
        if options is not None and options.memory:
            memory = asked(task) if self.budget.has_spilled else options.memory
            if not self.budget.admit(memory):
                key = (memory, self.seats(task))
                self.special = True
                self.starved.setdefault(key, Queue()).push(task)
                return False
            if memory > options.memory:
                self.reading[task] = memory - options.memory
        task._processor = self.processors[seat]
        task._state = RUNNING
        self.running += 1
        if options is not None and hasattr(task, "_pieces"):
            for one, writes in task._pieces.items():
                one.enter(task, task._processor, writes)
        return True

    def has_work(self, seat: int) -> bool:
        """Whether `take` may find a task for `seat`."""
        return bool(
            (self.shared and seat not in self.apart)
            or self.pinned[seat]
            or (self.starved and self._fitting(seat))
            or (self.sharded and self.open(seat))
        )

    # Ending tasks

    def finish(self, task: Task[Any], value: Any, nbytes: int = 0) -> Task[Any] | None:
        """Store the value, of `nbytes` bytes, of a RUNNING task; one that is READY now.

        That one is in no queue: the caller begins it or pushes it.
        """
        task._value = value
        task._state = DONE
        self.running -= 1
        self.outstanding -= 1
        options = task._options
        if self.promised:
            keep_promise(self, task)
        if options is not None:
            if options.memory:
                self.budget.give_back(options.memory + self.reading.pop(task, 0))
                if nbytes:
                    task._hold = self.budget.hold(task.name, nbytes, task)
            leave(task)
        dependents = task._dependents
        if dependents is None:
            return None
        task._dependents = None
        following: Task[Any] | None = None
        for dependent in dependents:
            dependent._missing -= 1
            if dependent._missing == 0 and dependent._state == WAITING:
                dependent._state = READY
                if following is None and dependent._options is None:
                    following = dependent
                else:
                    self.push(dependent)
        return following

    def fail(self, task: Task[Any], failure: Failure, state: int) -> list[Task[Any]]:
        """Fail `task` and all that need it, at once; the tasks that this finished."""
        if task._state == RUNNING:
            self.running -= 1
            keep_promise(self, task)
            if task._options is not None and task._options.memory:
                self.budget.give_back(task._options.memory + self.reading.pop(task, 0))
        finished: list[Task[Any]] = []
        failing = [task]
        while failing:
            task = failing.pop()
            if task._state >= DONE:
                continue
            task._value = failure
            task._state = state
            task._missing = 0
            self.outstanding -= 1
            finished.append(task)
            self.in_turn.pop(task, None)
            # Those behind it in its lines now follow those before it.
            leave(task)
            dependents, task._dependents = task._dependents, None
            for one in reversed(dependents or ()):
                if task in getattr(one, "_after", ()):
                    self._pass_over(task, one)
                else:
                    failing.append(one)
        return finished

    def cancel(self, task: Task[Any]) -> list[Task[Any]]:
        """Cancel `task` if it has not begun; the tasks that this finished."""
        if task._state not in (HELD, WAITING, READY):
            return _NONE
        if task._state == HELD:
            task._hold = None
            self.outstanding += 1
        return self.fail(task, Failure(cancellation(task)), CANCELLED)

    def refuse_held(self, tasks: Iterable[Task[Any]]) -> None:
        """Raise `SchedulingError` where one of `tasks` needs a task that a queue holds."""
        for task in closure(tasks):
            if task._state == HELD:
                raise held_back(task)

    def interrupted(self, task: Task[Any]) -> list[Task[Any]]:
        """Cancel a RUNNING task, which Ctrl-C broke off; the tasks that this finished."""
        return self.fail(task, Failure(cancellation(task)), CANCELLED)

    def abandon(self, task: Task[Any], failure: Failure, state: int) -> list[Task[Any]]:
        """Fail a RUNNING task whose function goes on; the tasks that this finished.

        None where it keeps its processor: it is asked to stop, and goes on running.
        """
        if task._state != RUNNING:
            return _NONE
        task._asked = True
        options = task._options
        if getattr(task, "_keeps", False) or (options is not None and options.keeps):
            return _NONE
        finished = self.fail(task, failure, state)
        if options is not None and options.memory:
            # Its function holds what it was given until it returns.
            task._hold = self.budget.hold(task.name, options.memory)
        return finished

    # Memory that nothing will free

    def starving(self) -> Task[Any] | None:
        """A task that waits for memory, somebody waiting, nothing running to free any.

        None while nobody waits, or goes on by now: a task that frees memory may still be spawned.
        """
        if not self.starved or self.running != self.blocked or self.budget.moving:
            return None
        if not is_waited(self.waiters, self.blocked):
            return None
        if any(one.first() for one in self.queues()):
            return None
        if self._fitting(None) or self.open(None):
            return None
        return next((queue.first() for queue in self.starved.values()), None)

    def relieve(self) -> list[Task[Any]]:
        """Fail the task that is `starving`, if one is; the tasks that this finished."""
        task = self.starving()
        if task is None:
            return _NONE
        return self.fail(task, refusals.no_room(task, self.budget), FAILED)

    def queued(self) -> list[Task[Any]]:
        """Every READY task."""
        queues = (*self.queues(), *self.starved.values(), *self.sharded.values())
        tasks = itertools.chain.from_iterable(map(Queue.tasks, queues))
        every = dict.fromkeys((*self.in_turn, *tasks, *self.stranded))
        return [task for task in every if task._state == READY]

    def drop_queued(self, sharded: bool = True) -> None:
        """Empty the queues, but those of tasks that use shards unless `sharded`.

        No task in them is READY any more, or the caller knows of it.
        """
        for queue in self.queues():
            queue.plain.clear()
            queue.ordered.clear()
        self.starved.clear()
        if sharded:
            self.sharded.clear()
        self.stranded.clear()

    def _check(self, tasks: Iterable[Task[Any]]) -> None:
        """Assert the invariants, given all the tasks that were ever added."""
        tasks = list(tasks)
        self.budget._check()
        queued = set(self.queued())
        others = (self.shared.ordered, *self.pinned, self.starved, self.stranded, self.sharded)
        assert self.special or not any(others), "special queues are announced"
        reserved = 0
        for task in tasks:
            if task._state == WAITING:
                assert task._missing > 0, "a waiting task waits for something"
                unfinished = [need for need in task._needs or () if need._state < DONE]
                assert len(unfinished) == task._missing
                assert all(task in (need._dependents or ()) for need in unfinished)
                assert set(getattr(task, "_after", ())) <= set(task._needs or ())
            elif task._state == READY:
                assert task not in queued or (task in self.stranded) == (not self.seats(task))
                assert task._missing == 0
            elif task._state == RUNNING:
                assert task._processor in self.processors
                reserved += 0 if task._options is None else task._options.memory
                reserved += self.reading.get(task, 0)
            else:
                assert task._dependents is None
            for line in getattr(task, "_uses", ()):
                assert line.owner is self, "tasks of one engine stand in a line"
                line._check()
            check_shared(task, task in queued, task in self.in_turn)
        assert self.budget.running == reserved, "what runs is what was admitted"
        assert self.budget.running <= self.budget.limit
        assert self.running == sum(task._state == RUNNING for task in tasks)
        assert self.outstanding == sum(task._state < DONE for task in tasks)
        assert 0 <= self.blocked <= self.running


# Where a task has what it uses in place.
_KEPT = ("_uses", "_pieces", "_turns")

# Returned where nothing was finished; never changed.
_NONE: list[Task[Any]] = []
