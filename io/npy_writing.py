"""Writing .npy files: one file of its full size, filled by many threads at once."""

from __future__ import annotations

import math
import os
import struct
import threading
from contextlib import ExitStack
from io import BytesIO
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from darray.io.contiguous import is_scattered, write_contiguous
from darray.io.replacing import Replacement
from darray.runtime.boxes import Box

__all__ = ["NpyTarget", "npy_header"]

# NumPy pads headers so that the data begin at a multiple of this.
_ALIGNMENT = 64
# Digits that NumPy leaves room for in the length of the first axis.
_GROWTH = 21


class NpyTarget:
    """An .npy file being written, with the bytes that ``numpy.save`` would write in C order.

    Room for the whole file is taken at once, so that a full disk shows before anything is
    computed. Any cut can be written.

    Raises
    ------
    OSError
        Where the folder cannot be written to, or has not the room.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = NpyTarget(f"{folder}/a.npy", (4,), np.dtype("i2"), ((2, 2),))
    ...     target.write((slice(2, 4, 1),), np.array([3, 4], "i2"))
    ...     target.write((slice(0, 2, 1),), np.array([1, 2], "i2"))
    ...     target.commit()
    ...     np.load(f"{folder}/a.npy")
    array([1, 2, 3, 4], dtype=int16)
    """

    __slots__ = ("_alone", "_begin", "_replacement", "_shape", "chunks")

    def __init__(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunks: tuple[tuple[int, ...], ...],
    ) -> None:
        self.chunks = chunks
        self._shape = shape
        header = npy_header(shape, dtype)
        self._begin = len(header)
        # Pieces that take turns within a page are written one at a time.
        is_alone = is_scattered(shape, dtype.itemsize, chunks)
        self._alone = threading.Lock() if is_alone else None
        self._replacement = Replacement(path)
        try:
            _reserve(self._replacement, len(header) + dtype.itemsize * math.prod(shape))
            os.pwrite(self._replacement.descriptor, header, 0)
        except BaseException:
            self._replacement.abort()
            raise

    def __repr__(self) -> str:
        return f"NpyTarget({self._replacement.path!r}, shape={self._shape!r})"

    def write(self, box: Box, array: NDArray[Any]) -> None:
        """Write the elements of a piece; from many threads at once."""
        with self._replacement.writing(), ExitStack() as stack:
            if self._alone is not None:
                stack.enter_context(self._alone)
            write_contiguous(
                self._replacement.descriptor,
                self._begin,
                self._shape,
                box,
                array,
                self._alone is not None,
            )

    def commit(self) -> None:
        """Put the file in its place."""
        self._replacement.commit()

    def abort(self) -> None:
        """Remove what was written."""
        self._replacement.abort()


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    r"""Return what comes before the data, in the first version of the format that can hold it.

    Examples
    --------
    >>> npy_header((3,), np.dtype("<f8"))[:10]
    b'\x93NUMPY\x01\x00v\x00'
    """
    header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    buffer = BytesIO()
    try:
        npy.write_array_header_1_0(buffer, header)
    except ValueError:
        buffer = BytesIO()
        try:
            npy.write_array_header_2_0(buffer, header)
        except UnicodeEncodeError:
            return _header_3(header)
    return buffer.getvalue()


def _header_3(header: dict[str, Any]) -> bytes:
    """Return a header of version 3.0, for which NumPy has no public function."""
    items = "".join(f"{key!r}: {value!r}, " for key, value in sorted(header.items()))
    text = f"{{{items}}}".encode()
    if header["shape"]:
        # NumPy leaves room in the header for the first axis to grow.
        text += b" " * (_GROWTH - len(repr(header["shape"][0])))
    begin = npy.magic(3, 0)
    padding = -(len(begin) + 4 + len(text) + 1) % _ALIGNMENT
    return begin + struct.pack("<I", len(text) + padding + 1) + text + b" " * padding + b"\n"


def _reserve(replacement: Replacement, size: int) -> None:
    """Give the file its full size, with room on the disk where the system can say so."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(replacement.descriptor, 0, size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, replacement.path) from error
    else:
        os.ftruncate(replacement.descriptor, size)
