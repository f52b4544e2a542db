"""The Zarr format, versions 2 and 3: in local folders and zip files, and behind URLs."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.io.contiguous import pieces
from darray.io.formats import Chunked, Target, require_box, require_output
from darray.io.zarr_chunks import ChunkFiles, chunk_files
from darray.runtime.boxes import Box, box_shape, whole
from darray.runtime.devices.host_buffers import empty

__all__ = ["FORMAT", "ZarrArray", "ZarrFormat"]

# Shards of at most this many bytes are read whole; larger ones by the chunks in them.
_LARGEST_SHARD = 128 * 1024 * 1024
_SHOWN_ARRAYS = 20
# What the library raises for metadata that it cannot make sense of.
_METADATA_ERRORS = (ValueError, TypeError, KeyError, AttributeError, FileNotFoundError)


class ZarrArray:
    """An array in a Zarr store, of which boxes are read by any number of threads at once.

    ``chunks`` are the store's chunks, or its shards where it has shards of at most 128 MiB. The
    object pickles; the library's array is opened again where it is needed.

    Examples
    --------
    >>> import tempfile, zarr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stored = zarr.create_array(f"{folder}/a.zarr", shape=(5,), chunks=(2,), dtype="i4")
    ...     stored[:] = [1, 2, 3, 4, 5]
    ...     array = FORMAT.open(f"{folder}/a.zarr")
    ...     array.chunks, array.read((slice(1, 5, 2),))
    (((2, 2, 1),), array([2, 4], dtype=int32))
    """

    __slots__ = ("_files", "_library", "_metadata", "chunks", "dtype", "path", "shape")

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[tuple[int, ...], ...]

    def __init__(self, path: str) -> None:
        self._metadata = _stored_metadata(path)
        self._library = _open(path)
        self.path = path
        self.shape = tuple(self._library.shape)
        self.dtype = np.dtype(self._library.dtype)
        self.chunks = tuple(map(pieces, self.shape, _chunk_shape(self._library)))
        self._files: ChunkFiles | None = None
        if self._metadata is not None:
            self._files = chunk_files(
                path, self._metadata.document, self.dtype, self._library.fill_value
            )

    def __repr__(self) -> str:
        return f"ZarrArray({self.path!r}, shape={self.shape!r}, dtype={self.dtype.str!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "_library"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._library = None

    @property
    def is_remote(self) -> bool:
        """Whether reading waits for another machine: what is behind a URL, unless in memory."""
        return "://" in self.path and not self.path.startswith("memory://")

    def read(self, box: Box) -> NDArray[Any]:
        """Return the elements of `box` as a fresh, writable, C-contiguous array.

        Raises
        ------
        ValueError
            Where chunks are damaged, or the array is another one than when it was opened.
        """
        require_box(box, self.shape)
        shape = box_shape(box)
        if self._files is None and 0 not in shape:
            return np.require(self._read_by_library(box), self.dtype, ["C", "W", "O"])
        out = empty(shape, self.dtype)
        self.read_into(box, out)
        return out

    def read_into(self, box: Box, out: NDArray[Any]) -> None:
        """Write the elements of `box` into `out`, which has their shape and dtype."""
        require_box(box, self.shape)
        require_output(out, box_shape(box), self.dtype)
        if self._files is None:
            if out.size:
                out[...] = self._read_by_library(box)
            return
        self._require_unchanged()
        self._files.read_into(box, out)

    def reads_parts(self, box: Box) -> bool:
        """Whether `read_parts` can read `box`: where chunks are stored plainly, in C order."""
        files = self._files
        if files is None or files.codec is not None or files.order != "C":
            return False
        return all(cut.step == 1 for cut in box)

    def read_parts(self, box: Box, axis: int, outs: Iterable[NDArray[Any]]) -> Iterator[Any]:
        """Write `box` into arrays that follow each other along `axis`; each when it is filled."""
        require_box(box, self.shape)
        self._require_unchanged()
        assert self._files is not None, "asked for only where reads_parts is true"
        return self._files.read_parts(box, axis, outs)

    def _read_by_library(self, box: Box) -> Any:
        self._require_unchanged()
        # Two threads may both open it: the later one's is kept, and both are right.
        if self._library is None:
            self._library = _open(self.path)
        try:
            return self._library.get_basic_selection(box)
        except (RuntimeError, ValueError, EOFError) as error:
            raise ValueError(f"the box {box!r} of {self.path!r} cannot be read: {error}") from error

    def _require_unchanged(self) -> None:
        """Raise where the array was removed or made anew, so that its files mean other elements."""
        if self._metadata is None:
            return
        current = _stored_metadata(self.path, self._metadata)
        if current is not self._metadata:
            if current is None:
                raise FileNotFoundError(f"the Zarr array {self.path!r} was removed or damaged")
            if current.document != self._metadata.document:
                raise ValueError(
                    f"the Zarr array {self.path!r} was replaced since it was opened as shape "
                    f"{self.shape!r} and dtype {self.dtype.str!r}; open it again"
                )
            self._metadata = current


class ZarrFormat(Struct, frozen=True):
    """Arrays in Zarr stores: local folders, local zip files, and URLs that fsspec knows.

    An array in a group is named by its path: ``store.zarr/temperature``.

    Examples
    --------
    >>> FORMAT.name, FORMAT.suffixes
    ('zarr', ('.zarr', '.zarr.zip'))
    """

    name: str = "zarr"
    suffixes: tuple[str, ...] = (".zarr", ".zarr.zip")

    def recognises(self, path: str) -> bool:
        """Tell whether `path` has Zarr metadata, or leads into a zip file or a ``*.zarr`` URL."""
        if "://" in path:
            return any(part.endswith(self.suffixes) for part in path.lower().split("/"))
        names = ("zarr.json", ".zarray", ".zgroup")
        return _zip_part(path) is not None or any(
            os.path.exists(os.path.join(path, name)) for name in names
        )

    def open(self, path: str) -> Chunked:
        """Return the array at `path`; only its metadata are read.

        Raises
        ------
        ImportError
            Where the zarr library is missing.
        FileNotFoundError
            Where there is nothing behind a URL.
        ValueError
            Where there is a group instead of an array, no metadata, or metadata that cannot be
            understood.
        """
        return ZarrArray(path)

    def load(self, path: str) -> object:
        """Return the whole array at `path`."""
        array = self.open(path)
        return array.read(whole(array.shape))

    def create(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunks: tuple[tuple[int, ...], ...],
        *,
        chunk_shape: tuple[int, ...] | None = None,
        compressors: Any = "auto",
        overwrite: bool = True,
    ) -> Target:
        """Begin to write an array of version 3 into the folder `path`.

        Parameters
        ----------
        chunk_shape : tuple of int
            Shape of the store's chunks; by default that of the largest of `chunks`.
        compressors
            As ``zarr.create_array`` takes it; None for none.
        overwrite : bool
            Whether an array that is there is replaced. Nothing else ever is.

        Raises
        ------
        FileExistsError
            Where there is an array and `overwrite` is false, or anything that is no array.
        """
        # Imported here: reading needs none of it.
        from darray.io.zarr_writing import ZarrTarget, fitted_cut, fitting_chunk

        _require_replaceable(path, overwrite)
        if chunk_shape is None:
            chunk_shape = fitting_chunk(chunks, dtype.itemsize)
        fitted = fitted_cut(chunks, chunk_shape)
        return ZarrTarget(
            _zarr(),
            path,
            shape,
            dtype,
            fitted,
            chunk_shape,
            compressors,
            overwrite,
            _outside_groups(path),
        )


FORMAT = ZarrFormat()


class _Metadata(Struct, frozen=True):
    """The metadata of a local array as stored, less its attributes, and the file's identity."""

    document: dict[str, Any]
    stamp: tuple[int, int, int]


