"""The Zarr stores that rows read: made once, in a folder that is deleted afterwards."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@contextmanager
def folder(parent: str | None, nbytes: int) -> Iterator[Path]:
    """A temporary folder on a disk that has room for `nbytes`, deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="darray-benchmark-", dir=parent) as made:
        free = shutil.disk_usage(made).free
        if free < nbytes:
            sys.exit(
                f"{made} has {free / 1e9:.1f} GB free, the stores take up to {nbytes / 1e9:.1f} GB"
                ": name another place with --folder, or a smaller --size"
            )
        yield Path(made)


def create(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], codec: str) -> Any:
    """An empty float64 Zarr array of version 3; `codec` is "zstd" or "raw"."""
    import zarr

    compressors = [zarr.codecs.ZstdCodec()] if codec == "zstd" else None
    return zarr.create_array(
        path, shape=shape, chunks=chunks, dtype="float64", compressors=compressors
    )


def numbers(seed: int, count: int) -> NDArray[np.float64]:
    """Random multiples of 1/16 below 256, which zstd makes several times smaller.

    Their sums, of up to 10^12 of them, are exact in any order.
    """
    return np.random.default_rng(seed).integers(0, 4096, count, dtype=np.uint16) / 16.0


def fill(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], codec: str) -> float:
    """Make a store of `numbers`, slab by slab along axis 0; the sum of all its elements."""
    array = create(path, shape, chunks, codec)
    total = 0.0
    for start in range(0, shape[0], chunks[0]):
        rows = min(chunks[0], shape[0] - start)
        slab = numbers(start, rows * int(np.prod(shape[1:]))).reshape(rows, *shape[1:])
        array[start : start + rows] = slab
        total += float(slab.sum())
    return total


def chunk_files(path: Path) -> list[Path]:
    """The files of a store's chunks."""
    return sorted(file for file in (path / "c").rglob("*") if file.is_file())
