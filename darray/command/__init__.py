"""The ``darray`` program: describe, demo, info."""
