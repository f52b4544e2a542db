"""Memory of large arrays that is used again: whose it is, when, and what an array is like."""

from __future__ import annotations

import copy
import ctypes
import gc
import multiprocessing
import pickle
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import darray.runtime as runtime
from darray.runtime import budget
from darray.runtime.devices import host, host_buffers
from darray.runtime.devices.host_buffers import (
    LARGE,
    SMALLEST,
    Lease,
    Pool,
    empty,
    is_own,
    rounded,
)

MIB = 2**20


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("nbytes", [SMALLEST, SMALLEST + 1, MIB - 1, MIB, MIB + 1, 320_000_000])
def test_a_buffer_is_at_most_an_eighth_larger_than_what_it_holds(nbytes):
    assert nbytes <= rounded(nbytes) <= nbytes * 1.125 + 4096
    assert rounded(nbytes) % 4096 == 0
    assert rounded(rounded(nbytes)) == rounded(nbytes)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float64, "i2", "M8[s]", [("a", "f4"), ("b", "u1")]])
@pytest.mark.parametrize(
    "shape", [(400, 500), 200_000, (3, 1, 70_000), (np.int64(400), 500), (0, 5), ()]
)
def test_as_numpy_makes_it(pool, shape, dtype, order):
    made, expected = empty(shape, dtype, order), np.empty(shape, dtype, order)
    assert type(made) is np.ndarray
    assert (made.shape, made.dtype, made.strides) == (
        expected.shape,
        expected.dtype,
        expected.strides,
    )
    for name in ("writeable", "aligned", "c_contiguous", "f_contiguous", "writebackifcopy"):
        assert getattr(made.flags, name) == getattr(expected.flags, name)
    assert is_own(made)
    assert is_own(expected)
    made[...] = np.zeros((), dtype)
    assert (made == np.zeros(shape, dtype)).all()


def test_errors_are_numpys(pool):
    for shape, dtype in [((-1, -(2**20)), float), ((2.0, 2**20), float), ((2**20,), "no such")]:
        with pytest.raises((TypeError, ValueError)) as expected:
            np.empty(shape, dtype)
        with pytest.raises(expected.type):
            empty(shape, dtype)
    with pytest.raises(MemoryError, match="Unable to allocate"):
        empty((2**55,), float)
    gc.collect()
    assert pool.counted()[0] == 0


def test_small_arrays_and_objects_come_from_numpy(pool):
    assert empty(SMALLEST - 1, np.uint8).base is None
    objects = empty(SMALLEST, object)
    assert objects.base is None
    assert objects[0] is None
    assert pool.counted() == (0, 0)


@pytest.mark.parametrize("nbytes", [SMALLEST, 300_000, LARGE, 3 * LARGE + 5])
def test_memory_begins_at_a_page_and_large_memory_at_a_huge_one(pool, nbytes):
    made = [empty(nbytes, np.uint8) for _ in range(3)]
    begin = 2 * MIB if nbytes >= LARGE else 4096
    assert all(address(one) % begin == 0 for one in made)


def test_new_memory_is_zeros(pool):
    assert not empty(5_000_000, np.uint8).any()


def test_memory_is_used_again_the_last_returned_first(pool):
    arrays = [empty(MIB, np.uint8) for _ in range(3)]
    places = [address(one) for one in arrays]
    assert pool.counted() == (3 * MIB, 0)
    for index in (1, 0, 2):
        arrays[index] = None
    assert pool.counted() == (0, 3 * MIB)
    again = [empty((1024, 1000), np.uint8) for _ in range(3)]
    assert [address(one) for one in again] == [places[2], places[0], places[1]]
    assert pool.counted() == (3 * MIB, 0)


