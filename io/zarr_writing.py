"""Writing Zarr arrays of version 3 into local folders, many chunks at once."""

from __future__ import annotations

import itertools
import json
import math
import os
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.io.replacing import Replacement
from darray.io.zarr_chunks import ChunkFiles, chunk_files
from darray.io.zarr_parts import ZarrParts, write_file
from darray.runtime.boxes import Box, index_of

__all__ = ["ZarrTarget", "fitted_cut", "fitting_chunk"]

# Store chunks of more bytes than this are proposed only where nothing smaller fits.
_LARGEST = 64 * 1024 * 1024
# How many times smaller than that they may come out, for the sake of fitting.
_TOLERATED = 8
# The folder in which the parts of chunks are put together.
_STAGING = "parts"
# Blosc numbers its filters.
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


class ZarrTarget:
    """A Zarr array being written, in a folder beside its place.

    The library writes the metadata. Chunks that are plain, or compressed with a codec of which
    the specification says all, are encoded and written in the calling thread; others are left
    to the library. Every chunk is written, also those that hold nothing but the fill value.
    `beside` is as for `Replacement`.

    Raises
    ------
    TypeError
        For dtypes that Zarr cannot hold.
    OSError
        Where the folder cannot be written to.

    Examples
    --------
    >>> import tempfile, zarr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = ZarrTarget(
    ...         zarr, f"{folder}/a.zarr", (5,), np.dtype("i4"), ((3, 2),), (3,), "auto", True
    ...     )
    ...     target.write((slice(0, 3, 1),), np.array([1, 2, 3], "i4"))
    ...     target.write((slice(3, 5, 1),), np.array([4, 5], "i4"))
    ...     target.commit()
    ...     zarr.open_array(f"{folder}/a.zarr", mode="r")[:]
    array([1, 2, 3, 4, 5], dtype=int32)
    """

    __slots__ = (
        "_dtype",
        "_encoder",
        "_files",
        "_library",
        "_overwrite",
        "_parts",
        "_replacement",
        "chunks",
    )

    def __init__(
        self,
        zarr: ModuleType,
        path: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunks: tuple[tuple[int, ...], ...],
        chunk_shape: tuple[int, ...],
        compressors: Any,
        overwrite: bool,
        beside: str | None = None,
    ) -> None:
        self.chunks = chunks
        # Zarr has no byte orders in its dtypes, and the library loses those of fields.
        self._dtype = dtype.newbyteorder("=")
        self._overwrite = overwrite
        self._parts: ZarrParts | None = None
        _require_storable(self._dtype)
        self._replacement = Replacement(path, is_folder=True, beside=beside)
        try:
            folder = self._replacement.temporary
            self._library = _created(zarr, folder, shape, self._dtype, chunk_shape, compressors)
            with open(os.path.join(folder, "zarr.json"), "rb") as file:
                document = json.load(file)
            self._encoder = _encoder(document["codecs"], self._dtype)
            files = chunk_files(folder, document, self._dtype, self._library.fill_value)
            self._files = files if files and (self._encoder or not files.codec) else None
        except BaseException:
            self._replacement.abort()
            raise

    def __repr__(self) -> str:
        return f"ZarrTarget({self._replacement.path!r}, shape={self._library.shape!r})"

    def write(self, box: Box, array: NDArray[Any]) -> None:
        """Write the elements of a piece; from many threads at once."""
        if array.size == 0:
            return
        with self._replacement.writing():
            values = array.astype(self._dtype, copy=False)
            if self._files is None:
                self._library.set_basic_selection(box, values)
            else:
                self._write_files(self._files, box, values)

    @property
    def store_chunk(self) -> tuple[int, ...] | None:
        """The shape of the store's chunks, where they can be written part by part."""
        return None if self._files is None else self._files.chunk_shape

    def parts(self, cut: tuple[tuple[int, ...], ...]) -> ZarrParts:
        """Begin to write the pieces of any `cut` instead of those of ``chunks``."""
        assert self._files is not None, "asked for only where there is a store_chunk"
        staging = os.path.join(self._replacement.temporary, _STAGING)
        encode = self._encoder.encode if self._encoder else None
        shape = self._library.shape
        writing = self._replacement.writing
        self._parts = ZarrParts(self._files, encode, staging, shape, cut, writing)
        return self._parts

    def commit(self) -> None:
        """Put the array in its place.

        Raises
        ------
        FileExistsError
            Where there is something by now, and it was not to be replaced.
        """
        if self._parts is not None:
            self._parts.finish()
        self._replacement.commit(self._overwrite)

    def abort(self) -> None:
        """Remove what was written."""
        self._replacement.abort()

    def _write_files(self, files: ChunkFiles, box: Box, values: NDArray[Any]) -> None:
        """Write the chunks of `box`, which begins and ends where chunks of the store do."""
        steps = [
            range(0, cut.stop - cut.start, size)
            for cut, size in zip(box, files.chunk_shape, strict=True)
        ]
        for starts in product(*steps):
            inside = tuple(
                slice(a, a + n, 1) for a, n in zip(starts, files.chunk_shape, strict=True)
            )
            part = values[index_of(inside)]
            if part.shape != files.chunk_shape:
                # Chunks at the end of an axis are stored in full.
                filled = np.zeros(files.chunk_shape, self._dtype)
                filled[tuple(map(slice, part.shape))] = part
                part = filled
            index = tuple(
                (cut.start + a) // n
                for cut, a, n in zip(box, starts, files.chunk_shape, strict=True)
            )
            # The shape of an array without axes would become (1,) here.
            part = np.ascontiguousarray(part).reshape(part.shape)
            write_file(files.path(index), self._encoder.encode(part) if self._encoder else part)


