"""Calls on devices with memory of their own: what each call does with the arrays of a device.

Plans are the same as for the host. Where the tasks run on a device, each call is done in the way
that is registered here for its class: what it needs of other tasks the runtime has brought, what
lies in the memory of the host is brought by the same rules, and so is what goes there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import Any, TypeVar

import numpy as np

from darray.kernels.device_reductions import combined, reduction_there
from darray.kernels.devices import DeviceArray, called, filled, kind_here, run, to_device, to_host
from darray.kernels.products import Contraction
from darray.kernels.table import kernel_for
from darray.kernels.warnings_ledger import recording
from darray.lowering import exchanging, scanning, writing
from darray.lowering.assigning import AssignPart, Unchanged
from darray.lowering.calls import (
    Combine,
    Evaluate,
    Fill,
    MapBlock,
    PartialReduce,
    Pieces,
    Write,
)
from darray.lowering.contracting import AddProducts, JoinSums
from darray.lowering.hulls import Shown
from darray.lowering.loads import Gather, Load, Within
from darray.lowering.reshaping import Rearrange
from darray.runtime import events
from darray.runtime.boxes import index_of
from darray.runtime.engine import publish_move
from darray.runtime.spaces import sealed

__all__ = ["WAYS", "computed", "loaded", "way"]

C = TypeVar("C")

# What does a call of each class, given the call and the values of the tasks that it needs.
WAYS: dict[type, Callable[[Any, tuple[Any, ...]], Any]] = {}


def way(kind: type[C]) -> Callable[[Callable[[C, tuple[Any, ...]], Any]], Any]:
    """Register the decorated function as what does calls of class `kind` on devices."""

    def register(code: Callable[[C, tuple[Any, ...]], Any]) -> Callable[[C, tuple[Any, ...]], Any]:
        WAYS[kind] = code
        return code

    return register


# What programs read


def loaded(load: Load, values: tuple[Any, ...]) -> DeviceArray:
    """One input of a program."""
    if not isinstance(load, Gather):
        return to_device(load(values))
    found = []
    for position, part, place in load.pieces:
        if position >= 0:
            found.append((values[position][index_of(part)], place))
        else:
            found.append((to_device(load.ready[~position][index_of(part)]), place))
    return load.index_map.arrange(_together(found, load.shape, load.dtype), load.box)


def _together(
    found: list[tuple[DeviceArray, Any]], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> DeviceArray:
    """Pieces in their places in one array; a single one as it is."""
    if not found:
        return to_device(np.empty(shape, dtype))
    first, _ = found[0]
    if len(found) == 1 and first.shape == shape:
        return first
    whole = np.empty(shape, dtype, like=first)
    for piece, place in found:
        whole[index_of(place)] = piece
    return whole


def _results(pieces: Pieces, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a program gives, perhaps yet to be broadcast."""
    inputs = []
    # What several inputs are boxes of is brought once.
    brought: dict[int, DeviceArray] = {}
    wholes = [loaded(hull.gather(), values) for hull in pieces.hulls]
    for load in pieces.loads:
        if isinstance(load, Shown):
            inputs.append(load.of(pieces.hulls[load.hull], wholes[load.hull]))
            continue
        if not isinstance(load, Within):
            inputs.append(loaded(load, values))
            continue
        key = id(load.whole)
        if key not in brought:
            brought[key] = loaded(load.whole, values)
        inputs.append(load.index_map.arrange(brought[key][index_of(load.part)], load.box))
    return run(pieces.group.program, inputs, pieces.ledger)


def computed(pieces: Pieces, values: tuple[Any, ...]) -> tuple[DeviceArray, ...]:
    """What a program gives, of the shape of its chunk."""
    return tuple([filled(one, pieces.shape) for one in _results(pieces, values)])


# Calls of `darray.lowering.calls`


@way(Evaluate)
def _evaluate(call: Evaluate, values: tuple[Any, ...]) -> DeviceArray:
    (chunk,) = _results(call.pieces, values)
    shape = call.pieces.shape
    is_own = chunk.shape == shape and _makes_its_own(call.pieces)
    return chunk if is_own else filled(chunk, shape).copy()


