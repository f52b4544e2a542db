"""What bounds the cost of a task on a machine: ``python benchmarks/task_limit.py``.

The least that runs tasks in the order of what they need, in pure Python on two threads: it counts
what each task still waits for, runs the first successor that is ready on the same thread, stores
errors, and does nothing else. No names, places, options, scopes, memory limit, cancelling,
read-only views, Ctrl-C, or waits inside tasks. For regions, the least that finds out what a task
waits for: the last writer and the readers since of every array, by its identity alone.

It runs the same work as darray and concurrent.futures, in turn in one process. How much of the
least time of darray's is that of the barest engine is what the machine and Python take.
"""

from __future__ import annotations

import concurrent.futures
import gc
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from statistics import median
from typing import Any

import numpy as np

import darray as da

THREADS = 2
COUNT = 10_000
TREE = 8_192
ARRAYS = 400
REPEATS = 15

# Each returns how many tasks it ran.
Run = Callable[[], int]


class Call:
    """A task of the barest engine."""

    __slots__ = ("args", "dependents", "error", "function", "is_done", "missing", "value", "waiter")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function: Any = function
        self.args = args
        self.missing = 0
        self.is_done = False
        self.value = self.error = self.dependents = self.waiter = None


class Barest:
    """The barest engine. Its lock guards all fields of its tasks that two threads may change."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ready: SimpleQueue[Call | None] = SimpleQueue()
        self.threads = [threading.Thread(target=self.serve) for _ in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def spawn(self, function: Callable[..., Any], *args: Any) -> Call:
        """Run a call once those among its arguments are done."""
        return self.submit(Call(function, args), [one for one in args if one.__class__ is Call])

    def submit(self, task: Call, needs: Iterable[Call]) -> Call:
        """Run a task once `needs` are done."""
        if needs:
            with self.lock:
                for need in needs:
                    if not need.is_done:
                        if need.dependents is None:
                            need.dependents = [task]
                        else:
                            need.dependents.append(task)
                        task.missing += 1
                if task.missing:
                    return task
        self.ready.put(task)
        return task

    def serve(self) -> None:
        """Run what is ready."""
        while (task := self.ready.get()) is not None:
            following: Call | None = task
            while following is not None:
                following = self.run(following)

    def run(self, task: Call) -> Call | None:
        """Run a task; one that is ready now."""
        try:
            task.value = task.function(*[value(one) for one in task.args])
        except BaseException as error:  # it is raised where somebody asks for the value
            task.error = error
        task.function = task.args = None
        following = None
        with self.lock:
            task.is_done = True
            for dependent in task.dependents or ():
                dependent.missing -= 1
                if not dependent.missing:
                    if following is None:
                        following = dependent
                    else:
                        self.ready.put(dependent)
            task.dependents = None
            waiter = task.waiter
        if waiter is not None:
            waiter.release()
        return following

    def result(self, task: Call) -> Any:
        """The value of a task, waited for."""
        if not task.is_done:
            waiter = threading.Lock()
            waiter.acquire()
            with self.lock:
                if not task.is_done:
                    task.waiter = waiter
            if task.waiter is waiter:
                waiter.acquire()
        return value(task)

    def close(self) -> None:
        """End the threads."""
        for _ in self.threads:
            self.ready.put(None)
        for thread in self.threads:
            thread.join()


def value(argument: Any) -> Any:
    """What a task is given for an argument."""
    if argument.__class__ is not Call:
        return argument
    if argument.error is not None:
        raise argument.error
    return argument.value


class Order:
    """The last writer of every array, and those that read it since."""

    def __init__(self, engine: Barest) -> None:
        self.engine = engine
        self.uses: dict[int, tuple[Call | None, list[Call]]] = {}

    def spawn(self, function: Callable[..., Any], written: Any, *read: Any) -> Call:
        """Run a call which writes its first argument and reads the others."""
        task = Call(function, (written, *read))
        needs = {}
        for array in read:
            writer, readers = self.uses.setdefault(id(array), (None, []))
            if writer is not None:
                needs[writer] = None
            readers.append(task)
        writer, readers = self.uses.get(id(written), (None, []))
        needs.update(dict.fromkeys(readers or ([] if writer is None else [writer])))
        needs.pop(task, None)
        self.uses[id(written)] = (task, [])
        return self.engine.submit(task, needs)


def number(*_: object) -> int:
    """Do nothing, as far as a task can."""
    return 1


def add(a: int, b: int) -> int:
    """Join two branches of the tree."""
    return a + b


def graphs(
    spawn: Callable[..., Any], wait: Callable[[list[Any]], object], result: Callable[[Any], Any]
) -> dict[str, Run]:
    """The three graphs."""

    def independent() -> int:
        tasks = [spawn(number) for _ in range(COUNT)]
        wait(tasks)
        assert sum(result(task) for task in tasks) == COUNT
        return COUNT

    def chain() -> int:
        link = spawn(number)
        for _ in range(COUNT - 1):
            link = spawn(number, link)
        assert result(link) == 1
        return COUNT

    def tree() -> int:
        level = [spawn(number) for _ in range(TREE)]
        while len(level) > 1:
            level = [spawn(add, *level[i : i + 2]) for i in range(0, len(level), 2)]
        assert result(level[0]) == TREE
        return 2 * TREE - 1

    return {"independent": independent, "chain": chain, "tree": tree}


def regions(engine: Barest, count: int) -> dict[str, Run]:
    """Tasks that write one array and read two, all outstanding at once."""
    arrays = [np.zeros(8) for _ in range(ARRAYS)]
    chosen = random.Random(1)
    picks = [[arrays[chosen.randrange(ARRAYS)] for _ in range(3)] for _ in range(count)]

    def barest() -> int:
        gate = threading.Event()
        order = Order(engine)
        held = engine.spawn(gate.wait)
        order.uses = {id(array): (held, []) for array in arrays}
        tasks = [order.spawn(number, *pick) for pick in picks]
        gate.set()
        assert sum(engine.result(task) for task in reversed(tasks)) == count
        return count

    def darray() -> int:
        gate = threading.Event()
        with da.spawn_datadeps():
            first = da.spawn(number, da.spawn(gate.wait), *map(da.InOut, arrays))
            for a, b, c in picks:
                task = da.spawn(number, da.InOut(a), da.In(b), da.In(c))
            assert not first.done()
            gate.set()
        assert task.result() == 1
        return count

    return {"barest": barest, "darray": darray}


def measure(runs: dict[str, dict[str, Run]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Wall and CPU microseconds a task of every repeat, by work and contestant."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for repeat in range(REPEATS + 1):
        for work, contestants in runs.items():
            for name, run in contestants.items():
                gc.collect()
                wall, cpu = time.perf_counter(), time.process_time()
                count = run()
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                if repeat:  # the first warms up
                    times = found.setdefault(work, {}).setdefault(name, [])
                    times.append((wall / count * 1e6, cpu / count * 1e6))
    return found


def main() -> int:
    """Measure and print."""
    da.configure(engine="threads", threads=THREADS)
    engine = Barest()
    try:
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:

            def futures() -> int:
                tasks = [pool.submit(number) for _ in range(COUNT)]
                assert sum(task.result() for task in tasks) == COUNT
                return COUNT

            barest = graphs(engine.spawn, lambda tasks: engine.result(tasks[-1]), engine.result)
            darray = graphs(da.spawn, da.wait, da.Task.result)
            runs = {work: {"barest": barest[work], "darray": darray[work]} for work in barest}
            runs["independent"]["futures"] = futures
            for count in (1_000, 10_000, 50_000):
                runs[f"region, {count:,}"] = regions(engine, count)
            found = measure(runs)
    finally:
        engine.close()
    print(f"{'us a task':16} {'':8} {'wall min':>9} {'median':>8} {'CPU min':>9} {'median':>8}")
    for work, contestants in found.items():
        least = min(cpu for _, cpu in contestants["barest"])
        for name, pairs in contestants.items():
            walls, cpus = zip(*pairs, strict=True)
            print(
                f"{work:16} {name:8} {min(walls):9.2f} {median(walls):8.2f} {min(cpus):9.2f} "
                f"{median(cpus):8.2f}   {min(cpus) / least:.2f} times the barest's CPU"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
