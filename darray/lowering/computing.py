"""Computing: plans carried out by the runtime, or in the calling thread where that is enough."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from msgspec.structs import force_setattr, replace
from numpy.typing import NDArray

from darray.blocks import chunk_box, chunk_count, grid_shape
from darray.expr.nodes import Computed, Expression, Memory, Recut, View
from darray.index_maps import IndexMap
from darray.io.formats import Target
from darray.lowering import (
    advancing,
    at_once,
    collector,
    keeping,
    places,
    registered,  # noqa: F401 - what plans each kind of expression
)
from darray.lowering.fusion import has_usable_chunks
from darray.lowering.planning import Planner
from darray.lowering.plans import Draft, Index, Kept, Key, Plan
from darray.lowering.reading_ahead import Lanes, is_remote, most_at_once
from darray.lowering.recutting import nbytes_of
from darray.lowering.writing import plan_writing
from darray.runtime import MemoryLimitError, Task, TasksPlanned, events, limits, settings
from darray.runtime.batches import Batch
from darray.runtime.boxes import index_of
from darray.runtime.contexts import DEFAULT, Options, current, outside, without_queue
from darray.runtime.devices.host_buffers import empty
from darray.runtime.engine import Engine, current_engine
from darray.runtime.narrowing import narrowed
from darray.runtime.pieces import Turn
from darray.runtime.spaces import has_memory
from darray.runtime.tasks import value_or_parts

__all__ = [
    "chunk_task",
    "chunk_tasks",
    "compute",
    "going_on",
    "has_chunk",
    "is_done_here",
    "keep_values",
    "keepers",
    "persist",
    "started",
    "write",
]

# What a computation leaves with an expression takes less than this share of the memory.
KEPT_SHARE = 4

# All that computations leave with expressions takes no more than this share.
KEPT_IN_ALL = 2

# A chain of pending steps that is longer than this is started by itself.
DEEPEST = 256

# Chunks of at most this many elements fit any memory limit that a process could start with.
SMALL_CHUNK = 2**16


def compute(
    nodes: Sequence[Expression], outs: Sequence[NDArray[Any]] | None = None, keeps: bool = True
) -> list[NDArray[Any]]:
    """Values of expressions as fresh arrays, computed together; also written into `outs`.

    Without `keeps` nobody will ask for the values of these expressions again.

    Raises
    ------
    MemoryLimitError
        Before anything runs, when a single chunk cannot fit the memory limit.
    BaseException
        What a chunk's computation raised.
    """
    is_elsewhere = places.computes_elsewhere()
    if outs is None and not is_elsewhere:
        values = at_once.values(nodes, keeps)
        if values is not None:
            return values
    advance(nodes, collects=True)
    planner = Planner()
    results = []
    with collector.paused():
        for number, node in enumerate(nodes):
            out = empty(node.shape, node.dtype) if outs is None else outs[number]
            results.append(out)
            if isinstance(node, Memory):
                out[...] = node.array
            else:
                planner.fill(node, out, is_elsewhere or (keeps and _can_stay(node)))
        plan = planner.run()
    _run(planner, plan)
    return results


def write(node: Expression, target: Target) -> None:
    """Compute an expression into a target, chunk by chunk.

    Raises
    ------
    MemoryLimitError
        Before anything runs, when a single chunk cannot fit the memory limit.
    BaseException
        What a chunk's computation or its writing raised. Others may still be written then.
    """
    planner = Planner()
    with collector.paused():
        plan_writing(planner, node, target)
        plan = planner.run()
    _run(planner, plan)


def _run(planner: Planner, plan: Plan) -> None:
    carry_out(plan, keepers(planner))
    for ledger in plan.ledgers:
        ledger.issue()


def persist(nodes: Sequence[Expression]) -> list[Expression]:
    """Start to compute expressions and keep their chunks; the expressions to go on with.

    These let go of what they are computed from as soon as all chunks are there.
    """
    advance(nodes)
    kind = places.kind_of_plans()
    if kind is not None and has_memory(kind):
        # What is in the memory of the host goes to that of the device.
        nodes = [_beside(node) if isinstance(node, Memory) else node for node in nodes]
    planner = Planner()
    with collector.paused():
        for node in nodes:
            if not isinstance(node, Memory) and not has_usable_chunks(node):
                planner.want_all(node)
        plan = planner.run()
    kept = list(dict.fromkeys([*planner.keeping, *_worth_keeping(planner)]))
    if plan.count():
        carry_out(plan, _complete(kept, planner), wait=False)
        if planner.reads_shared:
            # A caller's memory may change as soon as this returns.
            for node in planner.keeping:
                current_engine().wait(chunk_tasks(node), None)
    return [going_on(node) for node in nodes]


def _beside(node: Memory) -> Expression:
    """The same array as an expression that is computed."""
    return View(node.shape, node.dtype, node.chunks, node, IndexMap.identity(node.shape))


def advance(
    nodes: Sequence[Expression], through_parts: bool = False, collects: bool = False
) -> None:
    """Start those arrays, changed by statements, that take steps which `nodes` take too.

    Which, says `advancing.sharing`. Nothing is started that would not fit, with the others,
    into what may be kept unasked.
    """
    arrays = advancing.sharing(nodes, through_parts, collects)
    if not arrays or _is_within_a_task():
        return
    before = [array.expression for array in arrays]
    fitting = _fitting(before)
    started_now = dict(zip(fitting, _start(fitting), strict=True)) if fitting else {}
    for array, node in zip(arrays, before, strict=True):
        if node in started_now and array.expression is node:
            array.expression = started_now[node]


def started(node: Expression) -> Expression:
    """`node`, or where it is too deep and fits in memory, its computation, which is started.

    Programs that build one step on another would otherwise compute, and hold, all of them at
    the end.
    """
    if KEPT_SHARE * nbytes_of(node) > limits.task_memory(settings.current()) or _is_within_a_task():
        return node
    # First what changes, since other results are computed from the same.
    advance([node], through_parts=True)
    if node.kept is None:
        advancing.measure_depth(node)
        if node.depth <= DEEPEST:
            return node
        return _start([node])[0]
    return going_on(node)


def _start(nodes: Sequence[Expression]) -> list[Expression]:
    """Start the computation of `nodes`, together; the expressions to go on with.

    Waits for what was started before, so that no more than two such computations of a chain
    are held.
    """
    planner = Planner()
    with collector.paused():
        for node in nodes:
            planner.want_all(node)
        plan = planner.run()
    for kept in planner.kept_used.values():
        earlier = [one for one in kept.chunks.values() if isinstance(one, Task)]
        current_engine().wait(earlier, None)
    carry_out(plan, _complete([*nodes, *_worth_keeping(planner)], planner), wait=False)
    for node in nodes:
        if planner.reads_shared:
            current_engine().wait(chunk_tasks(node), None)
    return [going_on(node) for node in nodes]


def _is_within_a_task() -> bool:
    return current_engine().current_task() is not None


def going_on(node: Expression) -> Expression:
    """What stands for a node whose chunks are kept, without what they are computed from."""
    if node.kept is None or isinstance(node, Computed):
        return node
    computed = Computed(node.shape, node.dtype, node.chunks, node)
    force_setattr(computed, "kept", node.kept)
    force_setattr(computed, "depth", 0)
    tasks = chunk_tasks(node)
    _LettingGo(computed, len(tasks)).watch(tasks)
    return computed


class _LettingGo:
    """Lets a `Computed` go of its operand when the last of its chunks is there."""

    def __init__(self, node: Computed, count: int) -> None:
        self._node = node
        self._count = count
        # Guards `_count`; taken last, held for one update.
        self._lock = threading.Lock()

    def watch(self, tasks: list[Task[Any]]) -> None:
        """Be told of the end of each of `tasks`."""
        if not tasks:
            force_setattr(self._node, "operand", None)
        for task in tasks:
            current_engine().watch(task, self._finished)

    def _finished(self, task: Task[Any]) -> None:
        if task.exception() is not None:
            # The operand stays: the chunks can be computed anew.
            return
        with self._lock:
            self._count -= 1
            is_last = self._count == 0
        if is_last:
            force_setattr(self._node, "operand", None)


def chunk_tasks(node: Expression) -> list[Task[Any]]:
    """The tasks of a persisted expression that have not finished."""
    kept: Kept | None = node.kept
    return [] if kept is None else [one for one in kept.chunks.values() if isinstance(one, Task)]


def has_chunk(node: Expression, index: Index) -> bool:
    """Whether a chunk of an expression in memory, or persisted, is there or on its way."""
    if isinstance(node, Memory):
        return True
    kept: Kept | None = node.kept
    if kept is None or not isinstance(node, Computed):
        return False
    chunk = kept.chunks[index]
    return not isinstance(chunk, Task) or not chunk.done() or chunk.exception() is None


def chunk_task(node: Expression, index: Index) -> Task[Any]:
    """A task whose value is one chunk of an expression in memory or persisted."""
    kept: Kept | None = node.kept
    if kept is not None:
        chunk = kept.chunks[index]
        return chunk if isinstance(chunk, Task) else _handed_out(chunk)
    assert isinstance(node, Memory)
    piece = node.array[index_of(chunk_box(node.chunks, index))]
    return _handed_out(piece.copy() if node.is_shared else piece)


def _handed_out(chunk: NDArray[Any]) -> Task[Any]:
    """A task whose value is `chunk`; it is in no region, nor does it wait in a queue."""
    batch = Batch(current_engine())
    task = batch.spawn(outside(without_queue(current.get())), _itself, (chunk,), [])
    batch.submit()
    return task


def _itself(chunk: Any) -> Any:
    return chunk


def keep_values(node: Memory) -> None:
    """Let `node` hold a copy of the caller's array, which is about to change."""
    array = node.array.copy()
    array.flags.writeable = False
    force_setattr(node, "array", array)
    force_setattr(node, "is_shared", False)


