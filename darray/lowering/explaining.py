"""Explaining: what computing an array will do, found out by planning it and doing nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from msgspec import Struct

from darray.blocks import chunk_count, largest
from darray.expr.nodes import Expression, Memory
from darray.kernels.evaluation import TILE
from darray.kernels.table import kernel_for
from darray.kernels.tiling import can_write
from darray.lowering import at_once, collector, computing, places
from darray.lowering.calls import Combine, Pieces
from darray.lowering.fusion import Group
from darray.lowering.planning import Planner
from darray.lowering.plans import Draft, Plan, Stage
from darray.lowering.reading_ahead import most_at_once
from darray.lowering.rehearsal import Rehearsal
from darray.runtime import Task, limits, settings
from darray.runtime.consumers.progress import bytes_text
from darray.runtime.kinds import CPU, registered
from darray.runtime.spaces import has_memory, here
from darray.runtime.tasks import nbytes_held

__all__ = ["Explanation", "StageSummary", "explain", "pending_tasks"]

# Of so many chunks, in all arrays that an expression is made of, a plan is made in a moment.
SOON_PLANNED = 2000

_LIBRARIES = {"darray": "NumPy", "numpy": "NumPy", "scipy": "SciPy", "numba": "Numba"}


class StageSummary(Struct, frozen=True):
    """Tasks of one kind.

    Attributes
    ----------
    chunk_shape : tuple of int or None
        Of the largest chunk that a task works on, where it works on one.
    memory : int
        Bytes that a task holds at its peak.
    functions : tuple of str
        What is computed of each element, in order.
    kernel : str
        What runs that, and why; empty where there is nothing to choose.
    reads_at_once : int
        How many of the tasks read from another machine at a time, ahead of computing; 0 where
        they do not read from one.
    """

    name: str
    tasks: int
    chunk_shape: tuple[int, ...] | None
    memory: int
    functions: tuple[str, ...]
    kernel: str = ""
    reads_at_once: int = 0


class Explanation(Struct, frozen=True):
    """What computing an array will do; as text, a table of it.

    Attributes
    ----------
    shape, dtype, chunks
        Of the array; `chunks` is how many there are.
    stages : tuple of StageSummary
        In the order in which they need each other.
    tasks : int
        Tasks that the runtime will run. Where no stage has more than one, none: the calling
        thread does it all.
    read_nbytes : int
        Bytes that are read from stores.
    kept_chunks, kept_nbytes : int
        Chunks of earlier computations that are there, or will be, and are used.
    keeps_nbytes : int
        Bytes of what is computed on the way and will be kept.
    threads : int
        Tasks that run at a time.
    peak_nbytes : int
        The most that is held at a time by tasks that run, as each declares it, and by results
        that wait for tasks that need them or are kept: found by playing the plan through, see
        `darray.lowering.rehearsal`. The result itself is not part of it.
    limit_nbytes : int
        What the memory limit leaves for tasks.
    libraries : tuple of str
        Whose code computes the elements.
    kind : str
        The kind of processors that the tasks run on.

    Examples
    --------
    >>> import darray as da
    >>> plan = (da.ones((4, 4), blocks=2) * 2).sum().explain()
    >>> [(stage.name, stage.tasks) for stage in plan.stages]
    [('sum', 4), ('sum of chunks', 1), ('collect', 1)]
    >>> plan.tasks
    6
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: int
    stages: tuple[StageSummary, ...]
    tasks: int
    read_nbytes: int
    kept_chunks: int
    kept_nbytes: int
    keeps_nbytes: int
    threads: int
    peak_nbytes: int
    limit_nbytes: int
    libraries: tuple[str, ...]
    kind: str = CPU

    @property
    def nbytes(self) -> int:
        """Bytes of the result."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        lines = [
            f"DArray {self.shape} {self.dtype}, {bytes_text(self.nbytes)}, "
            f"{_counted(self.chunks, 'chunk')}: {self._how()}"
        ]
        if self.stages:
            lines += ["", *_table(self.stages), ""]
            lines += [f"{label:<16}{text}" for label, text in self._figures()]
        return "\n".join(lines)

    __repr__ = __str__

    def _how(self) -> str:
        if not self.stages:
            return "in memory, nothing to compute"
        if not self.tasks:
            return "computed by the calling thread, without tasks"
        noun = "thread" if self.kind == CPU else f"{self.kind} processor"
        return f"{_counted(self.tasks, 'task')} on {_counted(self.threads, noun)}"

    def _figures(self) -> Iterator[tuple[str, str]]:
        at_once = max(stage.reads_at_once for stage in self.stages)
        ahead = f", {at_once} chunks at a time, ahead of computing" if at_once else ""
        yield "reads", f"{bytes_text(self.read_nbytes)} from stores{ahead}"
        kept = f"{_counted(self.kept_chunks, 'chunk')}, {bytes_text(self.kept_nbytes)}"
        yield "kept already", kept if self.kept_chunks else "nothing that is used"
        yield "will be kept", bytes_text(self.keeps_nbytes)
        most = max(stage.memory for stage in self.stages)
        verdict = ""
        if most > self.limit_nbytes:
            verdict = "; a single task does not fit: use smaller Blocks"
        elif self.peak_nbytes > self.limit_nbytes:
            verdict = "; tasks will wait for memory"
        yield (
            "predicted peak",
            f"{bytes_text(self.peak_nbytes)} of {bytes_text(self.limit_nbytes)} that the memory "
            f"limit leaves for tasks{verdict}",
        )
        yield (
            "",
            "(tasks that run, results that wait for tasks or are kept, but not the result itself)",
        )
        kernels = {f"{stage.name}: {stage.kernel}": None for stage in self.stages if stage.kernel}
        for place, text in enumerate(kernels):
            yield "" if place else "kernels", text
        yield "computed by", ", ".join(self.libraries)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _table(stages: tuple[StageSummary, ...]) -> list[str]:
    rows = [("stage", "tasks", "chunk", "a task holds", "computes")]
    for stage in stages:
        functions = list(stage.functions)
        if len(functions) > 6:
            functions[3:-2] = [f"... {len(functions) - 5} more ..."]
        shape = "" if stage.chunk_shape is None else str(stage.chunk_shape)
        # Joins declare next to nothing, so that they never wait for memory.
        memory = bytes_text(stage.memory) if stage.memory > 1 else "-"
        rows.append((stage.name, f"{stage.tasks:,}", shape, memory, ", ".join(functions)))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                row[1].rjust(widths[1]),
                row[2].ljust(widths[2]),
                row[3].rjust(widths[3]),
                row[4],
            ]
        ).rstrip()
        for row in rows
    ]


def explain(node: Expression) -> Explanation:
    """What computing `node` will do.

    Examples
    --------
    >>> import darray as da
    >>> explain(da.arange(6).expression).tasks
    0
    """
    planner, plan = _planned(node)
    room = limits.task_memory(settings.current())
    kind = places.kind_of_plans() or CPU
    threads = _processors(kind)
    keepers = computing.keepers(planner)
    kept = [chunk for one in planner.kept_used.values() for chunk in one.chunks.values()]
    return Explanation(
        node.shape,
        node.dtype,
        chunk_count(node.chunks),
        tuple([_summary(plan, stage, kind) for stage in plan.stages if stage.drafts]),
        0 if _is_direct(node, plan) else plan.count(),
        plan.nbytes,
        len(kept),
        sum([_kept_nbytes(chunk) for chunk in kept]),
        sum([math.prod(one.shape) * one.dtype.itemsize for one in keepers]),
        threads,
        Rehearsal(plan, keepers, _is_serial()).peak(threads),
        room,
        _libraries(plan, kind),
        kind,
    )


def pending_tasks(node: Expression) -> int | None:
    """Number of tasks that computing `node` takes; None where it takes long to find out."""
    chunks, found, below = 0, {node}, [node]
    while below:
        one = below.pop()
        chunks += chunk_count(one.chunks)
        if chunks > SOON_PLANNED:
            return None
        new = [operand for operand in one.operands if operand not in found]
        found.update(new)
        below += new
    _, plan = _planned(node)
    return 0 if _is_direct(node, plan) else plan.count()


def _planned(node: Expression) -> tuple[Planner, Plan]:
    planner = Planner()
    with collector.paused():
        if not isinstance(node, Memory):
            # An array of this shape without memory: nothing will be written to it.
            planner.fill(node, np.broadcast_to(np.empty((), node.dtype), node.shape))
        return planner, planner.run()


def _is_direct(node: Expression, plan: Plan) -> bool:
    """Whether the calling thread computes it all."""
    return computing.is_done_here(plan) or at_once.applies(node)


def _is_serial() -> bool:
    return settings.current().engine == "serial"


def _processors(kind: str) -> int:
    """How many tasks run at a time on processors of a kind."""
    if _is_serial():
        return 1
    if kind == CPU:
        return settings.current().threads or limits.processor_count()
    return len([one for one in registered(here.get().worker) if one.kind == kind])


def _kept_nbytes(chunk: Any) -> int:
    if isinstance(chunk, Task):
        if not chunk.done() or chunk.exception() is not None:
            return 0
        return nbytes_held(chunk)
    return int(chunk.nbytes)


def _summary(plan: Plan, stage: Stage, kind: str) -> StageSummary:
    programs = [pieces for draft in stage.drafts for pieces in _pieces(draft)]
    shapes = [pieces.shape for pieces in programs] or [
        largest(draft.key[0].chunks)
        for draft in stage.drafts
        if isinstance(draft.key[0], Expression) and not isinstance(draft.call, Combine)
    ]
    functions: dict[tuple[str, ...], None] = {}
    kernels: dict[str, None] = {}
    groups = {id(pieces.group): pieces.group for pieces in programs}
    for group in groups.values():
        names = [_name(one.function) for one in group.program.instructions]
        functions[tuple(names)] = None
        if names:
            kernels[_kernel(group, stage.elements, kind)] = None
    return StageSummary(
        stage.name,
        len(stage.drafts),
        max(shapes, key=math.prod, default=None),
        stage.memory,
        max(functions, key=len, default=()),
        "; ".join(kernels),
        most_at_once(plan, stage) if kind == CPU else 0,
    )


def _kernel(group: Group, elements: int, kind: str) -> str:
    """What runs the program of `group` on chunks of so many elements, and why."""
    if kind != CPU:
        return f"{kind}, call by call: its kernels, and NumPy's functions of its arrays"
    if elements <= TILE:
        return "NumPy, call by call: a chunk fits into the cache"
    for one in group.program.instructions:
        if not can_write(one):
            return f"NumPy, call by call: {_name(one.function)} cannot write where it is told to"
    found = "NumPy: there is one call" if group.selection is None else group.selection.explanation()
    return f"{found}; in tiles that stay in a cache"


def _pieces(draft: Draft) -> list[Pieces]:
    pieces = getattr(draft.call, "pieces", None)
    return [pieces] if isinstance(pieces, Pieces) else []


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", repr(function)))


def _libraries(plan: Plan, kind: str) -> tuple[str, ...]:
    """Whose code runs the programs: that of NumPy at the least, which moves the elements."""
    own = f"the arrays of {kind}" if has_memory(kind) else "NumPy"
    found = {own: None}
    for draft in plan.drafts():
        for pieces in _pieces(draft):
            for instruction in pieces.group.program.instructions:
                code = kernel_for(instruction.function, kind)
                if kind != CPU and code is instruction.function:
                    continue
                package = str(getattr(code, "__module__", None) or "numpy").partition(".")[0]
                found[_LIBRARIES.get(package, package)] = None
    return tuple(found)
