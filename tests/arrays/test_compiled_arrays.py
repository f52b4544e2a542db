"""Arrays computed by compiled loops are as those computed by NumPy: bits, warnings, errors."""

import warnings

import numpy as np
import pytest

import darray as da
from darray.kernels import selection
from darray.kernels.compiled_groups import CompiledGroup
from darray.lowering import calls, planning
from darray.runtime import settings

SIZE, CHUNK = 150_000, 60_000


@pytest.fixture(params=["serial", "threads"])
def compiling(request, compiled_at_once):
    """Whatever could be compiled is, on either engine."""
    before = settings.current()
    da.configure(engine=request.param, threads=2)
    yield
    selection.wait()
    da.configure(engine=before.engine, threads=before.threads)


def operands():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(2, SIZE))
    values[:, ::5_001] = np.array([[0.0], [-0.0]])
    values[0, 7::9_001] = np.nan
    values[1, 3::9_001] = np.inf
    return values


PROGRAMS = {
    "hypotenuse": lambda x, y: np.sqrt(x * x + y * y),
    "quotient": lambda x, y: x / y + y / x,
    "choice": lambda x, y: np.where(x > 0.5, x * 2 + 1, y - 3),
    "masks": lambda x, y: ((x < y) & (x * x > 0.25)) | ~(y > x + 1),
    "split": lambda x, y: np.sin(x * x + 1) * y + np.cos(x - y) / y,
    "casts": lambda x, y: (x.astype("f4") * np.float32(2) + y).astype("f4") - 1,
    "constants": lambda x, y: (x * da.full(SIZE, 3) + da.asarray(1.5) * 2) * y,
    "rows": lambda x, y: (x.reshape(300, 500) * y[:500] + y[:300, None]) * 2,
    "strided": lambda x, y: x[::-1] * y + y[::-1] * x,
    "total": lambda x, y: np.sqrt(x * x + abs(y)).sum(),
    "finite total": lambda x, y: np.where(x == x, x * 3.5 - 1, 0.25).sum(),
    "single mean": lambda x, y: np.where(x == x, x, 0.1).astype("f4").reshape(300, 500).mean(),
    "length": lambda x, y: np.square(da.distribute(np.nan_to_num(operands()[0]), CHUNK)).sum(),
    "columns": lambda x, y: (x * y + x).reshape(300, 500).max(axis=0),
    "moments": lambda x, y: (x * 0.5 + 1).reshape(300, 500).std(axis=1),
}


def computed(name):
    """What a program gives, computed twice, and what it warns of the second time."""
    x, y = [da.distribute(one, CHUNK) for one in operands()]
    with np.errstate(all="warn", under="ignore"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            PROGRAMS[name](x, y).collect()
            selection.wait()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = PROGRAMS[name](x, y).collect()
    return result, sorted({str(one.message) for one in caught})


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_bits_and_warnings_are_numpys(compiling, name, streams, monkeypatch):
    if streams:
        monkeypatch.setattr(calls, "STREAMED", 1)
    found, warned = computed(name)
    assert any(one.stage == "ready" for one in selection._structures.values())
    da.configure(jit=False)
    expected, expected_warnings = computed(name)
    np.testing.assert_array_equal(found, expected)
    same = found.tobytes() == expected.tobytes()
    # Of two NaN operands either may come through, in NumPy as well.
    assert same or np.isnan(expected).any()
    assert warned == expected_warnings


@pytest.mark.usefixtures("compiling")
def test_errors_are_raised_by_name():
    x, y = [da.distribute(one, CHUNK) for one in operands()]
    for _ in range(2):
        with np.errstate(all="raise", under="ignore"):
            quotient = x * 2 / y + 1
        with pytest.raises(FloatingPointError, match="encountered in divide"):
            quotient.collect()
        selection.wait()


@pytest.mark.usefixtures("compiling")
def test_the_plan_tells_that_it_is_compiled():
    x, y = [da.distribute(one, CHUNK) for one in operands()]
    with np.errstate(all="ignore"):
        np.sqrt(x * x + y * y).collect()
        selection.wait()
        text = str(np.sqrt(x * x + y * y).explain())
    assert "compiled: 4 of 4 calls in 1 loop" in text


@pytest.mark.parametrize("size", [100, 40_000, 200_000])
def test_true_may_be_any_byte_but_zero(compiling, size):
    values = np.arange(size, dtype=np.uint8)
    condition, x = values.view(bool), np.arange(float(size))
    expected = np.where(values != 0, x, -x * 3)
    for jit in (False, True, True, True):
        da.configure(jit=jit)
        chosen = np.where(da.distribute(condition), da.distribute(x), da.distribute(-x) * 3)
        np.testing.assert_array_equal(chosen.collect(), expected)
        selection.wait()


@pytest.mark.usefixtures("compiling")
def test_arrays_that_no_cache_holds_are_written_past_it(monkeypatch):
    written = []
    run = CompiledGroup.run

    def seen(group, inputs, out, ledger, streams=False):
        written.append(streams)
        run(group, inputs, out, ledger, streams)

    monkeypatch.setattr(CompiledGroup, "run", seen)
    x, y = [da.distribute(one, CHUNK) for one in operands()]
    for least, streams in ((8 * SIZE + 1, False), (8 * SIZE, True)):
        monkeypatch.setattr(calls, "STREAMED", least)
        monkeypatch.setattr(planning, "STREAMED", least)
        for result in (lambda: x * 2 + y, lambda: (x * 2 + y).persist()):
            np.asarray(result())
            selection.wait()
            written.clear()
            np.testing.assert_array_equal(result(), operands()[0] * 2 + operands()[1])
            # The third chunk is too small to choose for.
            assert written == [streams] * 2
