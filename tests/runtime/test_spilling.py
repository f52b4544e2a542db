"""Spilling: results go to disk for tasks that want memory, and come back as they were."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
import threading

import numpy as np
import pytest

import darray.runtime as da
from darray.runtime import engine as engines
from darray.runtime import settings
from darray.runtime.spaces import AWAY, Placed
from darray.runtime.spill_files import SpillFiles, files_in

LIMIT = 1_000_000
BLOCK = 100_000


@pytest.fixture
def files(tmp_path):
    """The spill files that `limited` engines use."""
    return files_in(str(tmp_path / "spill"))


@pytest.fixture
def limited(engine, files):
    """Every engine, with room for ten blocks."""
    settings.update(spill_folder=files.folder)
    engine._schedule.budget.limit = LIMIT
    return engine


@pytest.fixture
def threads(files):
    """The engine of two threads, with room for ten blocks."""
    da.configure(engine="threads", threads=2, spill_folder=files.folder)
    engine = engines.current_engine()
    engine._schedule.budget.limit = LIMIT
    return engine


def block(number, nbytes=BLOCK):
    return np.full(nbytes, number % 100, np.int8)


def spawn(function, *args, memory=BLOCK):
    return da.spawn.options(memory=memory)(function, *args)


def is_away(task):
    return task._value.__class__ is Placed and task._value.value is AWAY


def settled(files):
    files.settle()
    files._check()
    return files.used


def test_many_results_are_held_in_little_memory(limited, files):
    tasks = [spawn(block, number) for number in range(40)]
    da.wait(tasks)
    assert sum(map(is_away, tasks)) >= 30
    assert files.used >= 30 * BLOCK
    limited._schedule._check([])
    for number, task in enumerate(tasks):
        value = task.result()
        assert value.shape == (BLOCK,)
        assert not value.flags.writeable
        assert (value == number % 100).all()
    del value
    sums = [spawn(np.sum, task) for task in tasks]
    assert da.fetch(sums) == [BLOCK * (number % 100) for number in range(40)]
    plain = [da.spawn(np.max, task) for task in tasks]
    assert da.fetch(plain) == [number % 100 for number in range(40)]
    assert limited._schedule.budget.room() >= 0
    del tasks, task, sums, plain
    assert settled(files) == 0
    assert limited._schedule.budget.room() == LIMIT


def test_results_that_tasks_still_need_are_spilled_too(limited, files):
    """Each sum needs two that are far apart: none could run if all had to stay."""
    tasks = [spawn(block, number) for number in range(30)]
    sums = [spawn(lambda a, b: int(a[0]) + int(b[0]), tasks[i], tasks[29 - i]) for i in range(15)]
    del tasks
    assert da.fetch(sums) == [29] * 15


@pytest.mark.parametrize(
    "value",
    [
        np.arange(60_000.0).reshape(200, 300),
        np.arange(60_000.0).reshape(200, 300).T,
        np.arange(120_000, dtype="i4").reshape(40, 50, 60)[:, ::2, 1:],
        np.arange(200_000, dtype="c8")[::-2],
        np.broadcast_to(np.arange(20_000.0), (3, 20_000)),
        np.arange(30_000).astype("M8[s]"),
        np.array(["some", "text"] * 20_000),
        np.zeros(20_000, [("a", "i2"), ("b", "f8", 3)]),
        np.array(["x" * 50_000]).reshape(()),
        np.arange(30_000, dtype=">f8"),
    ],
    ids=lambda value: f"{value.dtype} {value.shape} {value.flags.forc}",
)
def test_every_kind_of_array_comes_back(threads, value):
    kept = spawn(lambda: value + 0 if value.dtype.kind == "f" and value.ndim == 3 else value)
    copy = spawn(lambda: value.copy(order="K"))
    da.wait([kept, copy])
    hogs = [spawn(block, number) for number in range(20)]
    da.wait(hogs)
    assert is_away(copy)
    for task in (kept, copy):
        found = task.result()
        assert found.dtype == value.dtype
        assert found.shape == value.shape
        assert (found == value).all()
    assert copy.result().flags.f_contiguous == value.copy(order="K").flags.f_contiguous


def test_what_is_no_plain_array_stays(threads):
    held = [
        spawn(lambda: np.array(["object"] * 20_000, object), memory=400_000),
        spawn(lambda: [np.zeros(BLOCK, "i1")], memory=400_000),
        spawn(lambda: np.ma.masked_array(np.zeros(BLOCK, "i1")), memory=400_000),
    ]
    da.wait(held)
    starved = spawn(block, 1, 700_000, memory=700_000)
    with pytest.raises(da.MemoryLimitError, match="nothing that runs will free"):
        starved.result(timeout=60)
    assert not any(map(is_away, held))


@pytest.mark.parametrize("is_in_tuple", [False, True])
def test_broadcast_results_write_over_no_other(threads, files, is_in_tuple):
    """They stay: their elements are many more than there are bytes in memory."""

    def broadcast(number):
        array = np.broadcast_to(block(number), (40, BLOCK))
        return (array, 1) if is_in_tuple else array

    first = [spawn(block, number) for number in range(20)]
    da.wait(first)
    # Places to be used again, with others behind them.
    del first[::3]
    files.settle()
    wide = [spawn(broadcast, number) for number in range(3)]
    others = [spawn(block, number) for number in range(20)]
    da.wait([*wide, *others])
    kept = [number for number in range(20) if number % 3]
    for number, task in [*zip(kept, first, strict=True), *enumerate(others)]:
        assert (task.result() == number).all()
    for number, task in enumerate(wide):
        value = task.result()[0] if is_in_tuple else task.result()
        assert value.shape == (40, BLOCK)
        assert (value == number).all()


def test_what_cannot_be_stored_keeps_nothing_else_in_memory(limited):
    """Objects are refused only when they are to be written; others go in their place."""
    objects = [spawn(lambda: np.array(["object"] * 20_000, object)) for _ in range(2)]
    strings = spawn(lambda: (block(1), "text"))
    da.wait([*objects, strings])
    blocks = [spawn(block, number) for number in range(5)]
    da.wait(blocks)
    large = spawn(block, 7, 400_000, memory=400_000)
    assert large.result(timeout=60).nbytes == 400_000
    assert sum(map(is_away, blocks)) >= 3
    assert not any(map(is_away, [*objects, strings]))
    limited._schedule._check([])


def test_pinned_results_stay_and_come_back(limited):
    pinned, other = spawn(block, 1), spawn(block, 2)
    da.wait([pinned, other])
    with da.Ref(pinned).pinned():
        tasks = [spawn(block, number) for number in range(20)]
        da.wait(tasks)
        assert not is_away(pinned)
        assert is_away(other)
        with da.Ref(other).pinned():
            assert not is_away(other)
            more = [spawn(block, number) for number in range(20)]
            da.wait(more)
            assert not is_away(other)
            assert (other.result() == 2).all()
    limited._schedule._check([])


def test_what_somebody_uses_stays(threads):
    used = [spawn(block, number) for number in range(3)]
    views = [task.result()[5:10] for task in used]
    others = [spawn(block, number) for number in range(20)]
    da.wait(others)
    assert not any(map(is_away, used))
    del views
    more = [spawn(block, number) for number in range(10)]
    da.wait(more)
    assert all(map(is_away, used))


def test_what_is_written_to_is_no_stale_copy(limited):
    """Writes of regions go to what is in memory, also where it was on disk before."""
    target = spawn(lambda: np.zeros(BLOCK, np.int8))
    # The oldest values go first, and a thread that has begun may be the last to finish.
    target.wait()
    hogs = [spawn(block, number) for number in range(20)]
    da.wait(hogs)
    assert is_away(target)
    for number in range(3):
        with da.spawn_datadeps():
            da.spawn(np.add, da.In(target), 1, da.Out(target))
        da.wait([spawn(block, number) for number in range(20)])
    assert (da.spawn(np.copy, target).result() == 3).all()


def test_tuples_in_tuples_come_back(limited):
    def nested(number):
        array = block(number, 30_000)
        return (array, (array.copy(), (1, None), (), (array.astype("f4")[::2],)), 2.5)

    tasks = [spawn(nested, number, memory=120_000) for number in range(12)]
    da.wait(tasks)
    assert sum(map(is_away, tasks)) >= 3
    for number, task in enumerate(tasks):
        first, (second, numbers, empty, (third,)), last = task.result()
        assert (numbers, empty, last) == ((1, None), (), 2.5)
        assert (first == number).all()
        assert (second == number).all()
        assert (third == number).all()
        assert (third.dtype, third.shape) == (np.dtype("f4"), (15_000,))


@pytest.mark.parametrize("is_squeezed", [False, True])
@pytest.mark.parametrize("is_in_tuple", [False, True])
@pytest.mark.parametrize("name", ["serial", "threads"])
def test_writes_show_in_all_that_shares_the_memory(files, name, is_squeezed, is_in_tuple):
    """Whether or not others wanted the memory meanwhile."""
    da.configure(engine=name, threads=2, spill_folder=files.folder)
    engines.current_engine()._schedule.budget.limit = LIMIT

    def part(value):
        value = value[: BLOCK // 2]
        return (value, 0) if is_in_tuple else value

    whole = spawn(np.zeros, BLOCK, np.int8)
    view = spawn(part, whole)
    others = [spawn(block, number) for number in range(5)]
    da.wait([view, *others])
    if is_squeezed:
        da.wait([spawn(block, 1, 500_000, memory=500_000)])
        too_much = spawn(block, 1, LIMIT - 1, memory=LIMIT - 1)
        with pytest.raises(da.MemoryLimitError, match="hold"):
            too_much.result(timeout=60)
        assert sum(map(is_away, others)) >= 3
    with da.spawn_datadeps():
        da.spawn(lambda value: value.__iadd__(1), da.InOut(whole))
    assert (whole.result() == 1).all()
    assert ((view.result()[0] if is_in_tuple else view.result()) == 1).all()


@pytest.mark.parametrize("is_squeezed", [False, True])
@pytest.mark.parametrize("name", ["serial", "threads"])
def test_writes_show_in_what_was_read_of_a_value_on_disk(files, name, is_squeezed):
    """There is no room for the value to stay when a view of it is made."""
    da.configure(engine=name, threads=2, spill_folder=files.folder)
    engines.current_engine()._schedule.budget.limit = LIMIT
    whole = spawn(np.zeros, BLOCK, np.int8)
    if is_squeezed:
        assert spawn(block, 1, 950_000, memory=950_000).result()[0] == 1
        full = spawn(block, 1, 700_000, memory=700_000)
        full = (full, full.result())
    views = [spawn(lambda value: value[:50_000], whole, memory=50_000) for _ in range(2)]
    da.wait(views)
    assert is_away(whole) == is_squeezed
    with da.spawn_datadeps():
        da.spawn(lambda value: value.__iadd__(1), da.InOut(views[1]))
    assert (views.pop().result() == 1).all()
    assert (views[0].result() == 1).all()
    del views[0]
    assert whole.result()[:50_000].all()
    with da.spawn_datadeps():
        da.spawn(lambda value: value.__iadd__(1), da.InOut(whole))
    assert whole.result().sum() == BLOCK + 50_000
    if is_squeezed:
        assert not is_away(full[0])


def test_what_was_looked_at_can_go_again(limited):
    blocks = [spawn(block, number) for number in range(8)]
    da.wait(blocks)
    for _ in range(3):
        assert spawn(block, 9, 900_000, memory=900_000).result(timeout=60)[0] == 9
        assert sum(map(is_away, blocks)) >= 7
        for number, task in enumerate(blocks):
            assert (task.result() == number).all()
        assert not all(map(is_away, blocks))
        limited._schedule._check([])


def test_what_regions_used_can_go_once_they_end(limited):
    tasks = [spawn(block, number) for number in range(8)]
    da.wait(tasks)
    for _ in range(2):
        with da.spawn_datadeps():
            for task in tasks:
                da.spawn(np.sum, da.In(task))
            with da.spawn_datadeps():
                da.spawn(np.sum, da.In(tasks[0]))
        assert not any(map(is_away, tasks))
        assert spawn(block, 9, 900_000, memory=900_000).result(timeout=60)[0] == 9
        assert sum(map(is_away, tasks)) >= 7
        limited._schedule._check([])


def test_released_and_dropped_values_leave_the_disk(threads, files):
    tasks = [spawn(block, number) for number in range(30)]
    da.wait(tasks)
    # Its threads may still write values ahead of need.
    engines.close()
    released = next(task for task in tasks if is_away(task))
    before = settled(files)
    da.Ref(released).release()
    assert settled(files) < before
    with pytest.raises(da.RefReleasedError):
        released.result()
    del tasks, released
    assert settled(files) == 0


def test_what_is_given_may_be_too_much_at_once(threads):
    tasks = [spawn(block, number) for number in range(20)]
    da.wait(tasks)
    with pytest.raises(da.MemoryLimitError, match=r"needs 100,000 bytes and .* which is on disk"):
        spawn(lambda *blocks: len(blocks), *tasks).result(timeout=60)
    assert spawn(lambda *blocks: len(blocks), *tasks[:5]).result(timeout=60) == 5


def test_moves_are_told(threads):
    with da.trace() as tr:
        tasks = [spawn(block, number) for number in range(20)]
        da.wait(tasks)
        away = next(task for task in tasks if is_away(task))
        away.result()
    found = tr.events()
    moves = [
        (source, destination, nbytes)
        for event, source, destination, nbytes in zip(
            found["event"], found["source"], found["destination"], found["nbytes"], strict=True
        )
        if event == "ValueMoved"
    ]
    assert moves.count(("worker 0", "disk", BLOCK)) >= 10
    assert moves[-1] == ("disk", "worker 0", BLOCK)


def test_read_while_others_are_written(threads):
    """Readers outside tasks, tasks with and without memory=, all at once."""
    tasks = [spawn(block, number) for number in range(30)]
    wrong = []

    def read(start):
        for number in [*range(start, 30), *range(start)] * 3:
            value = tasks[number].result()
            if not (value == number % 100).all():
                wrong.append(number)

    readers = [threading.Thread(target=read, args=(start,)) for start in (0, 10, 20)]
    for reader in readers:
        reader.start()
    for _ in range(3):
        sums = [spawn(np.sum, task) for task in tasks] + [da.spawn(np.sum, task) for task in tasks]
        assert da.fetch(sums) == [BLOCK * (number % 100) for number in range(30)] * 2
    for reader in readers:
        reader.join()
    assert wrong == []
    threads._schedule._check([])


def run(code, tmp_path, before=()):
    """Run `code`, which has the folder in ``sys.argv[1]``, in a process of its own.

    The command `before` calls it.
    """
    return subprocess.run(
        [*before, sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


PROLOGUE = """
import os, resource, sys
import numpy as np
import darray.runtime as da
from darray.runtime import engine
from darray.runtime.spaces import AWAY, Placed
da.configure(engine="threads", threads=2, spill_folder=sys.argv[1])
engine.current_engine()._schedule.budget.limit = 1_000_000
def block(number):
    return np.full(100_000, number, np.int8)
