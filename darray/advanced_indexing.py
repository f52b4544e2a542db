"""Reading and writing elements by keys that have masks and arrays of positions in them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.blocks import Chunks, Shape, boundaries, chunk_count
from darray.expr import building, gathers
from darray.expr.gathers import MaskCut, Slot, Window
from darray.expr.nodes import Expression, Generated, Memory
from darray.expr.positions import grouped
from darray.index_keys import Selection, selection
from darray.index_maps import NEW, IndexMap
from darray.kernels.devices import DeviceArray, called, to_device
from darray.kernels.table import DEVICES, kernel
from darray.lowering import computing
from darray.lowering.fusion import has_usable_chunks
from darray.runtime import limits, settings
from darray.runtime.boxes import Box, box_shape

__all__ = ["counted", "held", "read", "read_mask", "write"]

# Masks and positions of less than this share of the memory are kept once they are computed.
KEPT_SHARE = 4

# Bytes that fit any memory limit that a process could start with.
SMALL = 2**16

# Chunks of a mask for each piece that it is read in, of which more are not worth their tasks.
FEW_CHUNKS = 4

# Runs longer than this are counted one by one, shorter ones all at once.
LONG_RUN = 2**10

_MISFIT = (
    "shape mismatch: value array of shape {} could not be broadcast to indexing result of shape {}"
)
_BASIC_MISFIT = "could not broadcast input array from shape {} into shape {}"

# What becomes of an axis: one of the array's, by its number, or one of the positions'.
Label: TypeAlias = tuple[str, int]

# Axes that are picked along together: their numbers, the positions along each, and which axes
# of all positions' broadcast shape these have.
Bundle: TypeAlias = tuple[tuple[int, ...], tuple[NDArray[np.intp], ...], tuple[int, ...]]


def held(expression: Expression) -> NDArray[Any]:
    """The values of what is used as an index, kept with it if they are small."""
    if isinstance(expression, Memory):
        return expression.array.copy() if expression.is_shared else expression.array
    return computing.compute([keep(expression)])[0]


def keep(expression: Expression) -> Expression:
    """Begin to compute an expression, if its values are small; what stands for it then."""
    nbytes = math.prod(expression.shape) * expression.dtype.itemsize
    if has_usable_chunks(expression):
        return expression
    if nbytes > SMALL and KEPT_SHARE * nbytes > limits.task_memory(settings.current()):
        return expression
    return computing.persist([expression])[0]


def selected(shape: Shape, key: tuple[Any, ...]) -> Selection:
    """What `key` selects of an array of `shape`; positions that are expressions are computed."""
    parts: list[Any] = []
    for part in key:
        if isinstance(part, Expression) and (part.dtype != bool or not part.shape):
            if part.dtype.kind not in "biu":
                raise IndexError("arrays used as indices must be of integer (or boolean) type")
            part = held(part)
        elif isinstance(part, np.ndarray):
            part = building.captured(part).array
        parts.append(part)
    return selection(tuple(parts), shape, _nonzero)


def _nonzero(mask: Any) -> tuple[NDArray[np.intp], ...]:
    return np.nonzero(held(mask) if isinstance(mask, Expression) else mask)


def read(operand: Expression, key: tuple[Any, ...]) -> Expression:
    """Expression of the elements of `operand` that `key` picks, as NumPy picks them.

    Parameters
    ----------
    key : tuple
        Integers, slices, Ellipsis, None, bools, and lists, arrays and expressions of integers
        or bools. Positions and masks are computed now.

    Raises
    ------
    IndexError
        As NumPy raises it.

    Examples
    --------
    >>> import numpy as np
    >>> x = building.captured(np.arange(12).reshape(3, 4))
    >>> computing.compute([read(x, ([0, 2], slice(1, 3)))])[0]
    array([[ 1,  2],
           [ 9, 10]])
    """
    chosen = selected(operand.shape, key)
    seen = building.view(operand, IndexMap.from_index(chosen.basic, operand.shape))
    if chosen.mask is not None:
        axis, mask = chosen.mask
        picked = read_mask(seen, mask_of(mask, seen, axis), axis)
        return moved(picked, axis, chosen.place)
    others = [i for i in range(len(seen.shape)) if i not in dict(chosen.arrays)]
    shape = tuple([seen.shape[i] for i in others])
    shape = shape[: chosen.place] + chosen.shape + shape[chosen.place :]
    if not math.prod(shape):
        return building.captured(np.empty(shape, operand.dtype))
    labels: list[Label] = [("axis", i) for i in range(len(seen.shape))]
    for axes, positions, dimensions in bundles(chosen):
        first = labels.index(("axis", axes[0]))
        order = [("axis", axis) for axis in axes]
        rest = [label for label in labels if label not in order]
        labels, before = rest[:first] + order + rest[first:], labels
        seen = transposed(seen, before, labels)
        if len(axes) == 1 and not dimensions:
            # The same position everywhere is as good as an integer.
            index = (slice(None),) * first + (int(positions[0]),)
            seen = building.view(seen, IndexMap.from_index(index, seen.shape))
        else:
            seen = gathers.gather(seen, first, positions)
        labels[first : first + len(axes)] = [("positions", i) for i in dimensions]
    wanted: list[Label] = [("axis", i) for i in others]
    wanted[chosen.place : chosen.place] = [("positions", i) for i in range(len(chosen.shape))]
    return transposed(seen, labels, wanted)


def transposed(seen: Expression, labels: Sequence[Label], wanted: Sequence[Label]) -> Expression:
    """View whose axes are `wanted`; those that are not among `labels` are new."""
    order = [labels.index(label) for label in wanted if label in labels]
    added = [i for i, label in enumerate(wanted) if label not in labels]
    index_map = IndexMap.transpose(order, seen.shape)
    return building.view(seen, IndexMap.insert_axes(added, index_map.shape).after(index_map))


def moved(picked: Expression, axis: int, place: int) -> Expression:
    """View with `axis` moved to `place`."""
    order = [i for i in range(len(picked.shape)) if i != axis]
    order.insert(place, axis)
    return building.view(picked, IndexMap.transpose(order, picked.shape))


def bundles(chosen: Selection) -> list[Bundle]:
    """The positions in bundles that vary along different axes: each can be picked by itself.

    Those that pick the fewest come first.
    """
    found: list[tuple[set[int], list[tuple[int, NDArray[np.intp]]]]] = []
    for axis, positions in chosen.arrays:
        lead = len(chosen.shape) - positions.ndim
        varies = {lead + i for i, size in enumerate(positions.shape) if size != 1}
        members = [(axis, positions)]
        apart = []
        for other in found:
            if varies & other[0]:
                varies |= other[0]
                members += other[1]
            else:
                apart.append(other)
        found = [*apart, (varies, members)]
    result: list[Bundle] = []
    for varies, members in found:
        members.sort(key=itemgetter(0))
        dimensions = tuple(sorted(varies))
        arrays = []
        for _, positions in members:
            full = (1,) * (len(chosen.shape) - positions.ndim) + positions.shape
            arrays.append(positions.reshape([full[i] for i in dimensions]))
        result.append((tuple([axis for axis, _ in members]), tuple(arrays), dimensions))
    return sorted(result, key=lambda one: math.prod([chosen.shape[i] for i in one[2]]))


# Masks


def mask_of(mask: Any, seen: Expression, axis: int) -> Expression:
    """A mask for the axes of `seen` from `axis` on as an expression."""
    if isinstance(mask, Expression):
        return mask
    return building.captured(mask, seen.chunks[axis : axis + mask.ndim])


def counted(mask: Expression, pieces: MaskCut) -> tuple[Expression, list[int]]:
    """A mask to be used, and how many elements of its fine pieces, in C order, are true.

    It is computed now, and kept if it is small enough: the mask, or where its chunks are many
    and small, the mask in larger ones, which is returned then.
    """
    if not all(mask.shape):
        return mask, [0] * chunk_count(pieces.fine)
    if isinstance(mask, Memory):
        lengths = tuple([math.prod(one) for one in itertools.product(*pieces.fine)])
        return mask, _true_counts(mask.array, lengths).tolist()
    is_fine = chunk_count(mask.chunks) > FEW_CHUNKS * chunk_count(pieces.joined)
    if is_fine and not has_usable_chunks(mask):
        mask = building.recut(mask, pieces.joined)
    mask = keep(mask)
    joined = building.recut(mask, pieces.joined)
    beginnings = Generated(mask.shape, np.dtype(np.intp), pieces.joined, Beginning(mask.shape))
    counts = building.map_blocks(
        Counting(pieces.fine), [joined, beginnings], np.dtype(np.intp), pieces.numbers
    )
    return mask, computing.compute([counts])[0].reshape(-1).tolist()


class Beginning(Struct, frozen=True):
    """Boxes of which every element is the place in C order of the box's first one."""

    shape: Shape

    def __call__(self, box: Box) -> NDArray[np.intp]:
        """A box, in the memory of one element."""
        first = np.ravel_multi_index(tuple([part.start for part in box]), self.shape)
        return np.broadcast_to(np.intp(first), box_shape(box))


