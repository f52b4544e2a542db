"""Failures, signals, threads: what users see, and that arrays stay usable."""

import _thread
import threading
import traceback

import numpy as np
import pytest

import darray as da
from tests.arrays.agreement import same_arrays


@pytest.fixture
def x(threads):
    return da.arange(8, blocks=2)


class Unusual(Exception):
    """An exception of a user's own."""


def fail_at_four(block):
    if 4 in block:
        raise Unusual("four")
    return block


def test_the_users_exception_is_raised_at_every_collect(x):
    bad = x.map_blocks(fail_at_four)
    for lazy in (bad, bad + 1, bad.sum(), bad):
        with pytest.raises(Unusual, match="four") as caught:
            lazy.collect()
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert frames[-1].name == "fail_at_four"
        notes = "\n".join(caught.value.__notes__)
        assert "fail_at_four" in notes
        assert "test_failures.py" in notes
        assert len(caught.value.__notes__) < 6
    assert same_arrays(bad[:4].collect(), np.arange(4))
    assert same_arrays((x + 1).collect(), np.arange(1, 9))


def test_what_failed_is_tried_again(x):
    attempts = []

    def once(block):
        attempts.append(1)
        if len(attempts) == 1:
            raise Unusual("first")
        return block

    y = x.map_blocks(once)
    with pytest.raises(Unusual):
        y.collect()
    assert same_arrays(y.collect(), np.arange(8))


def test_a_failure_does_not_reach_the_rest(x):
    bad = x.map_blocks(fail_at_four)
    with pytest.raises(Unusual):
        da.compute(bad, x + 1)
    bad.persist()
    with pytest.raises(Unusual):
        bad.wait()
    with pytest.raises(Unusual):
        da.fetch(bad.blocks[2])
    assert same_arrays(da.fetch(bad.blocks[0], copy=True), np.arange(2))


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (lambda block: block.astype(float), TypeError, r"declared int64.*dtype='float64'"),
        (lambda block: block[:1], ValueError, r"shape \(1,\).*chunks="),
    ],
)
def test_blocks_are_checked(x, function, error, words):
    with pytest.raises(error, match=words):
        x.map_blocks(function).collect()
    with pytest.raises(error, match=words):
        da.distribute(np.arange(8)).map_blocks(function).collect()


def test_one_chunk_fails_as_many_do():
    one = da.distribute(np.arange(8)).map_blocks(fail_at_four)
    for _ in range(2):
        with pytest.raises(Unusual, match="four"):
            one.collect()


def test_after_an_interruption_everything_can_be_collected(x):
    first = threading.Event()
    release = threading.Event()

    def slow(block):
        if not first.is_set():
            first.set()
            _thread.interrupt_main()
        release.wait(60)
        return block

    y = x.map_blocks(slow)
    with pytest.raises(KeyboardInterrupt):
        y.collect()
    release.set()
    assert same_arrays((x * 2).collect(), np.arange(8) * 2)
    assert same_arrays(y.collect(), np.arange(8))


@pytest.mark.parametrize("threads_used", [1, 2])
@pytest.mark.usefixtures("threads")
def test_arrays_are_computed_inside_tasks(threads_used):
    da.configure(threads=threads_used)
    x = da.arange(20, blocks=3)

    def inner(array, power):
        return int((array**power).sum())

    tasks = [da.spawn(inner, x, power) for power in (1, 2)]
    assert da.fetch(tasks) == [190, 2470]

    def nested(block):
        return block + int(da.ones(6, blocks=2).sum())

    assert same_arrays(x.map_blocks(nested).collect(), np.arange(20) + 6)


@pytest.mark.usefixtures("threads")
def test_arrays_are_used_from_several_threads():
    shared = da.arange(1000, blocks=37)
    kept = (shared * 2).persist()
    total = kept.sum()
    found, failures = [], []
    start = threading.Barrier(6)

    def work(number):
        try:
            start.wait(60)
            for i in range(15):
                part = shared[i * number : 500] + kept[i * number : 500]
                found.append((int(part.sum()), 3 * sum(range(i * number, 500)), int(total)))
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(100)
    assert failures == []
    assert len(found) == 90
    assert all(mine == other and sums == 999000 for mine, other, sums in found)


@pytest.mark.usefixtures("threads")
def test_failures_in_several_threads_are_each_threads_own():
    bad = da.arange(40, blocks=2).map_blocks(fail_at_four)
    errors = []

    def work():
        for _ in range(10):
            try:
                bad.collect()
            except Unusual as error:
                errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(100)
    assert len(errors) == 40


@pytest.mark.parametrize("looks_before", [False, True])
def test_a_released_chunk_is_missing_and_no_other(x, looks_before):
    kept = (x + 1).persist()
    kept.wait()
    if looks_before:
        kept.collect()
    kept.blocks[1].release()
    with pytest.raises(da.RefReleasedError, match="was released"):
        kept.collect()
    assert same_arrays(kept[:2].collect(), np.array([1, 2]))


def test_a_chunk_that_fails_after_others_were_seen_to_be_done(x):
    gate = threading.Event()

    def wait_and_fail(block):
        if 7 in block:
            gate.wait(60)
            raise ValueError("late")
        return block

    kept = x.map_blocks(wait_and_fail).persist()
    assert same_arrays(kept[:2].collect(), np.arange(2))
    gate.set()
    with pytest.raises(ValueError, match="late"):
        kept.collect()
