"""What an array is to Python and to NumPy: a number, a sequence, an array of values."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from itertools import accumulate
from operator import index as as_integer
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from darray import drawing, pickling, printing
from darray.blocks import grid_shape
from darray.expr import building
from darray.index_maps import IndexMap
from darray.lowering import computing

__all__ = ["Conversions", "UnsupportedAttributeError"]

# At most so many elements that lie in several chunks are computed together when iterated over.
ITERATED = 2**16

# Arrays of at most this many elements, which are there already, are represented with them.
REPRESENTED = 1000

# Attributes of NumPy's arrays that tell of their memory, and what to use instead.
_UNSUPPORTED = {
    "byteswap": "x.astype(x.dtype.newbyteorder()) has the same values in the other byte order",
    "ctypes": "np.asarray(x).ctypes",
    "data": "np.asarray(x).data",
    "dump": "da.tofile(x, path), or pickle.dump(x, file)",
    "dumps": "pickle.dumps(x)",
    "flat": "x.ravel() to read it, x.reshape(-1) or x.item(i) for one element",
    "getfield": "x[name] for a field, x.astype(dtype) for a cast",
    "resize": "np.concatenate or np.pad, which make a new array",
    "setfield": "x[name] = values",
    "tofile": "da.tofile(x, path) writes chunk by chunk",
}


class UnsupportedAttributeError(AttributeError, NotImplementedError):
    """An attribute of NumPy's arrays that an array in chunks cannot have.

    An `AttributeError`, so that ``hasattr`` says no.
    """


class Conversions:
    """Protocols by which the values of an array become objects of Python and NumPy."""

    __slots__ = ()

    # An array of values

    def __array__(
        self: Any, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        if copy is False:
            raise ValueError(
                "a DArray cannot be seen as a NumPy array without a copy; use "
                "np.asarray(x), or x.collect()"
            )
        if dtype is None or np.dtype(dtype) == self.dtype:
            return self.collect()  # type: ignore[no-any-return]
        if self.dtype.kind in "biufcmM" and np.dtype(dtype).kind in "biufcmM":
            return computing.compute([building.astype(self.expression, dtype)])[0]
        return self.collect().astype(dtype)  # type: ignore[no-any-return]

    def __dlpack__(
        self: Any,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if copy is False:
            raise BufferError(
                "the values of a DArray are computed, which makes a copy; leave copy=False out"
            )
        asked: Any = {"stream": stream, "max_version": max_version, "dl_device": dl_device}
        # What cannot be exported is refused before anything is computed.
        np.empty((0,), self.dtype).__dlpack__(**asked)
        return self.collect().__dlpack__(**asked)

    def __dlpack_device__(self) -> tuple[int, int]:
        cpu, _ = np.empty((0,)).__dlpack_device__()
        return int(cpu), 0

    def tobytes(self: Any, order: Any = "C") -> bytes:
        """The bytes of the elements, in C order, or with ``"F"`` in that of Fortran."""
        return self.collect().tobytes(order)  # type: ignore[no-any-return]

    def __bytes__(self) -> bytes:
        return self.tobytes()

    def tolist(self: Any) -> Any:
        """The elements as nested lists of Python scalars."""
        return self.collect().tolist()

    def item(self: Any, *index: Any) -> Any:
        """One element as a Python scalar: the only one, or that at a flat or a full index."""
        if len(index) == 1 and isinstance(index[0], tuple):
            index = index[0]
        if not index:
            if self.size != 1:
                raise ValueError("can only convert an array of size 1 to a Python scalar")
            return self.collect().item()
        places = [as_integer(place) for place in index]
        if len(places) == 1 and self.ndim != 1:
            (number,) = places
            if not -self.size <= number < self.size:
                raise IndexError(f"index {number} is out of bounds for size {self.size}")
            places = list(np.unravel_index(number % self.size, self.shape))
        if len(places) != self.ndim:
            raise ValueError("incorrect number of indices for array")
        return self[tuple(places)].collect().item()

    # Pickles and copies

    def __reduce__(self: Any) -> tuple[Any, ...]:
        expression = self.expression
        values = pickling.values_to_pickle(expression)
        of = type(self).result_of if self.is_scalar else type(self).of
        return pickling.restored, (of, values, expression.chunks)

    def __copy__(self: Any) -> Any:
        return self.copy()

    def __deepcopy__(self: Any, memo: Any) -> Any:
        if not self.dtype.hasobject:
            return self.copy()
        values = copy.deepcopy(self.collect(), memo)
        return pickling.restored(type(self).of, values, self.chunks)

    # A number

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
        if self.ndim or self.dtype.kind not in "iu":
            raise TypeError("only integer scalar arrays can be converted to a scalar index")
        return self.collect().__index__()  # type: ignore[no-any-return]

    def __round__(self: Any, ndigits: int | None = None) -> Any:
        if self.ndim:
            raise TypeError(
                f"round() takes a single number, this array has shape {self.shape}; use "
                "np.round(x, decimals)"
            )
        if self.dtype.kind not in "iuf":
            raise TypeError(f"round() has no meaning for a number of dtype {self.dtype}")
        return round(self._scalar("int")[()]) if ndigits is None else np.round(self, ndigits)

    def __trunc__(self) -> int:
        return math.trunc(self._real())

    def __floor__(self) -> int:
        return math.floor(self._real())

    def __ceil__(self) -> int:
        return math.ceil(self._real())

    def _real(self: Any) -> int | float:
        """The number as Python's, integers exactly."""
        number = self._scalar("int")
        return int(number) if number.dtype.kind in "biu" else float(number)

    def _scalar(self: Any, name: str) -> Any:
        if self.ndim:
            raise TypeError(
                f"only 0-dimensional arrays can be converted to {name}, this one has shape "
                f"{self.shape}"
            )
        found = self.collect()
        # A scalar is converted with a warning where an array without axes is refused.
        return found[()] if self.is_scalar else found

    # A sequence

    def __len__(self: Any) -> int:
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return self.shape[0]  # type: ignore[no-any-return]

    def __iter__(self: Any) -> Iterator[Any]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        if self.ndim == 1:
            return self._elements()  # type: ignore[no-any-return]
        return (self[i] for i in range(self.shape[0]))

    def __reversed__(self: Any) -> Iterator[Any]:
        return iter(self[::-1])

    def _elements(self: Any) -> Iterator[Any]:
        """The elements of an array of one axis as scalars, computed block by block."""
        position, most = 0, len(self)
        while position < len(self):
            seen = self.expression
            part = slice(position, min(_block_end(seen.chunks[0], position), position + most))
            view = building.view(seen, IndexMap.from_index(part, seen.shape))
            most *= 2
            for element in computing.compute([view])[0]:
                yield element
                position += 1
                if self.expression is not seen:
                    # Written to in the loop, which sees it at once, as NumPy's would.
                    most = 1
                    break

    # A text, a picture

    def __repr__(self: Any) -> str:
        lead = f"<DArray {self.shape} {self.dtype}, chunks {self.chunks_text()}>"
        if self.size > REPRESENTED or not printing.is_finished(self.expression):
            return lead
        return f"{lead}\n{self.collect()}" if self.ndim else f"{lead} {self.collect()}"

    def __str__(self: Any) -> str:
        return printing.text_of(self.expression, np.array_str)

    def __format__(self: Any, specification: str) -> str:
        if self.ndim and not specification:
            return str(self)
        if self.ndim:
            raise TypeError(
                f"the format {specification!r} is for single numbers, this array has shape "
                f"{self.shape}; format its elements, or use np.array2string(x)"
            )
        return format(self.collect()[()], specification)

    def chunks_text(self: Any) -> str:
        """The cut in words: the block sizes and how many there are."""
        sizes = ", ".join(map(str, self.partitioning.sizes))
        grid = "x".join(map(str, grid_shape(self.chunks)))
        return f"({sizes})" + (f" in {grid}" if grid else "")

    def _repr_html_(self: Any) -> str:
        return drawing.html(self.expression)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in _UNSUPPORTED:
                raise UnsupportedAttributeError(
                    f"a DArray has no {name!r}, since it is no block of memory; use "
                    f"{_UNSUPPORTED[name]}",
                    name=name,
                    obj=self,
                )
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            )


def _block_end(sizes: tuple[int, ...], position: int) -> int:
    """Where the block of elements that starts at `position` ends: with a chunk."""
    ends = [end for end in accumulate(sizes) if end > position]
    return max([ends[0], *(end for end in ends if end - position <= ITERATED)])
