"""Streams from and to files, sockets and queues, through plain Python."""

from __future__ import annotations

import queue
import socket
import threading

import pytest

import darray.runtime as da

pytestmark = pytest.mark.usefixtures("threads")

# Files, sockets and queues are where they were opened.
HERE = da.scope(worker=0)
spawn = da.spawn.options(scope=HERE)


def test_queues_in_and_out():
    inward, outward = queue.Queue(), queue.Queue(maxsize=3)
    with da.spawn_streaming() as s:
        numbers = spawn(iter(inward.get, None))
        spawn(outward.put, spawn(lambda x: 2 * x, numbers))
    for number in range(200):
        inward.put(number)
        # Each comes out before the next goes in: nothing waits for more to come.
        assert outward.get(timeout=60) == 2 * number
    inward.put(None)
    assert s.wait(60)
    assert outward.empty()


def test_a_queue_that_is_full_holds_the_stream_back():
    outward = queue.Queue(maxsize=2)
    calls = []
    with da.spawn_streaming(buffer=2):
        source = spawn(lambda: calls.append(None) or len(calls))
        sink = spawn(outward.put, source)
    for expected in range(1, 50):
        assert outward.get(timeout=60) == expected
        # In the queue, at the sink, in the buffer, and being made.
        assert len(calls) <= expected + 2 + 1 + 2 + 1
    sink.cancel()
    # The sink may be in a call that waits for room.
    while not outward.empty():
        outward.get_nowait()
    assert source.exception() is None


def test_a_file_that_grows(tmp_path):
    path = tmp_path / "growing.txt"
    path.touch()
    grown, read = threading.Semaphore(0), threading.Semaphore(0)

    def lines():
        with path.open() as file:
            while True:
                line = file.readline()
                if line == "end\n":
                    return
                if line:
                    yield line
                else:
                    assert grown.acquire(timeout=60)

    with da.spawn_streaming() as s:
        out = s.output(spawn(lambda line: (read.release(), int(line))[1], spawn(lines)))
    with path.open("a") as file:
        for number in range(50):
            file.write(f"{number}\n")
            file.flush()
            grown.release()
            assert read.acquire(timeout=60)
            assert next(out) == number
        file.write("end\n")
    grown.release()
    assert list(out) == []
    assert s.wait(60)


def test_a_file_is_written_in_order(tmp_path):
    path = tmp_path / "written.txt"
    with path.open("w") as file:
        with da.spawn_streaming() as s:
            spawn(lambda x: print(x, file=file), spawn(iter(range(1000))))
        assert s.wait(60)
    assert path.read_text().split() == [str(x) for x in range(1000)]


def test_a_pair_of_sockets():
    near, far = socket.socketpair()

    def received():
        with near.makefile("r") as lines:
            yield from lines

    with near, far:
        with da.spawn_streaming() as s:
            numbers = spawn(int, spawn(received))
            spawn(lambda x: near.sendall(b"%d\n" % (x * x)), numbers)
        with far.makefile("r") as answers:
            for number in range(100):
                far.sendall(b"%d\n" % number)
                assert answers.readline() == f"{number * number}\n"
        far.shutdown(socket.SHUT_WR)
        assert s.wait(60)


def test_sockets_by_asyncio():
    near, far = socket.socketpair()

    async def received():
        import asyncio

        reader, writer = await asyncio.open_connection(sock=near)
        while line := await reader.readline():
            yield int(line)
        writer.close()
        await writer.wait_closed()

    with far:
        with da.spawn_streaming() as s:
            out = s.output(spawn(lambda x: x + 1, spawn(received)))
        for number in range(100):
            far.sendall(b"%d\n" % number)
            assert next(out) == number + 1
        far.shutdown(socket.SHUT_WR)
        assert list(out) == []
        assert s.wait(60)
