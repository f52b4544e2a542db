"""Versions: what a region writes of values that all others see unchanged until it ends."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import ExitStack
from typing import Any, Protocol

from msgspec import Struct

__all__ = ["Filling", "Origin", "Version", "Versions", "Written"]


class Filling(Struct, frozen=True):
    """A call ``function(value, *arguments)`` that fills a new value with what was there before."""

    value: Any
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class Written(Struct, frozen=True):
    """What tasks of a region write to.

    Attributes
    ----------
    value : object
        What stands for the part, or for the view of it, that is meant.
    part : hashable
        The part.
    is_new : bool
        Whether no task wrote to the part before.
    is_all : bool
        Whether the value is all of the part.
    filling : Filling or None
        Of a new part: what fills it, where anything has to.
    """

    value: Any
    part: Hashable
    is_new: bool = False
    is_all: bool = False
    filling: Filling | None = None


class Origin(Protocol):
    """Which part of what a ref stands for, such as a chunk of an array."""

    @property
    def whole(self) -> Hashable:
        """What it is a part of: the same for all refs on parts of it. None once it is gone."""

    def begin(self) -> Version:
        """Begin the next version of the whole, or raise why it cannot be written to."""


class Version(Protocol):
    """The next version of something, while tasks of one region write parts of it."""

    def read(self, origin: Any) -> Written | None:
        """What `origin` stands for by now; None where that is what it was before."""

    def write(self, origin: Any) -> Written:
        """What a task that writes to `origin` is given."""

    def forget(self, part: Hashable) -> None:
        """Leave out a new part, which no task was given."""

    def publish(self) -> None:
        """Let all see the parts that were written."""

    def drop(self) -> None:
        """Leave everything as it was before."""


class Versions:
    """The versions that one region writes; whoever has it guards it.

    Attributes
    ----------
    begun : dict
        The versions by what they are of.
    new : list
        Parts that no task has been given yet, with their versions.
    """

    def __init__(self) -> None:
        self.begun: dict[Hashable, Version] = {}
        self.new: list[tuple[Version, Written]] = []
        # The new parts of which the task needs what was there before.
        self._needed: set[tuple[Version, Hashable]] = set()

    def read(self, origin: Origin | None) -> Any:
        """What the region's tasks read where `origin` is meant; None for what it was before."""
        if origin is None or not self.begun:
            return None
        version = self.begun.get(origin.whole)
        found = None if version is None else version.read(origin)
        if version is None or found is None:
            return None
        if self.new:
            self._needed.add((version, found.part))
        return found.value

    def write(self, origin: Origin, fills: bool) -> Any:
        """What the region's tasks write to where `origin` is meant; with `fills`, to all of it."""
        version = self.begun.get(origin.whole)
        if version is None:
            version = origin.begin()
            self.begun[origin.whole] = version
        written = version.write(origin)
        if written.is_new:
            self.new.append((version, written))
        if self.new and not (fills and written.is_all):
            self._needed.add((version, written.part))
        return written.value

    def fillings(self) -> list[Filling]:
        """What is to fill the new parts before the task runs."""
        return [
            one.filling
            for version, one in self.new
            if one.filling is not None and (version, one.part) in self._needed
        ]

    def settle(self) -> None:
        """Note that the task was spawned which is the first to be given the new parts."""
        self.new = []
        self._needed.clear()

    def undo(self) -> None:
        """Forget the new parts: the task that was to be given them was not spawned."""
        for version, written in self.new:
            version.forget(written.part)
        self.settle()

    def end(self, succeeded: bool) -> list[str]:
        """Publish what was written, or drop it; of what it is dropped, in words."""
        begun, self.begun = list(self.begun.values()), {}
        with ExitStack() as ends:
            for version in begun:
                ends.callback(version.publish if succeeded else version.drop)
        return [] if succeeded else [str(version) for version in begun]
