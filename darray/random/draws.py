"""Draws: any box of an array of random numbers, computed tile by tile."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from darray.blocks import Shape
from darray.kernels.devices import DeviceArray, to_device, to_host
from darray.kernels.table import DEVICES, kernel
from darray.random.streams import Key, Stream
from darray.random.tiles import ELEMENTS, Tile, tile_shape, tiles_of
from darray.runtime.boxes import Box, box_shape, index_of
from darray.runtime.devices.host_buffers import empty

__all__ = ["BlockDraws", "Draws", "Parameter", "Place", "flat_positions"]


class Parameter(Struct, frozen=True):
    """A parameter of a distribution: one for all draws, or an array of them.

    Attributes
    ----------
    value : scalar or ndarray
        An array broadcasts against the shape of the draws.
    inner : int
        How many of its last axes belong to each single draw.
    origin : tuple of int
        The draw to which the first element of the array belongs.
    """

    value: Any
    inner: int = 0
    origin: Shape = ()

    def within(self, start: Shape, shape: Shape) -> Any:
        """The parameter of the draws from `start` on that have `shape`.

        Examples
        --------
        >>> import numpy as np
        >>> Parameter(np.arange(5)).within((7, 2), (1, 3))
        array([2, 3, 4])
        """
        value = self.value
        if not isinstance(value, np.ndarray):
            return value
        lead = len(start) - value.ndim + self.inner
        index = []
        for axis, length in enumerate(value.shape[: value.ndim - self.inner], lead):
            first = start[axis] - (self.origin[axis] if self.origin else 0)
            index.append(slice(None) if length == 1 else slice(first, first + shape[axis]))
        return value[tuple(index)]


class Draws(Struct, frozen=True):
    """Draws from a distribution, as a function of the box that is wanted.

    Attributes
    ----------
    key : Key
        Of the streams.
    method : str
        Method of NumPy's generator that draws.
    parameters : tuple of Parameter
        Its first arguments.
    options : tuple
        Names and values of its keyword arguments.
    size : tuple of int
        Shape of the draws.
    single : tuple of int
        Shape of a single draw, which the array has after that of the draws.
    dtype : dtype
        Of the array.
    """

    key: Key
    method: str
    parameters: tuple[Parameter, ...]
    options: tuple[tuple[str, Any], ...]
    size: Shape
    single: Shape
    dtype: np.dtype[Any]

    @property
    def tile(self) -> Shape:
        """Shape of the tiles into which the draws are cut."""
        return tile_shape(self.size, max(1, ELEMENTS // max(1, math.prod(self.single))))

    def __call__(self, box: Box) -> NDArray[Any]:
        """The elements of a box."""
        depth = len(self.size)
        result = empty(box_shape(box), self.dtype)
        stream = Stream(self.key)
        inner = box[depth:]
        for tile in tiles_of(self.size, self.tile, box[:depth]):
            place = result[index_of(tile.place)]
            if not self.fill(stream, tile, place):
                drawn = self.draw(stream.at(tile.number), tile.start, tile.needed())
                place[...] = drawn[(*tile.part, *inner)]
        return result

    def draw(self, generator: np.random.Generator, start: Shape, shape: Shape) -> NDArray[Any]:
        """The draws from `start` on that have `shape`."""
        parameters = [one.within(start, shape) for one in self.parameters]
        drawn = getattr(generator, self.method)(*parameters, size=shape, **dict(self.options))
        return np.asarray(drawn)

    def fill(self, stream: Stream, tile: Tile, place: NDArray[Any]) -> bool:
        """Draw into `place`, where NumPy can and all that is to be drawn is wanted."""
        if self.method not in _FILLING or place.shape != tile.needed():
            return False
        if not place.flags.c_contiguous or not place.ndim:
            return False
        parameters = [one.within(tile.start, place.shape) for one in self.parameters]
        draw = getattr(stream.at(tile.number), self.method)
        draw(*parameters, out=place, **dict(self.options))
        return True


# Methods of NumPy's generator with ``out=``.
_FILLING = frozenset({"random", "standard_exponential", "standard_gamma", "standard_normal"})


class Place(Struct, frozen=True):
    """The indices along one axis, for each element of a box."""

    axis: int

    def __call__(self, box: Box) -> NDArray[Any]:
        """The indices, which take the memory of one line of the box."""
        part = box[self.axis]
        along = np.arange(part.start, part.stop)
        return np.broadcast_to(
            along.reshape([-1 if axis == self.axis else 1 for axis in range(len(box))]),
            box_shape(box),
        )


class BlockDraws(Struct, frozen=True):
    """Draws whose parameters are arrays in chunks, block by block; blocks are whole tiles.

    Attributes
    ----------
    draws : Draws
        With anything in place of these parameters.
    given : tuple of int
        Which of the parameters come in blocks.
    """

    draws: Draws
    given: tuple[int, ...]

    @property
    def __name__(self) -> str:
        """What is drawn, for the names of tasks and for error messages."""
        return self.draws.method

    def __call__(self, *blocks: NDArray[Any]) -> NDArray[Any]:
        """The draws, given the places along each axis and the blocks of the parameters."""
        draws = self.draws
        depth = len(draws.size)
        shape = blocks[-1].shape
        if 0 in shape:
            return np.empty(shape, draws.dtype)
        origin = tuple([int(block[(0,) * block.ndim]) for block in blocks[:depth]])
        parameters = list(draws.parameters)
        for number, block in zip(self.given, blocks[depth:], strict=True):
            parameters[number] = Parameter(block, parameters[number].inner, origin)
        box = [slice(at, at + size, 1) for at, size in zip(origin, shape, strict=False)]
        box += [slice(0, size, 1) for size in draws.single]
        return replace(draws, parameters=tuple(parameters))(tuple(box))


@kernel(BlockDraws, on=DEVICES)
def _drawn_for_device(draws: BlockDraws, *blocks: DeviceArray) -> DeviceArray:
    # All draws are made on the host, so that they are the same numbers everywhere.
    return to_device(draws(*map(to_host, blocks)))


def flat_positions(shape: Shape, box: Box) -> NDArray[np.int64]:
    """Place in C order of each element of a box of an array of `shape`.

    Examples
    --------
    >>> flat_positions((3, 4), (slice(1, 3, 1), slice(0, 2, 1)))
    array([[4, 5],
           [8, 9]])
    """
    result = np.zeros(box_shape(box), np.int64)
    stride = 1
    for axis in reversed(range(len(shape))):
        result += Place(axis)(box) * stride
        stride *= shape[axis]
    return result
