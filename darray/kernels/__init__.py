"""Kernels: the code that runs programs and functions on one chunk, per kind of processor."""
