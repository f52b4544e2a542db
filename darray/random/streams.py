"""Streams of random bits: one a tile, all of a draw under one key."""

from __future__ import annotations

from threading import Lock
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Key", "Stream", "TiledStreams"]

# What sets the streams of a draw apart from those of every other: 192 bits.
Key: TypeAlias = tuple[int, int, int]

# Steps of a stream that are thrown away, after which every bit of its output depends on every
# bit of the key and the tile's number: the author of the generator takes 18 for such keys.
DISCARDED = 24


class Stream:
    """NumPy's generator, set to the stream of one tile after another.

    The bits come from SFC64, whose state counts its own steps from 1. A step is invertible, so
    that two streams that begin with different words never have a state in common: not at the
    same count, since they begin apart, and not at different ones. (NumPy's Philox would do as
    well, at twice the time.)

    Parameters
    ----------
    key : Key
        Of the draw.

    Examples
    --------
    >>> stream = Stream((1, 2, 3))
    >>> first = stream.at(7).random()
    >>> stream.at(8).random() == first, stream.at(7).random() == first
    (False, True)
    """

    __slots__ = ("_bits", "_generator", "_last", "_state", "_words")

    def __init__(self, key: Key) -> None:
        self._bits = np.random.SFC64(0)
        self._generator = np.random.Generator(self._bits)
        self._last = key[2]
        self._words = np.array([key[0], key[1], key[2], 1], np.uint64)
        self._state: Any = {
            "bit_generator": "SFC64",
            "state": {"state": self._words},
            "has_uint32": 0,
            "uinteger": 0,
        }

    def at(self, tile: int) -> np.random.Generator:
        """The generator at the begin of a tile's stream; the same object every time."""
        self._words[2] = self._last ^ tile
        self._bits.state = self._state
        self._bits.random_raw(DISCARDED, output=False)
        return self._generator


class TiledStreams:
    """Where the draws of a `Generator` come from: a seed, and how many draws there were.

    It stands where NumPy's generators have a bit generator. Each draw has streams of its own,
    whose key follows from the seed and from the number of the draw.

    Parameters
    ----------
    seed_seq : SeedSequence
        The seed; children of it seed the generators that are spawned.

    Examples
    --------
    >>> import numpy as np
    >>> streams = TiledStreams(np.random.SeedSequence(5))
    >>> before = streams.state
    >>> key = streams.next_key()
    >>> streams.state = before
    >>> streams.next_key() == key
    True
    """

    def __init__(self, seed_seq: Any) -> None:
        self._seed_seq = seed_seq
        # Material of its own, apart from the spawned children's, whose keys are numbers too.
        self._material = tuple([int(word) for word in seed_seq.generate_state(4, np.uint64)])
        self._draws = 0
        # Guards the number of draws: threads that draw at once get different streams. Which of
        # them is the first is up to them; give each its own generator, by spawn(), for results
        # that do not depend on it.
        self.lock = Lock()

    @property
    def seed_seq(self) -> Any:
        """The seed, whose ``entropy`` makes the same numbers again."""
        return self._seed_seq

    @property
    def state(self) -> dict[str, Any]:
        """What the next draws depend on; assign it to draw them again."""
        return {
            "bit_generator": type(self).__name__,
            "material": self._material,
            "draws": self._draws,
        }

    @state.setter
    def state(self, value: dict[str, Any]) -> None:
        name = value.get("bit_generator")
        if name != type(self).__name__:
            raise ValueError(
                f"state must be that of a {type(self).__name__}, and this one is of {name!r}; "
                "assign what was read from the state of another generator of darray"
            )
        with self.lock:
            self._material = tuple(value["material"])
            self._draws = int(value["draws"])

    def next_key(self) -> Key:
        """Key of the next draw."""
        with self.lock:
            number = self._draws
            self._draws += 1
            material = self._material
        mixed = np.random.SeedSequence(material, spawn_key=(number,))
        first, second, third = mixed.generate_state(3, np.uint64).tolist()
        return first, second, third

    def spawn(self, n_children: int) -> list[TiledStreams]:
        """Independent ones, from children of the seed.

        Examples
        --------
        >>> import numpy as np
        >>> len(TiledStreams(np.random.SeedSequence(5)).spawn(3))
        3
        """
        return [TiledStreams(seed) for seed in self._seed_seq.spawn(n_children)]

    def __getstate__(self) -> dict[str, Any]:
        return {"seed_seq": self._seed_seq, "state": self.state}

    def __setstate__(self, found: dict[str, Any]) -> None:
        self.lock = Lock()
        self._seed_seq = found["seed_seq"]
        self.state = found["state"]
