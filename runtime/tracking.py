"""Tracking: which tasks a new one waits for, given what each reads and writes."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable
from typing import Any

from msgspec.structs import replace

from darray.runtime.accesses import ADDS, Part
from darray.runtime.footprints import Footprint, footprints_of, is_fixed, object_footprint
from darray.runtime.pieces import Turn
from darray.runtime.tasks import DONE, Task

__all__ = ["Extent", "Known", "Tracker"]

# An extent with more neighbours than this is told which of them are in use.
NARROW = 16

# Readers of an extent among which those that are done are looked for.
MANY = 8

# Extents, and bytes of them, that may be idle before those are looked for and forgotten.
IDLE_EXTENTS = 4096
IDLE_NBYTES = 2**26


class Adders:
    """Tasks that add to an extent in any order.

    Attributes
    ----------
    tasks : list of Task
        Those of them that may not be done.
    before : list of Task
        Those that each of them waits for: what read or wrote the extent before them.
    """

    __slots__ = ("before", "tasks")

    def __init__(self, before: list[Task[Any]], tasks: list[Task[Any]]) -> None:
        self.before = before
        self.tasks = tasks


class Extent:
    """A footprint that tasks use, and those whose use of it later ones wait for.

    Attributes
    ----------
    writer : Task or None
        The last task that writes it.
    adders : Adders or None
        Instead of one that writes, those that added to it last.
    turn : Turn or None
        Which of those that add to it runs.
    readers : list of Task, or ()
        Those that read it since.
    neighbours : list of Extent, or ()
        All others that overlap it.
    wide : list of Extent, or ()
        Those of them that have many neighbours.
    active : dict of Extent, or None
        Of an extent that has many neighbours: those in use since it was written.
    aliases : tuple of Extent
        Where the value of the task lies whose extent this is, once `Tracker.alias` was told.
    """

    __slots__ = (
        "active",
        "adders",
        "aliases",
        "footprint",
        "neighbours",
        "readers",
        "turn",
        "wide",
        "writer",
    )

    def __init__(self, footprint: Footprint) -> None:
        self.footprint = footprint
        self.writer: Task[Any] | None = None
        self.adders: Adders | None = None
        self.turn: Turn | None = None
        # Most extents of a program overlap no other, and none of them needs lists of its own.
        self.readers: list[Task[Any]] | tuple[()] = ()
        self.neighbours: list[Extent] | tuple[()] = ()
        self.wide: list[Extent] | tuple[()] = ()
        self.active: dict[Extent, None] | None = None
        self.aliases: tuple[Extent, ...] = ()

    def add_neighbour(self, other: Extent) -> None:
        """Note that `other` overlaps this extent."""
        self.neighbours = _with(self.neighbours, other)
        if self.active is not None:
            other.wide = _with(other.wide, self)
            if not other.is_idle():
                self.active[other] = None

    def widen(self) -> None:
        """Be told of neighbours in use from now on, if there are many."""
        if self.active is None and len(self.neighbours) > NARROW:
            self.active = dict.fromkeys(one for one in self.neighbours if not one.is_idle())
            for one in self.neighbours:
                one.wide = _with(one.wide, self)

    def is_idle(self) -> bool:
        """Whether nothing has to wait for what was done to it."""
        adders = () if self.adders is None else self.adders.tasks
        return (self.writer is None or self.writer._state == DONE) and all(
            one._state == DONE for one in (*adders, *self.readers)
        )

    def collect(self, writes: int, needs: dict[Task[Any], None]) -> None:
        """Add the tasks that whoever reads, or writes, some of these bytes waits for.

        Whoever writes waits for the readers, and they for the last writer.
        """
        if writes and self.readers:
            is_read = False
            for reader in self.readers:
                if reader._state != DONE:
                    needs[reader] = None
                    is_read = True
            if is_read:
                return
        writer = self.writer
        if writer is not None:
            if writer._state == DONE:
                self.writer = None
            else:
                needs[writer] = None
        elif self.adders is not None:
            self._collect_adders(needs)

    def _collect_adders(self, needs: dict[Task[Any], None]) -> None:
        assert self.adders is not None
        left = self.adders.tasks = [one for one in self.adders.tasks if one._state != DONE]
        needs.update(dict.fromkeys(left))

    def collect_before(self, needs: dict[Task[Any], None]) -> None:
        """Add the tasks that whoever adds to these bytes waits for; not others that add."""
        adders = self.adders
        if adders is None or self.readers:
            self.collect(True, needs)
            return
        adders.before = [one for one in adders.before if one._state != DONE]
        needs.update(dict.fromkeys(adders.before))

    def add(self, task: Task[Any]) -> None:
        """Note that `task`, which waits for what `collect_before` gave, adds to these bytes."""
        adders = self.adders
        if adders is None or self.readers:
            before: dict[Task[Any], None] = {}
            self.collect(True, before)
            self.adders, self.writer, self.readers = Adders(list(before), [task]), None, ()
            return
        adders.tasks.append(task)
        count = len(adders.tasks)
        if count >= MANY and count & (count - 1) == 0:
            adders.tasks = [one for one in adders.tasks if one._state != DONE]

    def turn_of_adders(self) -> Turn:
        """Which of those that add to it runs."""
        if self.turn is None:
            self.turn = Turn()
        return self.turn


def _with(extents: list[Extent] | tuple[()], other: Extent) -> list[Extent]:
    """The same list with one more, or a first list."""
    if not extents:
        return [other]
    extents.append(other)
    return extents


class Known:
    """A value, kept alive, its extents, and what tasks are given for it.

    Attributes
    ----------
    readable : object
        What a task that reads it is given; None until one was.
    shape : tuple or None
        The shape of the value when that was made, where it is not the value itself.
    is_writable : bool
        Whether a task that writes it was given it, as all others will be.
    """

    __slots__ = ("extents", "is_writable", "readable", "shape", "value")

    def __init__(self, value: Any, extents: tuple[Extent, ...]) -> None:
        self.value = value
        self.extents = extents
        self.readable: Any = None
        self.shape: Any = None
        self.is_writable = False


class Tracker:
    """The extents in use, and the order in which tasks may use them.

    Not safe for threads: whoever has one guards it.

    Invariants, checked by `_check`
    -------------------------------
    * Of two extents that overlap each is a neighbour of the other, once.
    * An extent has ``active`` if it has more than `NARROW` neighbours, and is in the
      ``wide`` of each of them; ``active`` holds every neighbour that is not idle, unless the
      extent was written since and holds the neighbour.
    * Every task that was given to `record` waits, perhaps through others, for all those
      before it that wrote what it uses, or used what it writes, unless they are done; but of
      those that add to one extent, with none between them that uses it otherwise, none waits
      for another.
    * An extent has not both a ``writer`` and ``adders``.
    """

    def __init__(self) -> None:
        # Values by their identity, and parts by that of the value and themselves.
        self.known: dict[int, Known] = {}
        self._parts: dict[tuple[int, Part], Known] = {}
        self._extents: dict[Hashable, Extent] = {}
        # Extents by where they lie: those of at most 2**k bytes in buckets as long.
        self._levels: dict[int, dict[int, list[Extent]]] = {}
        # What may be known before idle extents are forgotten.
        self._most = IDLE_EXTENTS
        self._most_nbytes = IDLE_NBYTES
        self._nbytes = 0
        # Whether there is more than when `tidy` was last called.
        self.has_grown = False
        # Whether any extent has aliases.
        self.has_aliases = False

    def extents(self, value: Any, part: Part | None = None) -> tuple[Extent, ...]:
        """The extents that `value`, or the `part` of it, lies in."""
        known: dict[Any, Known] = self.known if part is None else self._parts
        key = id(value) if part is None else (id(value), part)
        found = known.get(key)
        if found is not None:
            return found.extents
        extents = tuple([self._extent(one) for one in footprints_of(value, part)])
        if is_fixed(value, part):
            known[key] = Known(value, extents)
            self.has_grown = True
        return extents

    def extent_of_object(self, value: Any) -> Extent:
        """The extent of an object by its identity, whatever it holds."""
        known = self.known.get(id(value))
        if known is not None and len(known.extents) == 1:
            return known.extents[0]
        return self._extent(object_footprint(value))

    def alias(self, value: Any, extent: Extent) -> None:
        """Let whoever uses the bytes of `value` wait for those that use `extent`."""
        for footprint in footprints_of(value):
            key = ("alias", id(extent), footprint.key)
            other = self._extent(replace(footprint, key=key))
            other.writer, other.readers = extent.writer, list(extent.readers)
            if extent.adders is not None:
                other.adders = Adders(list(extent.adders.before), list(extent.adders.tasks))
            extent.aliases += (other,)
            self.has_aliases = True
            for wide in other.wide:
                assert wide.active is not None
                wide.active[other] = None

    def add_aliases(self, accesses: dict[Extent, int]) -> None:
        """Add the aliases of what `accesses` has, which are used in the same way.

        But that who adds is taken to write there.

        A task may use the extent of another one whose value is known by now: it ended this
        moment, or a third task that is still outstanding was given its value.
        """
        for extent, writes in list(accesses.items()):
            for other in extent.aliases:
                accesses[other] = bool(writes) or accesses.get(other, False)

    def needs(self, accesses: dict[Extent, int]) -> dict[Task[Any], None]:
        """The tasks that one with these accesses must wait for: written, read, or `ADDS`."""
        needs: dict[Task[Any], None] = {}
        for extent, writes in accesses.items():
            if writes == ADDS:
                extent.collect_before(needs)
            elif extent.adders is not None or (writes and extent.readers):
                extent.collect(writes, needs)
            else:
                # Extent.collect, spelled out.
                writer = extent.writer
                if writer is not None:
                    if writer._state == DONE:
                        extent.writer = None
                    else:
                        needs[writer] = None
            if extent.neighbours:
                for other in extent.neighbours if extent.active is None else extent.active:
                    other.collect(writes, needs)
        return needs

    def record(self, accesses: dict[Extent, int], task: Task[Any]) -> None:
        """Note the accesses of `task`, which waits for what `needs` gave for them."""
        for extent, writes in accesses.items():
            if writes == ADDS:
                # What overlaps the extent stays active: others that add wait for it as well.
                extent.add(task)
            elif writes:
                extent.writer = task
                extent.adders, extent.readers = None, ()
                if extent.active:
                    self._supersede(extent)
            else:
                readers = extent.readers
                if readers:
                    readers.append(task)
                    count = len(readers)
                    if count >= MANY and count & (count - 1) == 0:
                        extent.readers = [one for one in readers if one._state != DONE]
                else:
                    extent.readers = [task]
            if extent.wide:
                for wide in extent.wide:
                    assert wide.active is not None
                    wide.active[extent] = None

    def _supersede(self, extent: Extent) -> None:
        """Let go of the tasks of neighbours within `extent`, which its writer waits for."""
        assert extent.active is not None
        left: dict[Extent, None] = {}
        for other in extent.active:
            if extent.footprint.holds(other.footprint):
                other.writer = other.adders = None
                other.readers = ()
            elif not other.is_idle():
                left[other] = None
        extent.active = left

    def _extent(self, footprint: Footprint) -> Extent:
        extent = self._extents.get(footprint.key)
        if extent is None:
            extent = Extent(footprint)
            for other in self._around(footprint):
                if footprint.overlaps(other.footprint):
                    extent.add_neighbour(other)
                    other.add_neighbour(extent)
                    other.widen()
            extent.widen()
            self._place(extent)
        return extent

    def _place(self, extent: Extent) -> None:
        """Make an extent, which knows its neighbours, one that is found."""
        footprint = extent.footprint
        self.has_grown = True
        self._extents[footprint.key] = extent
        self._nbytes += footprint.high - footprint.low
        level = (footprint.high - footprint.low - 1).bit_length()
        buckets = self._levels.setdefault(level, {})
        for at in range(footprint.low >> level, ((footprint.high - 1) >> level) + 1):
            buckets.setdefault(at, []).append(extent)

    def _around(self, footprint: Footprint) -> Iterable[Extent]:
        """The extents whose range may intersect that of `footprint`."""
        found: dict[Extent, None] = {}
        for level, buckets in self._levels.items():
            first, last = footprint.low >> level, (footprint.high - 1) >> level
            if last - first >= len(buckets):
                hits = [buckets[at] for at in buckets if first <= at <= last]
            else:
                hits = [buckets[at] for at in range(first, last + 1) if at in buckets]
            for extents in hits:
                found.update(dict.fromkeys(extents))
        return found

    def tidy(self) -> bool:
        """Where there are many, forget extents that nothing has to wait for, and their values.

        Whether that was done.

        To be called when no extents are held that were not given to `record` yet.
        """
        self.has_grown = False
        known = len(self.known) + len(self._parts)
        many = len(self._extents) > self._most or known > 4 * self._most
        if not many and self._nbytes <= self._most_nbytes:
            return False
        kept = {extent: None for extent in self._extents.values() if not extent.is_idle()}
        # Who is given the value of a task that uses them uses their aliases as well.
        kept.update(dict.fromkeys([other for extent in kept for other in extent.aliases]))
        self.known, self._parts = {}, {}
        self._extents, self._levels, self._nbytes = {}, {}, 0
        for extent in kept:
            extent.neighbours = [one for one in extent.neighbours if one in kept]
            extent.wide = [one for one in extent.wide if one in kept]
            if extent.active is not None:
                extent.active = {one: None for one in extent.active if one in kept}
            self._place(extent)
        self._most = 2 * len(kept) + IDLE_EXTENTS
        self._most_nbytes = 2 * self._nbytes + IDLE_NBYTES
        self.has_grown = False
        return True

    def _check(self) -> None:
        extents = list(self._extents.values())
        for one, other in itertools.combinations(extents, 2):
            overlaps = one.footprint.overlaps(other.footprint)
            assert one.neighbours.count(other) == other.neighbours.count(one) == overlaps
        for extent in extents:
            assert extent.writer is None or extent.adders is None
            if len(extent.neighbours) > NARROW:
                assert extent.active is not None, "an extent with many neighbours is told of them"
            for other in extent.neighbours:
                assert other.wide.count(extent) == (extent.active is not None)
                if extent.active is not None and not other.is_idle():
                    superseded = extent.footprint.holds(other.footprint)
                    assert other in extent.active or superseded
