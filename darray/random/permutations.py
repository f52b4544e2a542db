"""Random permutations of any length, of which any part can be computed by itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.random.streams import Key, Stream

__all__ = ["Permutation"]

# Permutations of at most this many elements are drawn as a whole, each equally likely, wherever a
# part of one is wanted: half a millisecond.
WHOLE = 2**16

# Rounds of the network, as many as the standard for ciphers of numbers has (NIST SP 800-38G).
ROUNDS = 10

# Elements that go through the rounds together, so that they stay in the processor's cache.
PIECE = 2**13


class Permutation(Struct, frozen=True):
    """A random permutation of ``range(length)``, as a function of the places wanted.

    Up to 65,536 elements it is drawn by NumPy, all permutations being equally likely. Longer
    ones are given by a Feistel network whose round functions are tables of random numbers: a
    place is written as two digits, and in each round one of them is moved on by what the table
    has for the other. The network permutes a range that is a little longer (by less than the
    square root); a place that leads out of the range is sent through again. Each element goes to
    each place equally often, and so do pairs, as far as tests can tell, but with tables of
    ``10 * length ** 0.5`` numbers not every one of all permutations can come.

    The network is from Black and Rogaway, "Ciphers with arbitrary finite domains" (2002); to
    shuffle by such a function is what Mitchell et al. do in "Bandwidth-optimal random shuffling
    for GPUs" (2021).

    Examples
    --------
    >>> import numpy as np
    >>> every = Permutation((1, 2, 3), 100_000)
    >>> sorted(every(np.arange(100_000))) == list(range(100_000))
    True
    """

    key: Key
    length: int

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The elements at `places`, in an array of their shape."""
        if self.length > WHOLE:
            return self.by_network(places)
        whole = Stream(self.key).at(0).permutation(self.length)
        return np.asarray(whole[places], np.int64)

    def by_network(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The elements at `places`, by the network."""
        # The digits: `low` values of the last one, `high` of the first.
        low = math.isqrt(max(1, self.length) - 1) + 1
        high = -(-self.length // low)
        stream = Stream(self.key)
        tables = []
        for number in range(ROUNDS):
            given, moved = (low, high) if number % 2 == 0 else (high, low)
            tables.append(stream.at(number).integers(0, moved, size=given))
        result = np.empty(places.shape, np.int64)
        source, target = places.ravel(), result.reshape(-1)
        for start in range(0, source.size, PIECE):
            piece = _through(source[start : start + PIECE], tables, high, low)
            out = np.flatnonzero(piece >= self.length)
            while out.size:
                piece[out] = _through(piece[out], tables, high, low)
                out = out[piece[out] >= self.length]
            target[start : start + PIECE] = piece
        return result


def _through(places: NDArray[Any], tables: list[NDArray[Any]], high: int, low: int) -> NDArray[Any]:
    """Where the network sends `places`, all below ``high * low``."""
    first, last = np.divmod(places, low)
    for number, table in enumerate(tables):
        if number % 2 == 0:
            first += table[last]
            first -= (first >= high) * high
        else:
            last += table[first]
            last -= (last >= low) * low
    first *= low
    first += last
    return first