KEEPERS = {
    "slice": lambda a: a[5:9],
    "slice of a slice": lambda a: a[::2][3:].reshape(-1, 1).T,
    "other dtype": lambda a: a.view("i8"),
    "subclass": lambda a: a.view(np.matrix),
    "memoryview": lambda a: memoryview(a)[8:],
    "frombuffer": lambda a: np.frombuffer(a, np.uint8),
    "pointer": lambda a: a.ctypes.data_as(ctypes.c_void_p),
    "ctypes array": lambda a: np.ctypeslib.as_ctypes(a),
    "iterator": lambda a: a.flat,
    "asarray": lambda a: np.asarray(a, copy=False)[1:],
    "dlpack": lambda a: np.from_dlpack(a),
    "as_strided": lambda a: np.lib.stride_tricks.as_strided(a[4:], (2,), (8,)),
    "windows": lambda a: np.lib.stride_tricks.sliding_window_view(a, 3),
    "broadcast": lambda a: np.broadcast_to(a, (2, a.size)),
    "pickle buffer": lambda a: pickle.PickleBuffer(a),
    "lease": lambda a: a.base,
    "array of the lease": lambda a: np.frombuffer(a.base, float),
    "frozen": lambda a: host.freeze(a),
}


@pytest.mark.parametrize("keep", KEEPERS.values(), ids=KEEPERS)
def test_what_views_an_array_keeps_its_memory(pool, keep):
    array = empty(20_000)
    array[...] = 7.0
    place = address(array)
    kept = keep(array)
    del array
    gc.collect()
    others = [empty(20_000) for _ in range(3)]
    assert place not in map(address, others)
    for other in others:
        other[...] = 0.0
    assert pool.counted()[0] == 4 * rounded(160_000)
    del other
    others.clear()
    del kept
    gc.collect()
    assert pool.counted() == (0, 4 * rounded(160_000))


def test_an_array_may_be_written_to_until_its_flag_says_otherwise(pool):
    array = empty(20_000)
    array.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1.0
    array.flags.writeable = True
    view = array[3:]
    view.flags.writeable = False
    view.flags.writeable = True
    view[0] = 5.0
    assert array[3] == 5.0


def test_a_read_only_array_is_captured_without_a_copy(pool):
    array = empty(20_000)
    assert not np.shares_memory(host.capture(array), array)
    array.flags.writeable = False
    assert host.capture(array) is array
    assert np.shares_memory(host.capture(array[2:]), array)


def test_only_the_whole_is_its_own(pool):
    array = empty((200, 1000))
    assert is_own(array)
    assert not any(is_own(view) for view in (array[:], array.T, array.ravel(), array.view("i8")))
    assert isinstance(array.base, Lease)


def test_resizing_in_place_is_refused_as_for_any_array_that_does_not_own_its_memory(pool):
    array = empty(20_000)
    with pytest.raises(ValueError, match="does not own its data"):
        array.resize(30_000)
    assert np.resize(array, 30_000).size == 30_000


def test_copies_and_pickles_are_arrays_like_any(pool):
    array = empty(20_000)
    array[...] = np.arange(20_000)
    buffers = []
    in_band = pickle.loads(pickle.dumps(array))
    out_of_band = pickle.dumps(array, protocol=5, buffer_callback=buffers.append)
    received = pickle.loads(out_of_band, buffers=[bytes(one) for one in buffers])
    for other in (copy.copy(array), copy.deepcopy(array), array.copy(), in_band, received):
        assert np.array_equal(other, array)
        assert not np.shares_memory(other, array)


def test_no_more_is_kept_than_the_limit(pool):
    arrays = [empty(5 * MIB, np.uint8) for _ in range(20)]
    assert pool.counted() == (100 * MIB, 0)
    arrays.clear()
    assert pool.counted() == (0, 60 * MIB)
    kept = empty(65 * MIB, np.uint8)
    del kept
    used, kept = pool.counted()
    assert used == 0
    assert kept <= 64 * MIB


def test_trimming_gives_back_what_is_asked_for_and_no_more_than_a_buffer_over(pool):
    arrays = [empty(MIB, np.uint8) for _ in range(10)]
    del arrays[:6]
    assert pool.trim(2 * MIB + 1) == 3 * MIB
    assert pool.counted() == (4 * MIB, 3 * MIB)
    assert pool.trim() == 3 * MIB
    assert pool.counted() == (4 * MIB, 0)
    assert pool.trim() == 0


