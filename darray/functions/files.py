"""Writing arrays and values to files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.blocks import BlocksLike, cut
from darray.expr.nodes import Expression, Memory
from darray.handle import DArray
from darray.io import File
from darray.io.files import Deserialize, Serialize, dump, located
from darray.io.formats import ArrayWriter, Format, ValueWriter, find_format, format_of
from darray.lowering import computing

__all__ = ["to_zarr", "tofile"]


def tofile(
    x: Any,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    serialize: Serialize | None = None,
    deserialize: Deserialize | None = None,
) -> File:
    """Write an array, chunk by chunk, or any value; a file that is there is replaced.

    The file appears whole or not at all: it is written under a hidden name in the same folder
    and renamed. When writing fails, or the process is killed, what was at `path` is there still.

    Parameters
    ----------
    x : DArray, array_like or any object
        Formats of arrays, .npy and .zarr, take what `numpy.asarray` makes an array of; pickle and
        `serialize` take anything, and a DArray as the NumPy array of its values.
    path : str or PathLike
        On a local disk. Its suffix says the format.
    format : str
        ``"npy"``, ``"zarr"``, ``"pickle"``, where the suffix does not say it.
    serialize : callable
        ``serialize(value, file)`` writes the value into a file open for writing bytes; any
        suffix will do.
    deserialize : callable
        ``deserialize(file)`` makes the value again: how the returned File is loaded.

    Returns
    -------
    File
        As an argument of a task it is replaced by the value.

    Raises
    ------
    TypeError
        When the format cannot hold such a value.
    FileNotFoundError, PermissionError, OSError
        When nothing can be written there.
    FileExistsError
        When there is a folder that is no Zarr array, or anything else that is not replaced.
    BaseException
        What computing the array raised.

    Examples
    --------
    >>> import tempfile
    >>> import darray as da
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     squares = da.tofile(da.arange(6, blocks=2) ** 2, f"{folder}/a.npy")
    ...     int(da.spawn(np.sum, squares).result())
    55
    """
    place = located(os.fspath(path))
    if serialize is not None:
        if format is not None:
            raise TypeError(
                f"format={format!r} and serialize= both say how {place!r} is written: pass one"
            )
        dump(_value_of(x), place, serialize)
        return File.written(place, _name_for(place) if deserialize is None else "", deserialize)
    if deserialize is not None:
        raise TypeError("deserialize= reads what serialize= has written: pass both")
    known = format_of(place) if format is None else find_format(format)
    if isinstance(known, ArrayWriter):
        return _write_array(_expression_of(x, known), place, known)
    if isinstance(known, ValueWriter):
        dump(_value_of(x), place, known.dump)
        return File.written(place, known.name, None)
    raise TypeError(f"files of the format {known.name!r} can only be read")


def to_zarr(
    x: Any,
    path: str | os.PathLike[str],
    *,
    chunks: BlocksLike | None = None,
    compressors: Any = "auto",
    overwrite: bool = False,
) -> File:
    """Write an array into a Zarr store of version 3, a local folder, chunk by chunk.

    The store appears whole or not at all, as with `tofile`. It may be the one that `x` is
    read from.

    Parameters
    ----------
    x : DArray or array_like
        What is written, in native byte order.
    path : str or PathLike
        The folder of the array; one in a group is named by its path, ``store.zarr/temperature``.
    chunks : int, tuple or Blocks
        Shape of the store's chunks, -1 for a whole axis. By default they are the chunks of `x`:
        where these are uneven, as large as the largest; where one is over 64 MiB, parts of it.
    compressors
        As ``zarr.create_array`` has it: ``"auto"`` for Zarr's default, None for none, or codecs
        of ``zarr.codecs``.
    overwrite : bool
        Whether a Zarr array that is there is replaced. A group, and a folder that is not Zarr's,
        never is.

    Raises
    ------
    FileExistsError
        When there is something at `path` that is not to be replaced.
    ImportError
        When the zarr library is missing.
    TypeError
        When Zarr cannot hold the dtype.
    ValueError
        When `chunks` are not of one size along each axis.

    Examples
    --------
    >>> import tempfile
    >>> import darray as da
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stored = da.to_zarr(da.arange(10, blocks=4) * 2, f"{folder}/a.zarr")
    ...     stored.chunks, da.from_zarr(stored.path).sum().collect()
    (((4, 4, 2),), array(90))
    """
    known: Any = find_format("zarr")
    expression = _expression_of(x, known)
    options: dict[str, Any] = {"compressors": compressors, "overwrite": overwrite}
    if chunks is not None:
        options["chunk_shape"] = _chunk_shape(chunks, expression)
    return _write_array(expression, located(os.fspath(path)), known, **options)


def _write_array(expression: Expression, path: str, known: Any, **options: Any) -> File:
    """Write an array in a format that is an `ArrayWriter`."""
    target = known.create(path, expression.shape, expression.dtype, expression.chunks, **options)
    try:
        computing.write(expression, target)
        target.commit()
    except BaseException:
        target.abort()
        raise
    return File.written(path, known.name, None)


def _expression_of(x: Any, known: Format) -> Expression:
    """What is to be written, sharing the memory of arrays since the caller waits."""
    if isinstance(x, DArray):
        return x.expression
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"the format {known.name!r} holds no masks: write x.data and x.mask, or a .pkl file"
        )
    array: NDArray[Any] = np.asarray(x)
    if array.dtype.hasobject and not isinstance(x, np.ndarray):
        raise TypeError(
            f"the format {known.name!r} holds arrays, and NumPy makes none of numbers of a "
            f"{type(x).__name__}: write a .pkl file, or pass serialize="
        )
    return Memory(array.shape, array.dtype, cut("auto", array.shape, array.dtype.itemsize), array)


def _value_of(x: Any) -> Any:
    return x.collect() if isinstance(x, DArray) else x


def _name_for(path: str) -> str:
    """Name of the format that the suffix of `path` says, "" where it says none."""
    try:
        return format_of(path).name
    except ValueError:
        return ""


def _chunk_shape(chunks: BlocksLike, expression: Expression) -> tuple[int, ...]:
    """The one size of chunks along each axis."""
    pieces = cut(chunks, expression.shape, expression.dtype.itemsize)
    for axis, sizes in enumerate(pieces):
        if len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]:
            raise ValueError(
                f"the chunks of a Zarr array have one size along each axis, not {sizes!r} as "
                f"along axis {axis} here: give one size"
            )
    return tuple([max(1, sizes[0]) for sizes in pieces])
