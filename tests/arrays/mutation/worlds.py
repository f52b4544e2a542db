"""Programs of lines of Python that run twice side by side: with NumPy arrays, with DArrays.

A program is text that a NumPy user could have written: ``x1 = x0[::2]``, ``x1 += n0``. The names
x0, x1, ... are DArrays in the one world and NumPy arrays in the other; n0, n1, ... are NumPy
arrays in both, each world with its own, and w0, w1, ... are such whose memory DArrays share.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

import darray as da
from tests.arrays.agreement import same_values

__all__ = ["Difference", "Program", "reduced", "run"]


# How lines are made simpler, as long as they stay lines and still show the difference.
_SIMPLER = (
    (r" in range\(\d+\)", " in range(2)"),
    (r"\.astype\([^()]*\)", ""),
    (r" [*%-] \d+(?=[ )])", ""),
    (r"^(x\d+ = )-(x\d+)$", r"\1\2.copy()"),
    (r"np\.int8\((-?\d)\)", r"\1"),
    (r", where=.*(?=, out)", ""),
    (r"(?<=, )(np\.)?\w+(?=, out)", "1"),
)


class Difference(AssertionError):
    """What a program does with DArrays is not what it does with NumPy arrays."""

    def __init__(self, lines: Sequence[str], text: str) -> None:
        super().__init__("\n    ".join(["after this program", "", *lines]) + f"\n\n{text}")
        self.lines = tuple(lines)


def _in_memory(function: Any) -> Any:
    """A function of NumPy's as one that is told `blocks`, too."""
    return lambda *arguments, blocks=None, **keywords: function(*arguments, **keywords)


# What the names of darray mean where arrays are NumPy's.
_NUMPY = SimpleNamespace(
    Blocks=da.Blocks,
    distribute=lambda array, blocks: np.array(array, order="C"),
    rechunk=lambda array, blocks: np.array(array, order="C"),
    persist=lambda array: None,
    wrap=lambda array, blocks: array[...],
    compute=lambda *arrays: tuple([np.array(one) for one in arrays]),
    **{
        function.__name__: _in_memory(function)
        for function in (np.zeros, np.ones, np.full, np.arange)
    },
)
_DARRAY = SimpleNamespace(
    Blocks=da.Blocks,
    distribute=da.distribute,
    rechunk=da.rechunk,
    persist=lambda array: array.persist(),
    compute=da.compute,
    wrap=da.wrap,
    zeros=da.zeros,
    ones=da.ones,
    full=da.full,
    arange=da.arange,
)


class World:
    """The arrays of a program, by name, and the lines' meaning."""

    def __init__(self, functions: SimpleNamespace) -> None:
        self.names: dict[str, Any] = {}
        self.shown: list[Any] = []
        self._functions = {
            "np": np,
            "nan": np.nan,
            "inf": np.inf,
            "da": functions,
            "show": lambda *values: self.shown.extend(values),
        }

    def run(self, line: str) -> Exception | None:
        """Run a line; return what it raises."""
        self.shown = []
        try:
            with np.errstate(all="ignore"):
                exec(line, self._functions, self.names)
        except Exception as error:
            return error
        finally:
            for name in ("_", "row"):
                self.names.pop(name, None)
        return None

    def value(self, text: str) -> Any:
        """What an expression gives here."""
        with np.errstate(all="ignore"):
            return eval(text, self._functions, self.names)


