"""A store on a machine far away: a file system of fsspec whose reads end when a test says so."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import zarr
from fsspec.asyn import AsyncFileSystem
from fsspec.registry import _registry

WAIT = 60
URL = "distant://a.zarr"


class Unreachable(OSError):
    """What a read raises that fails."""


class Distant:
    """What is stored there, and how its chunks are read.

    Parameters
    ----------
    chunks : int
        Of how many chunks, of `size` float64 each, the array is.
    together : int
        How many reads have to be under way before any of them ends, but for the last ones.
    failing : int
        The chunk that cannot be read.
    """

    def __init__(self, chunks, size=1000, together=1, failing=None, values=None):
        if values is None:
            values = np.arange(chunks * size, dtype=float).reshape(chunks, size)
        self.values = values
        self.chunks = chunks
        self.together = together
        self.failing = failing
        # Guards the fields below, and is told of every change.
        self.changed = threading.Condition()
        self.reads = []
        self.under_way = self.ended = self.most = 0
        # Unless it is set no read ends.
        self.is_open = True
        # One for each read that is under way, as a server has.
        self.threads = ThreadPoolExecutor(chunks)
        self.files = {}
        with tempfile.TemporaryDirectory() as folder:
            stored = zarr.create_array(
                folder, shape=(chunks, size), chunks=(1, size), dtype="f8", fill_value=-1
            )
            stored[...] = self.values
            for place, _, names in os.walk(folder):
                for name in names:
                    path = os.path.join(place, name)
                    with open(path, "rb") as file:
                        self.files["a.zarr/" + os.path.relpath(path, folder)] = file.read()

    def answer(self, path):
        """The bytes of a chunk, once it may be sent."""
        with self.changed:
            self.reads.append(path)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.changed.notify_all()
            try:
                assert self.changed.wait_for(self.may_end, WAIT), "too few reads are under way"
            finally:
                self.under_way -= 1
                self.ended += 1
                self.changed.notify_all()
            if self.failing is not None and f"/c/{self.failing}/" in path:
                raise Unreachable(path)
        return self.files[path]

    def may_end(self):
        """Whether a read that is under way may end."""
        left = self.chunks - self.ended
        return self.is_open and (
            self.most >= self.together or self.under_way >= min(self.together, left)
        )

    def wait_for(self, reads):
        """Wait until so many reads have begun."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.reads) >= reads, WAIT)

    def let(self, is_open):
        """Let reads end, or none."""
        with self.changed:
            self.is_open = is_open
            self.changed.notify_all()


def served(distant):
    """The class of a file system that serves what is `distant`."""

    class DistantFiles(AsyncFileSystem):
        protocol = "distant"
        cachable = False

        async def _cat_file(self, path, start=None, end=None, **_):
            name = self._strip_protocol(path)
            if name not in distant.files:
                raise FileNotFoundError(name)
            if "/c/" not in name:
                return distant.files[name][start:end]
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(distant.threads, distant.answer, name)

        async def _info(self, path, **_):
            name = self._strip_protocol(path)
            if name not in distant.files:
                raise FileNotFoundError(name)
            return {"name": name, "size": len(distant.files[name]), "type": "file"}

    return DistantFiles


def register(distant):
    """Serve `distant` behind `URL`."""
    fsspec.register_implementation("distant", served(distant), clobber=True)


def unregister(distant):
    """Have nothing behind `URL`."""
    _registry.pop("distant")
    distant.threads.shutdown()