def fitting_chunk(chunks: tuple[tuple[int, ...], ...], itemsize: int) -> tuple[int, ...]:
    """Return the shape of store chunks that fit an array computed in `chunks`.

    They are the pieces, where these are even; where one is over 64 MiB, an even part of it.

    Examples
    --------
    >>> fitting_chunk(((4, 4, 2), (3, 5), (0,)), 8)
    (4, 5, 1)
    >>> fitting_chunk(((6000, 6000), (6000,)), 8)
    (1200, 6000)
    """
    sizes = [max(1, *axis) for axis in chunks]
    for axis, cut in enumerate(chunks):
        parts = -(-math.prod(sizes) * itemsize // _LARGEST)
        if parts > 1:
            sizes[axis] = _part(sizes[axis], parts, is_cut=len(cut) > 1)
    return tuple(sizes)


def _part(size: int, parts: int, is_cut: bool) -> int:
    """Return the size of `parts` parts of a piece, or of more so that they fill it evenly."""
    if parts >= size:
        return 1
    if is_cut:
        fitting = (n for n in range(parts, min(size, parts * _TOLERATED) + 1) if size % n == 0)
        return size // next(fitting, 1)
    return size // parts


def fitted_cut(
    chunks: tuple[tuple[int, ...], ...], chunk_shape: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    """Return the cut nearest below `chunks` of which no two pieces share a store chunk.

    Examples
    --------
    >>> fitted_cut(((3, 5, 4), (7, 7)), (5, 3))
    ((5, 7), (6, 8))
    >>> fitted_cut(((1, 1, 1, 1, 1),), (2,))
    ((2, 2, 1),)
    """
    return tuple(map(_fitted_axis, chunks, chunk_shape))


def _fitted_axis(sizes: tuple[int, ...], size: int) -> tuple[int, ...]:
    length = sum(sizes)
    if length == 0:
        return (0,)
    # The end belongs to the last piece, wherever in a store chunk it is.
    inner = {end // size * size for end in itertools.accumulate(sizes[:-1])}
    edges = sorted(inner | {0, length})
    return tuple([end - start for start, end in itertools.pairwise(edges)])


def _require_storable(dtype: np.dtype[Any]) -> None:
    if dtype.hasobject or dtype.itemsize == 0:
        raise TypeError(
            f"a Zarr array cannot hold dtype {dtype!r}: convert it with astype, or write a .pkl "
            "file"
        )


def _created(
    zarr: ModuleType,
    folder: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunk_shape: tuple[int, ...],
    compressors: Any,
) -> Any:
    """Create an array in the empty `folder`, that holds `dtype` exactly."""
    try:
        zarr.dtype.parse_dtype(dtype, zarr_format=3)
        array = zarr.create_array(
            folder,
            shape=shape,
            chunks=chunk_shape,
            dtype=dtype,
            compressors=compressors,
            zarr_format=3,
            # Chunks that equal the fill value differ from it where zeros have signs.
            config={"write_empty_chunks": True},
        )
        # The library writes metadata that it cannot read, and dtypes that become others.
        read = zarr.open_array(folder, mode="r")
    except (ValueError, TypeError) as error:
        raise TypeError(
            f"Zarr cannot store dtype {dtype!r} in chunks of {chunk_shape!r} with "
            f"compressors={compressors!r}: {error}"
        ) from error
    if read.dtype != dtype:
        raise TypeError(
            f"a Zarr array cannot hold dtype {dtype!r}, it would become {read.dtype!r}: convert "
            "it with astype, or write a .pkl file"
        )
    return array


def _encoder(codecs: list[dict[str, Any]], dtype: np.dtype[Any]) -> Any:
    """Return the numcodecs codec that encodes as `codecs` say; None where none does."""
    if len(codecs) != 2:
        return None
    options = dict(codecs[1].get("configuration") or {})
    name = codecs[1]["name"]
    if name == "blosc":
        if options.pop("typesize") != dtype.itemsize:
            return None
        options["shuffle"] = _SHUFFLES[options["shuffle"]]
    elif name not in ("gzip", "zstd"):
        return None
    import numcodecs

    return numcodecs.get_codec({"id": name, **options})
