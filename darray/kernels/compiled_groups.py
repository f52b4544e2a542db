"""Groups of instructions that are one compiled loop, with NumPy's answers to errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.kernels.programs import ErrorState, Operand, Program
from darray.kernels.table import kernel_for
from darray.kernels.warnings_ledger import Ledger, recording

__all__ = ["ROW", "CompiledGroup", "expects_errors"]

# Results of which a loop that adds makes one sum, in the order in which NumPy adds a row: eight
# sums side by side over 128 elements, and the sums of these pairwise. Shorter rows would cost
# NumPy a fifth, where it adds them instead.
ROW = 1024

_KINDS = ("divide", "over", "under", "invalid")

# Pieces in a row with errors after which errors are expected in every one.
_ENOUGH = 4

# Elements that one call of the loop is given, and NumPy where these had errors: so many that what a
# call costs is little, so few that NumPy's results on the way stay in a cache.
_CALL = 2**19
_PIECE = 2**17


class CompiledGroup:
    """Several instructions of elements as one ufunc.

    Attributes
    ----------
    ufunc : numpy.ufunc
        The compiled loop: of the arrays that the group reads, then its constants, as arrays
        without axes of the loop's dtypes.
    instructions : Program
        The same by NumPy, over the arrays alone.
    sums : numpy.ufunc or None
        The loop that gives the sums of rows of `ROW` results, where there is one.
    streaming : numpy.ufunc
        The loop that writes past the caches; the same one where there is none.
    """

    __slots__ = ("_in_a_row", "_lock", "_modes", "instructions", "streaming", "sums", "ufunc")

    def __init__(
        self,
        ufunc: np.ufunc,
        instructions: Program,
        sums: np.ufunc | None = None,
        streaming: np.ufunc | None = None,
    ) -> None:
        self.ufunc = ufunc
        self.streaming = ufunc if streaming is None else streaming
        self.sums = sums
        self.instructions = instructions
        states = {one.errors for one in instructions.instructions}
        # `recording` tells callbacks of ignored errors too, if there are others.
        self._modes: dict[str, Any] = {
            kind: "call"
            if any(state[i] != "ignore" or "call" in state[:4] for state in states)
            else "ignore"
            for i, kind in enumerate(_KINDS)
        }
        # Guards `_in_a_row`, how many of the last pieces had errors; taken last, for one update.
        self._lock = threading.Lock()
        self._in_a_row = 0

    def __repr__(self) -> str:
        names = [getattr(one.function, "__name__", "?") for one in self.instructions.instructions]
        return f"CompiledGroup({', '.join(names)})"

    @property
    def expects_errors(self) -> bool:
        """Whether the last pieces all had errors."""
        return self._in_a_row >= _ENOUGH

    def __call__(self, *inputs: Any, out: NDArray[Any] | None = None) -> Any:
        """Run the loop; errors are NumPy's to answer, as those of a ufunc ``fused``."""
        return self.ufunc(*inputs) if out is None else self.ufunc(*inputs, out=out)

    def run(
        self, inputs: Sequence[Any], out: NDArray[Any], ledger: Ledger, streams: bool = False
    ) -> None:
        """Compute into `out`, which shares no memory with `inputs`; note errors as NumPy would.

        Where the machine found an error, the instructions are run one by one, which tells of
        which it is. The thread's error state is set here; the caller need not. `out` may be a
        whole chunk: the loop goes through memory once, whatever its size, and what is run one by
        one is a piece of it. With `streams` that is not to stay in a cache.

        Raises
        ------
        FloatingPointError
            Where an instruction's errors are to be raised.
        """
        found: list[str] = []
        ufunc = self.streaming if streams else self.ufunc
        with np.errstate(call=lambda what, flags: found.append(what), **self._modes):
            for operands, into in _pieces(inputs, out, _CALL):
                if not self.expects_errors:
                    ufunc(*operands, out=into)
                    self._count(bool(found))
                    if not found:
                        continue
                    found.clear()
                for some, place in _pieces(operands, into, _PIECE):
                    np.copyto(place, self._by_numpy(some, ledger))

    def add_rows(
        self,
        inputs: Sequence[Any],
        out: NDArray[Any],
        ledger: Ledger,
        errors: ErrorState,
        origin: int,
    ) -> None:
        """Write the sums of rows to `out`; note errors as `run` does, and those of the sums.

        `inputs` are arrays of rows of `ROW` elements, and constants. The sums are those of
        expression `origin`, whose errors are answered as `errors` says.

        Raises
        ------
        FloatingPointError
            Where an instruction's errors, or those of the sums, are to be raised.
        """
        assert self.sums is not None
        found: list[str] = []
        modes: dict[str, Any] = {
            kind: "ignore" if mode == "ignore" == errors[i] and "call" not in errors[:4] else "call"
            for i, (kind, mode) in enumerate(self._modes.items())
        }
        with np.errstate(call=lambda what, flags: found.append(what), **modes):
            if not self.expects_errors:
                self.sums(*inputs, out=out)
                self._count(bool(found))
                if not found:
                    return
            rows = _PIECE // ROW
            for start in range(0, len(out), rows):
                part = slice(start, start + rows)
                operands = [one[part] if np.ndim(one) else one for one in inputs]
                values = self._by_numpy(operands, ledger)
                with recording(errors, ledger, origin):
                    np.add.reduce(values, axis=1, out=out[part])

    def _count(self, has_errors: bool) -> None:
        """Count pieces in a row that had errors."""
        in_a_row = self._in_a_row + 1 if has_errors else 0
        if in_a_row != self._in_a_row:
            with self._lock:
                self._in_a_row = in_a_row

    def _by_numpy(self, inputs: Sequence[Any], ledger: Ledger) -> Any:
        program = self.instructions
        made: list[Any] = []

        def value(operand: Operand) -> Any:
            register, constant = operand
            if register is None:
                return constant
            return inputs[register] if register >= 0 else made[~register]

        for instruction in program.instructions:
            function = kernel_for(instruction.function, "cpu")
            with recording(instruction.errors, ledger, instruction.origin):
                operands = [value(one) for one in instruction.operands]
                made.append(function(*operands, **dict(instruction.parameters)))
        return value(program.results[0])


def expects_errors(program: Program) -> bool:
    """Whether a compiled group of `program` leaves its work to NumPy since it met so many errors.

    Examples
    --------
    >>> expects_errors(Program.assemble([], [(0, None)]))
    False
    """
    functions = [one.function for one in program.instructions]
    return any([isinstance(one, CompiledGroup) and one.expects_errors for one in functions])


def _pieces(
    inputs: Sequence[Any], out: NDArray[Any], elements: int
) -> Iterator[tuple[Sequence[Any], NDArray[Any]]]:
    """Parts of the arrays of at most so many elements, cut along the first axis alone."""
    if out.size <= elements or out.ndim == 0:
        yield inputs, out
        return
    rows = len(out)
    step = max(1, elements * rows // out.size)
    # Arrays with fewer axes, or one row for all, are part of every piece.
    long = [one.ndim == out.ndim and len(one) == rows > 1 for one in inputs]
    for start in range(0, rows, step):
        rest = slice(start, start + step)
        cut = [one[rest] if is_long else one for one, is_long in zip(inputs, long, strict=True)]
        yield cut, out[rest]
