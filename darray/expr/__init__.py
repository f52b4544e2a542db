"""Expressions: immutable descriptions of arrays not yet computed."""
