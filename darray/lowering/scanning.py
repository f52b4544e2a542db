"""Planning of scans: chunks are scanned in turn, or each for itself and then put in turn."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.blocks import chunk_box
from darray.expr.scans import Scan
from darray.kernels.programs import ErrorState
from darray.kernels.warnings_ledger import Ledger, recording
from darray.lowering.calls import Pieces
from darray.lowering.fusion import fuse
from darray.lowering.planning import Planner, plans
from darray.lowering.plans import Draft, Index, Stage
from darray.runtime.devices.host_buffers import empty, is_own

__all__ = ["Join", "ScanAfter", "ScanAlone", "ScanFirst", "Scanner"]


class _Accumulating(recording):
    """Notes errors of a ufunc's call as those of the accumulation that it is a part of."""

    __slots__ = ()

    def write(self, line: str) -> None:
        """Note what NumPy writes to its log."""
        super().write(line.partition(" encountered in ")[0] + " encountered in accumulate")


class Scanner(Struct, frozen=True):
    """One scan of an array: of what, along which axis, answering errors how."""

    ufunc: np.ufunc
    axis: int
    dtype: np.dtype[Any]
    errors: ErrorState
    origin: int

    def scan(self, chunk: NDArray[Any], ledger: Ledger) -> NDArray[Any]:
        """The scan of a chunk before which there is nothing."""
        with recording(self.errors, ledger, self.origin):
            return self._accumulated(chunk)

    def scan_after(self, before: NDArray[Any], chunk: NDArray[Any], ledger: Ledger) -> NDArray[Any]:
        """The scan of a chunk after one whose scan is `before`.

        The last elements of that one take part as the first, so that NumPy does what it does
        for the whole array, step by step.
        """
        extended = np.concatenate([self.last(before), chunk], self.axis)
        found = self.scan(extended, ledger)
        return np.ascontiguousarray(found[(*self._before(), slice(1, None))])

    def scan_alone(self, chunk: NDArray[Any]) -> tuple[NDArray[Any], bool]:
        """The scan of a chunk by itself, to be joined, and True; or the chunk and False.

        What is infinite or NaN may be so only without what comes before. It stays so to the
        end of the chunk.
        """
        with np.errstate(all="ignore"):
            found = self._accumulated(chunk)
        if self._may_overflow and not np.isfinite(self.last(found)).all():
            return np.array(chunk, self.dtype, order="C"), False
        return found, True

    def join(self, before: NDArray[Any], alone: NDArray[Any], ledger: Ledger) -> NDArray[Any]:
        """The scan of a chunk after one whose scan is `before`, from its scan by itself.

        The memory of `alone`, which nothing else reads, is written to.
        """
        owner: Any = alone if is_own(alone) else alone.base
        may_write = isinstance(owner, np.ndarray) and owner.flags.writeable
        out = owner if may_write else empty(alone.shape, self.dtype)
        with _Accumulating(self.errors, ledger, self.origin):
            self.ufunc(self.last(before), alone, out=out)
        if self._may_overflow and not np.isfinite(out).all():
            self._stay_lost(out)
        return out

    def _stay_lost(self, out: NDArray[Any]) -> None:
        """Let a sum that has overflowed, or is NaN, never come back, as it does in sequence."""
        count = 2 if self.dtype.kind == "c" else 1
        parts = out.view(out.real.dtype).reshape(*out.shape, count)
        with np.errstate(all="ignore"):
            lost = np.where(np.isfinite(parts), 0, parts)
            parts += np.add.accumulate(lost, self.axis, parts.dtype)

    @property
    def _may_overflow(self) -> bool:
        return self.ufunc is np.add and self.dtype.kind in "fc"

    def _accumulated(self, chunk: NDArray[Any]) -> NDArray[Any]:
        # In C order, whatever the order of the chunk.
        out = empty(chunk.shape, self.dtype)
        # NumPy would take the unit of a time for more than the kind of number that is asked for.
        dtype = None if self.dtype.kind in "mM" else self.dtype
        found: NDArray[Any] = self.ufunc.accumulate(chunk, self.axis, dtype, out)
        return found

    def _before(self) -> tuple[slice, ...]:
        return (slice(None),) * self.axis

    def last(self, chunk: NDArray[Any]) -> NDArray[Any]:
        """The last elements along the axis, of which a chunk has some."""
        return chunk[(*self._before(), slice(-1, None))]