def _makes_its_own(pieces: Pieces) -> bool:
    """Whether a program gives an array of its own, not perhaps a view of what it read."""
    program = pieces.group.program
    register, _ = program.results[0]
    if register is None:
        return False
    if register < 0:
        return isinstance(program.instructions[~register].function, np.ufunc)
    load = pieces.loads[register]
    return isinstance(load, Gather) and len(load.pieces) > 1 and load.index_map.is_identity


@way(Fill)
def _fill(call: Fill, values: tuple[Any, ...]) -> None:
    (chunk,) = computed(call.pieces, values)
    call.out[index_of(call.box)] = to_host(chunk)


@way(Write)
def _write(call: Write, values: tuple[Any, ...]) -> None:
    (chunk,) = computed(call.pieces, values)
    found = to_host(chunk)
    began = perf_counter_ns()
    call.target.write(call.box, found)
    if events.consumers:
        publish_move(found.nbytes, "host memory", str(call.target), began)


@way(PartialReduce)
def _partial_reduce(call: PartialReduce, values: tuple[Any, ...]) -> Any:
    chunk, *masks = computed(call.pieces, values)
    ledger = call.pieces.ledger
    partials = []
    for one in call.reducers:
        there = reduction_there(one.reduction)
        where = masks[0] if masks else None
        with recording(one.errors, ledger, one.origin):
            found = there.partial(chunk, one.axes, where, call.box, call.whole_shape)
            partials.append(
                there.finish(found, ledger.warn(one.origin)) if call.is_whole else found
            )
    return partials[0] if call.is_whole else tuple(partials)


@way(Combine)
def _combine(call: Combine, values: tuple[Any, ...]) -> Any:
    pairs = zip(values, call.picks, strict=True)
    partials = [value if pick is None else value[pick] for value, pick in pairs]
    reducer, ledger = call.reducer, call.ledger
    there = reduction_there(reducer.reduction)
    with recording(reducer.errors, ledger, reducer.origin):
        joined = combined(there, partials)
        return there.finish(joined, ledger.warn(reducer.origin)) if call.is_last else joined


def _function_of(call: MapBlock) -> Callable[..., Any]:
    """The function of a call on the device; of an object that is called, by its class."""
    kind = kind_here.get()
    there = kernel_for(type(call.function), kind)
    if there is not type(call.function):
        return partial(there, call.function)
    return kernel_for(call.function, kind)


@way(MapBlock)
def _map_block(call: MapBlock, values: tuple[Any, ...]) -> DeviceArray:
    blocks = [sealed(block) for block in computed(call.pieces, values)]
    result = _function_of(call)(*blocks)
    name = getattr(call.function, "__name__", repr(call.function))
    if not isinstance(result, type(blocks[0])):
        raise TypeError(
            f"map_blocks: {name} was given blocks of {type(blocks[0]).__name__}, on a device, and "
            f"returned {type(result).__name__} for block {call.index}; return an array of the "
            "device, or compute outside the block that asks for it"
        )
    if result.dtype != call.dtype or result.shape != call.result_shape:
        raise ValueError(
            f"map_blocks: {name} returned {result.dtype} of shape {result.shape} for block "
            f"{call.index}, expected {call.dtype} of shape {call.result_shape}; pass "
            "map_blocks(dtype=..., chunks=...) with what it returns"
        )
    # The function may hold what it returned, and write to it later.
    return result.copy()


# Products


def _product(call: AddProducts, a: DeviceArray, b: DeviceArray) -> DeviceArray:
    batch, inner = call.contraction.batch, call.contraction.inner
    middle = len(a.shape) - inner
    depth = math.prod(a.shape[middle:])
    left = a.reshape((*a.shape[:batch], math.prod(a.shape[batch:middle]), depth))
    right = b.reshape((*b.shape[:batch], depth, math.prod(b.shape[batch + inner :])))
    return called(np.matmul, left, right).reshape(call.shape)


def _rounded(contraction: Contraction, total: DeviceArray) -> DeviceArray:
    """Sums as elements of the result."""
    if total.dtype == contraction.dtype:
        return total
    with recording(contraction.errors, contraction.ledger, contraction.origin, contraction.name):
        return total.astype(contraction.dtype)


