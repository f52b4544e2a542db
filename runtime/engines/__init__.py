"""Engines: what carries tasks to processors, one module each."""
