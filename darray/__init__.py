"""NumPy arrays larger than memory, on a task runtime open to everyone."""
