"""Reading the chunk files of a local Zarr array in the calling thread.

The Zarr library does all its work through one event loop, at milliseconds a chunk. What lies on
a local disk as plain or compressed elements needs none of that: the specifications of Zarr v2
and v3 fix the names and the contents of the files.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.io.contiguous import Order, read_contiguous
from darray.runtime.boxes import Box, shift, whole
from darray.runtime.devices.host_buffers import empty

__all__ = ["ChunkFiles", "chunk_files", "chunks_of_axis"]

# Codecs that need no configuration to decode.
_CODECS = ("blosc", "gzip", "lz4", "zlib", "zstd")
# Kinds of dtype whose elements are stored as they are in memory.
_KINDS = "biufcmMSU"


class ChunkFiles(Struct, frozen=True):
    """The files of a local array, one a chunk, each plain or compressed with one codec.

    ``codec`` is the codec's name in numcodecs, None for plain files; ``prefix`` and
    ``separator`` make a file's name out of the chunk's index; ``fill`` is what the elements of
    chunks without a file are.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.array([3, 4]).tofile(f"{folder}/c.1")
    ...     files = ChunkFiles(folder, (2,), np.dtype(int), "C", None, ("c",), ".", 0)
    ...     out = np.empty(3, dtype=int)
    ...     files.read_into((slice(1, 4, 1),), out)
    >>> out
    array([0, 3, 4])
    """

    folder: str
    chunk_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Order
    codec: str | None
    prefix: tuple[str, ...]
    separator: str
    fill: Any

    def read_into(self, box: Box, out: NDArray[Any]) -> None:
        """Write the elements of `box` into `out`, chunk after chunk.

        Raises
        ------
        ValueError
            Where a file cannot be decoded, or does not hold exactly one chunk.
        """
        per_axis = map(chunks_of_axis, box, self.chunk_shape)
        for chunk in product(*per_axis):
            index = tuple(number for number, _, _ in chunk)
            inside = tuple(source for _, source, _ in chunk)
            filled = tuple(destination for _, _, destination in chunk)
            # Without axes there is nothing to select, and NumPy would make a scalar of it.
            self._read_chunk(self.path(index), inside, out[filled] if filled else out)

    def read_parts(self, box: Box, axis: int, outs: Iterable[NDArray[Any]]) -> Iterator[Any]:
        """Write `box` of plain chunks into arrays that follow each other along `axis`.

        Each is given when it is filled. The file of a box within one chunk is opened once.
        """
        firsts = [cut.start // size for cut, size in zip(box, self.chunk_shape, strict=True)]
        start = box[axis].start
        if not all(map(_is_within, box, self.chunk_shape, firsts)):
            for out in outs:
                stop = start + out.shape[axis]
                self.read_into((*box[:axis], slice(start, stop, 1), *box[axis + 1 :]), out)
                start = stop
                yield out
            return
        inside = list(shift(box, [-i * n for i, n in zip(firsts, self.chunk_shape, strict=True)]))
        start = inside[axis].start
        path = self.path(tuple(firsts))
        if not os.path.exists(path):
            for out in outs:
                out[...] = self.fill
                yield out
            return
        with open(path, "rb", buffering=0) as file:
            self._require_size(path, os.fstat(file.fileno()).st_size)
            for out in outs:
                inside[axis] = slice(start, start + out.shape[axis], 1)
                start += out.shape[axis]
                read_contiguous(file, 0, self.chunk_shape, self.order, tuple(inside), out)
                yield out

    def path(self, index: tuple[int, ...]) -> str:
        """Return the file of the chunk at `index` of the grid."""
        # A 0-d array without a prefix has its one chunk in "0".
        name = self.separator.join([*self.prefix, *map(str, index)]) or "0"
        return os.path.join(self.folder, name)

    def _read_chunk(self, path: str, inside: Box, target: NDArray[Any]) -> None:
        """Write the box `inside` of the chunk in the file `path` into `target`."""
        try:
            with open(path, "rb", buffering=0) as file:
                if self.codec is None:
                    self._require_size(path, os.fstat(file.fileno()).st_size)
                    read_contiguous(file, 0, self.chunk_shape, self.order, inside, target)
                else:
                    self._decode(file.readall(), path, inside, target)
        except FileNotFoundError:
            target[...] = self.fill

    def _decode(self, stored: bytes, path: str, inside: Box, target: NDArray[Any]) -> None:
        direct = (
            self.order == "C" and target.flags.c_contiguous and inside == whole(self.chunk_shape)
        )
        chunk = target if direct else empty(self.chunk_shape, self.dtype, self.order)
        elements = chunk.reshape(-1, order=self.order).view(np.uint8)
        assert self.codec is not None
        try:
            _decode_into(self.codec, stored, elements)
        except (RuntimeError, ValueError, EOFError, OSError, zlib.error) as error:
            raise ValueError(
                f"the chunk file {path!r} cannot be decoded by {self.codec}: {error}; "
                "it is damaged, write it again"
            ) from error
        if not direct:
            target[...] = chunk[inside]

    def _require_size(self, path: str, size: int) -> None:
        wanted = self.dtype.itemsize
        for length in self.chunk_shape:
            wanted *= length
        if size != wanted:
            raise ValueError(
                f"the chunk file {path!r} has {size} bytes, a chunk of shape "
                f"{self.chunk_shape!r} and dtype {self.dtype.str!r} has {wanted}: "
                "it is damaged, write it again"
            )


def chunk_files(
    folder: str, document: dict[str, Any], dtype: np.dtype[Any], fill: object
) -> ChunkFiles | None:
    """Return how to read the chunk files in `folder`, or None where only the library can.

    `document` is the array's metadata as it is stored, in version 2 or 3, without errors;
    `dtype` and `fill` are the dtype and the fill value that the library made of it.

    The library is left what is rare: shards, filters, transposed chunks, checksums, other byte
    orders, and dtypes that need more than a copy.

    Examples
    --------
    >>> document = {
    ...     "zarr_format": 2, "chunks": [10], "dtype": "<i4", "order": "C",
    ...     "compressor": {"id": "zlib", "level": 1}, "filters": None, "fill_value": 0,
    ... }
    >>> chunk_files("a.zarr", document, np.dtype("<i4"), 0).codec
    'zlib'
    >>> chunk_files("a.zarr", document | {"filters": [{"id": "delta"}]}, np.dtype("<i4"), 0)
    """
    if dtype.kind not in _KINDS or not dtype.isnative or dtype.itemsize == 0:
        return None
    if fill is None:
        fill = np.array("NaT", dtype) if dtype.kind in "mM" else np.zeros((), dtype)
    read = _files_v2 if document["zarr_format"] == 2 else _files_v3
    return read(folder, document, dtype, fill)


def _files_v2(
    folder: str, document: dict[str, Any], dtype: np.dtype[Any], fill: object
) -> ChunkFiles | None:
    compressor = document["compressor"]
    codec = None if compressor is None else compressor["id"]
    if document.get("filters") or codec not in (None, *_CODECS):
        return None
    stored = document["dtype"]
    if not isinstance(stored, str) or np.dtype(stored) != dtype:
        return None
    shape = tuple(document["chunks"])
    separator = document.get("dimension_separator", ".")
    return ChunkFiles(folder, shape, dtype, document["order"], codec, (), separator, fill)


def _files_v3(
    folder: str, document: dict[str, Any], dtype: np.dtype[Any], fill: object
) -> ChunkFiles | None:
    grid, grid_options = _named(document["chunk_grid"])
    if grid != "regular" or document.get("storage_transformers"):
        return None
    (serializer, options), *compressors = map(_named, document["codecs"])
    native = dtype.byteorder == "|" or options.get("endian") == sys.byteorder
    if serializer != "bytes" or not native or len(compressors) > 1:
        return None
    codec = compressors[0][0].removeprefix("numcodecs.") if compressors else None
    encoding, naming = _named(document["chunk_key_encoding"])
    if codec not in (None, *_CODECS) or encoding not in ("default", "v2"):
        return None
    shape = tuple(grid_options["chunk_shape"])
    prefix, separator = (("c",), "/") if encoding == "default" else ((), ".")
    separator = naming.get("separator", separator)
    return ChunkFiles(folder, shape, dtype, "C", codec, prefix, separator, fill)


def _named(part: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return name and configuration of a part of version 3 metadata."""
    if isinstance(part, str):
        return part, {}
    return part["name"], part.get("configuration") or {}


