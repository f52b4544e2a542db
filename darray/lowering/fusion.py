"""Fusion: a group of expressions becomes one program, run once for each chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from darray.expr.nodes import Elementwise, Expression, Recut, View
from darray.index_maps import IndexMap
from darray.kernels.programs import Instruction, Operand, Program

__all__ = ["Group", "Leaf", "fuse", "has_usable_chunks"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """An input of a group: an expression that it does not compute, seen through a map.

    ``index_map`` leads from the coordinates of the group's results to the expression's.
    """

    expression: Expression
    index_map: IndexMap


@dataclass(frozen=True, slots=True)
class Group:
    """A program over the pieces of ``leaves``, input by input."""

    program: Program
    leaves: tuple[Leaf, ...]


def is_fused(expression: Expression) -> bool:
    """Whether a group computes `expression` instead of reading it chunk by chunk."""
    return isinstance(expression, _FUSED) and (
        expression.kept is None or not has_usable_chunks(expression)
    )


def has_usable_chunks(expression: Expression) -> bool:
    """Whether chunks are kept with `expression`; those that failed or were cancelled go."""
    if expression.kept is not None and not expression.kept.is_usable():
        object.__setattr__(expression, "kept", None)
    return expression.kept is not None


_FUSED = (Elementwise, View, Recut)

# The same map object for arrays of one shape, which saves making it for every computation.
_identity = lru_cache(maxsize=256)(IndexMap.identity)


class _Fusing:
    """The state of one fusion; expressions are found again under the same map only."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.identity = _identity(shape)
        # Every map met, by value, so that the same map is the same object from here on.
        self.maps: dict[IndexMap, IndexMap] = {self.identity: self.identity}
        self.found: dict[tuple[int, int], Operand] = {}
        self.leaves: list[Leaf] = []
        self.instructions: list[tuple[Elementwise, list[Operand], Operand | None]] = []

    def interned(self, index_map: IndexMap) -> IndexMap:
        return self.maps.setdefault(index_map, index_map)

    def seen_through(self, outer: Expression, inner: Expression, at: IndexMap) -> IndexMap:
        """The map to an operand that is broadcast to the shape of `outer`, seen at `at`."""
        if inner.shape == outer.shape:
            return at
        return self.interned(at.after(IndexMap.broadcast(inner.shape, outer.shape)))

    def visit(self, expression: Expression, index_map: IndexMap) -> Operand:
        """Add what computes `expression`; where its result is. Does not recurse."""
        pending = [(expression, index_map)]
        while pending:
            node, at = pending[-1]
            key = (id(node), id(at))
            if key in self.found:
                pending.pop()
            elif not is_fused(node):
                has_usable_chunks(node)
                self.found[key] = (len(self.leaves), None)
                self.leaves.append(Leaf(node, at))
                pending.pop()
            else:
                missing = self.step(node, at, key)
                if missing:
                    pending.extend(missing)
                else:
                    pending.pop()
        return self.found[id(expression), id(index_map)]

    def step(
        self, node: Expression, at: IndexMap, key: tuple[int, int]
    ) -> list[tuple[Expression, IndexMap]]:
        """Add `node` if its operands are there; those that are missing."""
        if isinstance(node, View):
            inner = (node.operand, self.interned(at.after(node.index_map)))
            return self.alias(key, inner)
        if isinstance(node, Recut):
            return self.alias(key, (node.operand, at))
        assert isinstance(node, Elementwise)
        places: list[Operand] = []
        missing = []
        for argument in (*node.arguments, node.where):
            if isinstance(argument, Expression):
                inner = (argument, self.seen_through(node, argument, at))
                place = self.found.get((id(inner[0]), id(inner[1])))
                if place is None:
                    missing.append(inner)
                else:
                    places.append(place)
            else:
                places.append((None, argument))
        if missing:
            return missing
        mask = places.pop()
        # Instructions are numbered from -1 downwards until the number of leaves is known.
        self.instructions.append((node, places, None if node.where is None else mask))
        self.found[key] = (-len(self.instructions), None)
        return []

    def alias(
        self, key: tuple[int, int], inner: tuple[Expression, IndexMap]
    ) -> list[tuple[Expression, IndexMap]]:
        place = self.found.get((id(inner[0]), id(inner[1])))
        if place is None:
            return [inner]
        self.found[key] = place
        return []


def fuse(outputs: Sequence[Expression], shape: tuple[int, ...]) -> Group:
    """Fuse what computes `outputs`, all of `shape` or broadcast to it, into one program."""
    fusing = _Fusing(shape)
    places = []
    for output in outputs:
        at = fusing.identity
        if output.shape != shape:
            at = fusing.interned(IndexMap.broadcast(output.shape, shape))
        places.append(fusing.visit(output, at))
    inputs = len(fusing.leaves)

    def numbered(operand: Operand) -> Operand:
        register, constant = operand
        if register is None or register >= 0:
            return operand
        return (inputs - 1 - register, constant)

    instructions = [
        Instruction(
            node.function,
            tuple([numbered(place) for place in operands]),
            node.parameters,
            None if mask is None else numbered(mask),
            node.output,
            node.errors,
            node.serial,
            _itemsize(node.dtype),
        )
        for node, operands, mask in fusing.instructions
    ]
    program = Program.assemble(inputs, instructions, [numbered(place) for place in places])
    return Group(program, tuple(fusing.leaves))


def _itemsize(dtype: Any) -> int:
    return max(1, int(dtype.itemsize))
