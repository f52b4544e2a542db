"""NumPy's functions for DArrays, one module for each chapter; importing registers them."""

from darray.functions import (
    comparisons,
    computation,
    conversion,
    creation,
    elements,
    files,
    indexing,
    joining,
    placing,
    products,
    reductions,
    scans,
    shapes,
    splitting,
    summaries,
    text,
)

__all__ = [
    "comparisons",
    "computation",
    "conversion",
    "creation",
    "elements",
    "files",
    "indexing",
    "joining",
    "placing",
    "products",
    "reductions",
    "scans",
    "shapes",
    "splitting",
    "summaries",
    "text",
]