def carry_out(plan: Plan, keepers: list[Expression], wait: bool = True) -> None:
    """Run a plan's tasks; the chunks of `keepers` stay with these expressions."""
    check_memory(plan)
    if wait and is_done_here(plan):
        values = run_here(plan)
        for node in keepers:
            _keep(node, plan, values)
        return
    engine = current_engine()
    batch = Batch(engine)
    with collector.paused():
        tasks, last = spawned(plan, batch)
    for node in keepers:
        _keep(node, plan, tasks)
    # What is computed on the way lives only as long as the tasks that need it.
    tasks.clear()
    for position, task in enumerate(last):
        engine.watch(task, partial(_stop_after, engine, last, position))
    batch.submit()
    if not wait:
        return
    engine.wait(last, None)
    for task in last:
        # Those behind a failed one were cancelled, so that the first failure is its cause.
        if task.exception() is not None:
            task.result()


def is_done_here(plan: Plan) -> bool:
    """Whether there is nothing to do at a time, so that the calling thread may as well do it."""
    if places.computes_elsewhere():
        return False
    return all(len(stage.drafts) <= 1 for stage in plan.stages)


def _stop_after(engine: Engine, last: list[Task[Any]], position: int, task: Task[Any]) -> None:
    """Cancel what comes after `task` in the plan if it failed; what comes before may fail too."""
    if task.exception() is not None:
        engine.cancel_graph(last[position + 1 :])


