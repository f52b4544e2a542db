"""NumPy's functions for DArrays, one module for each chapter; importing registers them."""

from darray.functions import (
    computation,
    creation,
    elements,
    products,
    reductions,
    shapes,
    summaries,
)

__all__ = [
    "computation",
    "creation",
    "elements",
    "products",
    "reductions",
    "shapes",
    "summaries",
]
