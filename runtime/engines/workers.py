"""The engine of several workers in this process: each has threads and a memory of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from darray.runtime import limits
from darray.runtime.engines.threads import ThreadsEngine
from darray.runtime.placement import PlacingSchedule
from darray.runtime.processor import Processor
from darray.runtime.seats import Runner
from darray.runtime.settings import Settings
from darray.runtime.tasks import Task
from darray.runtime.timers import Timer

__all__ = ["WorkersEngine", "start"]

R = TypeVar("R")


def start(settings: Settings) -> WorkersEngine:
    """Start the engine that `settings` describe."""
    workers = settings.workers or 2
    threads = settings.threads or max(1, limits.processor_count() // workers)
    processors = tuple(
        Processor(worker, "cpu", thread) for worker in range(workers) for thread in range(threads)
    )
    return WorkersEngine(processors, limits.task_memory(settings), settings.watchdog)


class WorkersEngine(ThreadsEngine):
    """Tasks on the threads of several workers, between which nothing goes unpickled.

    It stands in for a cluster: a program that gives the right answer here shares nothing
    between workers but what it sends. Code outside tasks is on worker 0. A task's function,
    arguments and value are pickled when they cross to another worker; handles (tasks, refs)
    cross as they are.
    """

    _schedule: PlacingSchedule

    def __init__(
        self, processors: tuple[Processor, ...], memory: int, watchdog: float | None = None
    ) -> None:
        super().__init__(processors, memory, watchdog, PlacingSchedule)
        # Whether idle processors will look again at what they left to others; guarded by the
        # engine's lock.
        self._looks_again = False
        # The timer of that, set by whoever sees to it.
        self._next_look: Timer | None = None

    def submit(self, task: Task[Any], needs: Sequence[Task[Any]] | None) -> None:
        """Take a new task that runs once `needs` are done."""
        self.submit_all([(task, needs)])

    def _fill_all(self) -> None:
        super()._fill_all()
        self._look_later()

    def _complete_special(self, runner: Runner, task: Task[Any], outcome: Any) -> Task[Any] | None:
        following = super()._complete_special(runner, task, outcome)
        self._look_later()
        return following

    def block(self, wait: Callable[[], R]) -> R:
        """Call ``wait()``, which blocks, with the calling task's processor given up."""

        def look_and_wait() -> R:
            self._look_later()
            return wait()

        return super().block(look_and_wait)

    def _look_later(self) -> None:
        """Let idle processors look again at tasks that they leave to busy ones, in a while."""
        # Seen in passing: who queues a task, or lets a processor be idle, comes here after that.
        if not self._seats.idle or not any(self._schedule.local.values()):
            return
        try:
            with self._lock:
                if self._looks_again or self._closed:
                    return
                # Others take no more tasks beside those of small occupancy that they have.
                idle = [seat.number for seat in self._seats.idle if seat.load < 1]
                seconds = self._schedule.left(idle)
                if seconds is None:
                    return
                self._looks_again = True
            self._next_look = self._timers.call_later(seconds, self._look)
        except RuntimeError:
            # The system has no more threads. Threads that run tasks come here as well, and must go
            # on: the next one asks for it again.
            self._looks_again = False
        except BaseException:
            # A signal: as before, but whoever pressed it is to hear of it.
            self._looks_again = False
            raise

    def _look(self) -> None:
        with self._lock:
            self._looks_again = False
        self._fill_all()

    def _end(self) -> None:
        super()._end()
        if self._next_look is not None:
            self._next_look.cancel()
            self._timers.settle()

    def lose(self, worker: int) -> None:
        """Do without a worker from now on, as if its process had ended.

        What is queued for it alone fails; streaming tasks that ran there end, or begin anew.
        """
        self._threads = tuple(one for one in self._threads if one.worker != worker)
        # Streams are told first: their drivers, which cannot run there any more, fail next.
        self.losses.tell(worker)
        self.reseat()