def check_memory(plan: Plan) -> None:
    """Refuse a plan of which a single task cannot fit the memory limit."""
    large = [one for one in plan.stages if one.elements > SMALL_CHUNK or one.fixed > SMALL_CHUNK]
    if not large:
        return
    most = max(large, key=lambda stage: stage.memory)
    room = limits.task_memory(settings.current())
    if most.memory > room:
        raise MemoryLimitError(
            f"one chunk of the step {most.name!r} needs {most.memory:,} bytes, but the memory "
            f"limit leaves {room:,} for tasks; use smaller Blocks or raise memory_limit"
        )


def run_here(plan: Plan) -> dict[Key, Any]:
    """Run a plan in the calling thread; the values by key."""
    values: dict[Key, Any] = {}
    for draft in plan.drafts():
        reads_parts = getattr(draft.call, "reads_parts", False)
        needed = [
            values[need]
            if not isinstance(need, Task)
            else value_or_parts(need)
            if reads_parts
            else need.result()
            for need in draft.needs
        ]
        values[draft.key] = draft.call(*needed)
    return values


def spawned(plan: Plan, batch: Batch) -> tuple[dict[Key, Task[Any]], list[Task[Any]]]:
    """The tasks of a plan by key, and those of its last stages in order; not yet submitted."""
    tasks: dict[Key, Task[Any]] = {}
    last: list[Task[Any]] = []
    # Those that are to come right before the first that needs them.
    delayed: dict[Key, tuple[Draft, Callable[..., Any], Options, Turn | None]] = {}
    # They are submitted here, past any queue, since the caller waits for them.
    # In a region they are none of its tasks.
    outer = outside(without_queue(current.get()))
    context = outer or DEFAULT
    kind = places.kind_of_plans()
    if kind is not None or batch.engine.has_spaces:
        context = narrowed(context, [places.scope_of_plan(kind)]) or DEFAULT
    moved: Callable[..., Any] | None = None
    if kind is not None:
        # Few programs use other kinds.
        from darray.lowering.device_plans import on_device

        moved = partial(on_device, kind=kind)
    for rank, stage in enumerate(plan.stages):
        # Later stages run first, since they let go of what earlier ones hold.
        options = replace(
            context,
            name=stage.name,
            memory=stage.memory,
            priority=context.priority + rank,
            # Buffers are handed on when their tasks end: a task must have returned by then.
            keeps=True,
            own=True,
            outer=outer,
        )
        in_parts = replace(options, reads_parts=True)
        reads_at_once = most_at_once(plan, stage) if moved is None else 0
        lanes = Lanes(reads_at_once) if reads_at_once else None
        for draft in stage.drafts:
            call = draft.call if moved is None else moved(draft.call, name=stage.name)
            reads_parts = getattr(call, "reads_parts", False)
            chosen = in_parts if reads_parts else options
            turn = None
            if lanes is not None and is_remote(draft):
                chosen = replace(chosen, occupancy=0.0, reads_ahead=True)
                turn = lanes.following()
            if stage.is_delayed:
                delayed[draft.key] = draft, call, chosen, turn
                continue
            if delayed:
                for need in draft.needs:
                    if not isinstance(need, Task) and need in delayed:
                        tasks[need] = _spawned(batch, *delayed.pop(need), tasks)
            task = tasks[draft.key] = _spawned(batch, draft, call, chosen, turn, tasks)
            if stage.serial == math.inf:
                last.append(task)
    if events.consumers:
        events.publish(TasksPlanned("computation", plan.count(), plan.nbytes))
    return tasks, last


