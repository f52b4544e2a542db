"""How each contender reads from stores and writes to them: a table of functions.

Each takes the source and the target folder and the number of store chunks in one of dask's, and
is called in a process of its own, which `stored` is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import local
from typing import Any

import numpy as np

from benchmarks.compare.stores import chunk_files, create

Way = Callable[[Path, Path, int], Any]
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

# Each thread's memory to read into, touched once.
_own = local()


def zarr_array(path: Path, mode: str) -> Any:
    import zarr

    return zarr.open_array(path, mode=mode)


def opened(path: Path) -> Any:
    return zarr_array(path, "r")


def codec_of(source: Any) -> str:
    return "zstd" if source.compressors else "raw"


def target_for(source: Any, target: Path, shape: Any = None, chunks: Any = None) -> Any:
    """A new store at `target`, by default cut and encoded as the source is."""
    return create(target, shape or source.shape, chunks or source.chunks, codec_of(source))


def dask_array(path: Path, times: int) -> tuple[Any, Any]:
    """The store, and dask's array of it with `times` of its chunks along axis 0 in one."""
    import dask.array

    source = opened(path)
    chunks = (source.chunks[0] * times, *source.chunks[1:])
    return source, dask.array.from_array(source, chunks=chunks)


def mean_by_darray(source: Path, target: Path, times: int) -> Any:
    import darray as da

    return da.collect(da.from_zarr(source).mean())


def mean_by_dask(source: Path, target: Path, times: int) -> Any:
    _, x = dask_array(source, times)
    return x.mean().compute(scheduler="threads", num_workers=THREADS)


def double_by_darray(source: Path, target: Path, times: int) -> None:
    import darray as da

    stored = opened(source)
    compressors = stored.compressors or None
    doubled = da.from_zarr(source) * 2 + 1
    da.to_zarr(doubled, target, chunks=stored.chunks, compressors=compressors)


def double_by_dask(source: Path, target: Path, times: int) -> None:
    import dask.array

    stored, x = dask_array(source, times)
    made = target_for(stored, target)
    dask.array.store(x * 2 + 1, made, lock=False, scheduler="threads", num_workers=THREADS)


def columns(stored: Any) -> int:
    """Columns in a chunk of columns that has as many elements as one of the rows."""
    return int(stored.chunks[0] * stored.shape[1] // stored.shape[0])


def recut_by_darray(source: Path, target: Path, times: int) -> None:
    import darray as da

    stored = opened(source)
    blocks = (stored.shape[0], columns(stored))
    da.to_zarr(da.from_zarr(source).rechunk(blocks), target, compressors=None)


def recut_by_dask(source: Path, target: Path, times: int) -> None:
    import dask.array

    stored, x = dask_array(source, times)
    width = columns(stored)
    made = target_for(stored, target, chunks=(stored.shape[0], width))
    recut = x.rechunk((stored.shape[0], width * times))
    dask.array.store(recut, made, lock=False, scheduler="threads", num_workers=THREADS)


def product_by_darray(source: Path, target: Path, times: int) -> None:
    import darray as da

    product = da.from_zarr(source / "a") @ da.from_zarr(source / "b")
    da.to_zarr(product, target, chunks=opened(source / "a").chunks, compressors=None)


def product_by_numpy(source: Path, target: Path, times: int) -> Any:
    """The product alone, all in memory: see `operands`."""
    a, b = operands(source)
    return a @ b


@cache
def operands(source: Path) -> tuple[Any, Any]:
    """Both operands in memory, read by the first call, which is not timed."""
    return opened(source / "a")[...], opened(source / "b")[...]


def in_threads(task: Callable[[Path], Any], files: list[Path]) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(task, files):
            pass


def room(nbytes: int) -> Any:
    """This thread's memory, touched, of `nbytes`."""
    if len(getattr(_own, "room", ())) < nbytes:
        _own.room = np.full(nbytes, 1, np.uint8)
    return _own.room[:nbytes]


def read(file: Path) -> Any:
    held = room(file.stat().st_size)
    with open(file, "rb", buffering=0) as opened_file:
        if opened_file.readinto(held) != len(held):
            raise OSError(f"{file} was not read whole")
    return held


def reading(source: Path, target: Path, times: int) -> None:
    """Reading the bytes into memory that was touched before."""
    in_threads(read, chunk_files(source))


def copying(source: Path, target: Path, times: int) -> None:
    """Reading the bytes and writing them to fresh files."""
    target.mkdir()
    files = chunk_files(source)
    names = {file: target / str(number) for number, file in enumerate(files)}

    def copy(file: Path) -> None:
        with open(names[file], "wb", buffering=0) as made:
            made.write(read(file))

    in_threads(copy, files)


def writing_and_reading(source: Path, target: Path, times: int) -> None:
    """Writing as many bytes as the source has to fresh files, and reading them."""
    target.mkdir()
    files = chunk_files(source)
    sizes = {target / str(number): file.stat().st_size for number, file in enumerate(files)}

    def write(file: Path) -> None:
        with open(file, "wb", buffering=0) as made:
            made.write(room(sizes[file]))

    in_threads(write, list(sizes))
    in_threads(read, list(sizes))


@cache
def encoded(source: Path) -> dict[Path, bytes]:
    """The chunks as they are on disk, read by the first call, which is not timed."""
    return {file: file.read_bytes() for file in chunk_files(source)}


def decoding(source: Path, target: Path, times: int) -> None:
    """The codec alone, from memory into memory that was touched before."""
    from numcodecs import Zstd

    chunks = encoded(source)
    nbytes = 8 * int(np.prod(opened(source).chunks))
    codec = Zstd()
    in_threads(lambda file: codec.decode(chunks[file], out=room(nbytes)), list(chunks))


WAYS: dict[str, dict[str, Way]] = {
    "mean": {
        "darray": mean_by_darray,
        "dask": mean_by_dask,
        "reading": reading,
        "codec": decoding,
    },
    "double": {"darray": double_by_darray, "dask": double_by_dask, "copying": copying},
    "recut": {
        "darray": recut_by_darray,
        "dask": recut_by_dask,
        "writing and reading": writing_and_reading,
    },
    "product": {"darray": product_by_darray, "NumPy": product_by_numpy},
}
