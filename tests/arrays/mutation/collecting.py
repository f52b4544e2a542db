"""Lines that compute: all, or parts, of what the program has come to."""

from __future__ import annotations

from tests.arrays.mutation.drawing import Scribe


def collecting(s: Scribe) -> str:
    """Compute part of an array."""
    name = s.x()
    key = s.basic_key(s.values[name].shape)
    return f"show({s.pick(('np.asarray({}[{}])', '{}[{}].tolist()')).format(name, key)})"


def computing(s: Scribe) -> str:
    """Compute several arrays together."""
    return f"show(*da.compute({', '.join(s.pick(s.names()) for _ in range(s.pick((1, 2, 3))))}))"


def converting(s: Scribe) -> str:
    """Compute one number."""
    name = s.x(lambda array: array.size == 1)
    array = s.values[name]
    if array.size != 1 and array.size and array.dtype.kind != "c":
        name += ".min()"
    text = s.pick(("float({})", "{}.item()", "bool({})", "int({})"))
    return f"show({text.format(name)})"


def persisting(s: Scribe) -> str:
    """Start to compute an array, and go on."""
    return f"da.persist({s.x()})"
