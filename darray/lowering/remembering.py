"""Remembering programs: expressions that are built as others were are not fused anew.

Code that runs over and over builds equal expressions of other arrays. What fusing them gives, and
what makes ready to run it, depends on how they are built alone, and takes longer than to run it on
a few tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from darray.expr.nodes import KINDS, Elementwise, Expression, Memory, Recut, Reduce, View
from darray.index_maps import IndexMap
from darray.kernels.cpu import cast
from darray.kernels.programs import Program
from darray.kernels.table import kernel_for, kernels_of
from darray.lowering.fusion import Group, Leaf, fuse, has_usable_chunks

__all__ = ["Remembered", "fuse_or_remember"]

# Programs that are remembered, those used last, and expressions in one: some 10 KB at most each.
_MOST = 256
_MOST_NODES = 64

# NumPy's own, which hold nobody's arrays; of others, what they hold would be held with them.
_FUNCTIONS: frozenset[Any] = frozenset(
    [np.where, cast, *[one for one in vars(np).values() if isinstance(one, np.ufunc)]]
)

# By the kernels that are the package's own: what others register is asked each time.
_KERNELS = (None, kernel_for(np.where, "cpu"))

# The dtypes of which there is one object each. Others, from pickles say, may be equal to one of
# these and still carry something with them that NumPy hands on.
_DTYPES: dict[str, Any] = {char: np.dtype(char) for char in "?bBhHiIlLqQefdgFDG"}

_Key: TypeAlias = tuple[Any, ...]


class Remembered(Struct, frozen=True):
    """A group, and the expressions that its calls compute, where they are numbered by place.

    Where ``nodes`` is given, the origin of a call is ``~place`` of its expression there; where it
    is None, the expression's own number.
    """

    group: Group
    nodes: list[Any] | None


class _Template(Struct):
    """What is made of all expressions that are built alike; holds none of them.

    ``selection`` is the last that was used, replaced as a whole: each computation has its own.
    """

    program: Program
    leaves: tuple[tuple[int, IndexMap], ...]
    selection: Any


class _Slot(Struct):
    """Where a template goes when expressions are built alike for the second time.

    ``template`` is set as a whole. Threads that do so at once set what gives the same.
    """

    has_come_up: bool = False
    template: _Template | None = None


@lru_cache(maxsize=_MOST)
def _slot(key: _Key) -> _Slot:
    """The slot of all expressions of one key."""
    return _Slot()


def fuse_or_remember(
    outputs: Sequence[Expression], shape: tuple[int, ...], is_added: bool = False
) -> Remembered:
    """What ``fuse(outputs, shape, is_added=is_added)`` gives, perhaps made before.

    For computations by NumPy in the calling thread's memory.

    Examples
    --------
    >>> import darray as da
    >>> def program(x):
    ...     return fuse_or_remember([(x * x + 1).expression], x.shape).group.program
    >>> programs = [program(da.arange(4.0).persist()) for _ in range(3)]
    >>> programs[0] is programs[1], programs[1] is programs[2]
    (False, True)
    """
    nodes: list[Any] = []
    sources: set[int] = set()
    key = _key_of(outputs, nodes, sources)
    if key is not None:
        try:
            slot = _slot((shape, is_added, *key))
        except TypeError:
            # A parameter that cannot be looked up.
            slot = None
        if slot is not None:
            template = slot.template
            if template is not None:
                return _filled(template, nodes)
            if slot.has_come_up:
                group = fuse(outputs, shape, is_added=is_added)
                made = _numbered(group, nodes, sources)
                if made is None:
                    return Remembered(group, None)
                slot.template = made
                return _filled(made, nodes)
            slot.has_come_up = True
    return Remembered(fuse(outputs, shape, is_added=is_added), None)


def _key_of(outputs: Sequence[Expression], nodes: list[Any], sources: set[int]) -> _Key | None:
    """All that the fusion of `outputs` depends on; None where that is not to be remembered.

    Puts what is reached into `nodes`, in an order that depends on nothing else, and into
    `sources` the places there of what programs read.
    """
    numbers: dict[int, int] = {}

    def number_of(node: Any) -> int:
        number = numbers.get(id(node))
        if number is None:
            number = numbers[id(node)] = len(nodes)
            nodes.append(node)
        return number

    kernels = kernels_of("cpu")
    parts: list[Any] = [tuple(map(number_of, outputs))]
    for place, node in enumerate(nodes):
        kind: Any = node.__class__
        char: str = node.dtype.char
        if _DTYPES.get(char) is not node.dtype and not _is_plain(node.dtype):
            return None
        if len(nodes) > _MOST_NODES:
            return None
        if node.kept is not None and has_usable_chunks(node):
            sources.add(place)
            parts.append((char, node.shape))
        elif kind is Memory:
            if not node.shape:
                # It may become a constant of the program.
                return None
            sources.add(place)
            parts.append((char, node.shape))
        elif kind is Elementwise:
            function, errors = node.function, node.errors
            if node.where is not None or errors[4] is not None or function not in _FUNCTIONS:
                return None
            if (node.parameters and function is not cast) or kernels.get(function) not in _KERNELS:
                return None
            operands: list[Any] = []
            for one in node.arguments:
                operand = number_of(one) if one.__class__ in KINDS else _scalar_key(one)
                if operand is None:
                    return None
                operands.append(operand)
            parts.append(
                (function, *operands, node.parameters, node.output, errors, char, node.shape)
            )
        elif kind is View:
            parts.append((node.index_map, number_of(node.operand), char))
        elif kind is Recut:
            parts.append((number_of(node.operand), char))
        elif kind is Reduce:
            sources.add(place)
            parts.append((char, node.shape))
        else:
            return None
    return tuple(parts)


def _is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is the one of its character, with nothing besides."""
    return dtype.char in _DTYPES and dtype == _DTYPES[dtype.char] and dtype.metadata is None


def _scalar_key(scalar: Any) -> Any:
    """What tells scalars apart that are not the same to the bit; None where nothing does."""
    kind = scalar.__class__
    if kind is int or kind is bool or (kind is float and scalar):
        # Floats that are no zeros are the same where they are equal, but for NaN, which is not
        # equal but to the same object.
        return (kind, scalar)
    if kind is float or kind is complex:
        return (kind, np.asarray(scalar).tobytes())
    if isinstance(scalar, np.number | np.bool_) and scalar.dtype.char in _DTYPES:
        return (kind, scalar.tobytes())
    return None


def _numbered(group: Group, nodes: list[Any], sources: set[int]) -> _Template | None:
    """The template of a group: without its expressions, and with numbers that fit all.

    None where the group reads other things than `sources`: another thread has computed some of
    `nodes` since these were found, or could not.
    """
    by_identity = {id(node): place for place, node in enumerate(nodes)}
    if {by_identity.get(id(one.expression)) for one in group.leaves} != sources:
        return None
    places = {node.serial: place for place, node in enumerate(nodes)}
    program = group.program
    calls = [replace(one, origin=~places[one.origin]) for one in program.instructions]
    program = Program.assemble(calls, list(program.results))
    leaves = tuple([(by_identity[id(one.expression)], one.index_map) for one in group.leaves])
    selection = None if group.selection is None else group.selection.of(program)
    return _Template(program, leaves, selection)


def _filled(template: _Template, nodes: list[Any]) -> Remembered:
    """The group of `nodes`, which are built as `template` says."""
    leaves = tuple([Leaf(nodes[place], index_map) for place, index_map in template.leaves])
    selection = template.selection
    if selection is not None:
        selection = template.selection = selection.again()
    return Remembered(Group(template.program, leaves, selection), nodes)
