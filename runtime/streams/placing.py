"""Where streaming tasks run: on which processors, and which of them share their drivers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from darray.runtime import contexts
from darray.runtime.arguments import uses_in
from darray.runtime.contexts import Options
from darray.runtime.engine import Engine
from darray.runtime.errors import SchedulingError
from darray.runtime.narrowing import limits_of, narrowed
from darray.runtime.processor import Processor
from darray.runtime.scopes import DEFAULT, scope_of_processor, scope_of_worker
from darray.runtime.spaces import Space, brought, here, space_of
from darray.runtime.spawning import submit
from darray.runtime.streams.calls import Call
from darray.runtime.streams.lanes import Lane
from darray.runtime.streams.stages import Stage
from darray.runtime.tasks import Task

__all__ = ["Placing", "Plan"]


class Plan:
    """What is known of a streaming task before it begins.

    Attributes
    ----------
    call : tuple
        Its function, arguments and keyword arguments, prepared, with a `Slot` for each stream.
    is_settled : bool
        Whether these are the same for all calls; otherwise the runtime replaces something in
        them, a ref or a mutable, for every turn of a driver.
    is_source : bool
        Whether it takes no streams.
    """

    def __init__(
        self,
        stage: Stage,
        call: tuple[Any, tuple[Any, ...], dict[str, Any]],
        options: Options,
        is_settled: bool,
        after: tuple[Task[Any], ...],
    ) -> None:
        self.stage = stage
        self.call = call
        # As they were given, and as `Placing` narrows them.
        self.given = self.options = options
        self.is_settled = is_settled
        self.after = after
        self.processor: Processor | None = None
        # What runs it, once it begins.
        self.lane: Lane | None = None
        self.space: Space | None = None

    def forget(self) -> None:
        """Keep nothing of the call, which is made no more."""
        self.call = (None, (), {})
        self.stage.use(_nothing)


def _nothing(*row: Any) -> Any:
    raise AssertionError("a stage that has ended makes no calls")


class Placing:
    """The lanes of a region; used by the thread that begins it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Where the region is, and so what its tasks are given.
        self._here = here.get()
        self._shared: dict[Any, Lane] = {}
        # Those that have begun, or are about to.
        self._plans: list[Plan] = []
        # Workers that are gone.
        self.lost: set[int] = set()

    def choose(self, plan: Plan) -> None:
        """Choose where the stage of `plan` runs; those that give it values are placed.

        Raises
        ------
        SchedulingError
            Where its scopes leave no processor.
        """
        options = narrowed(plan.options, limits_of(*plan.call)) or contexts.DEFAULT
        task = plan.stage.task
        scope = DEFAULT if options.scope is None else options.scope
        allowed = [
            one for one in self._engine.processors() if one in scope and one.worker not in self.lost
        ]
        if options.conflict is not None or not allowed:
            told = options.conflict or f"no processor is in {scope!r}"
            raise SchedulingError(
                f"streaming task {task.name!r}, spawned at {task.spawned_at}, may run nowhere: "
                f"{told}"
            )
        spaces = dict.fromkeys(map(space_of, allowed))
        near = [edge.producer.space for edge in plan.stage.inputs]
        space = next((one for one in (*near, self._here) if one in spaces), next(iter(spaces)))
        plan.space = plan.stage.space = space
        plan.processor = next(one for one in allowed if space_of(one) == space)
        if len(spaces) > 1:
            own = scope_of_worker(space.worker)
            if space.kind != "host":
                own = scope_of_processor(plan.processor)
            options = replace(options, scope=scope & own)
        plan.options = options

    def settle(self, plan: Plan) -> None:
        """Give the stage its lane, and its function and what it is given to where it runs."""
        options, stage = plan.options, plan.stage
        source = self._here
        outer = contexts.outside(options.outer if options.own else options)
        if self._engine.runs_at_once:
            options = replace(options, occupancy=1.0)
        elif not stage.inputs and "occupancy" not in options.given:
            # It may wait for something.
            options = replace(options, occupancy=0.0)
        is_apart = options.occupancy < 1
        options = replace(
            options, name="stream", own=True, outer=contexts.without_queue(outer), region=None,
            queue=None, group=None, timeout=None, retries=0,
        )  # fmt: skip
        if plan.is_settled:
            function, args, kwargs = brought(plan.call, source, plan.space)  # type: ignore[arg-type]
            stage.use(Call(function, args, kwargs).direct)
            extra: tuple[Any, ...] = ()
        else:
            extra = plan.call
        lane = None
        if is_apart or extra or plan.after or stage.is_awaited or options.memory:
            shared = None
            if is_apart and plan.options.scope is None:
                shared = self._lane(replace(options, occupancy=1.0), plan)
            lane = Lane(
                self._engine, self._spawner(options, extra, plan), 1, shared,
                is_turning=bool(extra) or not is_apart, is_awaited=stage.is_awaited,
                is_single=True,
            )  # fmt: skip
        else:
            lane = self._lane(options, plan)
        lane.stages.append(stage)
        plan.lane = lane

    def begin(self, plans: list[Plan]) -> None:
        """Let the stages of `plans` run, all of which are placed."""
        self._plans = plans
        if self._engine.runs_at_once:
            self._engine.waits.add(self._carry_on)
        for plan in plans:
            plan.stage.begin(plan.lane)

    def end(self) -> None:
        """All of them have ended."""
        self._engine.waits.forget(self._carry_on)

    def _carry_on(self) -> None:
        """Run, in a thread that is about to wait, what it would run only later."""
        for plan in self._plans:
            plan.stage.begin(plan.lane)
        for lane in dict.fromkeys([plan.lane for plan in self._plans]):
            if lane is not None:
                lane.come(is_waited_for=True)

    def _lane(self, options: Options, plan: Plan) -> Lane:
        """The lane that stages with these options share."""
        key = (options.scope, options.priority, options.occupancy, options.outer, plan.space)
        if key not in self._shared:
            scope = options.scope or DEFAULT
            most = sum(
                one in scope and space_of(one) == plan.space for one in self._engine.processors()
            )
            spawner = self._spawner(options, (), plan)
            self._shared[key] = Lane(self._engine, spawner, max(1, most))
        return self._shared[key]

    def _spawner(
        self, options: Options, extra: tuple[Any, ...], plan: Plan
    ) -> Callable[[Lane, Callable[..., Any]], Task[Any]]:
        """What spawns the drivers of a lane, with what the call of its stage is given."""
        engine, after, source = self._engine, plan.after, self._here
        is_given = bool(extra)
        changes = is_given and bool(uses_in(extra[0], *extra[1], *extra[2].values()))
        del extra

        def spawn(lane: Lane, function: Callable[..., Any]) -> Task[Any]:
            token = contexts.current.set(None)
            at = here.set(source)
            try:
                # Refs and files stand for the same values every time; once is enough.
                given = plan.call if changes or (is_given and not plan.stage.has_call) else ()
                args = (lane, *given)
                # In a variable the frame would keep itself, and so all that its callers hold.
                return submit(engine, function, args, None, options, sys._getframe(), after)
            finally:
                here.reset(at)
                contexts.current.reset(token)

        return spawn
