"""DArrays and their chunks in regions."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
import scipy.linalg

import darray as da
from darray.kernels.tiles import factor, solve, subtract_product, subtract_square

pytestmark = pytest.mark.usefixtures("engine")


def square():
    return da.distribute(np.arange(16.0).reshape(4, 4), 2)


def fill(array, value):
    array[...] = value


def add(array, value):
    array += value


def fail(array):
    array[...] = -1
    raise RuntimeError("on purpose")


@pytest.mark.parametrize("access", [lambda x: x, da.In, da.InOut, da.Out])
def test_a_whole_array_is_refused_in_a_region(access):
    x = da.ones((4, 4), blocks=2)
    with da.spawn_datadeps(), pytest.raises(TypeError, match=r"A\.blocks\[i, j\]"):
        da.spawn(np.sum, access(x))


def test_chunks_are_read_in_a_region():
    x = square()
    total = np.zeros(1)

    def add_sum(array, chunk):
        array += chunk.sum()

    with da.spawn_datadeps():
        for i in range(2):
            for j in range(2):
                da.spawn(add_sum, da.Accumulate(total), x.blocks[i, j])
    assert total[0] == x.sum()


SOURCES = {
    "memory": lambda a: da.distribute(a, 2),
    "pending": lambda a: da.distribute(a - 1, 2) + 1,
    "computed": lambda a: (da.distribute(a - 1, 2) + 1).persist(),
    "one chunk": lambda a: da.distribute(a, 4),
    "wrapped": lambda a: da.wrap(a.copy(), 2),
    "wrapped by columns": lambda a: da.wrap(a.copy(order="F"), 2),
}


@pytest.mark.parametrize("source", SOURCES)
def test_chunks_are_written_and_seen_at_the_end(source):
    a = np.arange(16.0).reshape(4, 4)
    x = SOURCES[source](a)
    view, before, sums = x[1:, ::-1], x * 1, x.sum(axis=0)
    old = x.blocks[0, 0]
    with da.spawn_datadeps():
        da.spawn(add, da.InOut(x.blocks[0, 0]), 1)
        seen = da.spawn(np.array, x.blocks[0, 0])
        da.spawn(add, da.InOut(x.blocks[0, 0][:, 1]), x.blocks[0, 0][:, 0])
        da.spawn(fill, da.Out(x.blocks[-1, -1]), 5)
        assert (x.collect() == a).all()
        built = x + 0
    expected = a.copy()
    first = expected[:4, :4] if source == "one chunk" else expected[:2, :2]
    first += 1
    assert (seen.result() == first).all()
    first[:, 1] += first[:, 0]
    (expected if source == "one chunk" else expected[2:, 2:])[...] = 5
    assert (x.collect() == expected).all()
    assert (view.collect() == expected[1:, ::-1]).all()
    for one in (before, built):
        assert (one.collect() == a).all()
    assert (sums.collect() == a.sum(axis=0)).all()
    assert (da.fetch(old) == (a if source == "one chunk" else a[:2, :2])).all()
    assert not da.fetch(x.blocks[0, 0]).flags.writeable
    x[1] = 0
    with da.spawn_datadeps():
        da.spawn(add, da.InOut(x.blocks[0, 0]), 1)
    expected[1] = 0
    first += 1
    assert (x.collect() == expected).all()


def test_what_a_task_reads_and_writes_is_one_memory():
    x = da.distribute(np.arange(4), 4)
    with da.spawn_datadeps():
        # In NumPy the third argument is the same memory as the others.
        da.spawn(np.add, x.blocks[0], 1, da.Out(x.blocks[0]))
    assert x.collect().tolist() == [1, 2, 3, 4]

    def both(read, held, write):
        write += 10
        return int(read[0]), int(held["chunk"][1])

    with da.spawn_datadeps():
        seen = da.spawn(both, x.blocks[0], {"chunk": x.blocks[0]}, da.InOut(x.blocks[0]))
        key = da.spawn(np.sum, a=x.blocks[0][:2])
    assert seen.result() == (11, 12)
    assert key.result() == 23
    assert x.collect().tolist() == [11, 12, 13, 14]


def test_chunks_in_containers_are_as_written():
    x = square()
    with da.spawn_datadeps():
        da.spawn(fill, da.Out(x.blocks[0, 0]), 1)
        total = da.spawn(
            lambda pair, names: sum(one.sum() for one in [*pair, *names.values()]),
            (x.blocks[0, 0], x.blocks[0, 0][0, 1:]),
            {"last": x.blocks[1, 1]},
        )
        da.spawn(fill, da.Out(x.blocks[0, 0]), 2)
    assert total.result() == 4 + 1 + x[2:, 2:].sum()


def test_triangles_of_chunks():
    x = da.zeros((3, 3), blocks=3)
    with da.spawn_datadeps():
        chunk = x.blocks[0, 0]
        da.spawn(lambda a: a.__setitem__(np.triu_indices(3), 1), da.Deps(chunk, da.Out(np.triu)))
        da.spawn(add, da.InOut(chunk[1:, :1]), 2)
        traces = da.spawn(np.trace, da.Deps(chunk, da.In(np.diag)))
    assert x.collect().tolist() == [[1, 1, 1], [2, 1, 1], [2, 0, 1]]
    assert traces.result() == 3


def test_tasks_on_different_chunks_run_side_by_side(engine):
    da.configure(engine="threads", threads=2)
    x = da.zeros(4, blocks=2)
    barrier = threading.Barrier(2, timeout=60)

    def meet(chunk, number):
        barrier.wait()
        chunk += number

    with da.spawn_datadeps():
        for i in range(2):
            da.spawn(meet, da.InOut(x.blocks[i]), i + 1)
    assert x.collect().tolist() == [1, 1, 2, 2]


VIEWS = {
    "slice": lambda x: x[1:-1],
    "backwards": lambda x: x[::-1, ::2],
    "transposed": lambda x: x.T[1:],
    "row": lambda x: x[2],
    "new axis": lambda x: x[:, None, 1:],
    "real": lambda x: x[1:].real,
    "imag": lambda x: x.imag[:, ::-1],
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("access", [da.InOut, da.Out])
def test_chunks_of_views_are_written_through(name, access):
    a = np.arange(16.0).reshape(4, 4) * (1 + 2j)
    x = da.distribute(a, 2)
    view, expected = VIEWS[name](x), VIEWS[name](a)
    with da.spawn_datadeps():
        for index in np.ndindex(*view.blocks.shape):
            da.spawn(add if access is da.InOut else fill, access(view.blocks[index]), 7)
            da.spawn(add, da.InOut(x.blocks[0, 1]), 1)
        total = da.spawn(np.sum, view.blocks[(0,) * view.ndim])
    for index in np.ndindex(*view.blocks.shape):
        sizes = [view.chunks[axis][at] for axis, at in enumerate(index)]
        starts = [sum(view.chunks[axis][:at]) for axis, at in enumerate(index)]
        box = tuple([slice(start, start + size) for start, size in zip(starts, sizes, strict=True)])
        (add if access is da.InOut else fill)(expected[box], 7)
        a[:2, 2:] += 1
    first = tuple([slice(0, sizes[0]) for sizes in view.chunks])
    assert total.result() == expected[first].sum()
    np.testing.assert_array_equal(x.collect(), a)


def test_fields_of_records_are_written_through():
    x = da.distribute(np.zeros(4, [("n", "i4"), ("x", "f8")]), 2)
    with da.spawn_datadeps():
        da.spawn(fill, da.Out(x["x"].blocks[1]), 2.5)
        da.spawn(fill, da.Out(x["n"][::-1].blocks[1]), 3)
    assert x.collect().tolist() == [(3, 0), (3, 0), (0, 2.5), (0, 2.5)]


def test_chunks_of_a_view_in_no_single_chunk_are_refused():
    x = da.distribute(np.arange(6), 3)
    view = x.reshape(2, 3)[:, ::-1]
    with da.spawn_datadeps():
        total = da.spawn(np.sum, view.blocks[0, 0])
        with pytest.raises(TypeError, match="give the task chunks of the array itself"):
            da.spawn(fill, da.Out(view.blocks[0, 0]), 1)
        da.spawn(fill, da.Out(x.blocks[0]), 1)
        with pytest.raises(TypeError, match="give the task the chunks of the array itself"):
            da.spawn(np.sum, view.blocks[0, 0])
    assert total.result() == 0 + 1 + 2
    assert x.collect().tolist() == [1, 1, 1, 3, 4, 5]


def test_what_cannot_be_written_to_is_refused():
    x = square()
    fixed = x[1:]
    fixed.flags.writeable = False
    stale = x.blocks[0, 0]
    x[0] = 0
    gone = da.zeros(4, blocks=2).blocks[0]
    gc.collect()
    with da.spawn_datadeps():
        with pytest.raises(ValueError, match=r"read-only: write to a copy, x\.copy\(\)"):
            da.spawn(fill, da.InOut(fixed.blocks[0, 0]), 1)
        with pytest.raises(ValueError, match=r"as it was before .* take .* x\.blocks"):
            da.spawn(fill, da.InOut(stale), 1)
        with pytest.raises(TypeError, match="an array that is gone"):
            da.spawn(fill, da.InOut(gone), 1)
        with pytest.raises(ValueError, match="retries"):
            da.spawn.options(retries=1)(fill, da.Out(x.blocks[0, 0]), 1)
        with pytest.raises(TypeError, match="cannot be written"):
            da.spawn(fill, da.Out(x.blocks[0, 0]), da.Out(1))
        assert da.spawn(np.sum, stale).result() == 0 + 1 + 4 + 5
    assert x[0, 0] == 0
    assert (x[1:].collect() == np.arange(4, 16.0).reshape(3, 4)).all()


def test_an_old_chunk_is_read_as_it_was():
    x = da.distribute(np.arange(4), 2)
    stale = x.blocks[0]
    x[0] = 7
    with da.spawn_datadeps():
        da.spawn(fill, da.Out(x.blocks[0]), 1)
        seen = [da.spawn(np.array, one) for one in (stale, x.blocks[0])]
    assert [one.tolist() for one in da.fetch(seen)] == [[0, 1], [1, 1]]


def test_a_snapshot_in_a_task_is_copied_first():
    def change(snapshot, copies):
        mine = snapshot.copy() if copies else snapshot
        with da.spawn_datadeps():
            da.spawn(fill, da.Out(mine.blocks[0]), 1)
        return mine.collect()

    x = da.distribute(np.arange(4), 2)
    assert da.spawn(change, x, True).result().tolist() == [1, 1, 2, 3]
    with pytest.raises(ValueError, match=r"x\.copy\(\)"):
        da.spawn(change, x, False).result()
    assert x.collect().tolist() == [0, 1, 2, 3]


def test_a_failed_region_leaves_the_array_as_it_was():
    memory = np.arange(4)
    x, wrapped, other = square(), da.wrap(memory, 2), da.zeros(2, blocks=1)
    built = wrapped + 0

    def body():
        da.spawn(fill, da.Out(x.blocks[0, 0]), 5)
        da.spawn(fill, da.Out(wrapped.blocks[1]), 5)
        da.spawn(np.sum, other.blocks[0])
        da.spawn(fail, da.InOut(x.blocks[1, 1]))
        da.spawn(fill, da.Out(x.blocks[0, 1]), 5)

    with pytest.raises(RuntimeError, match="on purpose") as caught:
        da.spawn_datadeps(body)
    notes = "\n".join(caught.value.__notes__)
    assert "DArray of shape (4, 4) and dtype float64" in notes
    assert "those from before" in notes
    assert "undefined" not in notes
    assert "(2,)" not in notes
    assert (x.collect() == np.arange(16).reshape(4, 4)).all()
    assert memory.tolist() == wrapped.collect().tolist() == built.collect().tolist() == [0, 1, 2, 3]
    with da.spawn_datadeps():
        da.spawn(fill, da.Out(x.blocks[0, 0]), 5)
        da.spawn(fill, da.Out(wrapped.blocks[0]), 5)
    assert x[1, 1] == 5
    assert memory.tolist() == [5, 5, 2, 3]
    assert built.collect().tolist() == [0, 1, 2, 3]


def test_a_body_that_raises_leaves_the_array_as_it_was():
    x = square()

    def body():
        da.spawn(fill, da.Out(x.blocks[0, 0]), 5)
        raise KeyError("on purpose")

    with pytest.raises(KeyError) as caught:
        da.spawn_datadeps(body)
    assert "DArray of shape (4, 4)" in caught.value.__notes__[-1]
    assert x[0, 1] == 1


def test_a_chunk_that_cannot_be_computed_fails_the_region():
    def broken(block):
        if block[0]:
            raise ZeroDivisionError("in a chunk")
        return block

    x = da.distribute(np.arange(4), 2).map_blocks(broken)

    def body():
        da.spawn(add, da.InOut(x.blocks[0]), 1)
        da.spawn(add, da.InOut(x.blocks[1]), 1)

    with pytest.raises(ZeroDivisionError, match="in a chunk"):
        da.spawn_datadeps(body)
    with da.spawn_datadeps():
        da.spawn(fill, da.Out(x.blocks[0]), 7)
        da.spawn(fill, da.Out(x[2:].blocks[0]), 8)
    assert x.collect().tolist() == [7, 7, 8, 8]


def test_assigning_in_the_body_is_refused_while_tasks_write():
    x = square()
    view = x[1:]
    with da.spawn_datadeps():
        x[0] = 7
        da.spawn(add, da.InOut(x.blocks[0, 0]), 1)
        with pytest.raises(RuntimeError, match="assign to it after the region's end"):
            view[0] = 1
        with pytest.raises(RuntimeError, match="after the region's end"):
            x += 1
    x += 1
    assert x[0].collect().tolist() == [9, 9, 8, 8]


def test_one_region_at_a_time_writes_to_an_array():
    x = square()

    def inner():
        with da.spawn_datadeps():
            da.spawn(fill, da.Out(x.blocks[1, 1]), 1)

    def outer():
        with da.spawn_datadeps():
            da.spawn(fill, da.Out(x.blocks[0, 0]), 1)
            da.spawn(inner)

    with pytest.raises(RuntimeError, match="tasks of another region"):
        outer()
    assert (x.collect() == square().collect()).all()
    inner()
    assert x[3, 3] == 1


def test_regions_in_regions_join():
    x = square()
    with da.spawn_datadeps():
        with da.spawn_datadeps():
            da.spawn(fill, da.Out(x.blocks[0, 0]), 1)
        assert x[1, 1] == 5
        da.spawn(add, da.InOut(x.blocks[0, 0]), 1)
    assert x[1, 1] == 2


def test_wrapped_memory_and_its_chunks_are_ordered():
    memory = np.zeros(6)
    x = da.wrap(memory, 3)
    with da.spawn_datadeps():
        da.spawn(fill, da.Out(x.blocks[0]), 1)
        da.spawn(add, da.InOut(memory[1:5]), 10)
        da.spawn(add, da.InOut(x.blocks[0][1:]), x.blocks[0][:2])
    assert memory.tolist() == [1, 12, 22, 10, 10, 0]
    assert x.collect().tolist() == memory.tolist()
    fixed = np.zeros(2)
    fixed.flags.writeable = False
    with da.spawn_datadeps(), pytest.raises(ValueError, match="read-only"):
        da.spawn(fill, da.Out(da.wrap(fixed, 1).blocks[0]), 1)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_arrays_without_axes_or_elements(shape):
    x = da.zeros(shape, blocks=2) if shape else da.distribute(np.array(3.0))
    with da.spawn_datadeps():
        da.spawn(add, da.InOut(x.blocks[(0,) * len(shape)]), 1)
        da.spawn(add, da.InOut(x[..., None].blocks[(0,) * (len(shape) + 1)]), 1)
    assert x.collect().tolist() == (np.zeros(shape) if shape else np.array(5.0)).tolist()


def test_old_versions_are_let_go():
    made = []

    def make(block):
        made.append(weakref.ref(block + 1))
        result = block + 1
        made[-1] = weakref.ref(result)
        return result

    x = da.zeros(4, blocks=2).map_blocks(make).persist()
    x.wait()
    with da.spawn_datadeps():
        for i in range(2):
            da.spawn(add, da.InOut(x.blocks[i]), 1)
    gc.collect()
    assert [one() for one in made] == [None] * len(made)
    assert x.collect().tolist() == [2] * 4
    for _ in range(300):
        with da.spawn_datadeps():
            da.spawn(add, da.InOut(x.blocks[0]), 1)
    assert x.expression.depth == 0
    assert x.collect().tolist() == [302, 302, 2, 2]


def test_a_factorisation_in_place():
    n, tile = 600, 100
    numbers = np.random.default_rng(0).random((n, n))
    a = numbers @ numbers.T + n * np.eye(n)
    x = da.distribute(a, tile)
    t = x.blocks
    count = t.shape[0]
    with da.spawn_datadeps():
        for k in range(count):
            da.spawn(factor, da.InOut(t[k, k]))
            for i in range(k + 1, count):
                da.spawn(solve, t[k, k], da.InOut(t[i, k]))
            for j in range(k + 1, count):
                da.spawn(subtract_square, t[j, k], da.InOut(t[j, j]))
                for i in range(j + 1, count):
                    da.spawn(subtract_product, t[i, k], t[j, k], da.InOut(t[i, j]))
    lower = np.tril(x.collect())
    np.testing.assert_allclose(lower, scipy.linalg.cholesky(a, lower=True), atol=1e-12)
    np.testing.assert_allclose(lower, np.linalg.cholesky(a), atol=1e-12)
    np.testing.assert_array_equal(np.triu(x.collect(), 100), np.triu(a, 100))