class Counting(Struct, frozen=True):
    """Counts of true elements in those of the `fine` pieces of a mask that a block has."""

    fine: Chunks

    def __call__(self, block: NDArray[Any], beginnings: NDArray[np.intp]) -> NDArray[np.intp]:
        """The counts of a block, one for each piece, in the grid of the pieces."""
        lengths, grid = self.runs(block.shape, int(beginnings.flat[0]))
        return _true_counts(block, lengths).reshape(grid)

    def runs(self, block: Shape, beginning: int) -> tuple[tuple[int, ...], list[int]]:
        """Lengths of the pieces of a block of that shape, which begins there, and their grid."""
        shape = [sum(sizes) for sizes in self.fine]
        inside = []
        places = np.unravel_index(beginning, shape)
        for sizes, start, length in zip(self.fine, places, block, strict=True):
            first, last = np.searchsorted(boundaries(sizes), [start, start + length])
            inside.append(sizes[first:last])
        lengths = tuple([math.prod(one) for one in itertools.product(*inside)])
        return lengths, [len(sizes) for sizes in inside]


@kernel(Counting, on=DEVICES)
def _count_on_device(counting: Counting, block: DeviceArray, beginnings: DeviceArray) -> Any:
    first = beginnings[(slice(0, 1),) * len(block.shape)].reshape(())
    lengths, grid = counting.runs(block.shape, int(first))
    starts = to_device(np.cumsum((0, *lengths[:-1])))
    counts = called(np.add.reduceat, block.reshape(-1).astype(np.dtype(np.intp)), starts)
    return counts.reshape(grid)


