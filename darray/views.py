"""What arrays have as views: flags, strides, parts of the elements."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.expr import building
from darray.flags import Flags
from darray.index_maps import IndexMap
from darray.view_steps import Part, layout

__all__ = ["Views"]


class Views:
    """How an array lies over that of which it is a view, and views of parts of elements."""

    __slots__ = ()

    @property
    def flags(self: Any) -> Flags:
        """What can be done with the array, as NumPy's ``flags``."""
        return Flags(self)

    def setflags(self: Any, write: Any = None, align: Any = None, uic: Any = None) -> None:
        """Set whether the array can be assigned to, as NumPy's ``setflags``."""
        if align is not None or uic:
            raise ValueError("setflags() of a DArray sets write= only")
        if write is None:
            return
        if write and (self.is_scalar or not (self._owner is None or self._owner._writeable)):
            raise ValueError("cannot set WRITEABLE flag to True of this array")
        self._writeable = bool(write)

    @property
    def is_writeable(self: Any) -> bool:
        """Whether the elements can be assigned to."""
        return self._writeable  # type: ignore[no-any-return]

    @property
    def is_view(self: Any) -> bool:
        """Whether the array shows elements of another."""
        return self._owner is not None

    def layout(self: Any) -> NDArray[Any]:
        """A NumPy array with the same shape, dtype and strides, to be looked at only."""
        whole = self._cell.expression
        return layout(whole.shape, whole.dtype, self._steps)

    @property
    def strides(self: Any) -> tuple[int, ...]:
        """Bytes from one element to the next along each axis, if the array were NumPy's."""
        return self.layout().strides  # type: ignore[no-any-return]

    @property
    def real(self: Any) -> Any:
        """View of the real parts."""
        if self.dtype.kind != "c":
            return self
        return self.through(Part("real"), self.shape, self.layout().real.dtype)

    @real.setter
    def real(self: Any, value: Any) -> None:
        self.real[...] = value if hasattr(value, "dtype") else np.asarray(value)

    @property
    def imag(self: Any) -> Any:
        """View of the imaginary parts; of an array that is not complex, zeros to look at."""
        if self.dtype.kind == "c":
            return self.through(Part("imag"), self.shape, self.layout().imag.dtype)
        zeros = type(self).of(building.elementwise(np.imag, [self.expression])[0])
        zeros._writeable = False
        return zeros

    @imag.setter
    def imag(self: Any, value: Any) -> None:
        if self.dtype.kind != "c":
            raise TypeError("array does not have imaginary part to set")
        self.imag[...] = value if hasattr(value, "dtype") else np.asarray(value)

    def view(self: Any, dtype: Any = None, type: Any = None) -> Any:  # noqa: A002 - NumPy's name
        """View of the same elements, or of their bytes as another dtype of the same size.

        Raises
        ------
        NotImplementedError
            For a dtype of another size.
        """
        if type is not None:
            raise TypeError("a DArray has no views of another type: give a dtype alone")
        wanted = self.dtype if dtype is None else np.dtype(dtype)
        if wanted == self.dtype:
            return self.seen(IndexMap.identity(self.shape))
        if wanted.itemsize != self.dtype.itemsize:
            raise NotImplementedError(
                f"a view of {self.dtype} as {wanted}, which changes the number of elements, is "
                "not there for a DArray; use x.map_blocks(lambda block: block.view(dtype), ...)"
            )
        self.layout().view(wanted)
        return self.through(Part("view", wanted), self.shape, wanted)

    def names_fields(self: Any, key: Any) -> bool:
        """Whether an index is the name of a field, or a list of names."""
        names = isinstance(key, list) and bool(key) and all(isinstance(one, str) for one in key)
        return self.dtype.names is not None and (isinstance(key, str) or names)

    def selected(self: Any, key: Any) -> Any:
        """View of what a basic index or the names of fields select."""
        if not self.names_fields(key):
            return self.seen(IndexMap.from_index(key, self.shape))
        dtype = self.layout()[key].dtype
        if isinstance(key, str) and self.dtype[key].subdtype is not None:
            raise NotImplementedError(
                f"the field {key!r} holds arrays, which a DArray cannot show; collect it first: "
                "np.asarray(x)[name]"
            )
        return self.through(Part("field", key), self.shape, dtype)
