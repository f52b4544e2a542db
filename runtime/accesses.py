"""What a task does to an argument in a region: reads it, writes it, both, or a part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from msgspec import Struct

__all__ = ["ADDS", "WRITTEN", "Access", "Accumulate", "Deps", "In", "InOut", "Out", "Part"]

# What a task does that writes in any order among others that do; true, as is what writes.
ADDS = 2

# What is meant of a value: a field by name, or a function that gives a view of it.
Part: TypeAlias = str | Callable[[Any], Any]


class Access:
    """An argument with what the task does to it; one of the classes below."""

    __slots__ = ()

    value: Any
    writes: int = False

    def refuse_nested(self) -> None:
        """Raise `TypeError` where the value is annotated itself."""
        if isinstance(self.value, Access):
            raise TypeError(
                f"{type(self).__name__}({self.value!r}): an argument is annotated once; to read "
                "one part of it and write another, use Deps(value, In(part), InOut(part))"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"

    def parts(self) -> tuple[tuple[Part | None, int], ...]:
        """What is meant of the value, None for all of it, each with whether it is written."""
        return ((None, self.writes),)


class _Whole(Access, Struct, eq=False):
    """One of all of a value. A struct, which is made in half the time of another object.

    For the same reason it is not looked at before it is used.
    """

    value: Any


class In(_Whole, eq=False):
    """An argument that the task reads. In a region, what is not annotated is read.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> a, b = np.zeros(3), np.ones(3)
    >>> with da.spawn_datadeps():
    ...     _ = da.spawn(np.copyto, da.Out(a), da.In(b))
    >>> a
    array([1., 1., 1.])
    """


class Out(_Whole, eq=False):
    """An argument that the task writes, whatever was there before.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> a = np.zeros(3)
    >>> with da.spawn_datadeps():
    ...     _ = da.spawn(np.ndarray.fill, da.Out(a[:2]), 7)
    >>> a
    array([7., 7., 0.])
    """

    writes = True


class InOut(_Whole, eq=False):
    """An argument that the task reads and writes.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> a = np.array([3, 1, 2])
    >>> with da.spawn_datadeps():
    ...     _ = da.spawn(np.ndarray.sort, da.InOut(a))
    >>> a
    array([1, 2, 3])
    """

    writes = True


class Accumulate(_Whole, eq=False):
    """An argument that the task adds something to: one task at a time, no matter in what order.

    Those that add to the same bytes, with nothing between them that reads or writes some of
    these, run in the order in which what else they need is there. What they leave is that of
    the program run from top to bottom only if that order makes no difference to it: sums of
    floating-point numbers may differ by rounding.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> def add(total, values):
    ...     total += values.sum()
    >>> total = np.zeros(())
    >>> with da.spawn_datadeps():
    ...     for i in range(3):
    ...         _ = da.spawn(add, da.Accumulate(total), np.full(10, i))
    >>> float(total)
    30.0
    """

    writes = ADDS


class Deps(Access):
    """An argument of which the task reads and writes parts, though it is given the whole.

    Parameters
    ----------
    value : object
        What the task is given; writable if it writes any part.
    *accesses : In, Out or InOut
        The parts, each one function that gives a view of the value, or ``np.triu``,
        ``np.tril`` or ``np.diag`` (also ``functools.partial`` of them with ``k=``) for a
        triangle or a diagonal of a matrix, or the name of a field or an attribute.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> from functools import partial
    >>> a = np.zeros((4, 4))
    >>> def fill(matrix, part, number):
    ...     matrix[part(np.ones_like(matrix, dtype=bool))] = number
    >>> upper, lower = np.triu, partial(np.tril, k=-1)
    >>> with da.spawn_datadeps():  # the two run side by side
    ...     _ = da.spawn(fill, da.Deps(a, da.Out(upper)), upper, 1)
    ...     _ = da.spawn(fill, da.Deps(a, da.Out(lower)), lower, 2)
    >>> a[0, 1], a[1, 0]
    (np.float64(1.0), np.float64(2.0))
    """

    __slots__ = ("accesses", "value")

    def __init__(self, value: Any, *accesses: Access) -> None:
        self.value = value
        self.refuse_nested()
        for one in accesses:
            if type(one) not in WRITTEN:
                raise TypeError(f"Deps takes In, Out and InOut of parts of its value, not {one!r}")
            if not (isinstance(one.value, str) or callable(one.value)):
                raise TypeError(
                    f"{one!r} in Deps: a part is a function that gives a view of the value, or the "
                    "name of a field"
                )
        if not accesses:
            raise TypeError("Deps(value) names no part; give In(part), Out(part) or InOut(part)")
        self.accesses = accesses

    def __repr__(self) -> str:
        return f"Deps({', '.join(map(repr, (self.value, *self.accesses)))})"

    def parts(self) -> tuple[tuple[Part | None, int], ...]:
        """The parts of the value that are meant, and whether each is written."""
        return tuple([(one.value, one.writes) for one in self.accesses])


# The classes that mean all of a value, each with its name if the task writes that, else "".
WRITTEN: dict[type, str] = {In: "", Out: "Out", InOut: "InOut", Accumulate: "Accumulate"}