@way(AddProducts)
def _add_products(call: AddProducts, values: tuple[Any, ...]) -> DeviceArray:
    contraction = call.contraction
    total = None if call.is_first else values[0]
    for left, right in call.panels:
        (a,), (b,) = computed(left, values), computed(right, values)
        with recording(
            contraction.errors, contraction.ledger, contraction.origin, contraction.name
        ):
            product = _product(call, a, b)
            total = product if total is None else called(np.add, total, product)
    assert total is not None
    return _rounded(contraction, total) if call.is_last else total


@way(JoinSums)
def _join_sums(call: JoinSums, values: tuple[Any, ...]) -> DeviceArray:
    contraction = call.contraction
    with recording(contraction.errors, contraction.ledger, contraction.origin, contraction.name):
        total = called(np.add, *values)
    return _rounded(contraction, total) if call.is_last else total


# What is assigned to, and what is put in another shape


@way(AssignPart)
def _assign(call: AssignPart, values: tuple[Any, ...]) -> DeviceArray:
    (found,) = computed(call.pieces, values)
    if call.before is None:
        chunk = np.empty(call.shape, call.dtype, like=found)
    else:
        chunk = np.broadcast_to(loaded(call.before, values), call.shape).copy()
    target = call.index_map.arrange(chunk[index_of(call.part)], call.seen)
    target[...] = found
    return chunk


@way(Unchanged)
def _unchanged(call: Unchanged, values: tuple[Any, ...]) -> DeviceArray:
    return values[0] if call.chunk is None else to_device(call.chunk)


@way(Rearrange)
def _rearrange(call: Rearrange, values: tuple[Any, ...]) -> DeviceArray:
    found = [(computed(pieces, values)[0], place) for pieces, place in call.parts]
    if len(found) == 1:
        return found[0][0].copy().reshape(call.shape)
    flat = np.empty(call.lengths, call.dtype, like=found[0][0])
    for piece, place in found:
        spot = flat[index_of(place)]
        spot[...] = piece.reshape(spot.shape)
    return flat.reshape(call.shape)


# Scans


def _accumulated(scanner: scanning.Scanner, chunk: DeviceArray) -> DeviceArray:
    dtype = None if scanner.dtype.kind in "mM" else scanner.dtype
    return called(scanner.ufunc.accumulate, chunk, axis=scanner.axis, dtype=dtype)


def _scanned_after(
    scanner: scanning.Scanner, before: DeviceArray, chunk: DeviceArray
) -> DeviceArray:
    extended = called(np.concatenate, [scanner.last(before), chunk], axis=scanner.axis)
    behind = (slice(None),) * scanner.axis
    return _accumulated(scanner, extended)[(*behind, slice(1, None))].copy()


@way(scanning.ScanFirst)
def _scan_first(call: scanning.ScanFirst, values: tuple[Any, ...]) -> DeviceArray:
    (chunk,) = computed(call.pieces, values)
    with recording(call.scanner.errors, call.pieces.ledger, call.scanner.origin):
        return _accumulated(call.scanner, chunk)


@way(scanning.ScanAfter)
def _scan_after(call: scanning.ScanAfter, values: tuple[Any, ...]) -> DeviceArray:
    (chunk,) = computed(call.pieces, values)
    with recording(call.scanner.errors, call.pieces.ledger, call.scanner.origin):
        return _scanned_after(call.scanner, values[-1], chunk)


@way(scanning.ScanAlone)
def _scan_alone(call: scanning.ScanAlone, values: tuple[Any, ...]) -> tuple[DeviceArray, bool]:
    # As it is: chunks are scanned in turn, in the order that NumPy has.
    (chunk,) = computed(call.pieces, values)
    return chunk.astype(call.scanner.dtype), False


@way(scanning.Join)
def _join_scans(call: scanning.Join, values: tuple[Any, ...]) -> DeviceArray:
    before, (chunk, _) = values
    with recording(call.scanner.errors, call.ledger, call.scanner.origin):
        return _scanned_after(call.scanner, before, chunk)


# What concerns no chunk. `contracting.Done` is not here: on devices products are not summed in a
# place that the host has for them.


def _as_it_is(call: Any, values: tuple[Any, ...]) -> Any:
    return call(*values)


for _class in (exchanging.Done, writing.EndChunk, writing.AllWritten):
    WAYS[_class] = _as_it_is
