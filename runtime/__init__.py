"""The task runtime: tasks, scopes, processors, engines, events."""

from darray.runtime.accesses import Accumulate, Deps, In, InOut, Out
from darray.runtime.cancelling import cancel, cancel_all, race
from darray.runtime.consumers.stream_table import stream_table
from darray.runtime.consumers.tracing import Trace, trace
from darray.runtime.contexts import get_option, options
from darray.runtime.defaults import register_default
from darray.runtime.deps import spawn_datadeps
from darray.runtime.devices import host
from darray.runtime.engine import configure, engine_names
from darray.runtime.errors import (
    CancelledError,
    DeadlockError,
    MemoryLimitError,
    RefReleasedError,
    SchedulingError,
    WorkerLostError,
)
from darray.runtime.events import (
    EdgeMeasured,
    Event,
    TaskBegan,
    TaskEnded,
    TaskFailed,
    TaskSpawned,
    TasksPlanned,
    TaskWaited,
    ValueMoved,
    subscribe,
)
from darray.runtime.footprints import register_spans
from darray.runtime.kinds import register_kind
from darray.runtime.mutables import Mutable, mutable
from darray.runtime.ordering import spawn_bulk, spawn_sequential, sync, wait_all
from darray.runtime.processor import Processor
from darray.runtime.putting import put
from darray.runtime.queues import TaskQueue
from darray.runtime.refs import Ref, RefView
from darray.runtime.scope_keys import register_scope_key, register_tag
from darray.runtime.scopes import ANY, DEFAULT, Scope, scope
from darray.runtime.shards import Shard, shard
from darray.runtime.spawning import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    as_completed,
    fetch,
    map,  # noqa: A004
    spawn,
    task,
    wait,
)
from darray.runtime.streams.combining import batch, join, merge, window
from darray.runtime.streams.finishing import finish_stream
from darray.runtime.streams.regions import spawn_streaming
from darray.runtime.streams.streaming import buffered
from darray.runtime.surroundings import current_task, processors, workers
from darray.runtime.tasks import Task

__all__ = [
    "ALL_COMPLETED",
    "ANY",
    "DEFAULT",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "Accumulate",
    "CancelledError",
    "DeadlockError",
    "Deps",
    "EdgeMeasured",
    "Event",
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
    "TaskBegan",
    "TaskEnded",
    "TaskFailed",
    "TaskQueue",
    "TaskSpawned",
    "TaskWaited",
    "TasksPlanned",
    "Trace",
    "ValueMoved",
    "WorkerLostError",
    "as_completed",
    "batch",
    "buffered",
    "cancel",
    "cancel_all",
    "configure",
    "current_task",
    "engine_names",
    "fetch",
    "finish_stream",
    "get_option",
    "host",
    "join",
    "map",
    "merge",
    "mutable",
    "options",
    "processors",
    "put",
    "race",
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
    "trace",
    "wait",
    "wait_all",
    "window",
    "workers",
]