def spawn(number):
    return da.spawn.options(memory=100_000)(block, number)
"""


LIMITED = "resource.setrlimit(resource.RLIMIT_FSIZE, (450_000, resource.RLIM_INFINITY))"

# A file system of so many bytes, in name spaces of their own, which end with the process.
MOUNTED = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
MOUNTED += ['mount -t tmpfs -o size=440k tmpfs "$1" && shift && exec "$@"', "sh"]


def disks():
    """Ways to have a full disk soon; a system need not let everyone mount."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run([*MOUNTED, folder, "true"], check=True, capture_output=True, timeout=60)
        except (OSError, subprocess.CalledProcessError):
            return ["limit"]
    return ["limit", "file system"]


@pytest.mark.parametrize("disk", disks())
def test_a_full_disk_is_an_error_that_loses_nothing(disk, tmp_path):
    """There is room for less than half of a million bytes."""
    code = f"""{PROLOGUE}
{LIMITED if disk == "limit" else ""}
tasks = [spawn(number) for number in range(20)]
da.wait(tasks)
failed = [task for task in tasks if task.exception() is not None]
print(len(failed), type(failed[0].exception()).__name__, failed[0].exception())
for number, task in enumerate(tasks):
    assert task in failed or (task.result() == number).all()
del task, failed
del tasks[:10]
print((spawn(7).result() == 7).all())
"""
    result = run(code, tmp_path, [] if disk == "limit" else [*MOUNTED, str(tmp_path)])
    assert result.returncode == 0, result.stderr
    message, goes_on = result.stdout.splitlines()
    count, kind, text = message.split(maxsplit=2)
    assert 1 <= int(count) <= 8
    assert kind == "MemoryLimitError"
    assert f"Nothing could be spilled to {str(tmp_path)!r}" in text
    assert "Free space there, or name another folder by da.configure(spill_folder=...)" in text
    assert goes_on == "True"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_whatever_goes_wrong_is_told(limited, monkeypatch, error):
    """Nobody waits for ever, and values can go once it is over."""

    def fail(*_):
        # Another one each time: its traceback holds on to values.
        raise type(error)(*error.args)

    tasks = [spawn(block, number) for number in range(10)]
    da.wait(tasks)
    with monkeypatch.context() as patch:
        patch.setattr(SpillFiles, "store", fail)
        starved = spawn(block, 1)
        with pytest.raises(
            da.MemoryLimitError, match=f"Nothing could be spilled.*{type(error).__name__}"
        ):
            starved.result(timeout=10)
    assert (spawn(block, 7).result(timeout=10) == 7).all()
    assert any(map(is_away, tasks))
    limited._schedule._check([])


