"""A field of any size whose statistics are known exactly, without computing any of it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.runtime.boxes import Box

__all__ = ["ExactFigures", "SyntheticField"]

# The value at (t, i, j) is a sum of multiples of 1/64, far from constant along every axis. As
# long as the sum of the numerators is under 2**24, float32 holds every value exactly.
_DENOMINATOR = 64
_SLOPES = (1, 8, 16)
# Missing are the elements whose every index is in its progression: first index and step.
_MISSING = ((3, 7), (1, 5), (2, 3))
_LARGEST_NUMERATOR = 2**24


class ExactFigures(Struct, frozen=True):
    """The statistics of a field: `mean` and `variance` are exact, of the `count` valid values."""

    count: int
    nans: int
    min: float
    max: float
    mean: Fraction
    variance: Fraction


class SyntheticField(Struct, frozen=True):
    """``(t + 8 i + 16 j) / 64`` in float32, of three axes, with NaNs in a regular pattern.

    NaN is where ``t % 7 == 3`` and ``i % 5 == 1`` and ``j % 3 == 2``. The statistics are those of
    all elements less those of the missing ones, and each of the two sets is a product of
    arithmetic progressions, whose sums and sums of squares have closed forms.

    Raises
    ------
    ValueError
        Where an axis has under 8 elements, or the values would not be exact in float32.

    Examples
    --------
    >>> field = SyntheticField((8, 8, 8))
    >>> values = field.values((slice(0, 8, 1),) * 3)
    >>> exact = field.figures()
    >>> int(np.isnan(values).sum()) - exact.nans
    0
    >>> float(np.nanmean(values, dtype=np.float64) - exact.mean)
    0.0
    """

    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        """Check that the figures are exact."""
        largest = sum(slope * (n - 1) for slope, n in zip(_SLOPES, self.shape, strict=True))
        if min(self.shape) < 8 or largest >= _LARGEST_NUMERATOR:
            raise ValueError(
                f"the shape {self.shape!r} does not suit: every axis needs 8 elements, and the "
                f"largest value, {largest} / {_DENOMINATOR}, must be exact in float32"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return 4 * self.shape[0] * self.shape[1] * self.shape[2]

    def values(self, box: Box) -> NDArray[np.float32]:
        """Return the elements of `box`."""
        t, i, j = (
            slope * np.arange(cut.start, cut.stop, cut.step, dtype=np.float32)
            for slope, cut in zip(_SLOPES, box, strict=True)
        )
        values: NDArray[np.float32] = t[:, None, None] + (i[:, None] + j)
        values *= np.float32(1 / _DENOMINATOR)
        missing = [
            np.flatnonzero(np.arange(cut.start, cut.stop, cut.step) % step == first)
            for (first, step), cut in zip(_MISSING, box, strict=True)
        ]
        values[np.ix_(*missing)] = np.nan
        return values

    def figures(self) -> ExactFigures:
        """Return the statistics of the whole field."""
        every = [_Progression(0, slope, n) for slope, n in zip(_SLOPES, self.shape, strict=True)]
        missing = [
            _Progression(slope * first, slope * step, len(range(first, n, step)))
            for slope, (first, step), n in zip(_SLOPES, _MISSING, self.shape, strict=True)
        ]
        all_moments, missing_moments = _moments(every), _moments(missing)
        count, total, squares = (a - b for a, b in zip(all_moments, missing_moments, strict=True))
        mean = Fraction(total, count)
        return ExactFigures(
            count=count,
            nans=missing_moments[0],
            min=0.0,  # of the element (0, 0, 0), which is not missing
            max=float(Fraction(self._largest_valid(), _DENOMINATOR)),
            mean=mean / _DENOMINATOR,
            variance=(Fraction(squares, count) - mean**2) / _DENOMINATOR**2,
        )

    def mean_along_first_axis(self) -> NDArray[np.float64]:
        """Return the mean over t of the valid elements, for every (i, j)."""
        length = self.shape[0]
        first, step = _MISSING[0]
        every = _Progression(0, 1, length)
        missing = _Progression(first, step, len(range(first, length, step)))
        valid_mean = Fraction(every.sum - missing.sum, every.count - missing.count)
        i = _SLOPES[1] * np.arange(self.shape[1])
        j = _SLOPES[2] * np.arange(self.shape[2])
        plane = (i[:, None] + j).astype(np.float64)
        means: NDArray[np.float64] = (plane + float(Fraction(every.sum, length))) / _DENOMINATOR
        (first_i, step_i), (first_j, step_j) = _MISSING[1:]
        gaps: Any = (slice(first_i, None, step_i), slice(first_j, None, step_j))
        means[gaps] = (plane[gaps] + float(valid_mean)) / _DENOMINATOR
        return means

    def _largest_valid(self) -> int:
        """Return the greatest numerator of a valid element."""
        last = [n - 1 for n in self.shape]
        largest = sum(slope * index for slope, index in zip(_SLOPES, last, strict=True))
        missing = all(
            index % step == first for index, (first, step) in zip(last, _MISSING, strict=True)
        )
        # One step back along the axis of the smallest slope is the next smaller value.
        return largest - min(_SLOPES) if missing else largest


class _Progression(Struct, frozen=True):
    """The integers ``start + step * k`` for k under `count`."""

    start: int
    step: int
    count: int

    @property
    def sum(self) -> int:
        n = self.count
        return n * self.start + self.step * (n * (n - 1) // 2)

    @property
    def squares(self) -> int:
        n = self.count
        return (
            n * self.start**2
            + self.start * self.step * n * (n - 1)
            + self.step**2 * ((n - 1) * n * (2 * n - 1) // 6)
        )


def _moments(axes: list[_Progression]) -> tuple[int, int, int]:
    """Return count, sum and sum of squares of a + b + c for all a, b, c of three progressions."""
    a, b, c = axes
    count = a.count * b.count * c.count
    total = a.sum * b.count * c.count + b.sum * a.count * c.count + c.sum * a.count * b.count
    squares = (
        a.squares * b.count * c.count
        + b.squares * a.count * c.count
        + c.squares * a.count * b.count
        + 2 * (a.sum * b.sum * c.count + a.sum * c.sum * b.count + b.sum * c.sum * a.count)
    )
    return count, total, squares