def _true_counts(mask: NDArray[Any], lengths: tuple[int, ...]) -> NDArray[np.intp]:
    """How many elements of each of the runs of `mask`, of these lengths in C order, are true."""
    flat = mask.reshape(-1)
    starts = np.cumsum((0, *lengths[:-1]))
    if flat.size > LONG_RUN * len(lengths):
        runs = zip(starts, lengths, strict=True)
        counts = [np.count_nonzero(flat[start : start + length]) for start, length in runs]
        return np.array(counts, np.intp)
    return np.add.reduceat(flat.view(np.uint8), starts, dtype=np.intp)


def read_mask(operand: Expression, mask: Expression, axis: int) -> Expression:
    """Expression of the elements where `mask`, for the axes from `axis` on, is true."""
    pieces = gathers.mask_cut(operand, axis, len(mask.shape))
    mask, counts = counted(mask, pieces)
    return gathers.extract(operand, mask, axis, counts, pieces)


# Writing


def write(operand: Expression, key: tuple[Any, ...], values: Expression) -> Expression:
    """Expression of `operand` with `values` at the elements that `key` picks.

    Values are cast and broadcast as NumPy does it in an assignment. Of those for the same
    element the last one, in C order of the positions, stays.

    Parameters
    ----------
    key : tuple
        As for `read`.

    Raises
    ------
    IndexError, ValueError, TypeError
        As NumPy raises them.

    Examples
    --------
    >>> import numpy as np
    >>> x = building.captured(np.zeros(5, int))
    >>> y = write(x, ([1, 3, 1],), building.captured(np.array([7, 8, 9])))
    >>> computing.compute([y])[0]
    array([0, 9, 0, 8, 0])
    """
    chosen = selected(operand.shape, key)
    view = IndexMap.from_index(chosen.basic, operand.shape)
    given = building.astype(values, operand.dtype)
    is_element = chosen.mask is None and not chosen.shape and not view.axes
    if is_element and values.shape and not any(part is ... for part in key):
        raise ValueError("setting an array element with a sequence.")
    if not operand.shape and len(key) == 1 and chosen.shape:
        # A bool for an array without axes is a mask, too.
        _check_dimensions(values)
        _check_count(values, chosen.shape[0])
    if chosen.mask is not None:
        axis, mask = chosen.mask
        if view.is_identity:
            is_alone = len(key) == 1 and len(mask.shape) == len(operand.shape)
            mask = mask_of(mask, operand, axis)
            return _write_mask(operand, mask, axis, chosen.place, given, is_alone)
        arrays = tuple([(axis + i, one) for i, one in enumerate(_nonzero(mask))])
        chosen = Selection(chosen.basic, chosen.place, None, arrays, arrays[0][1].shape)
    return _write_positions(operand, view, chosen, given)


