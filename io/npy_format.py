"""The format of ``numpy.save``: one array in one file, read box by box."""

from __future__ import annotations

import ast
import math
import os
import struct
from collections.abc import Callable
from io import BufferedReader
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.lib import format as npy
from numpy.typing import NDArray

from darray.io.contiguous import Order, pieces, read_contiguous
from darray.io.formats import Chunked, Target, require_box, require_output
from darray.runtime.boxes import Box, box_shape, whole
from darray.runtime.devices.host_buffers import empty

__all__ = ["FORMAT", "NpyArray", "NpyFormat"]

_MAGIC = b"\x93NUMPY"
# Bytes of a piece that NpyArray.chunks proposes, at most.
_PIECE = 16 * 1024 * 1024
# Longer headers are not parsed, as NumPy does not: Python's parser may crash on them.
_LONGEST_HEADER = 10_000

_Header = tuple[tuple[int, ...], bool, np.dtype[Any]]


class NpyArray(Struct, frozen=True):
    """The array in an .npy file, of which boxes are read by any number of threads at once.

    Each read opens the file anew, so nothing stays open and the object pickles. ``chunks`` cuts
    along the axes that are outermost in the file, into pieces of at most 16 MiB.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.arange(12.0).reshape(3, 4))
    ...     FORMAT.open(f"{folder}/a.npy").read((slice(0, 3, 2), slice(1, 3, 1)))
    array([[ 1.,  2.],
           [ 9., 10.]])
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Order
    chunks: tuple[tuple[int, ...], ...]
    header: bytes

    def __repr__(self) -> str:
        return (
            f"NpyArray(path={self.path!r}, shape={self.shape!r}, dtype={self.dtype!r}, "
            f"order={self.order!r}, chunks={self.chunks!r})"
        )

    def read(self, box: Box) -> NDArray[Any]:
        """Return the elements of `box` as a fresh, writable, C-contiguous array."""
        require_box(box, self.shape)
        out = empty(box_shape(box), self.dtype)
        self.read_into(box, out)
        return out

    def read_into(self, box: Box, out: NDArray[Any]) -> None:
        """Write the elements of `box` into `out`, which has their shape and dtype.

        Raises
        ------
        ValueError
            Where the file is truncated, or is another one than when the array was opened.
        """
        require_box(box, self.shape)
        require_output(out, box_shape(box), self.dtype)
        with open(self.path, "rb", buffering=0) as file:
            if file.read(len(self.header)) != self.header:
                raise ValueError(
                    f"{self.path!r} was replaced since it was opened: its header no longer says "
                    f"shape {self.shape!r} and dtype {self.dtype.str!r}; open it again"
                )
            read_contiguous(file, len(self.header), self.shape, self.order, box, out)


class NpyFormat(Struct, frozen=True):
    """Arrays in .npy files on a local disk, of any dtype without Python objects.

    Examples
    --------
    >>> FORMAT.name, FORMAT.suffixes
    ('npy', ('.npy',))
    """

    name: str = "npy"
    suffixes: tuple[str, ...] = (".npy",)

    def recognises(self, path: str) -> bool:
        """Tell whether `path` is a file that begins as .npy files do."""
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC

    def open(self, path: str) -> Chunked:
        """Return the array in the file `path`; only its header is read.

        Raises
        ------
        ValueError
            Where the file is no .npy file, is truncated, or holds Python objects.
        """
        if "://" in path:
            raise ValueError(
                f".npy files are read from a local disk, not from {path!r}: "
                "copy the file here, or store the array as Zarr"
            )
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise ValueError(f"{path!r} is empty: an .npy file begins with a header")
            try:
                shape, fortran, dtype = _read_header(file)
            except ValueError as error:
                raise ValueError(f"{path!r} is not a sound .npy file: {error}") from error
            begin = file.tell()
            file.seek(0)
            header = file.read(begin)
        if dtype.hasobject:
            raise ValueError(
                f"{path!r} holds Python objects (dtype {dtype!r}), which cannot be read in parts: "
                "if you trust it, load it with numpy.load(path, allow_pickle=True)"
            )
        order: Order = "F" if fortran else "C"
        array = NpyArray(path, shape, dtype, order, _cut(shape, dtype.itemsize, order), header)
        wanted = begin + dtype.itemsize * math.prod(shape)
        if size < wanted:
            raise ValueError(
                f"{path!r} is truncated: shape {shape!r} of dtype {dtype.str!r} takes {wanted} "
                f"bytes, the file has {size}; write it again"
            )
        return array

    def load(self, path: str) -> object:
        """Return the whole array in the file `path`."""
        array = self.open(path)
        return array.read(whole(array.shape))

    def create(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunks: tuple[tuple[int, ...], ...],
    ) -> Target:
        """Begin to write the file `path`; one that is there is replaced.

        Raises
        ------
        TypeError
            For dtypes with Python objects.
        FileExistsError
            Where there is a folder, or anything else that is not a file.
        """
        # Imported here: reading needs none of it.
        from darray.io.npy_writing import NpyTarget
        from darray.io.replacing import require_file

        require_file(path)
        if dtype.hasobject:
            raise TypeError(
                f"an .npy file cannot hold dtype {dtype!r}, whose elements are Python objects: "
                "write a .pkl file, or pass serialize="
            )
        return NpyTarget(path, shape, dtype, chunks)


FORMAT = NpyFormat()


def _read_header(file: BufferedReader) -> _Header:
    """Return shape, whether in Fortran order, and dtype; leave `file` where the data begin."""
    version = npy.read_magic(file)
    readers: dict[tuple[int, int], Callable[[BufferedReader], _Header]] = {
        (1, 0): npy.read_array_header_1_0,
        (2, 0): npy.read_array_header_2_0,
        (3, 0): _read_header_3,
    }
    if version not in readers:
        raise ValueError(f"its version is {version!r}, and 1.0 to 3.0 are known")
    shape, fortran, dtype = readers[version](file)
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape is {shape!r}")
    return shape, fortran, dtype


def _read_header_3(file: BufferedReader) -> _Header:
    """Read a header of version 3.0, for which NumPy has no public function."""
    size = file.read(4)
    length = struct.unpack("<I", size)[0] if len(size) == 4 else 0
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header has {length} bytes, and at most {_LONGEST_HEADER} are read")
    text = file.read(length)
    if not length or len(text) < length:
        raise ValueError("its header is cut off")
    try:
        header = ast.literal_eval(text.decode())
        shape, fortran = header["shape"], header["fortran_order"]
        dtype = npy.descr_to_dtype(header["descr"])
    except (SyntaxError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"its header {text!r} cannot be parsed") from error
    if not isinstance(shape, tuple) or not all(type(length) is int for length in shape):
        raise ValueError(f"its shape is {shape!r}")
    return shape, bool(fortran), dtype


def _cut(shape: tuple[int, ...], itemsize: int, order: Order) -> tuple[tuple[int, ...], ...]:
    """Cut the axes that are outermost in the file, as many as it takes to get small pieces."""
    outermost_first = shape if order == "C" else shape[::-1]
    inner = itemsize * math.prod(shape)
    cut = []
    for length in outermost_first:
        inner = inner // length if length else 0
        cut.append(pieces(length, _PIECE // max(1, inner)))
    return tuple(cut if order == "C" else cut[::-1])
