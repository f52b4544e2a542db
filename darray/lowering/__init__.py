"""Lowering: expressions to programs, programs to tasks."""