def test_what_was_idle_between_two_looks_is_given_back(pool):
    arrays = [empty(MIB, np.uint8) for _ in range(5)]
    arrays.clear()
    pool._look()
    assert pool.counted() == (0, 5 * MIB)
    pair = [empty(MIB, np.uint8) for _ in range(2)]
    warm = {address(one) for one in pair}
    pair.clear()
    pool._look()
    assert pool.counted() == (0, 2 * MIB)
    assert {address(one) for one in [empty(MIB, np.uint8), empty(MIB, np.uint8)]} <= warm
    pool._look()
    pool._look()
    assert pool.counted() == (0, 0)


def test_idle_buffers_are_looked_for_without_being_asked_for():
    class Watched(Pool):
        looked = threading.Event()

        def _look(self):
            super()._look()
            if self.kept == 0:
                self.looked.set()

    pool = Watched(lambda: 64 * MIB, idle=0.01)
    lease = pool.lend(MIB)
    assert pool.counted() == (MIB, 0)
    Watched.looked.clear()
    del lease
    assert Watched.looked.wait(60)
    assert pool.counted() == (0, 0)
    pool._check()


def test_what_is_kept_makes_room_for_tasks(pool):
    limit = 64 * MIB
    pool._limit = lambda: limit
    arrays = [empty(MIB, np.uint8) for _ in range(10)]
    arrays.clear()
    pool.make_room()
    assert pool.counted() == (0, 10 * MIB)
    limit = 4 * MIB
    pool.make_room()
    assert pool.kept == 4 * MIB
    assert pool.counted() == (0, 4 * MIB)


def test_tasks_leave_less_of_the_memory_for_what_is_kept():
    configured = budget.Budget(1600 * MIB)
    share = host_buffers._share()
    assert budget.in_force() is configured
    assert configured.admit(1500 * MIB)
    assert host_buffers._share() == min(share, 100 * MIB)
    configured.give_back(1500 * MIB)
    hold = configured.hold("held", 1600 * MIB)
    assert host_buffers._share() == min(share, 100 * MIB)
    del hold
    assert configured.room() == 1600 * MIB
    assert host_buffers._share() == min(share, 1600 * MIB)


@pytest.mark.parametrize("engine", ["threads", "serial"])
def test_a_task_with_declared_memory_begins_when_there_is_room(pool, monkeypatch, engine):
    runtime.configure(engine=engine, memory_limit="1GiB")
    monkeypatch.setattr(pool, "_limit", host_buffers._share)
    monkeypatch.setattr(budget, "makers_of_room", [pool.make_room])
    runtime.spawn(len, ()).result()
    arrays = [empty(10 * MIB, np.uint8) for _ in range(15)]
    arrays.clear()
    assert pool.counted() == (0, 150 * MIB)
    most = budget.in_force().limit
    task = runtime.spawn.options(memory=most - 100 * MIB)(pool.counted)
    assert task.result() == (0, 100 * MIB)
    del task
    task = runtime.spawn.options(memory=most)(pool.counted)
    assert task.result()[1] <= most // host_buffers.WARM_SHARE
    runtime.configure(engine="threads", memory_limit=None)


def test_a_finaliser_that_runs_while_the_lock_is_held_does_not_wait(pool):
    array = empty(LARGE, np.uint8)
    with pool._lock:
        del array
    assert pool.counted() == (0, LARGE)


def test_a_lease_that_was_interrupted_before_it_had_its_buffer_loses_nothing(pool):
    lease = pool.lend(MIB)
    del lease.buffer
    del lease
    assert pool.counted() == (0, 0)


def test_without_a_mapping_more_numpy_gives_the_memory(pool, monkeypatch):
    monkeypatch.setattr(host_buffers, "MOST_BUFFERS", 2)
    arrays = [empty(MIB, np.uint8) for _ in range(3)]
    assert [isinstance(one.base, Lease) for one in arrays] == [True, True, False]
    assert all(map(is_own, arrays))


def test_threads_never_share_memory(pool):
    clashes = []

    def work(number):
        held = []
        for step in range(300):
            array = empty(SMALLEST * (1 + step % 3), np.uint8)
            array[::4096] = number
            held.append(array)
            if len(held) > 3:
                oldest = held.pop(0)
                if (oldest[::4096] != number).any():
                    clashes.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes
    assert pool.counted()[0] == 0


def _in_child(array, free_place, answers):
    array[...] = 2.0
    again = empty(20_000)
    answers.put((address(again) == free_place, again.base.buffer is not array.base.buffer))
    again[...] = 3.0
    del again
    empty(20_000)[...] = 4.0
    answers.put(array.sum())


