"""What calls that pick elements out of chunks, and put them there, do on devices.

Positions are worked out on the host, as everywhere, and brought to the device.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from darray.blocks import chunk_count
from darray.expr.positions import Positions, piece_numbers, stable_order
from darray.kernels.devices import DeviceArray, called, to_device
from darray.lowering.device_calls import computed, way
from darray.lowering.exchanging import After
from darray.lowering.picks import (
    DepositChunk,
    ExtractChunk,
    Fetch,
    FillPart,
    JoinParts,
    Picked,
    Receive,
    ScatterChunk,
    Send,
    SortPositions,
    Take,
    behind,
    check_count,
    moved,
    own_axes,
)
from darray.runtime.boxes import index_of

__all__: list[str] = []


def _taken(source: DeviceArray, first: int, positions: Positions | Any) -> DeviceArray:
    """Elements of `source` at positions along axes from `first` on, on one axis in their place."""
    last = first + len(positions)
    along = source.shape[first:last]
    if len(positions) > 1:
        source = source.reshape((*source.shape[:first], math.prod(along), *source.shape[last:]))
    place = _flat(positions, along)
    return called(np.take, source, place, axis=first)


def _flat(positions: Any, along: tuple[int, ...]) -> DeviceArray:
    """Positions along several axes as those in C order, on the device."""
    there = [to_device(one) if isinstance(one, np.ndarray) else one for one in positions]
    place = there[0]
    for one, length in zip(there[1:], along[1:], strict=True):
        # They may be shorter integers.
        place = called(np.multiply, place.astype(np.dtype(np.intp)), length)
        place = called(np.add, place, one)
    return place


def _picked(picked: Picked, source: DeviceArray, positions: Positions) -> DeviceArray:
    return picked.shaped(_taken(source, picked.first, positions))


@way(Take)
def _take(call: Take, values: tuple[Any, ...]) -> DeviceArray:
    if call.source is not None:
        return to_device(call())
    return _picked(call.picked, values[0], moved(call.picked.flat(), call.box))


@way(Fetch)
def _fetch(call: Fetch, values: tuple[Any, ...]) -> DeviceArray:
    picked = call.picked
    first, positions = picked.first, picked.flat()
    if len(call.parts) == 1:
        _, pieces, box = call.parts[0]
        return _picked(picked, computed(pieces, values)[0], moved(positions, box))
    numbers = piece_numbers(positions, call.cut)
    order = stable_order(numbers, chunk_count(call.cut))
    ends = np.searchsorted(numbers[order], [number for number, _, _ in call.parts], "right")
    found = []
    start = 0
    for (_, pieces, box), end in zip(call.parts, ends.tolist(), strict=True):
        (part,) = computed(pieces, values)
        places = order[start:end]
        local = moved(tuple([one[places] for one in positions]), box)
        found.append(_taken(part, first, local))
        start = end
    return picked.shaped(_in_order(found, first, order))


def _in_order(parts: list[DeviceArray], first: int, order: Any) -> DeviceArray:
    """Parts behind each other along an axis, each element put where `order` says it belongs."""
    joined = called(np.concatenate, parts, axis=first)
    back = np.empty(len(order), np.intp)
    back[order] = np.arange(len(order))
    return called(np.take, joined, to_device(back), axis=first)


@way(FillPart)
def _fill_part(call: FillPart, values: tuple[Any, ...]) -> DeviceArray:
    return computed(call.pieces, values)[0].copy()


@way(JoinParts)
def _join_parts(call: JoinParts, parts: tuple[Any, ...]) -> DeviceArray:
    whole = np.empty(call.shape, call.dtype, like=parts[0])
    for part, box in zip(parts, call.boxes, strict=True):
        whole[index_of(box)] = part
    return whole


@way(SortPositions)
def _sort_positions(call: SortPositions, values: tuple[Any, ...]) -> tuple[DeviceArray, ...]:
    return tuple([to_device(one) for one in call()])


@way(Send)
def _send(call: Send, values: tuple[Any, ...]) -> tuple[DeviceArray, ...]:
    (source,) = computed(call.pieces, values)
    return tuple(
        [
            _taken(source, call.first, [one[start:stop] for one in values[value]])
            for value, start, stop in call.wants
        ]
    )


@way(Receive)
def _receive(call: Receive, sent: tuple[Any, ...]) -> DeviceArray:
    numbers = piece_numbers(call.picked.flat(), call.groups)
    order = stable_order(numbers, chunk_count(call.groups))
    pairs = sorted(zip(sent, call.packets, strict=True), key=lambda pair: pair[1][1])
    parts = [value[item] for value, (item, _, _) in pairs]
    return call.picked.shaped(_in_order(parts, call.picked.first, order))


@way(ExtractChunk)
def _extract(call: ExtractChunk, values: tuple[Any, ...]) -> DeviceArray:
    chunk, broadcast = computed(call.pieces, values)
    mask = own_axes(broadcast, call.first, call.dimensions)
    if mask is None:
        shape, last = chunk.shape, call.first + call.dimensions
        return np.empty((*shape[: call.first], call.count, *shape[last:]), chunk.dtype, like=chunk)
    result = chunk[behind(call.first, mask)].copy()
    check_count(result.shape[call.first], call.count)
    return result


@way(DepositChunk)
def _deposit(call: DepositChunk, needed: tuple[Any, ...]) -> DeviceArray:
    chunk, broadcast = computed(call.pieces, needed)
    result = chunk.copy()
    mask = own_axes(broadcast, call.first, call.dimensions)
    if mask is not None:
        check_count(int(called(np.count_nonzero, mask)), call.count)
        (values,) = computed(call.values, needed)
        result[behind(call.first, mask)] = values
    return result


@way(ScatterChunk)
def _scatter(call: ScatterChunk, needed: tuple[Any, ...]) -> DeviceArray:
    (chunk,) = computed(call.pieces, needed)
    result = chunk.copy()
    (values,) = computed(call.values, needed)
    key = call.key(len(chunk.shape))
    result[tuple([to_device(one) if isinstance(one, np.ndarray) else one for one in key])] = values
    return result


@way(After)
def _after(call: After, values: tuple[Any, ...]) -> Any:
    return _sort_positions(call.call, ())