def broadcast_values(
    values: Expression, shape: Shape, refusal: str = _MISFIT
) -> tuple[Expression, tuple[bool, ...]]:
    """`values` broadcast to `shape` as in an assignment, and along which axes they vary."""
    extra = len(values.shape) - len(shape)
    if extra > 0 and all(size == 1 for size in values.shape[:extra]):
        index_map = IndexMap.drop_axes(tuple(range(extra)), values.shape)
        values = building.view(values, index_map)
    own = (1,) * (len(shape) - len(values.shape)) + values.shape
    if len(own) != len(shape) or any(
        size not in (1, wanted) for size, wanted in zip(own, shape, strict=True)
    ):
        texts = [str(one).replace(" ", "") for one in (values.shape, shape)]
        raise ValueError(refusal.format(*texts))
    return building.broadcast_to(values, shape), tuple([size != 1 for size in own])


def _check_dimensions(values: Expression) -> None:
    """Refuse what NumPy does not assign where a mask alone is true."""
    if len(values.shape) > 1:
        raise TypeError(
            "NumPy boolean array indexing assignment requires a 0 or 1-dimensional input, "
            f"input has {len(values.shape)} dimensions"
        )


def _check_count(values: Expression, total: int) -> None:
    """Refuse values that are not as many as the `total` elements where a mask alone is true."""
    if values.shape not in ((), (1,), (total,)):
        raise ValueError(
            f"NumPy boolean array indexing assignment cannot assign {values.shape[0]} input "
            f"values to the {total} output values where the mask is true"
        )


def _write_mask(
    operand: Expression,
    mask: Expression,
    axis: int,
    place: int,
    values: Expression,
    is_alone: bool,
) -> Expression:
    """`operand` with `values` where `mask`, for its axes from `axis` on, is true."""
    dimensions = len(mask.shape)
    if is_alone:
        _check_dimensions(values)
    rest = operand.shape[:axis] + operand.shape[axis + dimensions :]
    sizes = (1,) * (len(rest) + 1 - len(values.shape)) + values.shape
    # Where the values are the same for all elements, how many there are need not be known.
    varies = sizes[len(sizes) - len(rest) - 1 + place] != 1
    pieces = gathers.mask_cut(operand, axis, dimensions)
    total = 1
    counts: list[int] = []
    if varies:
        mask, counts = counted(mask, pieces)
        total = sum(counts)
        if is_alone:
            _check_count(values, total)
    given, _ = broadcast_values(values, (*rest[:place], total, *rest[place:]))
    if not math.prod(given.shape):
        return operand
    order = [i for i in range(len(given.shape)) if i != place]
    order.insert(axis, place)
    given = building.view(given, IndexMap.transpose(order, given.shape))
    if varies:
        return gathers.deposit(operand, mask, given, axis, counts, pieces)
    spread = (*(slice(None),) * axis, 0, *(None,) * dimensions)
    given = building.view(given, IndexMap.from_index(spread, given.shape))
    aligned = (..., *(None,) * (len(operand.shape) - axis - dimensions))
    mask = building.view(mask, IndexMap.from_index(aligned, mask.shape))
    (result,) = building.elementwise(np.where, [mask, given, operand])
    return building.recut(building.astype(result, operand.dtype), operand.chunks)


