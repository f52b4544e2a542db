"""What a streaming task is given: the call that each row of values from its streams makes."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum
from functools import partial
from typing import Any

from msgspec import Struct

from darray.runtime.contexts import Options

__all__ = [
    "NOTHING",
    "Call",
    "Slot",
    "StreamFinished",
    "filled",
    "given_iterator",
    "has_slots",
    "is_async",
    "is_expanding",
    "placed",
    "retried",
]


class Absent(Enum):
    """The type of `NOTHING`, which is the same object on every worker."""

    NOTHING = "nothing"


# Stands for a value, or a result, that there is not.
NOTHING: Any = Absent.NOTHING


class StreamFinished(BaseException):
    """Raised by `finish_stream` to end the streaming task that calls it."""

    def __init__(self, value: Any, result: Any) -> None:
        super().__init__("finish_stream() was called")
        self.value = value
        self.result = result


class Slot(Struct, frozen=True):
    """Stands, among the arguments, for the value of the stream of that number."""

    number: int


_NESTS = (list, tuple, dict, set, frozenset)


def placed(value: Any, slot_of: Callable[[Any], Slot | None]) -> Any:
    """`value` with a `Slot` for every stream in it, builtin containers looked into."""
    slot = slot_of(value)
    if slot is not None:
        return slot
    cls = value.__class__
    if cls is dict:
        return {placed(key, slot_of): placed(item, slot_of) for key, item in value.items()}
    if cls in _NESTS:
        items = [placed(item, slot_of) for item in value]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else cls(items)
    return value


def has_slots(value: Any) -> bool:
    """Whether a `Slot` is in `value`."""
    cls = value.__class__
    if cls is dict:
        return any(has_slots(one) for pair in value.items() for one in pair)
    return cls is Slot or (cls in _NESTS and any(map(has_slots, value)))


def filled(value: Any, row: tuple[Any, ...]) -> Any:
    """`value` with the values of `row` for its slots."""
    cls = value.__class__
    if cls is Slot:
        return row[value.number]
    if not has_slots(value):
        return value
    if cls is dict:
        return {filled(key, row): filled(item, row) for key, item in value.items()}
    return cls([filled(item, row) for item in value])


class Call:
    """A function with its arguments, to be called with the values of its streams.

    Where the only argument is one stream, ``direct`` is the function itself.
    """

    __slots__ = ("_args", "_function", "_kwargs", "direct")

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._function = function
        self._args = args
        self._kwargs = kwargs
        # Arrays, which may be among them, do not tell equality by a truth value.
        is_plain = not kwargs and (not args or (len(args) == 1 and args[0].__class__ is Slot))
        self.direct: Callable[..., Any] = function if is_plain else self

    def __call__(self, *row: Any) -> Any:
        """Call the function with the values of `row` for its slots."""
        args = [filled(one, row) for one in self._args]
        return self._function(*args, **{key: filled(one, row) for key, one in self._kwargs.items()})


def retried(call: Callable[..., Any], options: Options) -> Callable[..., Any]:
    """`call`, made again after each failure that the options name, as often as they say."""
    if not options.retries:
        return call

    def call_again(*row: Any) -> Any:
        for _ in range(options.retries):
            try:
                return call(*row)
            except StreamFinished:
                raise
            except options.retry_on as error:
                logging.getLogger("darray").info("%r is called again", call, exc_info=error)
        return call(*row)

    return call_again


def given_iterator(iterator: Any) -> Callable[[], Any]:
    """A function that returns `iterator`."""
    return partial(_same, iterator)


def _same(value: Any) -> Any:
    return value


def _called(function: Any) -> Any:
    """What says how a call of `function` goes: of an object, its method ``__call__``."""
    if inspect.isroutine(function) or inspect.isclass(function) or not callable(function):
        return function
    return function if isinstance(function, partial) else getattr(function, "__call__", function)  # noqa: B004


def is_async(function: Any) -> bool:
    """Whether what `function` returns, or is, is to be awaited."""
    function = _called(function)
    return (
        inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
        or isinstance(function, AsyncIterator)
    )


def is_expanding(function: Any) -> bool:
    """Whether each call of `function` gives any number of values, or it is an iterator."""
    function = _called(function)
    return (
        inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
        or isinstance(function, Iterator | AsyncIterator)
    )
