"""Assignment as data: an array in which the elements that a view shows are others."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from darray.blocks import boundaries
from darray.expr import building
from darray.expr.nodes import Expression
from darray.index_maps import IndexMap
from darray.runtime.boxes import whole

__all__ = ["Assign", "assign", "written_chunks"]


class Assign(Expression, frozen=True, eq=False):
    """`operand` with `values` for the elements that `index_map` shows, in the cut of `operand`.

    ``values`` has the shape of the view and the dtype of `operand`; ``index_map`` shows no
    element twice.
    """

    operand: Expression
    index_map: IndexMap
    values: Expression

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The array as it was, and the new values."""
        return (self.operand, self.values)


def assign(operand: Expression, index_map: IndexMap, values: Expression) -> Expression:
    """Expression of `operand` after ``operand[view] = values``.

    `values` has the shape of the view and the dtype of `operand`. Where the view shows all of
    `operand` nothing of it is needed any more.
    """
    if 0 in index_map.shape:
        return operand
    back = index_map.inverse()
    if back is not None:
        return building.recut(building.view(values, back), operand.chunks)
    return Assign(operand.shape, operand.dtype, operand.chunks, operand, index_map, values)


def written_chunks(node: Assign) -> tuple[range, ...]:
    """Which chunks may be written to: a range of places in the grid along each axis."""
    everything = node.index_map.source_box(whole(node.index_map.shape))
    found = []
    for part, sizes in zip(everything, node.chunks, strict=True):
        edges = boundaries(sizes)
        first = bisect_right(edges, part.start) - 1
        found.append(range(first, max(first, bisect_left(edges, part.stop))))
    return tuple(found)