def _write_positions(
    operand: Expression, view: IndexMap, chosen: Selection, values: Expression
) -> Expression:
    """`operand` with `values` at positions in the view of it that `view` shows."""
    picked = {axis for axis, _ in chosen.arrays}
    others = [i for i in range(len(view.axes)) if i not in picked]
    sizes = [view.axes[i].size for i in others]
    sizes[chosen.place : chosen.place] = chosen.shape
    is_basic = not chosen.arrays and not chosen.shape
    given, varies = broadcast_values(values, tuple(sizes), _BASIC_MISFIT if is_basic else _MISFIT)
    if not math.prod(sizes):
        return operand
    labels: list[Label] = [("axis", i) for i in others]
    labels[chosen.place : chosen.place] = [("positions", i) for i in range(len(chosen.shape))]
    varying = {label for label, one in zip(labels, varies, strict=True) if one}
    slots: list[tuple[Slot, Label]] = []
    for number, (axis, index) in enumerate(view.fixed):
        slots.append((Window(axis, slice(index, index + 1, 1)), ("fixed", number)))
    flips: dict[Label, slice] = {}
    for i in others:
        axis, start, step, size = view.axes[i]
        if axis == NEW:
            continue
        if step < 0:
            flips["axis", i] = slice(None, None, -1)
            start, step = start + step * (size - 1), -step
        part = slice(start, start + step * (size - 1) + 1, step)
        slots.append((Window(axis, part), ("axis", i)))
    given = building.view(
        given,
        IndexMap.from_index(tuple([flips.get(one, slice(None)) for one in labels]), given.shape),
    )
    chunks = gathers.scatter_cut(operand)
    for number, (places, positions, dimensions) in enumerate(bundles(chosen)):
        axes = tuple([view.axes[place].source for place in places])
        if not dimensions:
            index = int(positions[0])
            slots.append((Window(axes[0], slice(index, index + 1, 1)), ("bundle", number)))
            continue
        shape = tuple([chosen.shape[i] for i in dimensions])
        flat = tuple([np.broadcast_to(one, shape).reshape(-1) for one in positions])
        group, order = grouped(axes, flat, tuple([chunks[axis] for axis in axes]))
        slots.append((group, ("bundle", number)))
        own = [("positions", i) for i in dimensions]
        if varying.isdisjoint(own):
            continue
        given, labels = _in_order(given, labels, own, order, ("bundle", number))
    slots.sort(key=lambda one: _first_axis(one[0]))
    wanted = [label for _, label in slots]
    left = tuple([slice(None) if label in wanted else 0 for label in labels])
    given = building.view(given, IndexMap.from_index(left, given.shape))
    given = transposed(given, [label for label in labels if label in wanted], wanted)
    full = [_size(slot) for slot, _ in slots]
    return gathers.scatter(
        operand, building.broadcast_to(given, tuple(full)), [one for one, _ in slots], chunks
    )


def _in_order(
    values: Expression,
    labels: list[Label],
    own: list[Label],
    order: NDArray[np.intp] | None,
    name: Label,
) -> tuple[Expression, list[Label]]:
    """Values whose axes `own` are one, called `name`, along which they have another order."""
    first = labels.index(own[0])
    rest = [label for label in labels if label not in own]
    wanted = rest[:first] + own + rest[first:]
    values = transposed(values, labels, wanted)
    shape = values.shape[first : first + len(own)]
    if order is None and len(own) == 1:
        return values, [*rest[:first], name, *rest[first:]]
    if order is None:
        order = np.arange(math.prod(shape))
    positions = np.unravel_index(order, shape)
    return gathers.gather(values, first, positions), [*rest[:first], name, *rest[first:]]


def _first_axis(slot: Slot) -> int:
    return slot.axis if isinstance(slot, Window) else min(slot.axes)


def _size(slot: Slot) -> int:
    if isinstance(slot, Window):
        return len(range(slot.part.start, slot.part.stop, slot.part.step))
    return len(slot.positions[0])
