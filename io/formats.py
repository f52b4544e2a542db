"""What a file format gives, and how the formats are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from darray.runtime.boxes import Box

__all__ = [
    "ArrayWriter",
    "Chunked",
    "Format",
    "Parts",
    "PartsReader",
    "PartsTarget",
    "Target",
    "ValueWriter",
    "find_format",
    "format_of",
    "is_remote",
    "require_box",
    "require_output",
]

_MODULE_END = "_format"
_ENTRY_POINTS = "darray.formats"


@runtime_checkable
class Chunked(Protocol):
    """An array that is stored somewhere and read box by box, by many threads at once.

    ``chunks`` is the store's own cut: sizes of the pieces per axis, ``((4, 4, 2), (5,))``.

    Examples
    --------
    >>> import tempfile
    >>> from darray.io import File
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.arange(10))
    ...     a = File(f"{folder}/a.npy")
    ...     isinstance(a, Chunked), a.read((slice(2, 9, 3),))
    (True, array([2, 5, 8]))
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements that `read` gives."""
        ...

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the pieces along each axis that are cheapest to read."""
        ...

    def read(self, box: Box) -> NDArray[Any]:
        """Return exactly the elements of `box` as a fresh, writable, C-contiguous array."""
        ...

    def read_into(self, box: Box, out: NDArray[Any]) -> None:
        """Write the elements of `box` into `out`, which has their shape and ``self.dtype``."""
        ...


@runtime_checkable
class PartsReader(Protocol):
    """A `Chunked` of which a box can be read part by part for what reading it at once costs."""

    def reads_parts(self, box: Box) -> bool:
        """Whether that is so for `box`."""
        ...

    def read_parts(self, box: Box, axis: int, outs: Iterable[NDArray[Any]]) -> Iterator[Any]:
        """Write `box` into arrays that follow each other along `axis`, and give each then.

        The next one is written only when it is asked for, so they may share memory.
        """
        ...


def is_remote(source: Chunked) -> bool:
    """Tell whether reading `source` waits for another machine, so that one reads ahead.

    Arrays say so by an attribute of that name, which they need not have.

    Examples
    --------
    >>> is_remote(np.empty(3))
    False
    """
    return bool(getattr(source, "is_remote", False))


class Target(Protocol):
    """An array being written, of which nothing shows at its place before `commit`."""

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """The cut in which it is to be written: no two pieces share anything that is stored."""
        ...

    def write(self, box: Box, array: NDArray[Any]) -> None:
        """Write `array` as the elements of `box`, which is one of the pieces.

        Many threads at once write different pieces.
        """
        ...

    def commit(self) -> None:
        """Put the array in its place in one step; whoever dies before leaves what was there."""
        ...

    def abort(self) -> None:
        """Leave nothing behind, and what was there as it was; raises nothing."""
        ...


class Parts(Protocol):
    """The chunks of a target that are written part by part, by pieces that hold none whole."""

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """The cut of the store."""
        ...

    @property
    def needs_end(self) -> bool:
        """Whether `end` is to be called for each chunk once all its parts are written."""
        ...

    @property
    def end_nbytes(self) -> int:
        """Bytes that `end` holds."""
        ...

    def write(self, box: Box, array: NDArray[Any]) -> None:
        """Write `array` as the elements of `box`, a piece; from many threads at once."""
        ...

    def end(self, box: Box) -> None:
        """Make a chunk, which covers `box`, of its parts."""
        ...


@runtime_checkable
class PartsTarget(Target, Protocol):
    """A target that can be written in pieces which share chunks of the store."""

    @property
    def store_chunk(self) -> tuple[int, ...] | None:
        """The shape of the store's chunks; None where their parts cannot be written."""
        ...

    def parts(self, cut: tuple[tuple[int, ...], ...]) -> Parts:
        """Begin to write the pieces of `cut`, instead of those of ``chunks``."""
        ...


