"""NumPy's methods of arrays that are its functions, called with the array."""

from __future__ import annotations

from typing import Any

import numpy as np

from darray.dispatch import FUNCTIONS

__all__ = ["ArrayMethods"]


class ArrayMethods:
    """Methods that call the NumPy function of their name.

    Those that are called most, reductions, go straight to what that function does with DArrays.
    """

    __slots__ = ()

    def sum(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Sum over axes, as `numpy.sum`."""
        return FUNCTIONS[np.sum](self, *args, **kwargs)

    def prod(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Product over axes, as `numpy.prod`."""
        return FUNCTIONS[np.prod](self, *args, **kwargs)

    def min(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Smallest element over axes, as `numpy.min`."""
        return FUNCTIONS[np.min](self, *args, **kwargs)

    def max(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Greatest element over axes, as `numpy.max`."""
        return FUNCTIONS[np.max](self, *args, **kwargs)

    def mean(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Mean over axes, as `numpy.mean`."""
        return FUNCTIONS[np.mean](self, *args, **kwargs)

    def var(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Variance over axes, as `numpy.var`."""
        return FUNCTIONS[np.var](self, *args, **kwargs)

    def std(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Standard deviation over axes, as `numpy.std`."""
        return FUNCTIONS[np.std](self, *args, **kwargs)

    def any(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Whether any element over axes is true, as `numpy.any`."""
        return FUNCTIONS[np.any](self, *args, **kwargs)

    def all(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Whether all elements over axes are true, as `numpy.all`."""
        return FUNCTIONS[np.all](self, *args, **kwargs)

    def argmin(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Index of the first smallest element, as `numpy.argmin`."""
        return FUNCTIONS[np.argmin](self, *args, **kwargs)

    def argmax(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Index of the first greatest element, as `numpy.argmax`."""
        return FUNCTIONS[np.argmax](self, *args, **kwargs)

    def round(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Rounded to a number of decimals, as `numpy.round`."""
        return np.round(self, *args, **kwargs)

    def clip(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Limited to an interval, as `numpy.clip`."""
        return np.clip(self, *args, **kwargs)

    def squeeze(self: Any, *args: Any, **kwargs: Any) -> Any:
        """View without axes of length 1, as `numpy.squeeze`."""
        return np.squeeze(self, *args, **kwargs)

    def swapaxes(self: Any, *args: Any, **kwargs: Any) -> Any:
        """View with two axes exchanged, as `numpy.swapaxes`."""
        return np.swapaxes(self, *args, **kwargs)

    def cumsum(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Sums of all elements up to each, as `numpy.cumsum`."""
        return np.cumsum(self, *args, **kwargs)

    def cumprod(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Products of all elements up to each, as `numpy.cumprod`."""
        return np.cumprod(self, *args, **kwargs)

    def reshape(self: Any, *shape: Any, order: Any = "C", copy: Any = None) -> Any:
        """The elements as another shape, as `numpy.reshape`; its lengths, or one tuple."""
        if not shape:
            raise TypeError("reshape() takes exactly 1 argument (0 given)")
        return np.reshape(self, shape[0] if len(shape) == 1 else shape, order, copy=copy)

    def ravel(self: Any, *args: Any, **kwargs: Any) -> Any:
        """The elements as one axis, as `numpy.ravel`."""
        return np.ravel(self, *args, **kwargs)

    def flatten(self: Any, *args: Any, **kwargs: Any) -> Any:
        """A new array of the elements as one axis."""
        return np.ravel(self, *args, **kwargs).copy()

    def repeat(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Every element several times, as `numpy.repeat`."""
        return np.repeat(self, *args, **kwargs)

    def dot(self: Any, b: Any, out: Any = None) -> Any:
        """Product with another array, as `numpy.dot`."""
        return np.dot(self, b, out)

    def take(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Elements at positions, as `numpy.take`."""
        return np.take(self, *args, **kwargs)

    def compress(self: Any, condition: Any, *args: Any, **kwargs: Any) -> Any:
        """Slices along an axis where a condition is true, as `numpy.compress`."""
        return np.compress(condition, self, *args, **kwargs)

    def choose(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Elements of the arrays that the elements name, as `numpy.choose`."""
        return np.choose(self, *args, **kwargs)

    def nonzero(self: Any, *args: Any, **kwargs: Any) -> Any:
        """The places of the elements that are not zero, as `numpy.nonzero`."""
        return np.nonzero(self, *args, **kwargs)

    def put(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Write values at places in C order, as `numpy.put`."""
        return np.put(self, *args, **kwargs)

    def diagonal(self: Any, *args: Any, **kwargs: Any) -> Any:
        """A diagonal, as `numpy.diagonal`."""
        return np.diagonal(self, *args, **kwargs)

    def trace(self: Any, *args: Any, **kwargs: Any) -> Any:
        """The sum along a diagonal, as `numpy.trace`."""
        return np.trace(self, *args, **kwargs)
