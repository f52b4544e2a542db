"""What an array is to Python and to NumPy: a number, a sequence, an array of values."""

from __future__ import annotations

from collections.abc import Iterator
from operator import index as as_integer
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Conversions"]


class Conversions:
    """Protocols by which the values of an array become objects of Python and NumPy."""

    __slots__ = ()

    def __array__(
        self: Any, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        if copy is False:
            raise ValueError(
                "a DArray cannot be seen as a NumPy array without a copy; use "
                "np.asarray(x), or x.collect()"
            )
        return self.collect() if dtype is None else self.collect().astype(dtype, copy=False)  # type: ignore[no-any-return]

    def item(self: Any, *index: Any) -> Any:
        """One element as a Python scalar: the only one, or that at a flat or a full index."""
        if not index:
            if self.size != 1:
                raise ValueError("can only convert an array of size 1 to a Python scalar")
            return self.collect().item()
        places = index[0] if len(index) == 1 else index
        if not isinstance(places, tuple):
            number = as_integer(places)
            if not -self.size <= number < self.size:
                raise IndexError(f"index {number} is out of bounds for size {self.size}")
            places = np.unravel_index(number % self.size, self.shape)
        if len(places) != self.ndim:
            raise ValueError("incorrect number of indices for array")
        return self[places].collect().item()

    def tolist(self: Any) -> Any:
        """The elements as nested lists of Python scalars."""
        return self.collect().tolist()

    def __float__(self: Any) -> float:
        return float(self._scalar("float"))

    def __int__(self: Any) -> int:
        return int(self._scalar("int"))

    def __complex__(self: Any) -> complex:
        return complex(self._scalar("complex"))

    def __bool__(self: Any) -> bool:
        if self.size != 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. "
                "Use a.any() or a.all()"
                if self.size
                else "The truth value of an empty array is ambiguous. Use `array.size > 0` to "
                "check that an array is not empty."
            )
        return bool(self.collect())

    def __index__(self: Any) -> int:
        if self.ndim:
            raise TypeError("only integer scalar arrays can be converted to a scalar index")
        return self.collect().__index__()  # type: ignore[no-any-return]

    def _scalar(self: Any, name: str) -> Any:
        if self.ndim:
            raise TypeError(
                f"only 0-dimensional arrays can be converted to {name}, this one has shape "
                f"{self.shape}"
            )
        return self.collect()[()]

    def __len__(self: Any) -> int:
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return self.shape[0]  # type: ignore[no-any-return]

    def __iter__(self: Any) -> Iterator[Any]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))
