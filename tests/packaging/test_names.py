"""The names of the package: NumPy's own where NumPy has them, and all that it says it has."""

import math

import numpy as np
import pytest

import darray as da
import darray.io
import darray.runtime
from darray.dispatch import FUNCTIONS

UFUNCS = [
    name
    for name in dir(np)
    if isinstance(getattr(np, name), np.ufunc) and getattr(np, name).signature is None
]
SCALAR_TYPES = [
    name
    for name in dir(np)
    if isinstance(getattr(np, name), type)
    and issubclass(getattr(np, name), np.generic)
    # Of these, which there are depends on the machine; long double has its own name.
    and name not in ("record", "float96", "float128", "complex192", "complex256")
]


@pytest.mark.parametrize("name", UFUNCS)
def test_ufuncs_are_those_of_numpy(name):
    assert getattr(da, name) is getattr(np, name)


@pytest.mark.parametrize("name", SCALAR_TYPES)
def test_scalar_types_are_those_of_numpy(name):
    assert getattr(da, name) is getattr(np, name)


def test_constants_are_those_of_numpy():
    assert (da.pi, da.e, da.inf, da.euler_gamma) == (np.pi, np.e, np.inf, np.euler_gamma)
    assert da.newaxis is None
    assert math.isnan(da.nan)


# Of these, which dispatch on `like=`, the package has its own, which cut what they make.
CREATION = {
    np.array,
    np.arange,
    np.asanyarray,
    np.asarray,
    np.ascontiguousarray,
    np.empty,
    np.eye,
    np.full,
    np.ones,
    np.zeros,
}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_function_that_dispatches_has_its_name_here(function):
    own = getattr(da, function.__name__)
    # `trace` without an array, and `put` of a value alone, are the runtime's.
    if function in CREATION or function in (np.trace, np.put):
        assert own.__module__.startswith("darray.functions.")
    else:
        assert own is function


@pytest.mark.parametrize("package", [da, darray.io, darray.runtime], ids=lambda p: p.__name__)
def test_what_is_listed_is_there_once(package):
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        assert hasattr(package, name), name
