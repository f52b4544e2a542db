"""Programs of arrays that every kind of device is held to, and what moves while they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

import darray as da
from darray.blocks import chunk_count
from darray.runtime.events import ValueMoved

__all__ = ["PROGRAMS", "Moves", "Program", "agree", "check_program"]


class Program(Struct, frozen=True):
    """A function of two arrays of real numbers, and how far its results may be from NumPy's.

    The bound is that of sums in another order; what has none is the same bits where the device
    computes functions of elements as NumPy does.
    """

    build: Callable[[Any, Any], Any]
    within: float = 0.0


class Moves:
    """The moves of arrays between the host's memory and devices of a kind in a block.

    Attributes
    ----------
    home, out : list of int
        Bytes of each value that came to the host, and of each that went to a device.

    Examples
    --------
    >>> import darray as da
    >>> from darray.testing.separate_memory import separate_memory
    >>> there = da.scope(kind="separate")
    >>> with separate_memory(), da.options(scope=there), Moves("separate") as moves:
    ...     total = float(da.asarray(np.ones((30, 4)), blocks=(10, 4)).sum())
    >>> moves.out, moves.home
    ([320, 320, 320], [8])
    """

    def __init__(self, kind: str) -> None:
        self.home: list[int] = []
        self.out: list[int] = []
        self._kind = kind

    def __enter__(self) -> Moves:
        self._subscription = da.subscribe(self._note)
        self._subscription.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._subscription.close()

    def _note(self, event: object) -> None:
        if not isinstance(event, ValueMoved):
            return
        begin = f"{self._kind} "
        leaves, arrives = [one.startswith(begin) for one in (event.source, event.destination)]
        if leaves and not arrives:
            self.home.append(event.nbytes)
        elif arrives and not leaves:
            self.out.append(event.nbytes)


def agree(
    build: Callable[..., Any],
    arrays: tuple[NDArray[Any], ...],
    kind: str,
    blocks: Any,
    within: float = 0.0,
) -> None:
    """Check that ``build(*arrays)`` gives on devices of a kind what it gives with NumPy.

    And that nothing comes to the host meanwhile but the result.

    Raises
    ------
    AssertionError
        Where it does not.

    Examples
    --------
    >>> from darray.testing.separate_memory import separate_memory
    >>> with separate_memory():
    ...     agree(np.hypot, (np.arange(5.0), np.ones(5)), "separate", da.Blocks(2))
    """
    expected = np.asarray(build(*arrays))
    with da.options(scope=da.scope(kind=kind)):
        result = build(*[da.distribute(one, blocks) for one in arrays])
        with Moves(kind) as moves:
            found = result.collect()
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if within:
        np.testing.assert_allclose(found, expected, rtol=within, atol=within)
    else:
        np.testing.assert_array_equal(found, expected, strict=True)
    assert moves.home, "nothing was computed on a device"
    assert sum(moves.home) == expected.nbytes, "something else than the result came to the host"
    assert len(moves.home) <= chunk_count(result.expression.chunks)


def check_program(name: str, kind: str, within: float = 0.0) -> None:
    """Check that a program gives on devices of a kind what it gives with NumPy.

    Parameters
    ----------
    name
        That of one of `PROGRAMS`.
    kind
        A kind of device that is registered.
    within
        How far results may be off, for devices whose functions round in another way.

    Examples
    --------
    >>> from darray.testing.separate_memory import separate_memory
    >>> with separate_memory():
    ...     check_program("a fused program", "separate")
    """
    generator = np.random.default_rng(7)
    x, y = (generator.standard_normal((192, 176)) for _ in range(2))
    program = PROGRAMS[name]
    agree(program.build, (x, y), kind, da.Blocks(64, 44), max(within, program.within))


def _reduction(name: str, **given: Any) -> Callable[[Any, Any], Any]:
    return lambda x, y: getattr(np, name)(
        np.where(x > 1, np.nan, x) if "nan" in name else x, **given
    )


_OF_ELEMENTS: dict[str, Callable[[Any, Any], Any]] = {
    "one call": lambda x, y: np.sin(x),
    "a fused program": lambda x, y: np.sqrt(x * x + y * y) - 2 / (1 + x**2),
    "operators": lambda x, y: -x + y * 3 - 1.5 // (abs(y) + 1),
    "a comparison": lambda x, y: (x > 0) & ~(y <= x),
    "where": lambda x, y: np.where(x > 0.5, x * 2 + 1, y - 3),
    "a choice of scalars": lambda x, y: np.where(x > 0, 1, -1),
    "clip": lambda x, y: np.clip(x, -0.5, 0.5),
    "casts": lambda x, y: (x * 100).astype("i2") + y.astype("f4"),
    "a broadcast row": lambda x, y: x + y[:1],
    "a broadcast column": lambda x, y: x * y[:, 3:4],
    "a scalar of NumPy": lambda x, y: x.astype("f4") * np.float32(3),
    "a masked call": lambda x, y: np.add(x, y, where=x > 0, out=x * 0),
    "several results": lambda x, y: np.modf(x)[1] + np.divmod(y, 0.3)[0],
    "rounding": lambda x, y: np.round(x, 2),
    "the same twice": lambda x, y: (x + y) * (x + y),
    "shifted": lambda x, y: x[1:-1] + x[2:] + x[:-2],
    "complex numbers": lambda x, y: (x + 1j * y) * (y - 1j * x),
    "real parts": lambda x, y: (x + 1j * y).real + 1,
}

# Of what is computed: a view of an array in memory needs no device.
_OF_PLACES: dict[str, Callable[[Any, Any], Any]] = {
    "slices": lambda x, y: (x * 2)[3:50:7, ::-1],
    "an integer": lambda x, y: (x * 2)[17],
    "one element": lambda x, y: (x * 2)[-1, 5],
    "new axes": lambda x, y: (x * 2)[:, None, 2:9],
    "turned": lambda x, y: (x * 2).T,
    "turned and computed": lambda x, y: x.T[::2] + 1,
    "squeezed": lambda x, y: np.squeeze(x[:1] * 2),
    "repeated": lambda x, y: np.broadcast_to(x[0], (3, 176)) * 1,
    "flipped": lambda x, y: np.flip(x) * 1,
    "reshaped": lambda x, y: (x * 2).reshape(176, 192),
    "in a row": lambda x, y: (x + 1).reshape(-1),
    "joined": lambda x, y: np.concatenate([x, y + 1], axis=1),
    "stacked": lambda x, y: np.stack([x, -x]),
    "positions": lambda x, y: (x * 2)[np.array([50, 3, 3, -1, 20])],
    "positions of both axes": lambda x, y: (x * 2)[np.array([50, 3, 3]), np.array([1, 2, 100])],
    "positions of the second axis": lambda x, y: np.take(x * 2, [5, 100, 5], axis=1),
}

_OF_LINES: dict[str, Callable[[Any, Any], Any]] = {
    "cumulative sums": lambda x, y: np.cumsum(x, axis=0),
    "cumulative products": lambda x, y: np.cumprod(np.abs(x) / 2 + 0.5, axis=1),
    "differences": lambda x, y: np.diff(x, axis=0),
    "extremes": lambda x, y: np.max(x, axis=0) - np.min(x, axis=0),
    "places of extremes": lambda x, y: np.argmax(x, axis=1) - np.argmin(x, axis=1),
    "a place in all": lambda x, y: np.argmax(x) * 1,
    "counts": lambda x, y: np.count_nonzero(x > 0, axis=1),
    "whether any": lambda x, y: np.any(x > 3, axis=0) | np.all(x > -3, axis=0),
    "integer sums": lambda x, y: np.sum((x * 100).astype("i4"), axis=0, initial=5),
}

_SUMMED: dict[str, Callable[[Any, Any], Any]] = {
    "a masked sum": lambda x, y: np.sum(x, axis=0, where=y > 0),
    "a masked spread": lambda x, y: np.std(x, axis=1, where=y > 0, ddof=1),
    "a program and its sum": lambda x, y: np.sqrt(x * x + y * y).sum(),
    "centred": lambda x, y: (x - x.mean(axis=0)) / x.std(axis=0),
    "matmul": lambda x, y: x.T @ y,
    "dot": lambda x, y: np.dot(x, y.T),
    "tensordot": lambda x, y: np.tensordot(x, y, 2),
    "a matrix and a vector": lambda x, y: x @ y[0],
    "products of what is computed": lambda x, y: (x + 1).T @ np.sin(y),
    "products of complex numbers": lambda x, y: np.vdot(x + 1j * y, y),
}
for _name in ("sum", "prod", "mean", "var", "std"):
    for _whole_name in (_name, f"nan{_name}"):
        for _axis in (None, 0, 1):
            _SUMMED[f"{_whole_name} along {_axis}"] = _reduction(_whole_name, axis=_axis)
for _name in ("nanmin", "nanmax", "nanargmin", "nanargmax"):
    _OF_LINES[_name] = _reduction(_name, axis=0)

PROGRAMS: Mapping[str, Program] = MappingProxyType(
    {name: Program(build) for name, build in (_OF_ELEMENTS | _OF_PLACES | _OF_LINES).items()}
    | {name: Program(build, 1e-11) for name, build in _SUMMED.items()}
)
