"""Tasks awaited from asyncio."""

from __future__ import annotations

import asyncio
import threading

import pytest

import darray.runtime as da


def test_await_gives_the_result(engine):
    async def program():
        return await da.spawn(pow, 2, 3)

    assert asyncio.run(program()) == 8


def test_await_raises_the_failure(engine):
    async def program():
        await da.spawn(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(program())


def test_many_are_awaited_together(engine):
    async def program():
        async def one(i):
            return await da.spawn(abs, -i)

        return await asyncio.gather(*(one(i) for i in range(200)))

    assert asyncio.run(program()) == list(range(200))


def test_loop_goes_on_while_a_task_runs(threads):
    gate = threading.Event()

    async def program():
        async def open_gate():
            gate.set()

        waiting = asyncio.ensure_future(awaiting(da.spawn(gate.wait)))
        await open_gate()
        return await waiting

    async def awaiting(task):
        return await task

    assert asyncio.run(program()) is True


def test_loop_that_is_gone_is_not_told(threads):
    gate = threading.Event()
    task = da.spawn(gate.wait)

    async def program():
        async def awaiting():
            await task

        waiting = asyncio.ensure_future(awaiting())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(program())
    gate.set()
    assert task.result() is True
    assert da.spawn(int, 3).result() == 3


def test_await_that_times_out_leaves_the_task(threads):
    gate = threading.Event()
    task = da.spawn(gate.wait)

    async def program():
        async def awaiting():
            return await task

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(awaiting(), 0.01)
        gate.set()
        return await task

    assert asyncio.run(program()) is True