def _stored_metadata(path: str, known: _Metadata | None = None) -> _Metadata | None:
    """Return the metadata in the folder `path`, or `known` where their file is the same still.

    None where there are none, as behind a URL, or where they cannot be parsed: saying what is
    wrong with them is the library's.
    """
    for name in ("zarr.json", ".zarray"):
        file = os.path.join(path, name)
        try:
            state = os.stat(file)
            stamp = (state.st_mtime_ns, state.st_size, state.st_ino)
            if known is not None and stamp == known.stamp:
                return known
            with open(file, "rb") as opened:
                document = json.load(opened)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except ValueError:
            return None
        if not isinstance(document, dict):
            return None
        document.pop("attributes", None)
        return _Metadata(document, stamp)
    return None


def _require_replaceable(path: str, overwrite: bool) -> None:
    """Check that an array can be put at `path`, and nothing but an array is lost."""
    from darray.io.replacing import require_local

    require_local(path)
    if path.lower().endswith(".zip"):
        raise NotImplementedError(
            f"Zarr arrays are written into folders, not into the zip file {path!r}: write a "
            "folder, then zip what is in it"
        )
    if not os.path.exists(path):
        return
    if _stored_node(path) != "array":
        what = "a Zarr group" if _stored_node(path) == "group" else "not a Zarr array"
        raise FileExistsError(
            f"{path!r} is there and {what}, which is not replaced: remove it first, or give the "
            "path of an array"
        )
    if not overwrite:
        raise FileExistsError(f"{path!r} is there: pass overwrite=True to replace it")


