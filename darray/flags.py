"""What NumPy's ``flags`` tell of an array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darray.handle import DArray

__all__ = ["Flags"]


class Flags:
    """The flags of an array: ``x.flags.writeable``, ``x.flags["C_CONTIGUOUS"]``.

    Every array that is no view counts as C-contiguous, however it is cut; of a view the flags
    are those of the same view of a NumPy array.

    Examples
    --------
    >>> import darray as da
    >>> x = da.zeros((4, 4))
    >>> x.flags.writeable, x.T.flags.c_contiguous
    (True, False)
    """

    __slots__ = ("_array",)

    def __init__(self, array: DArray) -> None:
        self._array = array

    @property
    def writeable(self) -> bool:
        """Whether the elements can be assigned to."""
        return self._array.is_writeable

    @writeable.setter
    def writeable(self, value: bool) -> None:
        self._array.setflags(write=value)

    @property
    def c_contiguous(self) -> bool:
        """Whether the elements lie in C order."""
        return self._array.layout().flags.c_contiguous

    @property
    def f_contiguous(self) -> bool:
        """Whether the elements lie in Fortran order."""
        return self._array.layout().flags.f_contiguous

    @property
    def owndata(self) -> bool:
        """Whether the array is no view."""
        return not self._array.is_view

    def __getitem__(self, name: str) -> bool:
        short = {"C": "c_contiguous", "F": "f_contiguous", "O": "owndata", "W": "writeable"}
        wanted = short.get(name, str(name).lower())
        if wanted not in short.values():
            raise KeyError("Unknown flag")
        return bool(getattr(self, wanted))

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in ("W", "WRITEABLE"):
            raise KeyError("Unknown flag")
        self.writeable = value

    def __repr__(self) -> str:
        names = ("c_contiguous", "f_contiguous", "owndata", "writeable")
        return "\n".join(f"  {name.upper()} : {getattr(self, name)}" for name in names)
