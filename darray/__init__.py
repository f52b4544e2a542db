"""NumPy arrays larger than memory, on a task runtime open to everyone.

The names of NumPy here are NumPy's own functions, which DArrays answer to.
"""

import importlib
from typing import TYPE_CHECKING, Any

from darray import numpy_names, task_arguments  # noqa: F401 - registers what it says
from darray.blocks import AutoBlocks, Blocks
from darray.functions.computation import collect, compute, map_blocks
from darray.functions.conversion import array, asanyarray, asarray, ascontiguousarray, from_dlpack
from darray.functions.creation import (
    arange,
    distribute,
    empty,
    eye,
    from_function,
    from_npy,
    from_zarr,
    full,
    linspace,
    ones,
    wrap,
    zeros,
)
from darray.functions.files import to_zarr, tofile
from darray.functions.memory_use import memory
from darray.functions.putting import put
from darray.functions.shapes import rechunk
from darray.functions.tracing import trace
from darray.handle import DArray
from darray.io import File
from darray.kernels.table import kernel
from darray.numpy_names import *  # noqa: F403
from darray.runtime import (
    ALL_COMPLETED,
    ANY,
    DEFAULT,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    Accumulate,
    CancelledError,
    DeadlockError,
    Deps,
    In,
    InOut,
    MemoryLimitError,
    Mutable,
    Out,
    Processor,
    Ref,
    RefReleasedError,
    RefView,
    SchedulingError,
    Scope,
    Shard,
    Task,
    TaskQueue,
    Trace,
    WorkerLostError,
    as_completed,
    batch,
    buffered,
    cancel,
    cancel_all,
    configure,
    current_task,
    fetch,
    finish_stream,
    get_option,
    join,
    map,
    merge,
    mutable,
    options,
    processors,
    race,
    register_default,
    register_kind,
    register_scope_key,
    register_spans,
    register_tag,
    scope,
    shard,
    spawn,
    spawn_bulk,
    spawn_datadeps,
    spawn_sequential,
    spawn_streaming,
    stream_table,
    subscribe,
    sync,
    task,
    wait,
    wait_all,
    window,
    workers,
)
from darray.runtime.consumers.progress import progress

if TYPE_CHECKING:
    from darray import random

__version__ = "0.1.0"

__all__ = [
    "ALL_COMPLETED",
    "ANY",
    "DEFAULT",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "Accumulate",
    "AutoBlocks",
    "Blocks",
    "CancelledError",
    "DArray",
    "DeadlockError",
    "Deps",
    "File",
    "In",
    "InOut",
    "MemoryLimitError",
    "Mutable",
    "Out",
    "Processor",
    "Ref",
    "RefReleasedError",
    "RefView",
    "SchedulingError",
    "Scope",
    "Shard",
    "Task",
    "TaskQueue",
    "Trace",
    "WorkerLostError",
    "__version__",
    "arange",
    "array",
    "as_completed",
    "asanyarray",
    "asarray",
    "ascontiguousarray",
    "batch",
    "buffered",
    "cancel",
    "cancel_all",
    "collect",
    "compute",
    "configure",
    "current_task",
    "distribute",
    "empty",
    "eye",
    "fetch",
    "finish_stream",
    "from_dlpack",
    "from_function",
    "from_npy",
    "from_zarr",
    "full",
    "get_option",
    "join",
    "kernel",
    "linspace",
    "map",
    "map_blocks",
    "memory",
    "merge",
    "mutable",
    "ones",
    "options",
    "processors",
    "progress",
    "put",
    "race",
    "random",
    "rechunk",
    "register_default",
    "register_kind",
    "register_scope_key",
    "register_spans",
    "register_tag",
    "scope",
    "shard",
    "spawn",
    "spawn_bulk",
    "spawn_datadeps",
    "spawn_sequential",
    "spawn_streaming",
    "stream_table",
    "subscribe",
    "sync",
    "task",
    "to_zarr",
    "tofile",
    "trace",
    "wait",
    "wait_all",
    "window",
    "workers",
    "wrap",
    "zeros",
]
__all__ += [name for name in vars(numpy_names) if not name.startswith("_")]


def __getattr__(name: str) -> Any:
    # Packages that few programs use are imported when first asked for.
    if name == "random":
        return importlib.import_module("darray.random")
    # Those that NumPy has from 2.2 on.
    if name in ("matvec", "vecmat"):
        return getattr(importlib.import_module("numpy"), name)
    raise AttributeError(f"module 'darray' has no attribute {name!r}")
