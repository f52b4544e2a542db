"""``File``: a reference to a stored value, read when it is needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.io.formats import Chunked, find_format, format_of
from darray.runtime.arguments import register_argument
from darray.runtime.boxes import Box

__all__ = ["File"]


class File:
    """A stored value, by its path: nothing of it is read before it is needed.

    A task that is given a File receives its contents. Files are equal when path and format are.

    Parameters
    ----------
    path : str or os.PathLike
        A file, a folder, a path inside a store (``store.zarr/temperature``), or a URL. A
        relative path is made absolute at once.
    format : str, optional
        Name of the format; by default the suffix tells it, or what lies there.

    Raises
    ------
    FileNotFoundError
        Where there is nothing at a local `path`. What is behind a URL is looked at later.
    ValueError
        Where no format is called `format`, or none is known for `path`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.arange(6).reshape(2, 3))
    ...     a = File(f"{folder}/a.npy")
    ...     a.format, a.shape, a.load()
    ('npy', (2, 3), array([[0, 1, 2],
           [3, 4, 5]]))
    """

    __slots__ = ("_array", "format", "path")

    path: str
    format: str

    def __init__(self, path: str | os.PathLike[str], format: str | None = None) -> None:  # noqa: A002
        self.path = _located(os.fspath(path))
        self.format = (format_of(self.path) if format is None else find_format(format)).name
        self._array: Chunked | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._opened().shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._opened().dtype

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the pieces along each axis in which the file is best read."""
        return self._opened().chunks

    def read(self, box: Box) -> NDArray[Any]:
        """Return the elements of `box` as a fresh, writable, C-contiguous array."""
        return self._opened().read(box)

    def read_into(self, box: Box, out: NDArray[Any]) -> None:
        """Write the elements of `box` into `out`, which has their shape and dtype."""
        self._opened().read_into(box, out)

    def load(self) -> Any:
        """Return the whole value; an array where the format is one of arrays."""
        return find_format(self.format).load(self.path)

    def _opened(self) -> Chunked:
        # Two threads may both open it: the later one's is kept, and both are right.
        if self._array is None:
            self._array = find_format(self.format).open(self.path)
        return self._array

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, File):
            return NotImplemented
        return (self.path, self.format) == (other.path, other.format)

    def __hash__(self) -> int:
        return hash((self.path, self.format))

    def __repr__(self) -> str:
        return f"File({self.path!r}, format={self.format!r})"

    def __getstate__(self) -> tuple[str, str]:
        return self.path, self.format

    def __setstate__(self, state: tuple[str, str]) -> None:
        self.path, self.format = state
        self._array = None


def _located(path: str) -> str:
    """Return `path` as an absolute path, or as it is where it is a URL."""
    if path.startswith("file://"):
        # Imported here: it brings in http and costs 20 ms, which few programs need.
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        path = url2pathname(urlsplit(path).path)
    if "://" in path:
        return path
    path = os.path.abspath(path)
    # A path may lead into a file that holds several values; its format says what is missing.
    if not os.path.exists(path) and not any(map(os.path.isfile, Path(path).parents)):
        raise FileNotFoundError(
            f"there is no file or folder {path!r}: give the path of one that exists"
        )
    return path


register_argument(File, File.load)
