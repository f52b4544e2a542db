"""The spiller of an engine: which values go to disk for the tasks that wait for memory."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from darray.runtime import limits, settings
from darray.runtime.budget import Hold
from darray.runtime.graphs import following
from darray.runtime.spaces import AWAY, Placed
from darray.runtime.spilling import Spilled, asked, can_go, send_away, written
from darray.runtime.state import Schedule
from darray.runtime.tasks import DONE, READY, Task

if TYPE_CHECKING:
    from darray.runtime.spill_files import SpillFiles

__all__ = ["Spiller"]

# Besides what a task needs, this share of the limit is freed, so that there is work for others
# while more is written.
AHEAD = 16

# A value that was read back stays in memory while more than this share of the limit is free.
RETURNING = 4

# Of each queue so many tasks are looked at for values on disk, before they begin.
NEXT = 4

# So often in turn may all that was chosen be in use once it is written.
MOST_IN_VAIN = 10

# Bytes of which the C library is asked at once to give them back to the system.
WORTH_TRIMMING = 2**20


class Spiller:
    """Writes values of finished tasks to disk, and lets go of them, where tasks want memory.

    Which values: those that no unfinished task needs, the oldest first. Only where nothing runs
    that could free memory also those that tasks need which have not begun, those needed last
    first. Never those whose memory is used by someone else as well, other results perhaps: what
    is written there later must show in both.

    Whenever a task with a ``memory=`` option begins on a thread of the engine, the system is told
    which values the next ones will read: it fetches them from the disk meanwhile, to its own memory
    for files, so that this takes none of the limit.

    Any thread may call `make_room`, without the engine's lock; several may do so at once.

    Invariants, checked by `_check`
    -------------------------------
    * ``moving`` of the budget has the tasks whose values are being written, each by one thread,
      until that thread is through with it. While it has any, no task fails for want of memory.
      It is empty while no thread sends values.
    * A value is let go of only once it was written whole; where that fails it stays. One that is
      on disk alone is not counted, and one that is in memory alone is counted once at most.
    * Room is made for unfinished tasks only.
    """

    def __init__(self, schedule: Schedule, lock: threading.Lock, is_alone: bool = False) -> None:
        self._schedule = schedule
        # The engine's, which guards the schedule.
        self._lock = lock
        # Whether each thread makes room for its own tasks, whatever others do meanwhile.
        self._is_alone = is_alone
        # Tasks for which room is made by the threads that are to run them; guarded by the lock.
        self._wanting: dict[Task[Any], None] = {}
        # Told whenever a value is through, written or not.
        self._moved = threading.Condition(lock)
        self._local = threading.local()
        # Calls that send values now; guarded by the lock.
        self._sending = 0
        # That of the engine which took over from this one's; set once.
        self._successor: Spiller | None = None

    def take_over(self, former: Spiller) -> None:
        """Count what results hold that `former` counted, whose engine is closed."""
        # The lock of the former engine comes first; no other code takes both.
        with former._lock, self._lock:
            self._schedule.budget.take_over(former._schedule.budget)
            former._successor = self

    def abandon(self) -> None:
        """Have a lock of its own in the child of a fork, whose parent may have held the other."""
        self._lock = threading.Lock()
        self._moved = threading.Condition(self._lock)

    def make_room(
        self, running: Callable[[], list[Task[Any]]], freed: Callable[[], object]
    ) -> None:
        """Send values away until a task that waits for memory can begin, or none is left.

        ``running()`` gives the tasks that run, with the engine's lock held; ``freed()`` is called
        whenever there is more room.
        """
        self._send_all(running, freed, None)

    def make_room_apart(
        self, running: Callable[[], list[Task[Any]]], freed: Callable[[], object]
    ) -> None:
        """Do what `make_room` does on a thread of its own, and wait for that.

        A signal's exception, which comes to the main thread, must not break it off.
        """
        with self._lock:
            lacking, wanting = self._shortage()
        if wanting is not None and lacking > 0:
            self._apart(lambda: self.make_room(running, freed))

    def make_room_for(self, task: Task[Any], running: Callable[[], list[Task[Any]]]) -> bool:
        """Send values away until `task` can begin, or none is left; whether there is more room.

        On a thread of its own, as `make_room_apart`. Values that other threads send away are waited
        for.
        """
        with self._lock:
            lacking, _ = self._shortage(task)
        if lacking <= 0:
            return True
        waits = not self.is_heard()
        found: list[bool] = []

        def send() -> None:
            found.append(self._send_all(running, lambda: None, task))
            if waits and not found[0]:
                found[0] = self._others_have_sent(task)

        with self._lock:
            self._wanting[task] = None
        try:
            self._apart(send)
        finally:
            with self._lock:
                self._wanting.pop(task, None)
        return any(found)

    def is_heard(self) -> bool:
        """Whether the calling thread hears of a value that it sends, and must not wait for it."""
        return getattr(self._local, "is_sending", False)

    def _apart(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work, name="darray-spiller")
        try:
            thread.start()
        except RuntimeError as error:
            # The system has no more threads.
            self._give_up(error)
        else:
            thread.join()

    def _others_have_sent(self, task: Task[Any]) -> bool:
        """Wait until a value is through that another thread sends away; whether there was one."""
        with self._moved:
            if not self._schedule.budget.moving:
                return self._shortage(task)[0] <= 0
            self._moved.wait()
            return True

    def _send_all(
        self,
        running: Callable[[], list[Task[Any]]],
        freed: Callable[[], object],
        wanting: Task[Any] | None,
    ) -> bool:
        """Do what `make_room` does, for `wanting` where that is given; whether any value went."""
        has_sent = False
        in_vain = 0
        self._local.is_sending = True
        with self._lock:
            self._sending += 1
        try:
            while in_vain < MOST_IN_VAIN and (chosen := self._chosen(running, wanting)):
                is_changed = False
                try:
                    while chosen:
                        task = chosen[-1]
                        spilled = written(task, self._folder(), self)
                        if spilled is None:
                            self._leave_out(task)
                            is_changed = True
                        elif self._send_away(task, spilled, running):
                            is_changed = has_sent = True
                            if self._schedule.budget.moving[task] >= WORTH_TRIMMING:
                                # Otherwise it stays where other threads do not find it.
                                limits.trim()
                            freed()
                        self._forget([chosen.pop()])
                finally:
                    self._forget(chosen)
                # Others began to use them meanwhile; the next choice is without these.
                in_vain = 0 if is_changed else in_vain + 1
                limits.trim()
        except Exception as error:
            # Whatever it is: the tasks that wait must go on, or be told.
            self._give_up(error)
        finally:
            self._local.is_sending = False
            with self._lock:
                self._sending -= 1
        return has_sent

    def _give_up(self, error: Exception) -> None:
        """Note why nothing could be written; it is told by the tasks that fail for that."""
        logging.getLogger("darray").info("no value could be spilled", exc_info=error)
        where = settings.current().spill_folder
        folder = "the folder for temporary files" if where is None else repr(where)
        reason = error.strerror if isinstance(error, OSError) else None
        with self._lock:
            self._schedule.budget.spill_failure = (
                f"Nothing could be spilled to {folder}: {reason or repr(error)}. "
                "Free space there, or name another folder by da.configure(spill_folder=...). "
            )

    def _forget(self, tasks: list[Task[Any]]) -> None:
        """Note that nobody writes the values of `tasks` any more."""
        with self._lock:
            for task in tasks:
                del self._schedule.budget.moving[task]
            self._moved.notify_all()

    def _chosen(
        self, running: Callable[[], list[Task[Any]]], only: Task[Any] | None
    ) -> list[Task[Any]]:
        """The tasks whose values are to go, the last first; they are in ``moving`` now.

        For the task `only`, where it is given, otherwise for any that waits.
        """
        schedule = self._schedule
        with self._lock:
            lacking, wanting = self._shortage(only)
            found = list(schedule.budget.candidates.values())
        if wanting is None or lacking <= 0:
            return []
        # Outside the lock, for the last reference to a value may be dropped here.
        movable = [task for ref in found if (task := ref()) is not None and can_go(task)]
        with self._lock:
            begun = running()
            is_quiet = self._is_alone or schedule.running == schedule.blocked
            needed = self._needed(begun)
            lacking, wanting = self._shortage(only)
            used = {need for task in begun for need in task._needs or ()}
            if wanting is not None and not reads_parts(wanting):
                # It would want more if they went.
                used.update(wanting._needs or ())
            free = [
                task
                for task in movable
                if task not in used
                and task not in schedule.budget.moving
                and (is_quiet or task not in needed)
            ]
            free.sort(key=lambda task: (task in needed, -needed.get(task, 0)))
            return self._marked(free, lacking, needed, is_quiet)

    def _marked(
        self, free: list[Task[Any]], lacking: int, needed: dict[Task[Any], int], is_quiet: bool
    ) -> list[Task[Any]]:
        """Those of `free`, in order, that are to go for what is lacking, the last first.

        Some more go ahead of need, but none that is `needed`. Lock held.
        """
        schedule = self._schedule
        enough = lacking + schedule.budget.limit // AHEAD
        chosen: dict[Task[Any], int] = {}
        total = 0
        for task in free:
            if lacking <= 0 or total >= (lacking if task in needed else enough):
                break
            chosen[task] = self._held_by(task)
            total += chosen[task]
        if is_quiet and total < lacking:
            # It would be in vain.
            return []
        schedule.budget.moving.update(chosen)
        schedule.budget.has_spilled |= bool(chosen)
        return list(chosen)[::-1]

    def _shortage(self, only: Task[Any] | None = None) -> tuple[int, Task[Any] | None]:
        """Bytes that the task lacks which asks for least of those that wait for memory; it.

        Those that are on their way to disk are not lacking. None where no task waits that ever
        could begin. Of the task `only`, where it is given: then others send for others. Lock held.
        """
        budget = self._schedule.budget
        if only is not None:
            return asked(only) - budget.room(), only if only._state == READY else None
        least: tuple[int, Task[Any] | None] = (0, None)
        for (nbytes, _), queue in self._schedule.starved.items():
            task = queue.first() if nbytes <= budget.limit else None
            if task is not None and (least[1] is None or nbytes < least[0]):
                least = (nbytes, task)
        nbytes, task = least
        return nbytes - budget.room() - sum(budget.moving.values()), task

    def _held_by(self, task: Task[Any]) -> int:
        """Bytes that are counted for the value of `task`; lock held."""
        hold = getattr(task, "_hold", None)
        holders = self._schedule.budget.holders
        return holders.get(hold.number, ("", 0))[1] if isinstance(hold, Hold) else 0

    def _needed(self, begun: list[Task[Any]]) -> dict[Task[Any], int]:
        """The finished tasks that unfinished ones need, in the order in which they do."""
        ready = [*self._schedule.queued(), *self._wanting][::-1]
        ready.sort(key=lambda task: 0 if task._options is None else task._options.priority)
        found: dict[Task[Any], int] = {}
        # The last of those given, and what follows it, come first.
        for task in following([*ready, *begun]):
            for need in task._needs or ():
                if need._state == DONE and need not in found:
                    found[need] = len(found)
        return found

    def _leave_out(self, task: Task[Any]) -> None:
        """Never choose the value of `task` again, which cannot be stored."""
        with self._lock:
            hold = getattr(task, "_hold", None)
            if isinstance(hold, Hold):
                self._schedule.budget.candidates.pop(hold.number, None)

    def _send_away(
        self, task: Task[Any], spilled: Spilled, running: Callable[[], list[Task[Any]]]
    ) -> bool:
        """Let go of the value of a task, which was written; whether that could be."""
        with self._lock:
            hold = getattr(task, "_hold", None)
            is_used = any(task in (one._needs or ()) for one in running())
        # The count ends with this variable, outside all locks.
        return not is_used and hold is not None and send_away(task, spilled)

    def _folder(self) -> SpillFiles:
        from darray.runtime.spill_files import files_in

        return files_in(settings.current().spill_folder)

    # Values that come back

    def look_ahead(self) -> None:
        """Announce what the next tasks are given that is on disk; a task has begun."""
        from darray.runtime.spill_files import has_values

        if not has_values():
            return
        schedule = self._schedule
        tasks: list[Task[Any]] = []
        with self._lock:
            for queue in (
                *schedule.queues(),
                *itertools.islice(schedule.starved.values(), NEXT),
                *itertools.islice(schedule.sharded.values(), NEXT),
            ):
                tasks += queue.next(NEXT)
        # Outside the lock, for the last reference to a value may be dropped here.
        for task in tasks:
            for spilled in to_announce(task):
                spilled.announce()

    def admit(self, task: Task[Any], nbytes: int) -> Hold | None:
        """What counts `nbytes` for the value of `task`; None where there is no room for them."""
        if self._successor is not None:
            return self._successor.admit(task, nbytes)
        name = task.name
        with self._lock:
            budget = self._schedule.budget
            is_wanted = self._schedule.starved or self._wanting
            if is_wanted or budget.room() - nbytes < budget.limit // RETURNING:
                return None
            return self._schedule.budget.hold(name, nbytes, task)

    def count(self, task: Task[Any], nbytes: int) -> Hold:
        """Do what `admit` does, whether or not there is room."""
        if self._successor is not None:
            return self._successor.count(task, nbytes)
        name = task.name
        with self._lock:
            return self._schedule.budget.hold(name, nbytes, task)

    def _check(self, tasks: Iterable[Task[Any]] = ()) -> None:
        """Assert the invariants, given finished tasks of the engine, of which no other thread has.

        Those that others wait for may change while this looks.
        """
        budget = self._schedule.budget
        with self._lock:
            budget.room()
            budget._check()
            assert self._sending >= 0
            assert self._sending or not budget.moving, "who sends values is through with them"
            assert all(task._state < DONE for task in self._wanting)
            for task in tasks:
                hold = getattr(task, "_hold", None)
                value = task._value
                if value.__class__ is Placed and value.value is AWAY:
                    assert value.away is not None, "what is not in memory is on disk"
                    assert hold is None, "what is on disk is not counted"
                elif isinstance(hold, Hold):
                    assert hold.number in budget.holders, "what is in memory is counted"


def to_announce(task: Task[Any]) -> list[Spilled]:
    """What `task`, if it is ready, will read from disk; none of which it may read but a little."""
    if task._state != READY:
        return []
    values = [need._value for need in task._needs or ()]
    away = [one.away for one in values if one.__class__ is Placed and one.value is AWAY]
    found = [one for one in away if isinstance(one, Spilled)]
    # Whoever reads parts asked for the memory that these take.
    if reads_parts(task) and sum([one.nbytes for one in found]) > memory_of(task):
        return []
    return [one for one in found if not one.is_announced]


def memory_of(task: Task[Any]) -> int:
    """The bytes that `task` asked for."""
    return 0 if task._options is None else task._options.memory


def reads_parts(task: Task[Any]) -> bool:
    """Whether `task` reads what it needs of values that are on disk."""
    return task._options is not None and task._options.reads_parts