class Format(Protocol):
    """One way to store values.

    The module ``darray/io/<name>_format.py`` holds an object of this kind called ``FORMAT``;
    other packages name theirs in the entry point group ``darray.formats``. One that can be
    written too is an `ArrayWriter` or a `ValueWriter`.
    """

    @property
    def name(self) -> str:
        """What ``File(path, format=name)`` asks for."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Ends of file names, with the dot, in lower case."""
        ...

    def recognises(self, path: str) -> bool:
        """Tell whether what lies at `path` is of this format, where the name does not say."""
        ...

    def open(self, path: str) -> Chunked:
        """Return the array at `path` without reading its elements."""
        ...

    def load(self, path: str) -> object:
        """Return the whole value at `path`."""
        ...


@runtime_checkable
class ArrayWriter(Protocol):
    """A format of arrays that are written piece by piece."""

    def create(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunks: tuple[tuple[int, ...], ...],
        **options: Any,
    ) -> Target:
        """Begin to write an array that is computed in `chunks`.

        Raises
        ------
        TypeError
            For a dtype that the format cannot hold, and options that it does not know.
        FileExistsError
            Where there is something at `path` that is not to be replaced.
        OSError
            Where nothing can be written there.
        """
        ...


@runtime_checkable
class ValueWriter(Protocol):
    """A format of values of any kind, each written at once."""

    def dump(self, value: Any, file: BinaryIO) -> None:
        """Write `value` into `file`, which is open and empty."""
        ...


def find_format(name: str) -> Format:
    """Return the format called `name`.

    Raises
    ------
    ValueError
        Where there is none; the message lists those there are.

    Examples
    --------
    >>> find_format("npy").suffixes
    ('.npy',)
    """
    for known, load in _formats():
        if known == name:
            return load()
    raise ValueError(f"there is no file format {name!r}; the formats are {_known()}")


def format_of(path: str) -> Format:
    """Return the format of the file, folder or URL `path`, by its suffix or by what lies there.

    Raises
    ------
    ValueError
        Where no format knows the suffix and none recognises the place.

    Examples
    --------
    >>> format_of("wind.npy").name
    'npy'
    """
    name = path.lower()
    for _, load in _formats():
        if name.endswith((known := load()).suffixes):
            return known
    for _, load in _formats():
        if (known := load()).recognises(path):
            return known
    raise ValueError(
        f"cannot tell the format of {path!r} from its name; "
        f"pass format= one of the formats, which are {_known()}"
    )


def require_box(box: Box, shape: tuple[int, ...]) -> None:
    """Check that `box` lies inside an array of the given shape.

    Raises
    ------
    IndexError
        Where it has another number of axes, reaches outside, or has a step under 1.

    Examples
    --------
    >>> require_box((slice(0, 4, 2),), (4,))
    """
    inside = len(box) == len(shape) and all(
        0 <= cut.start <= cut.stop <= length and cut.step >= 1
        for cut, length in zip(box, shape, strict=True)
    )
    if not inside:
        raise IndexError(
            f"the box {box!r} does not lie inside the shape {shape!r}: give for each axis a slice "
            "with 0 <= start <= stop <= length and step >= 1"
        )


def require_output(out: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Check that `out` can take what is read.

    Raises
    ------
    ValueError
        Where it has another shape or dtype, or is read-only.

    Examples
    --------
    >>> require_output(np.empty((2, 3)), (2, 3), np.dtype(float))
    """
    if out.shape != shape or out.dtype != dtype or not out.flags.writeable:
        raise ValueError(
            f"cannot read shape {shape!r} of dtype {dtype.str!r} into an array of shape "
            f"{out.shape!r}, dtype {out.dtype.str!r} and writeable={out.flags.writeable!r}"
        )


def _formats() -> Iterator[tuple[str, Callable[[], Format]]]:
    """Yield names and how to get the format: this package's own first, then other packages'.

    Entry points are looked up only when the own formats did not answer: that costs milliseconds.
    """
    import darray.io as package

    own = set()
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.endswith(_MODULE_END):
            name = module.name.removesuffix(_MODULE_END)
            own.add(name)
            yield name, partial(_own, f"{package.__name__}.{module.name}")
    from importlib.metadata import entry_points

    for point in entry_points(group=_ENTRY_POINTS):
        if point.name not in own:
            yield point.name, point.load


def _own(module: str) -> Format:
    found: Format = importlib.import_module(module).FORMAT
    return found


def _known() -> str:
    names = sorted({name: " ".join(load().suffixes) for name, load in _formats()}.items())
    return ", ".join(f"{name!r} ({suffixes})" for name, suffixes in names)
