"""The modules that plan the kinds of expressions, which importing them registers."""

from darray.lowering import (
    assigning,
    contracting,
    gathering,
    masking,
    reshaping,
    scanning,
    scattering,
)

__all__ = [
    "assigning",
    "contracting",
    "gathering",
    "masking",
    "reshaping",
    "scanning",
    "scattering",
]
