"""Regions: blocks of spawns whose tasks run for as long as data flows."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from time import perf_counter, perf_counter_ns
from types import FrameType, TracebackType
from typing import Any, TypeVar, overload

from msgspec.structs import replace

from darray.runtime import contexts, events
from darray.runtime.arguments import SETTLED, actions, prepared
from darray.runtime.contexts import Options
from darray.runtime.engine import Engine, current_engine
from darray.runtime.places import calling_place, place_text
from darray.runtime.streams.awaiting import AwaitedStage
from darray.runtime.streams.calls import (
    Slot,
    given_iterator,
    is_async,
    is_expanding,
    placed,
)
from darray.runtime.streams.edges import Edge
from darray.runtime.streams.lanes import timers
from darray.runtime.streams.links import Sending, linked
from darray.runtime.streams.operators import Merge, Operator
from darray.runtime.streams.outputs import Output
from darray.runtime.streams.parallel import ParallelStage, refuse_parallel
from darray.runtime.streams.placing import Placing, Plan
from darray.runtime.streams.plain import PlainStage
from darray.runtime.streams.policies import policy_named
from darray.runtime.streams.restarting import lose
from darray.runtime.streams.stages import Stage
from darray.runtime.streams.standstill import look_out
from darray.runtime.streams.statistics import StreamStatistics, StreamTaskStatistics
from darray.runtime.streams.streaming import Buffered, StreamingTask, sizes
from darray.runtime.streams.unseen import unseen
from darray.runtime.tasks import DONE, HELD, STATE_NAMES, Task

__all__ = ["StreamRegion", "current_region", "spawn_streaming"]

R = TypeVar("R")

_new_task = object.__new__

# Seconds after which who listens is told again how values flow.
BETWEEN = 0.1


class StreamRegion:
    """A block of streaming tasks, and the handle on them afterwards.

    The tasks spawned in the block begin together at its end, which does not wait for them.
    """

    is_streaming = True

    def __init__(self, teardown: bool, buffer: Any, when_full: str) -> None:
        sizes(buffer, policy_named(when_full))
        self._teardown = teardown
        self._buffer = buffer
        self._when_full = when_full
        self._plans: list[Plan] = []
        self._edges: list[Edge] = []
        # Those of them that their producers have not been told of.
        self._late: list[Edge] = []
        self._engine: Engine | None = None
        self._has_begun = False
        # When it began and ended, by `perf_counter`, and how many of its tasks have not.
        self._begun = 0.0
        self._ended: float | None = None
        self._left = 0
        self._placing: Placing | None = None
        # The producers' ends of the edges between workers.
        self._sendings: dict[Edge, Sending] = {}
        # Those that failed, in that order.
        self._failed: list[Task[Any]] = []
        self._is_noted = False
        # Guards `_left`, `_ended` and `_failed`; held for a few operations.
        self._lock = threading.Lock()
        self._is_entered = False
        self._token: Any = None
        self._place: Any = None

    # The block

    def __enter__(self) -> StreamRegion:
        if self._is_entered:
            raise RuntimeError("this region was entered before; call da.spawn_streaming() again")
        self._is_entered = True
        self._place = calling_place()
        outer = contexts.current.get() or contexts.DEFAULT
        self._token = contexts.current.set(replace(outer, region=self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        contexts.current.reset(self._token)
        if raised is None:
            try:
                self._begin()
            except BaseException:
                self._give_up()
                raise
        else:
            self._give_up()

    def _give_up(self) -> None:
        """End everything, as the block raised, or no task can begin."""
        self._has_begun = True
        self._join()
        self.cancel()
        for plan in self._plans:
            plan.stage.told(plan.stage.task)
        if self._engine is not None:
            self._engine.losses.forget(self._lose)

    def described(self) -> str:
        """Which block it is."""
        return f"da.spawn_streaming() at {place_text(*self._place)}"

    def _begin(self) -> None:
        """Let the tasks begin."""
        engine = self._engine
        self._has_begun = True
        self._begun = perf_counter()
        if engine is None:
            self._join()
            return
        self._left = len(self._plans)
        placing = self._placing = Placing(engine)
        engine.losses.add(self._lose)
        for plan in self._plans:
            if plan.stage.task._state == HELD:
                placing.choose(plan)
        for plan in self._plans:
            if plan.space is not None:
                placing.settle(plan)
        for plan in self._plans:
            stage, task = plan.stage, plan.stage.task
            if plan.processor is None or not engine.promise(task, plan.processor):
                stage.told(task)
                self._count_out(task)
                continue
            if events.consumers:
                events.publish(
                    events.TaskBegan(task.number, task.name, plan.processor, stage.began)
                )
            engine.watch(task, stage.told)
            engine.watch(task, self._count_out)
        self._join()
        if events.consumers:
            timers.call_later(BETWEEN, self._measure)
        placing.begin(self._plans)
        look_out(lambda: [plan.stage for plan in self._plans], engine.runs_at_once)

    def _join(self) -> None:
        """Let the producers of new edges know of them."""
        late, self._late = self._late, []
        for edge in late:
            producer = edge.producer
            producer.join(self._spanned(edge))

    def _count_out(self, task: Task[Any]) -> None:
        with self._lock:
            if task._state > DONE:
                self._failed.append(task)
            self._left -= 1
            has_ended = not self._left
            if has_ended:
                self._ended = perf_counter()
        if not has_ended:
            return
        if self._engine is not None:
            self._engine.losses.forget(self._lose)
        if self._placing is not None:
            self._placing.end()
        for plan in self._plans:
            plan.forget()
        if events.consumers:
            self._publish()

    def _lose(self, worker: int) -> None:
        """End the tasks that ran on a worker that is lost, or let them begin anew."""
        assert self._placing is not None
        for place, plan in enumerate(self._plans):
            stage = plan.stage
            if stage.space is None or stage.space.worker != worker or stage.is_over:
                continue
            anew = lose(plan, worker, self._placing, self._sendings)
            if anew is not None:
                self._take_over(place, anew)

    def _take_over(self, place: int, plan: Plan) -> None:
        """Let the stage of `plan` go on for the one in that place."""
        stage, before = plan.stage, self._plans[place].stage
        fresh = dict(zip(before.inputs, stage.inputs, strict=True))
        self._edges = [fresh.get(edge, edge) for edge in self._edges]
        self._plans[place] = plan
        stage.task._stage = stage  # type: ignore[attr-defined]
        stage.task._engine.watch(stage.task, stage.told)
        stage.begin(plan.lane)

    def _measure(self) -> None:
        """Tell of the edges now and later, until all tasks have ended or nobody listens."""
        if self._ended is None and events.consumers:
            self._publish()
            timers.call_later(BETWEEN, self._measure)

    def _publish(self) -> None:
        now = perf_counter_ns()
        began = round(self._begun * 1e9)
        for edge in self._edges:
            one = edge.statistics(0.0)
            figures = (one.received, one.dropped, one.buffered, one.nbytes)
            waited = (one.producer_waited, one.consumer_waited)
            events.publish(
                events.EdgeMeasured(one.producer, one.consumer, *figures, *waited, began, now)
            )

    def _spanned(self, edge: Edge) -> Edge:
        """What the producer gives its values to, for them to come to where the consumer is."""
        source = edge.producer.space
        destination = None if edge.consumer is None else edge.consumer.space
        if source is None or destination is None or source == destination:
            return edge
        if source.worker != destination.worker:
            self._sendings[edge] = linked(edge, source, destination)
            return self._sendings[edge]
        edge.crossing = (source, destination)
        return edge

    # Its tasks

    def spawn(
        self, call: Any, options: Options, frame: FrameType, after: Iterable[Task[Any]]
    ) -> StreamingTask[Any]:
        """Spawn a task that runs for every row of values of the streams it is given."""
        function, args, kwargs = call
        name: str = options.name or (
            getattr(function, "__qualname__", None) or type(function).__qualname__
        )
        awaited, expands = is_async(function), is_expanding(function)
        if not callable(function):
            if not expands:
                raise TypeError(
                    f"spawn() calls its first argument, or iterates over it, but {function!r} is "
                    "neither callable nor an iterator"
                )
            function = given_iterator(function)
        refuse_retries(options, (awaited or expands) and options.parallel == 1)
        if options.timeout is not None:
            raise TypeError(
                "timeout= is the time of one call, so no streaming task takes it; cancel the "
                "region instead"
            )
        streams: dict[Any, tuple[Slot, Buffered]] = {}
        args = tuple(placed(one, lambda value: self._slot(value, streams)) for one in args)
        kwargs = {
            key: placed(one, lambda value: self._slot(value, streams))
            for key, one in (kwargs or {}).items()
        }
        needs: list[Task[Any]] = []
        args = tuple([prepared(one, needs) for one in args])
        kwargs = {key: prepared(one, needs) for key, one in kwargs.items()}
        function = prepared(function, needs)
        every = (function, *args, *kwargs.values())
        is_settled = not needs and all(_action(one) in SETTLED for one in every)
        stage_type: Callable[..., Stage] = AwaitedStage if awaited else PlainStage
        extra: dict[str, Any] = {"expands": expands}
        if options.parallel > 1:
            refuse_parallel(every, expands)
            stage_type, extra = ParallelStage, {"site": frame, "is_async": awaited}
        taken = [one for _, one in streams.values()]
        if not taken and (options.buffer is not None or options.when_full is not None):
            raise TypeError(
                f"buffer= and when_full= say how what {name!r} takes is buffered, but it takes no "
                "streams; give them to the tasks that take its values"
            )
        task, stage = self.add(stage_type, taken, options, frame, name, **extra)
        self.plan(Plan(stage, (function, args, kwargs), options, is_settled, (*needs, *after)))
        return task

    def map(self, function: Callable[..., Any], *streams: Any, parallel: int = 1) -> Task[Any]:
        """Spawn ``function(*values)`` for each row of values, up to `parallel` calls at once.

        The values stay in order. It is ``spawn.options(parallel=parallel)(function, *streams)``,
        and belongs into the block.
        """
        options = contexts.extended({"parallel": parallel, "name": None})
        return self.spawn((function, streams, None), options, sys._getframe(1), ())

    def plan(self, plan: Plan) -> None:
        """Let the stage of `plan` begin with the others."""
        self._plans.append(plan)

    def add(
        self,
        stage_type: Callable[..., Stage],
        streams: list[Buffered],
        options: Options,
        frame: FrameType,
        name: str,
        **extra: Any,
    ) -> tuple[StreamingTask[Any], Stage]:
        """Make a task of this region that takes `streams`, and its stage."""
        if self._has_begun:
            raise RuntimeError(
                "this region has begun; spawn its tasks in its block, or attach to them in another"
            )
        engine = current_engine()
        if self._engine is None:
            self._engine = engine
        task: StreamingTask[Any] = _new_task(StreamingTask)
        own = replace(options, name=name, region=None, queue=None, group=None, memory=0, own=True)
        Task.__init__(task, engine, (None, (), None, False), own, frame.f_code, frame.f_lasti)  # type: ignore[arg-type]
        task._state = HELD
        task._hold = self
        inputs = tuple([self._edge(one, options, name) for one in streams])
        stage = stage_type(task, inputs, options, self._teardown, **extra)
        task._stage = stage
        for edge in inputs:
            edge.consumer = stage
        if options.group is not None:
            options.group.expect(task)
        if events.consumers:
            events.publish_spawned(task, [one.task for one in streams])
        return task, stage

    def operate(
        self,
        operator: Callable[..., Operator],
        streams: list[Buffered],
        options: Options,
        frame: FrameType,
        name: str,
        **extra: Any,
    ) -> StreamingTask[Any]:
        """A task of this region that carries out an operator on `streams`."""
        task, stage = self.add(operator, streams, options, frame, name, **extra)
        self.plan(Plan(stage, (_no_call, (), {}), options, True, ()))
        return task

    def attach(
        self, task: Task[Any], buffer: int | str | None = None, when_full: str | None = None
    ) -> Task[Any]:
        """A task of this region that gives the values of one of a region that runs already.

        They begin with the first call that begins there after this region's block has ended.
        A running streaming task that is simply given to a task of this region is attached so.
        `buffer` and `when_full` are as for `buffered`.

        Examples
        --------
        >>> import darray as da
        >>> with da.spawn_streaming() as first:
        ...     numbers = da.spawn(int)
        >>> with da.spawn_streaming() as second:
        ...     few = da.spawn.options(max_evals=3)(lambda x: x + 1, second.attach(numbers))
        ...     out = second.output(few)
        >>> list(out)
        [1, 1, 1]
        >>> first.wait()
        True
        """
        if not isinstance(task, StreamingTask):
            raise TypeError(f"attach() takes a streaming task, not {task!r}")
        policy = None if when_full is None else policy_named(when_full)
        options = contexts.current.get() or contexts.DEFAULT
        stream = Buffered(task, buffer, policy)
        return self.operate(Merge, [stream], options, sys._getframe(1), task.name)

    def _slot(self, value: Any, streams: dict[Any, tuple[Slot, Buffered]]) -> Slot | None:
        """The slot of `value` where it is a stream, one for the same stream given twice."""
        if isinstance(value, StreamingTask):
            key: Any = value
            value = Buffered(value, None, None)
        elif isinstance(value, Buffered):
            key = (value.task, value.buffer, value.policy)
        else:
            return None
        if key not in streams:
            streams[key] = (Slot(len(streams)), value)
        return streams[key][0]

    def _edge(self, stream: Buffered, options: Options, name: str) -> Edge:
        """A new edge from a stream to the task called `name`, or to no task yet."""
        producer = stream.task._stage
        if stream.task._state == HELD and stream.task._hold is not self:
            raise RuntimeError(
                f"{stream.task!r} belongs to a streaming block that has not ended; take its values "
                "in that block, or attach to it when it runs"
            )
        policy = stream.policy or policy_named(options.when_full or self._when_full)
        given = (stream.buffer, options.buffer, self._buffer)
        buffer = next((one for one in given if one is not None), None)
        names = (stream.task.name, name)
        edge = Edge(names, policy, *sizes(buffer, policy), producer)
        self._edges.append(edge)
        self._late.append(edge)
        return edge

    # Its values

    def output(self, task: Task[Any], buffer: Any = None, when_full: str | None = None) -> Output:
        """The values of a task of this region, to be iterated over by the caller.

        Called in the block they are all its values; called later, those of the calls that begin
        after. `buffer` and `when_full` are as for `buffered`.
        """
        if not isinstance(task, StreamingTask):
            raise TypeError(f"output() takes a streaming task, not {task!r}")
        policy = None if when_full is None else policy_named(when_full)
        edge = self._edge(Buffered(task, buffer, policy), contexts.DEFAULT, "output")
        output = Output(task, edge, self.cancel)
        if self._has_begun:
            self._join()
        return output

    def statistics(self) -> StreamStatistics:
        """How many values went each way, how fast, and who waited for whom, so far.

        Examples
        --------
        >>> import darray as da
        >>> with da.spawn_streaming() as s:
        ...     _ = da.spawn(lambda x: x, da.spawn(iter(range(5))))
        >>> s.wait()
        True
        >>> edge, = s.statistics().edges
        >>> edge.sent, edge.received, edge.dropped
        (5, 5, 0)
        """
        ended = perf_counter() if self._ended is None else self._ended
        seconds = ended - self._begun if self._has_begun else 0.0
        tasks = tuple(
            StreamTaskStatistics(
                plan.stage.task.name,
                STATE_NAMES[plan.stage.task._state],
                plan.stage.evaluations,
                plan.stage.busy,
            )
            for plan in self._plans
        )
        return StreamStatistics(
            seconds, tasks, tuple([edge.statistics(seconds) for edge in self._edges])
        )

    # Its end

    @property
    def tasks(self) -> list[Task[Any]]:
        """The tasks of the region, in the order of spawning."""
        return [plan.stage.task for plan in self._plans]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for at most `timeout` seconds until all its tasks are finished; whether they are.

        Ctrl-C cancels them.

        Raises
        ------
        BaseException
            The exception of the task that failed first; its notes count the values that were
            given in the region and that no task saw.
        """
        tasks = [task for task in self.tasks if task._state < DONE]
        if tasks:
            try:
                if self._engine is not None and not self._engine.wait(tasks, timeout):
                    return False
            except KeyboardInterrupt:
                self.cancel()
                raise
        with self._lock:
            failed = list(self._failed)
        # Those of a region that never began are in no order.
        for task in failed or [task for task in self.tasks if task._state > DONE]:
            self._note_unseen(task._value.exception)
            task.result()
        return True

    def _note_unseen(self, exception: BaseException) -> None:
        """Tell, once, of all values that no task saw; all tasks have ended."""
        lost = [(plan.stage.task.name, plan.stage.lost) for plan in self._plans]
        counts = unseen(self._edges, self._sendings, lost)
        if counts and not self._is_noted:
            self._is_noted = True
            exception.add_note(f"values that were given and that no task saw: {counts}")

    def cancel(self) -> None:
        """Cancel its tasks; what is in their buffers is dropped."""
        for task in self.tasks:
            task.cancel()