class Program:
    """Both worlds, and the lines that have been run in them.

    Examples
    --------
    >>> program = Program()
    >>> program.run("x0 = da.zeros(4, blocks=da.Blocks(2))")
    >>> program.run("x1 = x0[::2]")
    >>> program.run("x1 += 1")
    >>> program.compare()
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.numpy = World(_NUMPY)
        self.darray = World(_DARRAY)

    def run(self, line: str) -> None:
        """Run a line in both worlds: they must show and raise the same."""
        self.lines.append(line)
        before = [dict(world.names) for world in (self.numpy, self.darray)]
        theirs, ours = self.numpy.run(line), self.darray.run(line)
        if isinstance(theirs, NameError | SyntaxError):
            raise theirs
        if _public_type(theirs) is not _public_type(ours):
            text = f"NumPy raises {theirs!r}, darray {ours!r}"
            raise self._difference(text) from ours
        if self.numpy.names.keys() != self.darray.names.keys():
            raise self._difference(f"{sorted(self.darray.names)} are there with darray")
        for mine, other in zip(self.darray.shown, self.numpy.shown, strict=True):
            self._agree("what is shown", mine, other)
        self._settle(before[0])
        for name, array in self.numpy.names.items():
            kept = array is before[0].get(name) and not line.startswith(f"{name} = ")
            if kept and self.darray.names[name] is not before[1][name]:
                raise self._difference(f"{name} is another object now with darray")
        self._compare_kinds()

    def compare(self) -> None:
        """Check that all arrays hold the same values in both worlds."""
        names = sorted(name for name in self.numpy.names if name[0] == "x")
        try:
            values = da.compute(*map(self.darray.names.get, names))
        except Exception as error:
            raise self._difference(f"darray cannot compute {names}: {error!r}") from error
        for name, mine in zip(names, values, strict=True):
            self._agree(name, mine, self.numpy.names[name])
        for name in self.numpy.names.keys() - set(names):
            self._agree(name, self.darray.names[name].copy(), self.numpy.names[name])

    def _settle(self, before: dict[str, Any]) -> None:
        """Put the new arrays of NumPy, but views of those before, in C order, as darray has all."""
        owners = {id(_owner(array)) for array in before.values()}
        for name, array in self.numpy.names.items():
            if isinstance(array, np.ndarray) and id(_owner(array)) not in owners:
                own = np.array(array, order="C")
                own.flags.writeable = array.flags.writeable
                self.numpy.names[name] = own

    def _compare_kinds(self) -> None:
        """Check what is known of arrays without their values."""
        for name, array in self.numpy.names.items():
            mine = self.darray.names[name]
            if type(mine) is not (da.DArray if name[0] == "x" else np.ndarray):
                raise self._difference(f"{name} is a {type(mine).__name__} with darray")
            kinds = [(one.shape, one.dtype, one.flags.writeable) for one in (mine, array)]
            if kinds[0] != kinds[1]:
                text = "{name} has shape {0}, dtype {1}, writeable {2}"
                raise self._difference(
                    f"{text.format(*kinds[1], name=name)} with NumPy, with darray "
                    f"{text.format(*kinds[0], name=name)}"
                )

    def _agree(self, name: str, mine: Any, other: Any) -> None:
        """Check that two results are the same, bit for bit; spoil the one of darray.

        Results are the caller's own: what happens to them must not show in any array.
        """
        if not isinstance(other, np.ndarray | np.generic):
            if repr(mine) != repr(other):
                raise self._difference(f"{name} is {other!r} with NumPy, {mine!r} with darray")
            return
        result, expected = np.asarray(mine), np.asarray(other)
        kinds = [(type(one), one.shape, one.dtype) for one in (result, expected)]
        if kinds[0] != kinds[1] or not same_values(result, expected):
            raise self._difference(f"{name} is\n{other!r} with NumPy,\n{result!r} with darray")
        if isinstance(mine, np.ndarray):
            result[...] = 1

    def _difference(self, text: str) -> Difference:
        return Difference(self.lines, text)


def run(lines: Sequence[str]) -> None:
    """Run a program in both worlds, and compare all that it has come to.

    Raises
    ------
    Difference
        Where the worlds do not agree.
    """
    program = Program()
    for line in lines:
        program.run(line)
    program.compare()


def reduced(difference: Difference) -> Difference:
    """A difference of fewer and simpler lines, found by trial.

    It need not be the same one: any program that fails will do.
    """
    lines = difference.lines
    for place in reversed(range(len(lines))):
        line = lines[place]
        shorter = [re.sub(pattern, text, line) for pattern, text in _SIMPLER]
        for other in ["", *(one for one in shorter if one != line)]:
            try:
                run([*lines[:place], *filter(None, [other]), *lines[place + 1 :]])
            except Difference as found:
                return reduced(found)
            except (NameError, SyntaxError):
                continue
    return difference


def _public_type(error: Exception | None) -> type:
    """The type of an error that programs can catch: NumPy's own ones may be private."""
    public = ("builtins", "numpy.exceptions")
    return next(one for one in type(error).__mro__ if one.__module__ in public)


def _owner(array: Any) -> Any:
    """The array that owns the memory of a view."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array