@pytest.mark.skipif(sys.platform != "linux", reason="forks are taken on Linux")
def test_a_forked_child_has_memory_of_its_own(pool):
    array, other = empty(20_000), empty(20_000)
    array[...] = other[...] = 1.0
    free_place = address(other)
    del other
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    # As if another thread held it.
    with pool._lock:
        child = context.Process(target=_forked, args=(pool, array, free_place, answers))
        child.start()
    assert answers.get(timeout=60) == (True, True)
    assert answers.get(timeout=60) == 40_000.0
    child.join(60)
    assert child.exitcode == 0
    assert (array == 1.0).all()
    assert address(empty(20_000)) == free_place


def _forked(pool, array, free_place, answers):
    # The pool of the process does so by itself; this one is the test's.
    pool.after_fork()
    _in_child(array, free_place, answers)


def run(program):
    """What a program prints, which must end without any complaint."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_memory_is_resident_once_and_goes_back():
    program = """
        import psutil
        from darray.runtime.devices import host_buffers
        from darray.runtime.devices.host_buffers import empty

        def resident():
            return psutil.Process().memory_info().rss

        before, most = resident(), 0
        for _ in range(10):
            array = empty(100_000_000, "u1")
            array.fill(1)
            most = max(most, resident() - before)
            del array
        kept = resident() - before
        host_buffers.POOL.trim()
        print(most, kept, resident() - before)
    """
    most, kept, after = map(int, run(program).split())
    assert 100_000_000 <= most < 125_000_000
    assert 100_000_000 <= kept < 125_000_000
    assert after < 10_000_000


def test_arrays_may_outlive_everything_else(pool):
    program = """
        import atexit, sys, builtins
        from darray.runtime.devices.host_buffers import empty

        class Late:
            def __init__(self):
                self.array = empty(10_000_000)
                self.view = self.array[3:]
            def __del__(self):
                self.array[...] = 1.0
                self.array = None

        builtins.late = Late()
        sys.modules["late"] = Late()
        cycle = [Late()]
        cycle.append(cycle)
        atexit.register(lambda: empty(1_000_000).fill(1))
        print("end")
    """
    assert run(program) == "end\n"


class Programs(RuleBasedStateMachine):
    """Arrays that come and go, with the rest of the elements as a witness that none is shared."""

    def __init__(self):
        super().__init__()
        self.pool = Pool(lambda: 2 * MIB, idle=3600)
        self.held = []
        self.marks = iter(range(1, 10**9))

    @rule(nbytes=st.sampled_from([SMALLEST, SMALLEST + 1, 100_000, MIB // 2, 3 * MIB, LARGE]))
    def lend(self, nbytes):
        lease = self.pool.lend(nbytes)
        array = np.ndarray((nbytes // 8,), np.int64, lease)
        mark = next(self.marks)
        array[[0, -1]] = mark
        self.held.append((array, mark))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def drop(self, data):
        self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def drop_while_the_lock_is_held(self, data):
        index = data.draw(st.integers(0, len(self.held) - 1))
        with self.pool._lock:
            self.held.pop(index)

    @rule(nbytes=st.none() | st.integers(0, 4 * MIB))
    def trim(self, nbytes):
        kept = self.pool.counted()[1]
        freed = self.pool.trim(nbytes)
        assert freed >= min(kept, kept if nbytes is None else nbytes)
        assert self.pool.counted()[1] == kept - freed

    @rule()
    def look(self):
        self.pool._look()

    @rule()
    def fork(self):
        self.pool.after_fork()

    @invariant()
    def sound(self):
        self.pool._check()
        leases = [array.base for array, _ in self.held]
        buffers = [lease.buffer for lease in leases]
        assert len({buffer.address for buffer in buffers}) == len(buffers)
        assert self.pool.counted()[0] == sum(buffer.nbytes for buffer in buffers)
        for array, mark in self.held:
            assert array[0] == array[-1] == mark

    def teardown(self):
        self.held.clear()
        used, kept = self.pool.counted()
        assert used == 0
        assert kept <= 2 * MIB
        self.pool.close()


TestPrograms = Programs.TestCase
