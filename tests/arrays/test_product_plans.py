"""How products are planned: what is computed once, in what memory, from what operands."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import darray as da
from darray.expr import product_cuts
from darray.kernels import products
from darray.lowering import contracting


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles so small that little arrays have many."""
    sizes = {"SIDE": 2, "TILE": 12, "PANEL": 12, "MULTIPLICATIONS": 20, "ELEMENTS": 20, "LINK": 1}
    for name, value in sizes.items():
        monkeypatch.setattr(product_cuts, name, value)
    monkeypatch.setattr(products, "LARGE", 1)
    monkeypatch.setattr(contracting, "DEPTH", 3)


@pytest.fixture
def limited():
    da.configure(engine="threads", threads=2, memory_limit="200MB")
    yield
    da.configure(engine="threads", threads=None, memory_limit=None)


class Counted:
    """Numbers that tell how often each box of them was asked for."""

    def __init__(self):
        self.lock = threading.Lock()
        self.calls = []

    def __call__(self, i, j):
        with self.lock:
            self.calls.append((int(i.min()), int(j.min())))
        return (3 * i + j) % 5 * 1.0

    def array(self, shape, blocks):
        return da.from_function(self, shape, blocks=blocks)


@pytest.mark.usefixtures("engine", "small_tiles")
@pytest.mark.parametrize("pending", [False, True])
def test_operands_are_computed_once_a_chunk(pending):
    left, right = Counted(), Counted()
    a, b = left.array((9, 8), (4, 3)), right.array((8, 10), (5, 4))
    if pending:
        a, b = a + 1, (b * 2).T.T
    product = a @ b
    assert sum(map(len, product.expression.operand.chunks)) > 4
    expected = a.collect() @ b.collect()
    left.calls.clear()
    right.calls.clear()
    np.testing.assert_array_equal(product.collect(), expected)
    assert len(left.calls) == len(set(left.calls)) == 9
    assert len(right.calls) == len(set(right.calls)) == 6
    # What was computed once stays with the product.
    np.testing.assert_array_equal((product + 1).collect(), expected + 1)
    assert len(left.calls) == 9


@pytest.mark.usefixtures("engine", "small_tiles")
def test_an_operand_that_is_both_is_computed_once():
    counted = Counted()
    x = counted.array((40, 3), (4, 3)) + 1
    gram = x.T @ x
    values = x.collect()
    counted.calls.clear()
    np.testing.assert_array_equal(gram.collect(), values.T @ values)
    assert len(counted.calls) == len(set(counted.calls)) == 10


@pytest.mark.usefixtures("engine", "small_tiles")
def test_operands_of_all_kinds(tmp_path):
    a = np.arange(60.0).reshape(6, 10) % 7
    x = da.distribute(a, da.Blocks(4, 3))
    da.to_zarr(x, tmp_path / "a.zarr")
    stored = da.from_zarr(tmp_path / "a.zarr")
    assigned = da.zeros((6, 10), blocks=(3, 5))
    assigned[...] = 1
    assigned[1:5, ::3] = x[1:5, ::3]
    ones = np.ones((6, 10))
    ones[1:5, ::3] = a[1:5, ::3]
    kinds = {
        "persisted": ((x + 1).persist(), a + 1),
        "stored": (stored, a),
        "joined": (np.concatenate([x, x[:2]])[:6], a),
        "mean": (x - x.mean(axis=0), a - a.mean(axis=0)),
        "broadcast": (np.broadcast_to(x[:1], (6, 10)), np.broadcast_to(a[:1], (6, 10))),
        "product": (x @ x.T @ x, a @ a.T @ a),
        "assigned": (assigned, ones),
        "shared": (da.wrap(a.copy(), da.Blocks(5, 4)), a),
        "every other": ((x * 2)[::2], (a * 2)[::2]),
    }
    for name, (lazy, plain) in kinds.items():
        for right, values in ((x.T, a.T), (lazy.T, plain.T)):
            found = (lazy @ right).collect()
            np.testing.assert_allclose(found, plain @ values, rtol=1e-13, err_msg=name)


@pytest.mark.usefixtures("engine", "small_tiles")
def test_products_are_written_in_place_and_read_through_views():
    a = np.arange(16.0).reshape(4, 4) % 3
    x = da.distribute(a, 2)
    view = x[1:]
    x @= x
    np.testing.assert_array_equal(view.collect(), (a @ a)[1:])
    np.testing.assert_array_equal((x.T @ view[0]).collect(), (a @ a).T @ (a @ a)[1])
    first, second = da.compute(x @ x, (x @ x)[2:].sum())
    np.testing.assert_array_equal(first, a @ a @ a @ a)
    assert second == (a @ a @ a @ a)[2:].sum()


