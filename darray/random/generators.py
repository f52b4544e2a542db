"""`Generator`, whose arrays are computed where they are needed, and `default_rng`."""

from __future__ import annotations

from typing import Any

import numpy as np

from darray.random.continuous import ContinuousDistributions
from darray.random.discrete import DiscreteDistributions
from darray.random.multivariate import MultivariateDistributions
from darray.random.sampling import Sampling
from darray.random.streams import TiledStreams

__all__ = ["Generator", "default_rng"]


class Generator(
    ContinuousDistributions, DiscreteDistributions, MultivariateDistributions, Sampling
):
    """Random numbers from many distributions, in arrays of any size.

    It has the methods of `numpy.random.Generator`, with ``blocks=`` for how the result is cut.
    The numbers depend on the seed, on the draws before, and on the shape alone: not on the
    Blocks, the engine, or the number of threads. They are not those of NumPy's generators, and
    are the same ones for as long as NumPy's distributions stay as they are.

    With neither a size nor an array among the parameters a draw gives a number, at once.

    Parameters
    ----------
    bit_generator : TiledStreams
        Where the random bits come from; `default_rng` makes it from a seed.

    Examples
    --------
    >>> import darray as da
    >>> x = da.random.default_rng(7).normal(size=(1000, 1000), blocks=(300, 500))
    >>> y = da.random.default_rng(7).normal(size=(1000, 1000), blocks="auto")
    >>> bool((x == y).all())
    True
    """

    def spawn(self, n_children: int) -> list[Generator]:
        """Generators that are independent of this one and of each other.

        Examples
        --------
        >>> import darray as da
        >>> first, second = da.random.default_rng(0).spawn(2)
        >>> first.random() == second.random()
        False
        """
        return [Generator(child) for child in self.bit_generator.spawn(n_children)]

    def __repr__(self) -> str:
        return f"Generator({type(self.bit_generator).__name__}) at 0x{id(self):X}"


def default_rng(seed: Any = None) -> Generator:
    """Generator of a seed.

    Parameters
    ----------
    seed : None, int, sequence of int, SeedSequence or Generator
        None takes a fresh one from the operating system; a Generator is returned as it is.

    Raises
    ------
    TypeError, ValueError
        For anything else, and for negative integers.

    Examples
    --------
    >>> import darray as da
    >>> rng = da.random.default_rng(0)
    >>> rng.random((3, 4)).shape
    (3, 4)
    """
    if isinstance(seed, Generator):
        return seed
    if isinstance(seed, TiledStreams):
        return Generator(seed)
    if isinstance(seed, np.random.Generator | np.random.BitGenerator | np.random.RandomState):
        raise TypeError(
            f"default_rng() makes streams of its own and cannot go on with a "
            f"{type(seed).__name__} of NumPy; give it the seed, such as "
            "rng.bit_generator.seed_seq"
        )
    if not isinstance(seed, np.random.bit_generator.ISeedSequence):
        seed = np.random.SeedSequence(seed)
    return Generator(TiledStreams(seed))
