"""The ledger of floating-point errors: noted where chunks are computed, issued where collected."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import numpy as np

from darray.kernels.programs import ErrorState

__all__ = ["Ledger", "NumberedLedger", "caller_depth", "captured_errors", "recording"]

_KINDS = ("divide", "over", "under", "invalid")
_KIND_OF_TEXT = {
    "divide by zero": "divide",
    "overflow": "over",
    "underflow": "under",
    "invalid value": "invalid",
}
_TEXT_OF_KIND = {kind: text for text, kind in _KIND_OF_TEXT.items()}
_PACKAGE = __name__.partition(".")[0]


# Where NumPy keeps the error state of each context, an object that is replaced when the state
# changes, and what makes one. Neither has a public name; None where this NumPy has no such, which
# is asked as it documents then.
_STATE: Any = getattr(sys.modules.get("numpy._core.umath"), "_extobj_contextvar", None)
_MAKE: Any = getattr(sys.modules.get("numpy._core.umath"), "_make_extobj", None)

# The object that was seen last, and what it says. Replaced as a whole.
_SEEN: list[tuple[Any, ErrorState]] = [(None, ("", "", "", "", None))]


def captured_errors() -> ErrorState:
    """The calling thread's `numpy.geterr` and `numpy.geterrcall`, as data."""
    # Asking NumPy takes longer than to build an expression otherwise does.
    now = None if _STATE is None else _STATE.get()
    seen, errors = _SEEN[0]
    if seen is now and now is not None:
        return errors
    state = np.geterr()
    call = np.geterrcall() if "call" in state.values() or "log" in state.values() else None
    if call is _heard:
        call = _recording.get()
    errors = (state["divide"], state["over"], state["under"], state["invalid"], call)
    if call is None:
        _SEEN[0] = (now, errors)
    return errors


class Ledger:
    """What is to be warned of once a computation is collected; written by many threads.

    Each message is kept once for each expression it came from and issued once.
    """

    def __init__(self) -> None:
        # Guards `_entries`; taken last, held for one update.
        self._lock = threading.Lock()
        self._entries: dict[tuple[int, str], tuple[str, ErrorState | None]] = {}

    def __reduce__(self) -> tuple[type[Ledger], tuple[()]]:
        return (Ledger, ())

    def note(self, origin: int, message: str, kind: str, errors: ErrorState | None) -> None:
        """Remember `message` of expression `origin`; `kind` as numpy.geterr() names it."""
        with self._lock:
            self._entries.setdefault((origin, message), (kind, errors))

    def warn(self, origin: int) -> Callable[[str], None]:
        """Return what reductions report NumPy's RuntimeWarnings to."""
        return lambda message: self.note(origin, message, "", None)

    def is_empty(self) -> bool:
        """Whether nothing is noted."""
        with self._lock:
            return not self._entries

    def issue(self) -> None:
        """Answer what was noted, in the order of the expressions, and forget it."""
        with self._lock:
            if not self._entries:
                return
            entries, self._entries = self._entries, {}
        # What numpy.seterrcall's function is told: all that happened in the one call.
        flags: dict[tuple[int, str], int] = {}
        for (origin, message), (kind, _) in entries.items():
            call = (origin, message.partition(" encountered in ")[2])
            flags[call] = flags.get(call, 0) | (1 << _KINDS.index(kind) if kind else 0)
        for (origin, message), (kind, errors) in sorted(entries.items(), key=_order):
            mode = "warn" if errors is None else errors[_KINDS.index(kind)]
            if mode == "warn":
                warnings.warn(message, RuntimeWarning, stacklevel=caller_depth())
            elif mode == "print":
                print(f"Warning: {message}")
            elif mode == "call" and errors is not None and errors[4] is not None:
                what, _, where = message.partition(" encountered in ")
                errors[4](what, flags[origin, where])
            elif mode == "log" and errors is not None and errors[4] is not None:
                errors[4].write(f"Warning: {message}\n")


class NumberedLedger(Ledger):
    """A ledger as a program writes to it whose calls are numbered ~0, ~1, … .

    Call ``~place`` computes the expression ``nodes[place]``, whose ``serial`` is noted instead.
    """

    def __init__(self, ledger: Ledger, nodes: Sequence[Any]) -> None:
        self._ledger = ledger
        self._nodes = nodes

    def note(self, origin: int, message: str, kind: str, errors: ErrorState | None) -> None:
        """Remember `message` of the expression that call `origin` computes."""
        serial = self._nodes[~origin].serial if origin < 0 else origin
        self._ledger.note(serial, message, kind, errors)

    def is_empty(self) -> bool:
        """Whether nothing is noted."""
        return self._ledger.is_empty()

    def issue(self) -> None:
        """Answer what was noted."""
        self._ledger.issue()


