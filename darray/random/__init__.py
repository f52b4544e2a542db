"""Random numbers in arrays of any size, the same whatever the Blocks."""

from darray.random.generators import Generator, default_rng

__all__ = ["Generator", "default_rng"]
