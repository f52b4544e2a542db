"""``File``: a reference to a stored value, read when it is needed; and writing such values."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from darray.io.formats import Chunked, Format, PartsReader, find_format, format_of, is_remote
from darray.runtime.arguments import register_argument
from darray.runtime.boxes import Box

__all__ = ["Deserialize", "File", "Serialize", "dump", "located"]

Serialize: TypeAlias = Callable[[Any, BinaryIO], object]
Deserialize: TypeAlias = Callable[[BinaryIO], Any]


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
    deserialize : callable, optional
        Makes the value out of the file, open for reading bytes; instead of a format, which is
        then ``""``.

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

    __slots__ = ("_array", "deserialize", "format", "path")

    path: str
    format: str
    deserialize: Deserialize | None

    def __init__(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002
        *,
        deserialize: Deserialize | None = None,
    ) -> None:
        self.path = located(os.fspath(path))
        _require_present(self.path)
        if deserialize is not None and format is not None:
            raise TypeError(
                f"format={format!r} and deserialize= both say how {path!r} is read: pass one"
            )
        self.deserialize = deserialize
        self.format = ""
        if deserialize is None:
            self.format = (format_of(self.path) if format is None else find_format(format)).name
        self._array: Chunked | None = None

    @classmethod
    def written(cls, path: str, format: str, deserialize: Deserialize | None) -> Self:  # noqa: A002
        """Return the File of what was just written to an absolute path.

        Where neither a format nor `deserialize` is given, loading it says what is missing.
        """
        file = cls.__new__(cls)
        file.__setstate__((path, format, deserialize))
        return file

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

    @property
    def is_remote(self) -> bool:
        """Whether reading waits for another machine."""
        return is_remote(self._opened())

    def parts_of(self, box: Box) -> PartsReader | None:
        """Return what reads `box` part by part, as `PartsReader` says; None where nothing does."""
        array = self._opened()
        return array if isinstance(array, PartsReader) and array.reads_parts(box) else None

    def load(self) -> Any:
        """Return the whole value; an array where the format is one of arrays."""
        if self.deserialize is not None:
            with open(self.path, "rb") as opened:
                return self.deserialize(opened)
        return self._known_format().load(self.path)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError(f"{self!r} is read to become an array: leave copy=False out")
        return np.asarray(self.load(), dtype)

    def _opened(self) -> Chunked:
        if self.deserialize is not None:
            raise TypeError(
                f"{self!r} has no shape and cannot be read in parts: load it whole, with load()"
            )
        # Two threads may both open it: the later one's is kept, and both are right.
        if self._array is None:
            self._array = self._known_format().open(self.path)
        return self._array

    def _known_format(self) -> Format:
        if not self.format:
            raise ValueError(
                f"{self.path!r} was written by serialize=, and nothing says how it is read: "
                "pass deserialize= too"
            )
        return find_format(self.format)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, File):
            return NotImplemented
        return self.__getstate__() == other.__getstate__()

    def __hash__(self) -> int:
        return hash((self.path, self.format))

    def __repr__(self) -> str:
        if self.deserialize is not None:
            return f"File({self.path!r}, deserialize={self.deserialize!r})"
        return f"File({self.path!r}, format={self.format!r})"

    def __getstate__(self) -> tuple[str, str, Deserialize | None]:
        return self.path, self.format, self.deserialize

    def __setstate__(self, state: tuple[str, str, Deserialize | None]) -> None:
        self.path, self.format, self.deserialize = state
        self._array = None


def dump(value: Any, path: str, serialize: Serialize) -> None:
    """Write the file `path` by ``serialize(value, file)``, whole or not at all.

    Raises
    ------
    BaseException
        What `serialize` raised; what was at `path` is there still.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dump("text", f"{folder}/a.txt", lambda text, file: file.write(text.encode()))
    ...     Path(folder, "a.txt").read_text()
    'text'
    """
    # Imported here: reading needs none of it.
    from darray.io.replacing import Replacement, require_file

    require_file(path)
    replacement = Replacement(path)
    try:
        with open(replacement.descriptor, "r+b", closefd=False) as file:
            serialize(value, file)
        replacement.commit()
    except BaseException:
        replacement.abort()
        raise


def located(path: str) -> str:
    """Return `path` as an absolute path, or as it is where it is a URL.

    Examples
    --------
    >>> located("file:///data/a.npy"), located("s3://bucket/a.zarr")
    ('/data/a.npy', 's3://bucket/a.zarr')
    """
    if path.startswith("file://"):
        # Imported here: it brings in http and costs 20 ms, which few programs need.
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        path = url2pathname(urlsplit(path).path)
    return path if "://" in path else os.path.abspath(path)


def _require_present(path: str) -> None:
    # A path may lead into a file that holds several values; its format says what is missing.
    if "://" in path or os.path.exists(path) or any(map(os.path.isfile, Path(path).parents)):
        return
    raise FileNotFoundError(
        f"there is no file or folder {path!r}: give the path of one that exists"
    )


register_argument(File, File.load)