class ScanFirst(Struct, frozen=True):
    """Scan the first chunk of a line."""

    reads_parts: ClassVar[bool] = True

    pieces: Pieces
    scanner: Scanner

    def __call__(self, *values: Any) -> NDArray[Any]:
        """The scanned chunk."""
        (chunk,) = self.pieces.compute(values)
        return self.scanner.scan(chunk, self.pieces.ledger)


class ScanAfter(Struct, frozen=True):
    """Scan a chunk after the one before it, whose scan is the last of the values."""

    reads_parts: ClassVar[bool] = True

    pieces: Pieces
    scanner: Scanner

    def __call__(self, *values: Any) -> NDArray[Any]:
        """The scanned chunk."""
        (chunk,) = self.pieces.compute(values)
        return self.scanner.scan_after(values[-1], chunk, self.pieces.ledger)


class ScanAlone(Struct, frozen=True):
    """Scan a chunk by itself, to be joined to the one before it."""

    reads_parts: ClassVar[bool] = True

    pieces: Pieces
    scanner: Scanner

    def __call__(self, *values: Any) -> tuple[NDArray[Any], bool]:
        """The scanned chunk and True, or the chunk and False: see `Scanner.scan_alone`."""
        (chunk,) = self.pieces.compute(values)
        return self.scanner.scan_alone(chunk)


class Join(Struct, frozen=True):
    """Put a chunk that was scanned by itself behind the one before it."""

    scanner: Scanner
    ledger: Ledger

    def __call__(self, before: Any, alone: Any) -> NDArray[Any]:
        """The scanned chunk."""
        chunk, is_scanned = alone
        join = self.scanner.join if is_scanned else self.scanner.scan_after
        return join(before, chunk, self.ledger)


@plans(Scan)
def plan_scan(planner: Planner, node: Scan, indices: list[Index]) -> None:
    """Plan chunks of a scan, line by line, so that few chunks wait for those before them.

    Each chunk follows from the one before it. Where the order of operations does not matter,
    the greater part of the work is done side by side before that.
    """
    lasts: dict[Index, int] = {}
    for index in indices:
        line = (*index[: node.axis], *index[node.axis + 1 :])
        lasts[line] = max(lasts.get(line, 0), index[node.axis])
    lines = [
        [(*line[: node.axis], number, *line[node.axis :]) for number in range(last + 1)]
        for line, last in lasts.items()
    ]
    planner.wanted[node].update(dict.fromkeys(index for line in lines for index in line))
    scanner = Scanner(node.ufunc, node.axis, node.dtype, node.errors, node.serial)
    group = fuse([node.operand], node.shape)
    name = f"{node.ufunc.__name__}.accumulate"
    itemsize = node.dtype.itemsize
    # The scan, and what is scanned behind the elements before it.
    first = planner.stage(name, node.serial - 0.4, group, node, 2 * itemsize)
    if node.is_associative:
        # A join writes to what it is given, so it must never wait for memory.
        after = Stage(f"joins of {name}", node.serial, 1, lambda: 1)
        planner.plan.stages.append(after)
    else:
        after = planner.stage(name, node.serial, group, node, 3 * itemsize)
    for chunks in lines:
        for index, before in zip(chunks, (None, *chunks), strict=False):
            pieces, needs = planner.pieces(group, chunk_box(node.chunks, index))
            if before is None:
                first.drafts.append(Draft((node, index), ScanFirst(pieces, scanner), needs))
            elif node.is_associative:
                alone = (node, ("alone", index))
                first.drafts.append(Draft(alone, ScanAlone(pieces, scanner), needs))
                join = Join(scanner, planner.plan.ledger)
                after.drafts.append(Draft((node, index), join, [(node, before), alone]))
            else:
                needs.append((node, before))
                after.drafts.append(Draft((node, index), ScanAfter(pieces, scanner), needs))
