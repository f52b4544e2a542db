"""Fusion: a group of expressions becomes one program, run once for each chunk."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import force_setattr

from darray.expr.nodes import Computed, Elementwise, Expression, Memory, Recut, Reduce, View
from darray.index_maps import IndexMap
from darray.kernels.cpu import cast
from darray.kernels.evaluation import TILE
from darray.kernels.programs import Instruction, Operand, Program
from darray.kernels.row_sums import adds
from darray.kernels.tiling import tiling_of
from darray.lowering.constants import constant_of, folded, takes_constants
from darray.lowering.places import computes_elsewhere

if TYPE_CHECKING:
    from darray.kernels.selection import Selection

__all__ = ["Group", "Leaf", "as_it_is", "fuse", "has_usable_chunks", "is_added"]


class Leaf(Struct, frozen=True):
    """An input of a group: an expression that it does not compute, seen through a map.

    ``index_map`` leads from the coordinates of the group's results to the expression's.
    """

    expression: Expression
    index_map: IndexMap


class Group(Struct, frozen=True):
    """A program over the pieces of ``leaves``, input by input.

    ``selection`` knows which kernel runs it, where there is a choice.
    """

    program: Program
    leaves: tuple[Leaf, ...]
    selection: Selection | None = None
    # The places of leaves that show one expression, where there are several.
    repeats: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        """Look for leaves that show one expression."""
        alike: dict[int, list[int]] = {}
        for place, leaf in enumerate(self.leaves):
            alike.setdefault(id(leaf.expression), []).append(place)
        if len(alike) < len(self.leaves):
            repeats = [tuple(places) for places in alike.values() if len(places) > 1]
            force_setattr(self, "repeats", tuple(repeats))

    def program_for(self, elements: int) -> Program:
        """The program to run now on a chunk of `elements`, perhaps with compiled parts."""
        if self.selection is None or elements <= TILE:
            return self.program
        chosen = self.selection.program_for(elements)
        return chosen if tiling_of(chosen) is not None else self.program


def is_fused(expression: Expression) -> bool:
    """Whether a group computes `expression` instead of reading it chunk by chunk."""
    return isinstance(expression, _FUSED) and (
        expression.kept is None or not has_usable_chunks(expression)
    )


def has_usable_chunks(expression: Expression) -> bool:
    """Whether chunks are kept with `expression`; those that failed or were cancelled go."""
    if expression.kept is not None and not expression.kept.is_usable():
        force_setattr(expression, "kept", None)
    return expression.kept is not None


_FUSED = (Computed, Elementwise, View, Recut)

# The same map object for arrays of one shape, which saves making it for every computation.
as_it_is = lru_cache(maxsize=256)(IndexMap.identity)


# An expression that is wanted, seen through a map to the group's coordinates.
_Seen: TypeAlias = tuple[Expression, IndexMap]


class _Fusing:
    """The state of one fusion; expressions are found again under the same map only."""

    def __init__(
        self, shape: tuple[int, ...], apart: Collection[Expression], whole: Expression | None
    ) -> None:
        self.identity = as_it_is(shape)
        self.apart = apart
        self.whole = whole
        # Maps that were composed, by value, so that equal maps are one object from here on.
        self.maps: dict[IndexMap, IndexMap] = {}
        self.found: dict[tuple[int, int], Operand] = {}
        # Where the result of each call is, so that the same call is made once.
        self.calls: dict[Any, Operand] = {}
        self.leaves: list[Leaf] = []
        self.instructions: list[Instruction] = []
        # Elsewhere chunks are arrays of the device, those that are the same everywhere as well.
        self.folds = not computes_elsewhere()
        # Where there is a constant instead, what gives an array of it, and where that is.
        self.unfolded: dict[tuple[int, int], Leaf | Instruction] = {}
        self.filled: dict[int, Operand] = {}
        # Whether expressions are computed here: asking them takes time for each of their chunks.
        self.fused: dict[int, bool] = {}

    def interned(self, index_map: IndexMap) -> IndexMap:
        """The map that stands for all equal to `index_map`."""
        if not self.maps:
            self.maps[self.identity] = self.identity
        return self.maps.setdefault(index_map, index_map)

    def operands(self, node: Expression, at: IndexMap) -> list[_Seen | None]:
        """What `node` is computed from, seen through what maps; None for a scalar."""
        if isinstance(node, View):
            return [(node.operand, self.interned(at.after(node.index_map)))]
        if isinstance(node, Recut | Computed):
            assert node.operand is not None
            return [(node.operand, at)]
        assert isinstance(node, Elementwise)
        shape = node.shape
        seen: list[_Seen | None] = []
        for argument in (*node.arguments, node.where):
            if not isinstance(argument, Expression):
                seen.append(None)
            elif argument.shape == shape:
                seen.append((argument, at))
            else:
                through = at.after(IndexMap.broadcast(argument.shape, shape))
                seen.append((argument, self.interned(through)))
        return seen

    def visit(self, expression: Expression, index_map: IndexMap) -> Operand:
        """Add what computes `expression`; where its result is. Does not recurse."""
        found = self.found
        pending: list[tuple[Expression, IndexMap, list[_Seen | None] | None]]
        pending = [(expression, index_map, None)]
        while pending:
            node, at, operands = pending.pop()
            key = (id(node), id(at))
            if key in found:
                continue
            if operands is not None:
                found[key] = self.place(node, key, operands)
            elif self.is_fused(node) and (node is self.whole or node not in self.apart):
                operands = self.operands(node, at)
                pending.append((node, at, operands))
                # The first operand is computed first, as Python does.
                for seen in reversed(operands):
                    if seen is not None and (id(seen[0]), id(seen[1])) not in found:
                        pending.append((*seen, None))
            else:
                constant = constant_of(node) if self.folds else None
                if constant is None:
                    found[key] = self.add(Leaf(node, at))
                else:
                    found[key] = (None, constant)
                    self.unfolded[key] = Leaf(node, at)
        return self.array(expression, index_map)

    def is_fused(self, node: Expression) -> bool:
        """Whether the group computes `node`; chunks that it cannot read instead go."""
        found = self.fused.get(id(node))
        if found is None:
            found = self.fused[id(node)] = not has_usable_chunks(node) and isinstance(node, _FUSED)
        return found

    def array(self, node: Expression, at: IndexMap) -> Operand:
        """Where the array of `node`, which is there, is; never a constant."""
        key = (id(node), id(at))
        unfolded = self.unfolded.get(key)
        if unfolded is None:
            return self.found[key]
        if id(unfolded) not in self.filled:
            self.filled[id(unfolded)] = self.add(unfolded)
        return self.filled[id(unfolded)]

    def add(self, what: Leaf | Instruction) -> Operand:
        """Add a leaf or a call; where it is."""
        if isinstance(what, Leaf):
            self.leaves.append(what)
            return len(self.leaves) - 1, None
        self.instructions.append(what)
        return -len(self.instructions), None

    def place(
        self, node: Expression, own: tuple[int, int], operands: list[_Seen | None]
    ) -> Operand:
        """Add `node`, whose operands are there; where its result is, or the constant it is."""
        if not isinstance(node, Elementwise):
            assert operands[0] is not None
            below = (id(operands[0][0]), id(operands[0][1]))
            if below in self.unfolded:
                self.unfolded[own] = self.unfolded[below]
            return self.found[below]
        # Of most programs there is none.
        takes = not self.unfolded or takes_constants(node.function, node.dtype)
        places: list[Operand | None] = [
            None
            if seen is None
            else self.found[id(seen[0]), id(seen[1])]
            if takes and position < len(node.arguments)
            else self.array(*seen)
            for position, seen in enumerate(operands)
        ]
        mask = places.pop()
        arguments = zip(places, node.arguments, strict=True)
        instruction = Instruction(
            node.function,
            tuple([(None, one) if place is None else place for place, one in arguments]),
            node.parameters,
            mask,
            node.output,
            node.errors,
            node.serial,
            node.dtype,
        )
        constant = folded(instruction) if takes and self.unfolded else None
        if constant is not None:
            self.unfolded[own] = instruction
            return None, constant
        key = call_key(instruction)
        if key is not None and key in self.calls:
            return self.calls[key]
        result = self.add(instruction)
        if key is not None:
            self.calls[key] = result
        return result


def call_key(instruction: Instruction) -> Any:
    """What two calls have in common that give the same; None for those that may not.

    Only NumPy's own functions are sure to give the same twice, and objects can be anything.

    Examples
    --------
    >>> import numpy as np
    >>> warn = ("warn", "warn", "ignore", "warn", None)
    >>> kind = np.dtype("f8")
    >>> call = Instruction(np.add, ((0, None), (None, 0.0)), (), None, None, warn, 7, kind)
    >>> other = Instruction(np.add, ((0, None), (None, -0.0)), (), None, None, warn, 8, kind)
    >>> call_key(call) == call_key(call), call_key(call) == call_key(other)
    (True, False)
    """
    function, dtype = instruction.function, instruction.dtype
    if dtype.hasobject or not (isinstance(function, np.ufunc) or function in _REPEATABLE):
        return None
    operands = tuple([_operand_key(one) for one in instruction.operands])
    if None in operands:
        return None
    rest = (instruction.where, instruction.output, instruction.errors, dtype)
    key = (function, operands, instruction.parameters, *rest)
    try:
        hash(key)
    except TypeError:
        return None
    return key


_REPEATABLE = (np.where, cast)


def _operand_key(operand: Operand) -> Any:
    """What tells operands apart that are not the same to the bit; None where nothing does."""
    register, constant = operand
    if register is not None:
        return register
    if isinstance(constant, bool | int):
        return (type(constant), constant)
    if isinstance(constant, float | complex | np.number):
        return (type(constant), np.asarray(constant).tobytes())
    return None


def _single_call(node: Expression, shape: tuple[int, ...]) -> Group | None:
    """The group of one call on whole arrays in memory; None where there is more to it.

    What the general way gives as well, at a fifth of its cost, which small arrays feel.
    """
    if node.__class__ is not Elementwise or node.shape != shape or node.kept is not None:
        return None
    assert isinstance(node, Elementwise)
    if node.where is not None:
        return None
    leaves: list[Leaf] = []
    operands: list[Operand] = []
    for one in node.arguments:
        if one.__class__ is Memory and one.shape == shape:
            operands.append((len(leaves), None))
            leaves.append(Leaf(one, as_it_is(shape)))
        elif isinstance(one, Expression):
            return None
        else:
            operands.append((None, one))
    call = Instruction(
        node.function,
        tuple(operands),
        node.parameters,
        None,
        node.output,
        node.errors,
        node.serial,
        node.dtype,
    )
    return Group(Program.assemble([call], [(-1, None)]), tuple(leaves))


def fuse(
    outputs: Sequence[Expression],
    shape: tuple[int, ...],
    apart: Collection[Expression] = (),
    whole: Expression | None = None,
    is_added: bool = False,
) -> Group:
    """Fuse what computes `outputs`, all of `shape` or broadcast to it, into one program.

    What is in `apart` is computed elsewhere, chunk by chunk, and read; all but `whole`.
    `is_added` says that what the program gives for a chunk will all be added.
    """
    if len(outputs) == 1 and not apart and not is_added:
        group = _single_call(outputs[0], shape)
        if group is not None:
            return group
    fusing = _Fusing(shape, apart, whole)
    results = []
    for output in outputs:
        at = fusing.identity
        if output.shape != shape:
            at = fusing.interned(IndexMap.broadcast(output.shape, shape))
        results.append(fusing.visit(output, at))
    return _group(Program.assemble(fusing.instructions, results), fusing.leaves, shape, is_added)


def is_added(node: Reduce) -> bool:
    """Whether a reduction adds all elements of a chunk, without a mask."""
    operand = node.operand
    if node.where is not None or len(node.axes) < len(operand.shape):
        return False
    return adds(node.reduction, operand.dtype)


def _group(program: Program, leaves: list[Leaf], shape: tuple[int, ...], is_added: bool) -> Group:
    size = math.prod(shape)
    if size <= TILE or len(program.instructions) < (1 if is_added else 2):
        return Group(program, tuple(leaves))
    # What compiles takes a tenth of the package's time to import, and is not always needed.
    from darray.kernels.selection import Selection

    dtypes = [leaf.expression.dtype for leaf in leaves]
    return Group(program, tuple(leaves), Selection(program, dtypes, size, is_added))