def _spawned(
    batch: Batch,
    draft: Draft,
    call: Callable[..., Any],
    options: Options,
    turn: Turn | None,
    tasks: Mapping[Key, Task[Any]],
) -> Task[Any]:
    """The task of a draft, whose needs have theirs, which makes `call`."""
    needs = [need if isinstance(need, Task) else tasks[need] for need in draft.needs]
    return batch.spawn(options, call, tuple(needs), needs, turn)


def keepers(planner: Planner) -> list[Expression]:
    """The expressions whose chunks stay with them once what was planned is computed."""
    return _complete(_worth_keeping(planner), planner)


def _worth_keeping(planner: Planner) -> list[Any]:
    """Expressions of a plan that are dear to compute again, and small enough to be kept."""
    return _fitting(
        [node for node in planner.wanted if isinstance(node, Expression) and node.is_dear]
    )


def _fitting(nodes: list[Expression]) -> list[Expression]:
    """Those of `nodes` that are small enough to be kept unasked, with what is kept already."""
    sizes = [nbytes_of(node) for node in nodes]
    if max(sizes, default=0) <= SMALL_CHUNK:
        return nodes
    room = limits.task_memory(settings.current())
    left = room // KEPT_IN_ALL - keeping.held()
    fitting = []
    for node, nbytes in zip(nodes, sizes, strict=True):
        if nbytes <= SMALL_CHUNK or (KEPT_SHARE * nbytes < room and nbytes <= left):
            fitting.append(node)
            left -= nbytes
    return fitting


def _can_stay(node: Expression) -> bool:
    """Whether the chunks of `node`, if it could go without, are small enough to be kept."""
    base = node.operand if isinstance(node, Recut) else node
    nbytes = math.prod(node.shape) * node.dtype.itemsize
    if not base.goes_straight or nbytes <= SMALL_CHUNK:
        return True
    return KEPT_SHARE * nbytes < limits.task_memory(settings.current())


def _complete(nodes: list[Any], planner: Planner) -> list[Expression]:
    """Those of `nodes` of which every chunk is computed."""
    return [node for node in nodes if len(planner.wanted[node]) == chunk_count(node.chunks)]


def _keep(node: Expression, plan: Plan, values: Mapping[Key, Any]) -> None:
    chunks: dict[Index, Any] = {
        index: values[node, index] for index in np.ndindex(*grid_shape(node.chunks))
    }
    kept = Kept(chunks, tuple(plan.ledgers))
    force_setattr(node, "kept", kept)
    keeping.count(kept, nbytes_of(node))
