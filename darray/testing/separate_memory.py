"""A kind of device for tests: host memory behind arrays that do not mix with NumPy's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike, NDArray

from darray.runtime.arguments import register_frozen
from darray.runtime.devices import host
from darray.runtime.footprints import register_footprints
from darray.runtime.kinds import register_kind
from darray.runtime.spaces import register_device_arrays, register_measure

__all__ = ["KIND", "SeparateArray", "separate_memory"]

KIND = "separate"


class SeparateArray(NDArrayOperatorsMixin):
    """An array in the memory of a device; it takes other such arrays and numbers only.

    It has NumPy's protocols, so that NumPy's functions compute on the device. NumPy cannot read
    it, nor it a NumPy array: what should have been moved and was not raises `TypeError`, as it
    does with the arrays of a GPU.

    Examples
    --------
    >>> a = SeparateArray(np.arange(3.0))
    >>> (a + a * 2).to_host()
    array([0., 3., 6.])
    >>> np.asarray(a)
    Traceback (most recent call last):
        ...
    TypeError: a SeparateArray is in the memory of a device: bring it to the host first
    """

    __slots__ = ("_memory",)

    def __init__(self, array: NDArray[Any]) -> None:
        self._memory = np.array(array)

    @classmethod
    def over(cls, memory: NDArray[Any]) -> SeparateArray:
        """An array over `memory` itself, which is the device's."""
        made = cls.__new__(cls)
        made._memory = memory
        return made

    def to_host(self) -> NDArray[Any]:
        """A NumPy array of the same elements."""
        return self._memory.copy()

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self._memory.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._memory.dtype

    @property
    def memory(self) -> NDArray[Any]:
        """The device's memory, for what tells where arrays lie and copies them."""
        return self._memory

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._memory.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._memory.size

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self._memory.nbytes

    @property
    def real(self) -> SeparateArray:
        """The real parts."""
        return self.over(self._memory.real)

    @property
    def imag(self) -> SeparateArray:
        """The imaginary parts."""
        return self.over(self._memory.imag)

    def view(self, dtype: DTypeLike) -> SeparateArray:
        """The same memory as elements of another type."""
        return self.over(self._memory.view(dtype))

    def sum(self) -> SeparateArray:
        """The sum of the elements, without axes."""
        return SeparateArray(self._memory.sum())

    def fill(self, value: float) -> None:
        """Set every element."""
        self._memory.fill(value)

    def astype(self, dtype: DTypeLike, casting: Any = "unsafe") -> SeparateArray:
        """A copy with elements of another type."""
        return self.over(self._memory.astype(dtype, casting=casting))

    def copy(self) -> SeparateArray:
        """A copy in C order."""
        return self.over(self._memory.copy())

    def reshape(self, *shape: Any) -> SeparateArray:
        """The elements in another shape; a view where there is one."""
        return self.over(self._memory.reshape(*shape))

    def transpose(self, *axes: Any) -> SeparateArray:
        """A view with the axes in another order."""
        return self.over(self._memory.transpose(*axes))

    def __getitem__(self, key: Any) -> SeparateArray:
        return self.over(np.asarray(self._memory[_key(key)]))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._memory[_key(key)] = _taken(value)

    def __bool__(self) -> bool:
        return bool(self._memory)

    def __int__(self) -> int:
        return int(self._memory)

    def __array__(self, *_: Any, **__: Any) -> NDArray[Any]:
        raise TypeError("a SeparateArray is in the memory of a device: bring it to the host first")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Compute on the device."""
        given = [_taken(one) for one in inputs]
        options = {name: _unwrapped(one) for name, one in kwargs.items()}
        return _wrapped(getattr(ufunc, method)(*given, **options))

    def __array_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Compute on the device."""
        options = {name: _unwrapped(one) for name, one in kwargs.items()}
        return _wrapped(function(*_unwrapped(args), **options))

    def __repr__(self) -> str:
        return f"SeparateArray({self._memory.tolist()!r})"


def _taken(value: Any) -> Any:
    """The memory of an array of the device; a number as it is."""
    if isinstance(value, SeparateArray):
        return value.memory
    if isinstance(value, bool | int | float | complex | np.generic):
        return value
    raise TypeError(
        f"a SeparateArray does not mix with {type(value).__name__}, which is not on the device"
    )


def _unwrapped(value: Any) -> Any:
    """An argument of a function, the arrays of the device in it as their memory."""
    if isinstance(value, SeparateArray | np.ndarray):
        return _taken(value)
    if value.__class__ in (list, tuple):
        return value.__class__([_unwrapped(one) for one in value])
    return value


def _wrapped(value: Any) -> Any:
    """What a function gave, the arrays in it as arrays of the device."""
    if isinstance(value, np.ndarray | np.generic):
        return SeparateArray.over(np.asarray(value))
    if value.__class__ in (list, tuple):
        return value.__class__([_wrapped(one) for one in value])
    return value


def _key(key: Any) -> Any:
    """A key whose indices are on the device, for views also where it has integers alone."""
    parts = key if isinstance(key, tuple) else (key,)
    found = tuple([_unwrapped(one) for one in parts])
    return found if any(one is ... for one in found) else (*found, ...)


def _frozen(array: SeparateArray) -> SeparateArray:
    memory = host.freeze(array.memory)
    return array if memory is array.memory else SeparateArray.over(memory)


@contextmanager
def separate_memory(count: int = 1) -> Iterator[None]:
    """Let every worker have `count` devices with memory of their own in a block.

    Their processors are of the kind ``"separate"``, which tasks use through a scope only.

    Examples
    --------
    >>> import darray as da
    >>> with separate_memory():
    ...     there = da.spawn.options(scope=da.scope(kind="separate"))
    ...     a = there(lambda x: type(x).__name__, np.arange(3.0))
    ...     b = there(lambda x: x + x, np.arange(3.0))
    ...     a.result(), b.result()
    ('SeparateArray', array([0., 2., 4.]))
    """
    register_kind(KIND, count)
    try:
        yield
    finally:
        register_kind(KIND, None)


register_device_arrays(KIND, SeparateArray, SeparateArray.to_host, SeparateArray)
register_measure(SeparateArray, lambda array: int(array.memory.nbytes))
register_frozen(
    SeparateArray,
    _frozen,
    lambda array: SeparateArray(array.memory),
    lambda array: SeparateArray.over(host.thaw(array.memory)),
    lambda array: SeparateArray.over(host.capture(array.memory)),
)
register_footprints(SeparateArray, lambda array, part: host.footprints(array.memory, part))