def _outside_groups(path: str) -> str | None:
    """Return the folder that the store of `path` is in, where it is in a group.

    What is being written would count as an array of the group if it lay in it. None where it
    has to, since nothing can be written in that folder, or it is on another disk.
    """
    inner = os.path.dirname(os.path.realpath(path))
    outer = inner
    while _stored_node(outer) == "group":
        outer = os.path.dirname(outer)
    if outer == inner or not os.access(outer, os.W_OK):
        return None
    return outer if os.stat(outer).st_dev == os.stat(inner).st_dev else None


def _stored_node(path: str) -> str | None:
    """Return what the metadata in the folder `path` describe, "array" or "group", None if none."""
    metadata = _stored_metadata(path)
    if metadata is not None:
        return str(metadata.document.get("node_type", "array"))
    return "group" if os.path.exists(os.path.join(path, ".zgroup")) else None


def _zarr() -> ModuleType:
    try:
        import zarr
    except ImportError as error:
        raise ImportError(
            'Zarr stores need the zarr library: pip install "darray[zarr]"', name="zarr"
        ) from error
    return zarr


def _zip_part(path: str) -> tuple[str, str] | None:
    """Split `path` into a local zip file and the path inside it; None where there is none."""
    outer, inner = path, ""
    while not (outer.lower().endswith(".zip") and os.path.isfile(outer)):
        outer, name = os.path.split(outer)
        if not name:
            return None
        inner = f"{name}/{inner}" if inner else name
    return outer, inner


def _open(path: str) -> Any:
    """Open the array at `path` with the library, or raise what is there instead."""
    zarr = _zarr()
    store: Any = path
    inside = ""
    zipped = None if "://" in path else _zip_part(path)
    if zipped is not None:
        outer, inside = zipped
        if not zipfile.is_zipfile(outer):
            raise ValueError(f"{outer!r} is not a zip file, or is truncated")
        store = zarr.storage.ZipStore(outer, mode="r")
    try:
        return zarr.open_array(store=store, path=inside, mode="r")
    except _METADATA_ERRORS as error:
        arrays = _arrays_of_group(zarr, store, inside)
        if arrays is None:
            raise _not_an_array(path, error) from error
        if not arrays:
            raise ValueError(f"{path!r} is a Zarr group without arrays") from error
        more = f" and {len(arrays) - _SHOWN_ARRAYS} more" if len(arrays) > _SHOWN_ARRAYS else ""
        raise ValueError(
            f"{path!r} is a Zarr group, not an array; it has the arrays "
            f"{', '.join(map(repr, arrays[:_SHOWN_ARRAYS]))}{more}: pass one of them, "
            f"as in {f'{path}/{arrays[0]}'!r}"
        ) from error


def _arrays_of_group(zarr: ModuleType, store: Any, inside: str) -> list[str] | None:
    """Return the paths of the arrays in a group; None where there is no group."""
    try:
        group = zarr.open_group(store=store, path=inside, mode="r")
        members = group.members(max_depth=None)
    except _METADATA_ERRORS:
        return None
    return sorted(name for name, member in members if not isinstance(member, zarr.Group))


def _not_an_array(path: str, error: Exception) -> Exception:
    """Return the exception that says why there is no array at `path`."""
    if not isinstance(error, FileNotFoundError):
        kind = type(error).__name__
        return ValueError(f"{path!r} cannot be opened as a Zarr array: {kind}: {error}")
    if "://" in path:
        return FileNotFoundError(f"there is no Zarr array at {path!r}")
    return ValueError(
        f"{path!r} holds no Zarr array: it has neither zarr.json nor .zarray; "
        "pass the folder of an array, which is the one that has them"
    )


def _chunk_shape(array: Any) -> tuple[int, ...]:
    """Return the shape of what is read at once: a shard, unless it is large, or a chunk."""
    shards: tuple[int, ...] | None = array.shards
    if shards is not None and math.prod(shards) * array.dtype.itemsize <= _LARGEST_SHARD:
        return shards
    chunks: tuple[int, ...] = array.chunks
    return chunks