def test_the_cut_of_a_product():
    def cut(shape, other, blocks=-1):
        a, b = (da.ones(one, blocks=(blocks,) * len(one)) for one in (shape, other))
        return (a @ b).chunks

    assert cut((8, 6), (6, 9), 4) == ((4, 4), (4, 4, 1))
    assert cut((4000, 4000), (4000, 4000), 1000) == ((1000,) * 4,) * 2
    # One large chunk is split so that every core has work, however many there are.
    assert cut((4000, 4000), (4000, 4000)) == ((2000,) * 2, (1000,) * 4)
    assert cut((1024, 1024), (1024, 1024)) == ((256,) * 4, (512,) * 2)
    assert cut((300, 300), (300, 300)) == ((300,), (300,))
    # No chunk is too large to be held, where operands with small chunks have a large product.
    assert max(cut((10**6, 1), (1, 10**6))[0]) == 1024
    assert max(np.outer(da.ones(10**6), da.ones(10**6)).chunks[0]) <= 1024


PRODUCTS = {
    "pending": lambda x: (x + 1).T @ (x + 1),
    "generated": lambda x: x.T @ x,
    "tall": lambda x: (x + 1) @ np.ones((100, 3)),
    "wide": lambda x: np.ones((3, 100)) @ (x.T + 1),
    "vdot": lambda x: np.vdot(x, x + 1),
    "vecdot": lambda x: np.vecdot(x, x + 1),
    "tensordot": lambda x: np.tensordot(x, x, 2),
    "vector": lambda x: np.ones(len(x)) @ (x + 1),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_more_than_the_memory(limited, name):
    rows = ((3 * np.arange(5)[:, None] + np.arange(100)) % 5) * 1.0
    many = Counted().array((400_000, 100), (10_000, 100))
    product = PRODUCTS[name]
    assert product(many).sum().collect() == 80_000 * product(rows).sum()


def test_operands_that_do_not_fit_are_computed_as_often_as_they_are_used(limited):
    counted = Counted()
    a = da.ones((1500, 4000), blocks=500) * 2
    b = counted.array((4000, 1250), (500, 500)) + 1
    total = 1500 * 2 * float(b.sum())
    counted.calls.clear()
    assert float((a @ b).sum()) == total
    # Once for each of three rows of tiles.
    assert len(counted.calls) == 3 * len(set(counted.calls))


def test_chunks_that_do_not_fit_are_computed_panel_by_panel(limited):
    x = Counted().array((20, 1_000_000), (20, 1_000_000)) + 1
    np.testing.assert_array_equal((x @ np.ones(1_000_000)).collect(), np.full(20, 3e6))


@pytest.mark.usefixtures("engine", "small_tiles")
@pytest.mark.parametrize("dtype", ["f8", "f2", "i8", "c8"])
def test_products_go_straight_into_the_result_where_nobody_can_ask_again(dtype):
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 4, (2, 9, 11)).astype(dtype)
    x, y = da.distribute(a, da.Blocks(4, 3)), da.distribute(b.T, da.Blocks(5, 2))
    for call in (
        lambda p, q: p @ q,
        lambda p, q: p[0] @ q,
        lambda p, q: p @ q[:, 1],
        lambda p, q: np.dot(p[0], q[:, 1]),
        lambda p, q: np.vecdot(p, q.T),
        lambda p, q: np.tensordot(p.reshape(9, 11, 1), q, ([1], [0])),
        lambda p, q: p[:1].reshape(1, 1, 11) @ q.reshape(1, 11, 9),
    ):
        held = call(x, y)
        kept = held.collect()
        np.testing.assert_array_equal(kept, call(a, b.T))
        for straight in (call(x, y).collect(), da.collect(call(x, y))):
            assert straight.flags.writeable
            assert straight.flags.c_contiguous
            assert (straight.tobytes(), straight.shape) == (kept.tobytes(), kept.shape)
        out = np.empty(held.shape, dtype)
        if out.ndim == 2:
            np.testing.assert_array_equal(np.matmul(x, y, out=out), kept)


@pytest.mark.usefixtures("engine")
def test_what_a_handle_reaches_stays():
    counted = Counted()
    x = counted.array((8, 8), (4, 4))

    def calls(array):
        counted.calls.clear()
        array.collect()
        return len(counted.calls)

    held = x @ x
    assert calls(held) > 0
    assert calls(held) == calls(held.T) == calls(held + 1) == calls(held.rechunk(3)) == 0
    view = (x @ x)[1:]
    assert calls(view) > 0
    assert calls(view) == calls(view[1:]) == 0
    pending = (x @ x) + 1
    assert calls(pending) > 0
    assert calls(pending * 2) == 0
    assert calls(x @ x) == calls(x @ x) > 0


@pytest.mark.usefixtures("engine", "small_tiles")
def test_a_product_that_is_wanted_twice_at_once():
    a = np.arange(35.0).reshape(5, 7) % 4
    x = da.distribute(a, 3)
    first, second, total = da.compute(x @ x.T, (gram := x @ x.T), gram.sum())
    np.testing.assert_array_equal(first, a @ a.T)
    np.testing.assert_array_equal(second, a @ a.T)
    assert total == (a @ a.T).sum()
