"""Choosing from a population and putting it in random order: the methods of `Generator`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import NDArray

from darray.advanced_indexing import held, read
from darray.blocks import TARGET, BlocksLike, Shape, cut
from darray.expr import building
from darray.flat_indexing import at_flat
from darray.handle import DArray
from darray.random.drawing import Drawing, Drawn, Size, as_shape, generated, kept
from darray.random.draws import Draws, Parameter, flat_positions
from darray.random.permutations import Permutation
from darray.random.streams import Key, Stream
from darray.runtime.boxes import Box, index_of

__all__ = ["Sampling"]

_Indices = Callable[[Box], NDArray[np.int64]]


class _Permuted(Struct, frozen=True):
    """The first elements of a permutation, in an array of some shape."""

    permutation: Permutation
    shape: Shape

    def __call__(self, box: Box) -> NDArray[np.int64]:
        """The elements of a box."""
        return self.permutation(flat_positions(self.shape, box))


class _Weighted(Struct, frozen=True):
    """Indices of given probabilities: the places of even draws among their running sums."""

    sums: NDArray[Any]
    even: Draws

    def __call__(self, box: Box) -> NDArray[np.int64]:
        """The indices of a box."""
        return self.sums.searchsorted(self.even(box), side="right").astype(np.int64, copy=False)


class _Distinct(Struct, frozen=True):
    """Indices of given probabilities, none of them twice, drawn as a whole."""

    key: Key
    population: int
    probabilities: NDArray[Any]
    is_shuffled: bool
    shape: Shape

    def __call__(self, box: Box) -> NDArray[np.int64]:
        """The indices of a box."""
        drawn = (
            Stream(self.key)
            .at(0)
            .choice(
                self.population,
                self.shape,
                replace=False,
                p=self.probabilities,
                shuffle=self.is_shuffled,
            )
        )
        return np.asarray(drawn[index_of(box)])


class _Taken(Struct, frozen=True):
    """What an array in memory has, along an axis, at indices."""

    array: NDArray[Any]
    axis: int
    indices: _Indices
    depth: int

    def __call__(self, box: Box) -> NDArray[Any]:
        """The elements of a box, whose axes from `axis` on are those of the indices."""
        inner = self.axis + self.depth
        found = self.indices(box[self.axis : inner])
        lines = self.array[(*box[: self.axis], slice(None), *box[inner:])]
        return np.take(lines, found, axis=self.axis)


class _Raveled:
    """A function of boxes of a flat array, as one of arrays of the shape it has."""

    def __init__(self, array: NDArray[Any], permutation: Permutation) -> None:
        self.array = array
        self.permutation = permutation

    def __call__(self, box: Box) -> NDArray[Any]:
        """The elements of a box."""
        places = self.permutation(flat_positions(self.array.shape, box))
        return np.asarray(self.array.reshape(-1)[places])


class _Lanes(Draws, frozen=True):
    """Arrays along the last axis, each in a random order of its own."""

    def draw(self, generator: np.random.Generator, start: Shape, shape: Shape) -> NDArray[Any]:
        """The lanes from `start` on, as many as `shape` says."""
        (lanes,) = self.parameters
        return generator.permuted(lanes.within(start, shape), axis=-1)


class Sampling(Drawing):
    """Choices and random orders, as `numpy.random.Generator` has them."""

    def choice(
        self,
        a: Any,
        size: Size = None,
        replace: bool = True,
        p: Any = None,
        axis: int = 0,
        shuffle: bool = True,
        *,
        blocks: BlocksLike = "auto",
    ) -> Drawn:
        """Elements of an array along `axis`, or integers below `a`.

        Without replacement and with `p` all of them are drawn by one task. Of a DArray the
        indices are drawn now, and the elements are gathered when they are needed.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> hand = rng.choice(52, size=5, replace=False)
        >>> len(set(hand.tolist()))
        5
        >>> set(rng.choice(["a", "b", "c"], size=100, p=[0.5, 0.5, 0.0]).tolist()) == {"a", "b"}
        True
        """
        if isinstance(p, DArray):
            p = p.collect()
        if isinstance(a, DArray):
            if a.ndim:
                return self._choice_of(a, size, replace, p, axis, shuffle, blocks)
            a = int(a)
        values = a if np.ndim(a) == 0 else building.captured(np.asarray(a)).array
        shape = () if size is None else as_shape(size)
        is_empty = math.prod(shape) == 0
        # NumPy's own checks, but for that of the size.
        asked = np.random.Generator(np.random.SFC64(0))
        asked.choice(values, 0 if is_empty else 1, True, p, axis, shuffle)
        axis = normalize_axis_index(axis, max(1, np.ndim(values)))
        population = values.shape[axis] if isinstance(values, np.ndarray) else int(values)
        if not replace and math.prod(shape) > population:
            raise ValueError(
                "Cannot take a larger sample than population when replace is False: "
                f"{math.prod(shape)} from {population}"
            )
        if p is not None:
            p = np.array(p, float)
            if not replace and np.count_nonzero(p > 0) < math.prod(shape):
                raise ValueError("Fewer non-zero entries in p than size")
        indices = self._indices(population, shape, replace, p, shuffle)
        make = kept if isinstance(indices, _Distinct) else generated
        if not isinstance(values, np.ndarray):
            result = make(indices, shape, np.dtype(np.int64), blocks)
            return int(indices(())) if size is None else result
        outer = values.shape[:axis] + shape + values.shape[axis + 1 :]
        taken = _Taken(values, axis, indices, len(shape))
        if size is None and not outer:
            return np.asarray(taken(()))[()]
        return make(taken, outer, values.dtype, blocks)

    def _choice_of(
        self,
        array: DArray,
        size: Size,
        replace: bool,
        p: Any,
        axis: int,
        shuffle: bool,
        blocks: BlocksLike,
    ) -> DArray:
        """Elements of a DArray along `axis`."""
        axis = normalize_axis_index(axis, array.ndim)
        drawn = self.choice(array.shape[axis], size, replace, p, 0, shuffle)
        positions = held(drawn.expression) if isinstance(drawn, DArray) else int(drawn)
        return _gathered(array, axis, positions, blocks)

    def _indices(
        self,
        population: int,
        shape: Shape,
        replace: bool,
        probabilities: NDArray[Any] | None,
        is_shuffled: bool,
    ) -> _Indices:
        """Random indices below `population`, as a function of the box wanted."""
        key = self._bit_generator.next_key()
        if probabilities is None and not replace:
            return _Permuted(Permutation(key, population), shape)
        if probabilities is None:
            bounds = (Parameter(0), Parameter(population))
            return Draws(key, "integers", bounds, (), shape, (), np.dtype(np.int64))
        if not replace:
            return _Distinct(key, population, probabilities, is_shuffled, shape)
        sums = probabilities.cumsum()
        sums /= sums[-1:]
        return _Weighted(sums, Draws(key, "random", (), (), shape, (), np.dtype(float)))

    def permutation(self, x: Any, axis: int = 0, *, blocks: BlocksLike = "auto") -> DArray:
        """The integers below `x`, or an array along `axis`, in random order.

        Parts of it are computed by themselves, on any worker; of a DArray the order is found
        now, and the elements are gathered when they are needed. See `Permutation` for which
        permutations of more than 65,536 elements can come.

        Examples
        --------
        >>> import darray as da
        >>> order = da.random.default_rng(0).permutation(1_000_000, blocks=100_000)
        >>> int(order.min()), int(order.max()), int(order.sum())
        (0, 999999, 499999500000)
        """
        if isinstance(x, DArray):
            if x.ndim:
                axis = normalize_axis_index(axis, x.ndim)
                return _gathered(x, axis, self._order(x.shape[axis]), blocks)
            x = int(x)
        if isinstance(x, int | np.integer):
            shape = (max(0, int(x)),)
            permutation = Permutation(self._bit_generator.next_key(), shape[0])
            return generated(_Permuted(permutation, shape), shape, np.dtype(np.int64), blocks)
        array = building.captured(np.asarray(x)).array
        axis = normalize_axis_index(axis, array.ndim)
        length = array.shape[axis]
        permutation = Permutation(self._bit_generator.next_key(), length)
        taken = _Taken(array, axis, _Permuted(permutation, (length,)), 1)
        return generated(taken, array.shape, array.dtype, blocks)

    def _order(self, length: int) -> NDArray[np.int64]:
        """The integers below `length` in random order, as an array in memory."""
        permutation = Permutation(self._bit_generator.next_key(), length)
        drawn = _Permuted(permutation, (length,))
        return held(generated(drawn, (length,), np.dtype(np.int64), "auto").expression)

    def permuted(
        self,
        x: Any,
        *,
        axis: int | None = None,
        out: None = None,
        blocks: BlocksLike = "auto",
    ) -> DArray:
        """Each line along `axis` in a random order of its own; all elements for no axis.

        Raises
        ------
        NotImplementedError
            For a DArray with an axis, of lines of many chunks.

        Examples
        --------
        >>> import darray as da
        >>> rows = da.random.default_rng(0).permuted([[1, 2, 3], [4, 5, 6]], axis=1)
        >>> rows.sum(axis=1).collect()
        array([ 6, 15])
        """
        if out is not None:
            raise NotImplementedError(
                "permuted() makes a new array and does not take out=; assign what it returns, "
                "x[...] = rng.permuted(x)"
            )
        if axis is None:
            return self._permuted_flat(x, blocks)
        source: Any = x if isinstance(x, DArray) else np.asarray(x)
        axis = normalize_axis_index(axis, source.ndim)
        lanes = np.moveaxis(source, axis, -1)
        value = lanes.expression if isinstance(lanes, DArray) else building.captured(lanes).array
        length = lanes.shape[-1]
        if isinstance(lanes, DArray) and len(lanes.chunks[-1]) > 1 and length * 8 > TARGET:
            raise NotImplementedError(
                f"permuted() needs lines of one chunk, and these are {length} elements in "
                f"{len(lanes.chunks[-1])} chunks; rechunk the array so that axis {axis} is whole"
            )
        key = self._bit_generator.next_key()
        size, single = lanes.shape[:-1], lanes.shape[-1:]
        parameters = (Parameter(value, 1),)
        drawn = _Lanes(key, "permuted", parameters, (), size, single, source.dtype)
        chunks = cut(blocks, source.shape, source.dtype.itemsize)
        order = [number for number in range(source.ndim) if number != axis]
        result: Any = self._array(drawn, tuple([chunks[number] for number in (*order, axis)]))
        return np.moveaxis(result, -1, axis)  # type: ignore[no-any-return]

    def _permuted_flat(self, x: Any, blocks: BlocksLike) -> DArray:
        """All elements of `x` in random order."""
        if isinstance(x, DArray) and x.ndim:
            order = self._order(x.size).reshape(x.shape)
            found = at_flat(x.expression, order)
            return DArray.of(building.recut(found, x.chunks if blocks == "auto" else blocks))
        array = building.captured(np.asarray(x)).array
        if not array.ndim:
            raise TypeError("permuted(): an array without axes has no elements to order")
        permutation = Permutation(self._bit_generator.next_key(), array.size)
        return generated(_Raveled(array, permutation), array.shape, array.dtype, blocks)

    def shuffle(self, x: Any, axis: int = 0) -> None:
        """Put a list or an array in random order along `axis`, in place.

        Lists and NumPy arrays are shuffled at once; of a DArray the order is found now.

        Examples
        --------
        >>> import darray as da
        >>> deck = list(range(10))
        >>> da.random.default_rng(0).shuffle(deck)
        >>> sorted(deck) == list(range(10))
        True
        >>> x = da.arange(10, blocks=5)
        >>> da.random.default_rng(0).shuffle(x)
        >>> sorted(x.tolist()) == list(range(10))
        True
        """
        if isinstance(x, DArray):
            axis = normalize_axis_index(axis, x.ndim)
            order = self._order(x.shape[axis])
            x.replace(_gathered(x, axis, order, "auto").expression)
            return
        self._stream().shuffle(x, axis)


def _gathered(
    array: DArray, axis: int, positions: NDArray[np.int64] | int, blocks: BlocksLike
) -> DArray:
    """The elements of `array` at positions along an axis, by default cut as it is."""
    found = read(array.expression, (*(slice(None),) * axis, positions))
    return DArray.result_of(found if blocks == "auto" else building.recut(found, blocks))