def test_nothing_is_left_of_a_process_that_was_killed(tmp_path):
    code = f"""{PROLOGUE}
tasks = [spawn(number) for number in range(40)]
da.wait(tasks)
print(sum(task._value.__class__ is Placed for task in tasks), flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert int(process.stdout.readline()) >= 30
        # No file that it wrote has a name which could outlive it.
        assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert process.returncode == -9
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_does_not_read_what_its_parent_may_write_over(tmp_path):
    code = f"""{PROLOGUE}
tasks = [spawn(number) for number in range(20)]
da.wait(tasks)
away = next(task for task in tasks if task._value.__class__ is Placed)
number = tasks.index(away)
def is_open():
    named = ["/proc/self/fd/" + one for one in os.listdir("/proc/self/fd")]
    links = [os.readlink(one) for one in named if os.path.islink(one)]
    return any(link.startswith(sys.argv[1]) for link in links)
assert is_open()
child = os.fork()
if child == 0:
    assert not is_open()
    try:
        away.result()
    except RuntimeError as error:
        assert "forked" in str(error)
        assert (da.spawn(block, 3).result() == 3).all()
        os._exit(17)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), (away.result() == number).all())
"""
    result = run(code, tmp_path)
    assert result.stdout.split() == ["17", "True"], result.stderr
