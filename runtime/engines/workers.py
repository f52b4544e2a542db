"""The engine of several workers in this process: each has threads and a memory of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from darray.runtime import limits
from darray.runtime.engines.threads import ThreadsEngine
from darray.runtime.placement import PlacingSchedule
from darray.runtime.processor import Processor
from darray.runtime.settings import Settings
from darray.runtime.tasks import Task

__all__ = ["WorkersEngine", "start"]


def start(settings: Settings) -> WorkersEngine:
    """Start the engine that `settings` describe."""
    workers = settings.workers or 2
    threads = settings.threads or max(1, limits.processor_count() // workers)
    processors = tuple(
        Processor(worker, "cpu", thread) for worker in range(workers) for thread in range(threads)
    )
    memory = limits.task_memory(settings)
    return WorkersEngine(processors, memory, settings.watchdog, PlacingSchedule)


class WorkersEngine(ThreadsEngine):
    """Tasks on the threads of several workers, between which nothing goes unpickled.

    It stands in for a cluster: a program that gives the right answer here shares nothing
    between workers but what it sends. Code outside tasks is on worker 0. A task's function,
    arguments and value are pickled when they cross to another worker; handles (tasks, refs)
    cross as they are.
    """

    def submit(self, task: Task[Any], needs: Sequence[Task[Any]] | None) -> None:
        """Take a new task that runs once `needs` are done."""
        self.submit_all([(task, needs)])

    def lose(self, worker: int) -> None:
        """Do without a worker from now on, as if its process had ended.

        What is queued for it alone fails; streaming tasks that ran there end, or begin anew.
        """
        self._threads = tuple(one for one in self._threads if one.worker != worker)
        # Streams are told first: their drivers, which cannot run there any more, fail next.
        self.losses.tell(worker)
        self.reseat()
