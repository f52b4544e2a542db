"""Where plans are carried out: by the processors of the calling thread's memory, or by others."""

from __future__ import annotations

from darray.kernels.table import has_kernels
from darray.runtime.narrowing import Part, kind_asked, scope_of_host
from darray.runtime.scopes import scope, scope_of_worker
from darray.runtime.spaces import has_memory, here

__all__ = ["computes_elsewhere", "kind_of_plans", "scope_of_plan"]


def kind_of_plans() -> str | None:
    """The kind of processors that carries out plans made here in a way of its own, if one does.

    Those are kinds with a memory of their own, and kinds that there are kernels for. None for
    CPU threads, and what works as they do.
    """
    kind = kind_asked()
    return kind if kind is not None and (has_memory(kind) or has_kernels(kind)) else None


def computes_elsewhere() -> bool:
    """Whether tasks compute what the calling code asks for, since its thread may not.

    So it is in a block that asks for such a kind, and on a device, which is given its own arrays.
    """
    return kind_of_plans() is not None or here.get().kind != "host"


def scope_of_plan(kind: str | None) -> Part:
    """Where the tasks of a plan run: on processors of a `kind`, or where the host's memory is.

    Plans, what they fill and their ledgers are objects of one process.
    """
    worker = here.get().worker
    place = f"the array that is computed, on worker {worker}"
    if kind is None:
        return scope_of_host(worker), place
    return scope_of_worker(worker) & scope(kind=kind), f"{place}, on {kind!r}"
