"""The steps from an array to a view of it: how they are read through, and written through."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray import flat_indexing
from darray.expr import building, reshaping
from darray.expr.assignment import assign
from darray.expr.nodes import Expression
from darray.index_maps import IndexMap
from darray.kernels.table import DEVICES, kernel
from darray.runtime.boxes import index_of, whole

__all__ = [
    "Diagonal",
    "Part",
    "Reshaping",
    "Selection",
    "Step",
    "extended",
    "layout",
    "read",
    "written",
]


class Step(Protocol):
    """One step from an array to a view."""

    def read(self, operand: Expression) -> Expression:
        """Expression of what the view shows of `operand`."""

    def written(self, operand: Expression, values: Expression) -> Expression:
        """Expression of `operand` where the view shows `values`, of its shape and dtype."""

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """The same view of a NumPy array."""


class Selection(Struct, frozen=True):
    """Elements that basic indices, transposes and broadcasts select."""

    index_map: IndexMap

    def read(self, operand: Expression) -> Expression:
        """Expression of what the view shows of `operand`."""
        return building.view(operand, self.index_map)

    def written(self, operand: Expression, values: Expression) -> Expression:
        """Expression of `operand` where the view shows `values`."""
        return assign(operand, self.index_map, values)

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """The same view of a NumPy array."""
        index_map = self.index_map
        box = whole(index_map.shape)
        view: NDArray[Any] = index_map.arrange(array[index_of(index_map.source_box(box))], box)
        return view if view.shape == index_map.shape else np.broadcast_to(view, index_map.shape)


class Part(Struct, frozen=True):
    """A part of every element: what `name` of a NumPy array gives, with `argument`.

    ``real``, ``imag``, ``field`` with the name or names of fields, and ``view`` with a dtype of
    the same size.
    """

    name: str
    argument: Any = None

    def read(self, operand: Expression) -> Expression:
        """Expression of what the view shows of `operand`."""
        return building.elementwise(part_of, [operand], {"part": self})[0]

    def written(self, operand: Expression, values: Expression) -> Expression:
        """Expression of `operand` where the view shows `values`."""
        return building.elementwise(with_part, [operand, values], {"part": self})[0]

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """The same view of a NumPy array."""
        if self.name == "field":
            view: NDArray[Any] = array[self.argument]
        elif self.name == "view":
            view = array.view(self.argument)
        else:
            view = getattr(array, self.name)
        return view

    def on_device(self, array: Any) -> Any:
        """The same view of an array of a device."""
        if self.name == "field":
            raise NotImplementedError(
                f"fields of records, here {self.argument!r}, are not looked at on devices; collect "
                "the array and go on outside the block that asks for the device"
            )
        return self.of(array)


class Reshaping(Struct, frozen=True):
    """The elements as another shape, in an order in which NumPy need not copy them."""

    before: tuple[int, ...]
    shape: tuple[int, ...]
    order: Any

    def read(self, operand: Expression) -> Expression:
        """Expression of what the view shows of `operand`."""
        return reshaping.reshape(operand, self.shape, self.order)

    def written(self, operand: Expression, values: Expression) -> Expression:
        """Expression of `operand` where the view shows `values`."""
        found = reshaping.reshape(values, self.before, self.order)
        return building.recut(found, operand.chunks)

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """The same view of a NumPy array; ValueError where it has none."""
        return np.reshape(array, self.shape, self.order, copy=False)


class Diagonal(Struct, frozen=True):
    """A diagonal along the last axis, which is to be looked at only."""

    offset: int
    axis1: int
    axis2: int

    def read(self, operand: Expression) -> Expression:
        """Expression of what the view shows of `operand`."""
        return flat_indexing.diagonal(operand, self.offset, self.axis1, self.axis2)

    def written(self, operand: Expression, values: Expression) -> Expression:
        """Refuse: NumPy has no writing to diagonals either."""
        raise ValueError("assignment destination is read-only: use np.fill_diagonal")

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """The same view of a NumPy array."""
        return np.diagonal(array, self.offset, self.axis1, self.axis2)


def part_of(array: NDArray[Any], part: Part) -> NDArray[Any]:
    """The part of every element of `array`.

    Examples
    --------
    >>> part_of(np.array([1 + 2j]), Part("imag"))
    array([2.])
    """
    return part.of(np.asarray(array))


@kernel(part_of, on=DEVICES)
def _part_on_device(array: Any, part: Part) -> Any:
    return part.on_device(array)


def with_part(array: NDArray[Any], values: NDArray[Any], part: Part) -> NDArray[Any]:
    """`array` with `values` for the part of every element.

    Examples
    --------
    >>> with_part(np.array([1 + 2j]), np.array([5.0]), Part("imag"))
    array([1.+5.j])
    """
    shape = np.broadcast_shapes(np.shape(array), np.shape(values))
    result = np.array(np.broadcast_to(array, shape), order="C")
    part.of(result)[...] = values
    return result


@kernel(with_part, on=DEVICES)
def _with_part_on_device(array: Any, values: Any, part: Part) -> Any:
    shape = np.broadcast_shapes(array.shape, values.shape)
    result = np.broadcast_to(array, shape).copy()
    part.on_device(result)[...] = values
    return result


def extended(steps: tuple[Step, ...], step: Step) -> tuple[Step, ...]:
    """`steps` and `step`, with selections joined to one and put before the parts of elements."""
    if not isinstance(step, Selection):
        return (*steps, step)
    behind: tuple[Step, ...] = ()
    while steps and isinstance(steps[-1], Part):
        steps, behind = steps[:-1], (steps[-1], *behind)
    if steps and isinstance(steps[-1], Selection):
        step = Selection(step.index_map.after(steps[-1].index_map))
        steps = steps[:-1]
    return (*steps, step, *behind)


def read(operand: Expression, steps: tuple[Step, ...]) -> Expression:
    """Expression of what a view of `operand` shows, after all of `steps`."""
    for step in steps:
        operand = step.read(operand)
    return operand


def written(operand: Expression, steps: tuple[Step, ...], values: Expression) -> Expression:
    """Expression of `operand` in which the view after all of `steps` shows `values`."""
    if not steps:
        return building.recut(values, operand.chunks)
    passed = [operand]
    for step in steps[:-1]:
        passed.append(step.read(passed[-1]))
    for step, before in zip(reversed(steps), reversed(passed), strict=True):
        values = step.written(before, values)
    return values


def layout(shape: tuple[int, ...], dtype: np.dtype[Any], steps: tuple[Step, ...]) -> NDArray[Any]:
    """A NumPy array with the strides that the view has, over a C-contiguous array of `shape`.

    It is to be looked at only: there is memory for one element.
    """
    strides = [dtype.itemsize] * len(shape)
    for axis in reversed(range(len(shape) - 1)):
        strides[axis] = strides[axis + 1] * max(1, shape[axis + 1])
    array = np.lib.stride_tricks.as_strided(np.empty(1, dtype), shape, strides)
    for step in steps:
        array = step.of(array)
    return array
