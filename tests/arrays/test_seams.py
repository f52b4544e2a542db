"""What is added in one place: a kernel, a NumPy function."""

import numpy as np
import pytest

import darray as da
from darray.dispatch import FUNCTIONS, implements
from darray.kernels import table
from darray.kernels.table import kernel
from tests.arrays.agreement import same_arrays

pytestmark = pytest.mark.usefixtures("engine")


def test_a_kernel_is_one_function(monkeypatch):
    monkeypatch.setattr(table, "_kernels", {kind: dict(of) for kind, of in table._kernels.items()})
    calls = []

    @kernel(np.cbrt, on="cpu")
    def cube_root(x):
        calls.append(x.shape)
        return np.cbrt(x)

    x = da.arange(10.0, blocks=4)
    assert same_arrays((np.cbrt(x * 8) + 1).collect(), np.cbrt(np.arange(10.0) * 8) + 1)
    assert sorted(calls) == [(2,), (4,), (4,)]


def test_a_function_is_one_function(monkeypatch):
    x = da.arange(12, blocks=5)
    with pytest.raises(NotImplementedError, match="trapezoid"):
        np.trapezoid(x)
    # Taken out again when the test is over.
    monkeypatch.setitem(FUNCTIONS, np.trapezoid, None)

    @implements(np.trapezoid)
    def trapezoid(y, x=None, dx=1.0, axis=-1):
        return (y[1:] + y[:-1]).sum() / 2

    assert float(np.trapezoid(x * x)) == np.trapezoid(np.arange(12) ** 2)
