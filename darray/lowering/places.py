"""Where plans are carried out: in the calling thread's memory, or on devices."""

from __future__ import annotations

from darray.runtime.narrowing import Part, device_kind, scope_of_host
from darray.runtime.scopes import scope, scope_of_worker
from darray.runtime.spaces import here

__all__ = ["computes_elsewhere", "scope_of_plan"]


def computes_elsewhere() -> bool:
    """Whether tasks compute what the calling code asks for, since its thread may not.

    So it is in a block that asks for a device, and on a device, which is given its own arrays.
    """
    return device_kind() is not None or here.get().kind != "host"


def scope_of_plan(kind: str | None) -> Part:
    """Where the tasks of a plan run: on devices of a `kind`, or where the host's memory is.

    Plans, what they fill and their ledgers are objects of one process.
    """
    worker = here.get().worker
    place = f"the array that is computed, on worker {worker}"
    if kind is None:
        return scope_of_host(worker), place
    return scope_of_worker(worker) & scope(kind=kind), f"{place}, on {kind!r}"
