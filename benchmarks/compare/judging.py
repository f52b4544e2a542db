"""What is required of a row, how it was met, and how a row is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.compare.turns import Times

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


@dataclass(frozen=True)
class Run:
    """How large, how often and where: what the program was asked for."""

    size: float = 1.0
    rounds: int = 7
    folder: str | None = None

    def elements(self, count: int) -> int:
        """`count`, which is of the full size, at the size of this run."""
        return max(100, int(count * self.size))

    def side(self, length: int, multiple: int = 1) -> int:
        """The length of a square's side, so that its area is of the size of this run."""
        return max(1, round(length * self.size**0.5 / multiple)) * multiple


@dataclass(frozen=True)
class Judged:
    """One requirement and what was found; None where a contender was missing."""

    what: str
    found: float | None
    required: float
    aim: float
    unit: str = "x"
    at_most: bool = False
    also: str = ""

    @property
    def verdict(self) -> str:
        """ "aim", "required", "short", or "not measured"."""
        if self.found is None:
            return "not measured"
        sign = -1 if self.at_most else 1
        if sign * self.found >= sign * self.aim:
            return "aim"
        return "required" if sign * self.found >= sign * self.required else "short"

    def __str__(self) -> str:
        required, aim = (f"{digits(one)}{self.unit}" for one in (self.required, self.aim))
        wanted = f"(required {'at most ' if self.at_most else ''}{required}, aim {aim})"
        if self.found is None:
            return f"    {self.what}: not measured {wanted}"
        found = f"{digits(self.found)}{self.unit}{self.also}"
        return f"    {self.what}: {found} {wanted}: {self.verdict}"


def speed(
    times: Mapping[str, Times],
    ours: str,
    theirs: str,
    required: float,
    aim: float,
    *,
    at_best: bool = False,
) -> Judged:
    """How many times as fast as `theirs` `ours` is, by the medians.

    Parameters
    ----------
    at_best : bool
        Whether their best run stands against our median.
    """
    what = f"{ours} over {theirs}{' at its best run' if at_best else ''}"
    if ours not in times or theirs not in times:
        return Judged(what, None, required, aim)
    theirs_, ours_ = times[theirs], times[ours]
    found = (theirs_.least if at_best else theirs_.middle) / ours_.middle
    also = f", {theirs_.least / ours_.least:.3g}x by minima"
    also += f", {min(theirs_.cpu) / min(ours_.cpu):.3g}x by CPU"
    return Judged(what, found, required, aim, also=also)


def slower(
    times: Mapping[str, Times], ours: str, theirs: str, required: float, aim: float
) -> Judged:
    """How many times their time `ours` takes, by the medians; at most so many."""
    what = f"{ours}, times the time of {theirs}"
    if ours not in times or theirs not in times:
        return Judged(what, None, required, aim, at_most=True)
    found = times[ours].middle / times[theirs].middle
    also = f", {times[ours].least / times[theirs].least:.3g}x by minima"
    return Judged(what, found, required, aim, at_most=True, also=also)


def over(times: Mapping[str, Times], ours: str, theirs: str, required: float, aim: float) -> Judged:
    """How many microseconds `ours` takes more than `theirs`, by the medians; at most so many."""
    found = (times[ours].middle - times[theirs].middle) * 1e6
    also = f", {(times[ours].least - times[theirs].least) * 1e6:,.0f} us by minima"
    return Judged(f"{ours} over {theirs}", found, required, aim, " us", at_most=True, also=also)


def digits(number: float) -> str:
    """Three digits, or all those before the point."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def formatted(seconds: float) -> str:
    """Seconds with a unit that suits them."""
    scale, unit = next((one for one in UNITS if seconds >= one[0]), UNITS[-1])
    return f"{digits(seconds / scale)} {unit}"


def report(
    title: str,
    times: Mapping[str, Times],
    judged: Sequence[Judged],
    notes: Mapping[str, str] = {},
) -> list[Judged]:
    """Print a row: its title, a line for each contender, and one for each requirement."""
    print(title)
    for name, one in times.items():
        label = f"{name}, {one.configuration}" if one.configuration else name
        print(
            f"    {label:<38} wall {formatted(one.least):>8} / {formatted(one.middle):<8} "
            f"CPU {formatted(min(one.cpu)):<8} {notes.get(name, '')}".rstrip()
        )
    for requirement in judged:
        print(requirement)
    print(flush=True)
    return list(judged)