def _no_call() -> None:
    raise AssertionError("an operator calls nothing of the user's")


def refuse_retries(options: Options, is_many: bool) -> None:
    """Raise `TypeError` where a call is to be made again that is not one plain call."""
    if options.retries and is_many:
        raise TypeError(
            "retries= calls a plain function again; what a generator or an async function has "
            "given already could not be taken back"
        )


def _action(value: Any) -> int:
    action = actions.get(value.__class__)
    return -1 if action is None else action


def current_region(what: str) -> StreamRegion:
    """The region whose block the calling code is in.

    Raises
    ------
    RuntimeError
        Outside such a block; `what` is asked for.
    """
    options = contexts.current.get()
    region = None if options is None else options.region
    if not isinstance(region, StreamRegion):
        raise RuntimeError(f"{what} belongs into the block of a `with da.spawn_streaming():`")
    return region


@overload
def spawn_streaming(
    *, teardown: bool = ..., buffer: int | str | None = ..., when_full: str = ...
) -> StreamRegion: ...
@overload
def spawn_streaming(
    body: Callable[[], R],
    /,
    *,
    teardown: bool = ...,
    buffer: int | str | None = ...,
    when_full: str = ...,
) -> R: ...
def spawn_streaming(
    body: Callable[[], R] | None = None,
    /,
    *,
    teardown: bool = True,
    buffer: int | str | None = None,
    when_full: str = "block",
) -> StreamRegion | R:
    """Spawn tasks that run over and over, joined by bounded buffers.

    In the ``with`` block every task spawned is a streaming task. It takes one value from each of
    the streaming tasks among its arguments, in order, calls its function, and gives the result
    to every task that takes it. One without such arguments is a source: a function, called again
    and again, a generator function or an iterator. All begin together at the end of the block,
    which does not wait for them: ``s.wait()`` does, ``s.cancel()`` ends them, ``s.output(task)``
    gives a task's values to the caller.

    Parameters
    ----------
    body : callable, optional
        Instead of a block, a function: it is called, and what it returns is returned.
    teardown : bool
        Whether a task ends when the last of its consumers has ended. Otherwise it goes on, and
        its values are dropped.
    buffer, when_full
        What the buffers of the region hold, and do when they are full, as `buffered` says.

    Examples
    --------
    >>> import darray as da
    >>> squares = []
    >>> with da.spawn_streaming() as s:
    ...     numbers = da.spawn(iter(range(5)))
    ...     _ = da.spawn(lambda x: squares.append(x * x), numbers)
    >>> s.wait()
    True
    >>> squares
    [0, 1, 4, 9, 16]
    """
    if body is not None and not callable(body):
        raise TypeError(f"spawn_streaming() takes a function, or nothing, not {body!r}")
    if not isinstance(teardown, bool):
        raise TypeError(f"teardown= is True or False, not {teardown!r}")
    region = StreamRegion(teardown, buffer, when_full)
    if body is None:
        return region
    with region:
        return body()