def _order(entry: tuple[tuple[int, str], tuple[str, ErrorState | None]]) -> tuple[int, int, str]:
    """What entries are sorted by: first the expression, then as NumPy tells of one call."""
    (origin, message), (kind, _) = entry
    return origin, _KINDS.index(kind) if kind else -1, message


def caller_depth() -> int:
    """The ``stacklevel`` of the first frame below the caller's that is not of this package."""
    depth = 1
    frame = sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] != _PACKAGE:
            return depth
        frame = frame.f_back
        depth += 1
    return depth


@lru_cache(maxsize=256)
def _modes(asked: tuple[Any, ...]) -> list[Any]:
    """The modes in which NumPy notes what is `asked`."""
    # Only a log is told which function it was: NumPy knows better than its caller.
    # What is ignored is noted where a callback is told of all that happened.
    kept = ("raise",) if "call" in asked else ("ignore", "raise")
    return [mode if mode in kept else "log" for mode in asked]


class _Heard:
    """NumPy's log in every block that records: hands on to the block that the context is in."""

    def write(self, line: str) -> None:
        _recording.get().write(line)


_heard = _Heard()
_recording: ContextVar[recording] = ContextVar("darray.recording")

# The error state that was obeyed last, what NumPy's state was then, and what obeys the one in the
# place of the other: it keeps what has nothing to do with errors. Replaced as a whole.
_OBEYING: list[tuple[Any, Any, Any]] = [(None, None, None)]


def _obeying(errors: ErrorState, now: Any) -> Any:
    """NumPy's state that notes what `errors` ask for, to follow `now`."""
    divide, over, under, invalid = _modes(errors[:4])
    made = _MAKE(divide=divide, over=over, under=under, invalid=invalid, call=_heard)
    _OBEYING[0] = errors, now, made
    return made


class recording:
    """Obey an `ErrorState` in a block and note in a ledger what is not raised at once.

    ``origin`` is the number of the expression that is computed; it may be set anew while the
    block runs. ``name`` is the function that all errors are said to be of.
    """

    __slots__ = ("_context", "_errors", "_here", "_ledger", "_name", "origin")

    def __init__(
        self, errors: ErrorState, ledger: Ledger, origin: int = 0, name: str | None = None
    ) -> None:
        self._errors = errors
        self._ledger = ledger
        self._name = name
        self.origin = origin

    def __enter__(self) -> recording:
        # Small arrays feel what `numpy.errstate` takes, several times as long as this.
        if _STATE is None or _MAKE is None:
            divide, over, under, invalid = _modes(self._errors[:4])
            self._context: Any = np.errstate(
                divide=divide, over=over, under=under, invalid=invalid, call=self
            )
            self._context.__enter__()
            return self
        now = _STATE.get()
        errors, before, made = _OBEYING[0]
        if errors is not self._errors or before is not now:
            made = _obeying(self._errors, now)
        self._context = _STATE.set(made)
        self._here = _recording.set(self)
        return self

    def __exit__(self, *exception: object) -> None:
        if _STATE is None or _MAKE is None:
            self._context.__exit__(*exception)
            return
        _recording.reset(self._here)
        _STATE.reset(self._context)

    def write(self, line: str) -> None:
        """Note what NumPy writes to its log: ``Warning: overflow encountered in exp``."""
        message = line.removeprefix("Warning: ").rstrip()
        what = message.partition(" encountered")[0]
        if self._name is not None:
            message = f"{what} encountered in {self._name}"
        self._ledger.note(self.origin, message, _KIND_OF_TEXT[what], self._errors)

    def report(self, kinds: Iterable[str]) -> None:
        """Answer errors that were found without NumPy, named as `numpy.geterr` names them.

        Raises
        ------
        FloatingPointError
            Where one of them is to be raised.
        """
        for kind in kinds:
            message = f"{_TEXT_OF_KIND[kind]} encountered in {self._name}"
            mode = self._errors[_KINDS.index(kind)]
            if mode == "raise":
                raise FloatingPointError(message)
            if mode != "ignore" or "call" in self._errors[:4]:
                self._ledger.note(self.origin, message, kind, self._errors)
