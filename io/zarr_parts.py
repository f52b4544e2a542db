"""Writing the chunks of a Zarr array part by part, from pieces that hold no chunk whole."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from io import FileIO
from itertools import accumulate, pairwise, product
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from darray.io.contiguous import pieces, read_contiguous, write_contiguous
from darray.io.zarr_chunks import ChunkFiles, chunks_of_axis
from darray.runtime.boxes import Box, box_shape, whole

__all__ = ["ZarrParts", "write_file"]

# So many files stay open while parts of them are written: opening one takes as long as writing
# 50 kB to it.
_OPEN = 128

# Runs of at least this many bytes are written one by one to where they belong in a chunk: the
# call then costs no more than the copying.
_RUN = 2048

# Pieces that follow each other begin so far from each other, of all that they share chunks with: by
# the golden ratio, whose multiples are nowhere close to each other.
_APART = 0.618

_Chunks = tuple[tuple[int, ...], ...]
_C = TypeVar("_C")


class _OpenFiles:
    """Files that are open for writing, by their paths; closed once nobody has this."""

    def __init__(self) -> None:
        # Guards the fields; taken last, never held while a file is opened, written or closed.
        self._lock = Lock()
        self._numbers: dict[str, int] = {}

    @contextmanager
    def opened(self, path: str) -> Iterator[int]:
        """The descriptor of a file, which many threads may write to at once."""
        with self._lock:
            number = self._numbers.get(path)
        if number is not None:
            yield number
            return
        number = _opened(path)
        with self._lock:
            stays = path not in self._numbers and len(self._numbers) < _OPEN
            if stays:
                self._numbers[path] = number
        try:
            yield number
        finally:
            if not stays:
                os.close(number)

    def close(self, path: str) -> None:
        """Close a file that nobody writes to any more, if it is open."""
        with self._lock:
            number = self._numbers.pop(path, None)
        if number is not None:
            os.close(number)

    def __del__(self) -> None:
        for number in self._numbers.values():
            os.close(number)


class ZarrParts:
    """The chunks of an array being written, of which each piece of `cut` writes some parts.

    Where chunks are plain and the parts are long runs of them, these are written to where they
    belong. Otherwise the parts of a chunk are put side by side, or in their places, into a file
    in the folder `staging`, and `end` makes the chunk of them.

    Parameters
    ----------
    files
        The chunks as they are read; plain where there is no `encode`.
    encode
        Makes the bytes of a chunk's file of the chunk.
    writing
        Within what it gives everything is written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = ChunkFiles(folder, (2,), np.dtype("i2"), "C", None, ("c",), ".", 0)
    ...     parts = ZarrParts(files, None, f"{folder}/parts", (3,), ((1, 1, 1),))
    ...     for number in (2, 0, 1):
    ...         parts.write((slice(number, number + 1, 1),), np.array([number + 7], "i2"))
    ...     parts.chunks, parts.needs_end, np.fromfile(f"{folder}/c.0", "i2")
    (((2, 1),), False, array([7, 8], dtype=int16))
    """

    __slots__ = (
        "_are_placed",
        "_edges",
        "_encode",
        "_files",
        "_open",
        "_staging",
        "_writing",
        "chunks",
        "needs_end",
    )

    def __init__(
        self,
        files: ChunkFiles,
        encode: Callable[[NDArray[Any]], Any] | None,
        staging: str,
        shape: tuple[int, ...],
        cut: _Chunks,
        writing: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._files = files
        self._encode = encode
        self._staging = staging
        self._writing = writing
        self._open = _OpenFiles()
        self.chunks = tuple(map(pieces, shape, files.chunk_shape))
        # Where pieces begin and end along each axis. The last ones reach to the end of a chunk,
        # since chunks at the end of an axis are stored in full.
        self._edges = list(map(_edges, cut, files.chunk_shape))
        run = _run_of_parts(files.chunk_shape, self._edges) * files.dtype.itemsize
        self._are_placed = run >= _RUN or _are_runs(files.chunk_shape, self._edges)
        # Whether `end` is to be called for each chunk once its parts are written.
        self.needs_end = encode is not None or not self._are_placed
        if self.needs_end:
            os.mkdir(staging)

    def __repr__(self) -> str:
        return f"ZarrParts({self._files.folder!r}, chunks={self._files.chunk_shape!r})"

    @property
    def end_nbytes(self) -> int:
        """Bytes that `end` holds: a chunk, and its code or a part."""
        return 2 * math.prod(self._files.chunk_shape) * self._files.dtype.itemsize

    def write(self, box: Box, array: NDArray[Any]) -> None:
        """Write a piece of the cut; from many threads at once."""
        files = self._files
        values = array.astype(files.dtype, copy=False)
        full = [
            slice(cut.start, next(edge for edge in edges if edge >= cut.stop), 1)
            for cut, edges in zip(box, self._edges, strict=True)
        ]
        with self._writing():
            for chunk in _from_elsewhere(
                box, list(product(*map(chunks_of_axis, full, files.chunk_shape)))
            ):
                index = tuple([number for number, _, _ in chunk])
                inside = tuple([place for _, place, _ in chunk])
                # Without axes there is nothing to select, and NumPy would make a scalar of it.
                part = values[tuple([of for _, _, of in chunk])] if chunk else values
                if part.shape != box_shape(inside):
                    filled = np.zeros(box_shape(inside), files.dtype)
                    filled[tuple(map(slice, part.shape))] = part
                    part = filled
                self._write_part(index, inside, part)

    def end(self, box: Box) -> None:
        """Make a chunk, which covers `box`, of its parts; an array without elements has none."""
        if 0 in box_shape(box):
            return
        files = self._files
        index = tuple([at.start // size for at, size in zip(box, files.chunk_shape, strict=True)])
        with self._writing():
            chunk = self._assembled(index)
            self._open.close(self._staged(index))
            write_file(files.path(index), chunk if self._encode is None else self._encode(chunk))
            os.unlink(self._staged(index))

    def finish(self) -> None:
        """Leave nothing but chunks.

        Raises
        ------
        OSError
            Where a chunk was not ended.
        """
        # Those that are open are closed.
        self._open = _OpenFiles()
        if self.needs_end:
            os.rmdir(self._staging)

    def _write_part(self, index: tuple[int, ...], inside: Box, part: NDArray[Any]) -> None:
        """Write the part `inside` of a chunk."""
        files = self._files
        path = self._staged(index) if self.needs_end else files.path(index)
        with self._open.opened(path) as descriptor:
            if self._are_placed:
                write_contiguous(descriptor, 0, files.chunk_shape, inside, part, False)
                return
            offset = _offset(inside, files.chunk_shape) * files.dtype.itemsize
            shape = (part.size,)
            write_contiguous(descriptor, offset, shape, whole(shape), part.ravel(), False)

    def _assembled(self, index: tuple[int, ...]) -> NDArray[Any]:
        """Return a chunk from the file of its parts."""
        shape = self._files.chunk_shape
        chunk = np.empty(shape, self._files.dtype)
        with open(self._staged(index), "rb", buffering=0) as file:
            if self._are_placed:
                _read_part(file, 0, chunk)
                return chunk
            for inside in product(*map(_inside, index, shape, self._edges)):
                part = np.empty(box_shape(inside), chunk.dtype)
                _read_part(file, _offset(inside, shape), part)
                chunk[inside] = part
            return chunk

    def _staged(self, index: tuple[int, ...]) -> str:
        return os.path.join(self._staging, ".".join(map(str, index)) or "0")


def write_file(path: str, data: bytes | NDArray[Any]) -> None:
    """Write the file of a chunk, in a folder that is made if need be.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_file(f"{folder}/c/0", np.array([7], "i2"))
    ...     np.fromfile(f"{folder}/c/0", "i2")
    array([7], dtype=int16)
    """
    plain = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data.reshape(-1)
    descriptor = _opened(path, os.O_TRUNC)
    try:
        write_contiguous(descriptor, 0, plain.shape, whole(plain.shape), plain, False)
    finally:
        os.close(descriptor)


def _opened(path: str, flags: int = 0) -> int:
    """Open a file for writing, which another thread may do at the same time."""
    flags |= os.O_WRONLY | os.O_CREAT
    with suppress(FileNotFoundError):
        return os.open(path, flags, 0o666)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return os.open(path, flags, 0o666)


def _read_part(file: FileIO, before: int, part: NDArray[Any]) -> None:
    """Read `part`, which lies in C order behind so many elements."""
    offset = before * part.dtype.itemsize
    read_contiguous(file, offset, part.shape, "C", whole(part.shape), part)


def _offset(inside: Box, chunk_shape: tuple[int, ...]) -> int:
    """Elements before a part in its file, where parts lie side by side in C order of their grid.

    Examples
    --------
    >>> _offset((slice(2, 3, 1), slice(4, 6, 1)), (5, 10))
    24
    """
    before, rest, count = 0, math.prod(chunk_shape), 1
    for at, size in zip(inside, chunk_shape, strict=True):
        rest //= size
        before += count * at.start * rest
        count *= at.stop - at.start
    return before


def _from_elsewhere(box: Box, chunks: list[_C]) -> list[_C]:
    """`chunks` in turn, from one on that is another for pieces at other places than `box`.

    Writers of one file wait for each other, and neighbouring pieces are written at the same time.

    Examples
    --------
    >>> [_from_elsewhere((slice(n, n + 1),), [0, 1, 2, 3]) for n in (0, 1, 2)]
    [[0, 1, 2, 3], [2, 3, 0, 1], [0, 1, 2, 3]]
    """
    number = sum([at.start // max(1, at.stop - at.start) for at in box])
    first = int(len(chunks) * (number * _APART % 1))
    return chunks[first:] + chunks[:first]


def _edges(sizes: tuple[int, ...], size: int) -> list[int]:
    """Where pieces of an axis begin and end, the axis made longer to hold whole chunks.

    Examples
    --------
    >>> _edges((3, 4), 5)
    [0, 3, 10]
    """
    edges = [*accumulate(sizes, initial=0)]
    return [*edges[:-1], -(-edges[-1] // size) * size]


def _inside(number: int, size: int, edges: list[int]) -> list[slice]:
    """The parts of a chunk along an axis, counted from where it begins.

    Examples
    --------
    >>> _inside(1, 4, [0, 3, 6, 8])
    [slice(0, 2, 1), slice(2, 4, 1)]
    """
    inner = [edge - number * size for edge in edges]
    bounds = sorted({0, size, *[edge for edge in inner if 0 < edge < size]})
    return [slice(a, b, 1) for a, b in pairwise(bounds)]


def _shortest(edges: list[int], size: int) -> int:
    """Elements of the shortest part along an axis.

    Examples
    --------
    >>> _shortest([0, 3, 6, 8], 4), _shortest([0, 4], 4)
    (1, 4)
    """
    bounds = sorted({*edges, *range(0, edges[-1], size)})
    return min([b - a for a, b in pairwise(bounds)], default=size)


def _run_of_parts(chunk_shape: tuple[int, ...], edges: list[list[int]]) -> int:
    """Elements of a part that follow each other in its chunk, for the shortest part.

    Examples
    --------
    >>> _run_of_parts((4, 10), [[0, 1, 2, 3, 4], [0, 5, 10]])
    5
    """
    run = 1
    for size, along in zip(reversed(chunk_shape), reversed(edges), strict=True):
        shortest = _shortest(along, size)
        run *= shortest
        if shortest < size:
            break
    return run


def _are_runs(chunk_shape: tuple[int, ...], edges: list[list[int]]) -> bool:
    """Whether every part is one run of its chunk.

    Examples
    --------
    >>> _are_runs((4, 10), [[0, 1, 4], [0, 10]]), _are_runs((4, 10), [[0, 4], [0, 5, 10]])
    (True, False)
    """
    shortest = list(map(_shortest, edges, chunk_shape))
    split = [axis for axis, size in enumerate(chunk_shape) if shortest[axis] < size]
    return all(chunk_shape[axis] == 1 for axis in range(split[-1])) if split else True