def chunks_of_axis(cut: slice, size: int) -> list[tuple[int, slice, slice]]:
    """List the chunks along an axis that have elements of `cut`.

    Each comes as its number, the slice of the chunk, and the slice of the output.
    """
    found = []
    position, done = cut.start, 0
    while position < cut.stop:
        number = position // size
        begin = number * size
        stop = min(cut.stop, begin + size)
        count = len(range(position, stop, cut.step))
        inside = slice(position - begin, stop - begin, cut.step)
        found.append((number, inside, slice(done, done + count, 1)))
        position += count * cut.step
        done += count
    return found


def _is_within(cut: slice, size: int, number: int) -> bool:
    """Whether the slice of an axis lies within the chunk of that number."""
    return bool(cut.stop <= (number + 1) * size)


def _decode_into(codec: str, stored: bytes, out: NDArray[np.uint8]) -> None:
    """Decode `stored` into `out`, which must be exactly as long as what it holds.

    numcodecs silently leaves the rest of too long an output as it was, so the length that the
    stored bytes state is looked at first. Where they state none, what was decoded is copied.
    """
    decoder = _decoder(codec)
    stated = _stated_length(codec, stored)
    if stated == out.nbytes:
        decoder.decode(stored, out)
        return
    if codec in ("blosc", "lz4"):
        raise ValueError(f"it holds {stated} bytes, and {out.nbytes} are wanted")
    plain = np.frombuffer(decoder.decode(stored), np.uint8)
    if plain.nbytes != out.nbytes:
        raise ValueError(f"it holds {plain.nbytes} bytes, and {out.nbytes} are wanted")
    out[...] = plain


@cache
def _decoder(codec: str) -> Any:
    import numcodecs

    return numcodecs.get_codec({"id": codec})


def _stated_length(codec: str, stored: bytes) -> int | None:
    """Return how many bytes `stored` says that it decodes to, None where it does not say."""
    if codec == "lz4":
        return int.from_bytes(stored[:4], "little")
    if codec == "blosc":
        return int.from_bytes(stored[4:8], "little")
    if codec == "zstd":
        return _zstd_length(stored)
    return None


def _zstd_length(stored: bytes) -> int | None:
    """Return the content size in the header of the first Zstandard frame (RFC 8878, 3.1.1.1)."""
    if len(stored) < 5:
        return None
    descriptor = stored[4]
    single_segment = descriptor >> 5 & 1
    width = (single_segment, 2, 4, 8)[descriptor >> 6]
    begin = 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if width == 0 or len(stored) < begin + width:
        return None
    # Two bytes count from 256 on: one byte says what is less.
    return int.from_bytes(stored[begin : begin + width], "little") + (256 if width == 2 else 0)
