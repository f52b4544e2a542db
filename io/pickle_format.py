"""The format of ``pickle``: one Python object of any kind in one file."""

from __future__ import annotations

import pickle
from typing import Any, BinaryIO

from msgspec import Struct

from darray.io.formats import Chunked

__all__ = ["FORMAT", "PickleFormat"]


class PickleFormat(Struct, frozen=True):
    """Python objects in .pkl and .pickle files.

    Loading a pickle runs what its author wrote, so only the suffix or ``format="pickle"`` says
    that a file is one: what lies in it is never looked at for that.

    Examples
    --------
    >>> FORMAT.name, FORMAT.suffixes
    ('pickle', ('.pkl', '.pickle'))
    """

    name: str = "pickle"
    suffixes: tuple[str, ...] = (".pkl", ".pickle")

    def recognises(self, path: str) -> bool:
        """Tell nothing: a pickle is loaded only where it was said that it is one."""
        return False

    def open(self, path: str) -> Chunked:
        """Refuse: there is no array to be read in parts.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(
            f"{path!r} is a pickle, which has no shape and cannot be read in parts: load it whole, "
            f"with da.File({path!r}).load()"
        )

    def load(self, path: str) -> object:
        """Return the object in the file `path`.

        Raises
        ------
        ValueError
            Where the file is truncated, or no pickle.
        """
        with open(path, "rb") as file:
            try:
                return pickle.load(file)
            except (pickle.UnpicklingError, EOFError) as error:
                raise ValueError(
                    f"{path!r} is truncated, or not a pickle: {error}; write it again"
                ) from error

    def dump(self, value: Any, file: BinaryIO) -> None:
        """Write `value` into `file`.

        Raises
        ------
        pickle.PicklingError, TypeError, AttributeError
            Where it holds what cannot be pickled.
        """
        pickle.dump(value, file, protocol=pickle.HIGHEST_PROTOCOL)


FORMAT = PickleFormat()
