"""Conformance suites and hypothesis strategies."""
