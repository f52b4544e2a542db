"""Expressions: immutable descriptions of arrays that are not yet computed."""
