"""NumPy's functions on DArrays, one module per chapter of NumPy's reference."""
