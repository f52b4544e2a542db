"""What compiling costs and saves: measured once for a machine, kept, and never trusted too far."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import asdict, astuple

from darray.kernels import costs, loop_compiler, selection
from darray.kernels.costs import FARTHEST, TYPICAL, Costs
from darray.kernels.selection import Selection
from darray.runtime import settings
from tests.kernels.writing import DOUBLE, PLENTY, polynomial


@pytest.fixture(autouse=True)
def anew(monkeypatch, tmp_path):
    """As in a new process on a machine of which nothing is known."""
    before = settings.current()
    settings.update(cache_folder=str(tmp_path), jit=True)
    monkeypatch.setattr(selection, "_structures", {})
    forget(monkeypatch)
    yield
    selection.wait()
    settings._current = before


def forget(monkeypatch):
    monkeypatch.setattr(costs, "_known", None)
    monkeypatch.setattr(costs, "_is_measured", False)


def compile_something():
    program, _ = polynomial()
    Selection(program, [DOUBLE] * 2).program_for(PLENTY)
    selection.wait()


def kept_in(folder):
    return [file for file in folder.iterdir() if file.is_file()]


def test_costs_are_measured_aside_once_a_loop_was_compiled_and_kept(monkeypatch, tmp_path):
    assert costs.current() is TYPICAL
    assert not costs.are_known()
    compile_something()
    found = costs.current()
    assert found is not TYPICAL
    assert costs.are_known()
    assert 0 < found.fetching < found.compiling
    assert found.saved > 0
    (file,) = kept_in(tmp_path)
    assert file.stat().st_mode & 0o077 == 0
    forget(monkeypatch)
    measuring = []
    monkeypatch.setattr(costs, "_measure", lambda: measuring.append(1))
    assert costs.current() == found
    monkeypatch.setattr(selection, "_structures", {})
    compile_something()
    assert not measuring


def test_a_loop_that_is_asked_for_while_costs_are_measured_is_compiled(monkeypatch):
    is_measuring, may_go = threading.Event(), threading.Event()

    def slow():
        is_measuring.set()
        assert may_go.wait(60)
        return TYPICAL

    monkeypatch.setattr(costs, "_measure", slow)
    program, _ = polynomial()
    Selection(program, [DOUBLE] * 2).program_for(PLENTY)
    assert is_measuring.wait(60)
    other = Selection(polynomial(3.0)[0], [DOUBLE] * 2)
    monkeypatch.setattr(selection, "_structures", {})
    other.program_for(PLENTY)
    may_go.set()
    selection.wait()
    assert other.explanation().startswith("compiled")


def test_what_is_measured_counts_when_kernels_are_chosen(monkeypatch):
    program, _ = polynomial()
    monkeypatch.setattr(costs, "_known", Costs(TYPICAL.saved, 2.5, 2.0))
    dear = Selection(program, [DOUBLE] * 2)
    dear.program_for(PLENTY)
    assert "pays from" in dear.explanation()
    monkeypatch.setattr(selection, "_structures", {})
    monkeypatch.setattr(costs, "_known", Costs(10 * TYPICAL.saved, 2.5, 2.0))
    cheap = Selection(program, [DOUBLE] * 2)
    cheap.program_for(PLENTY)
    selection.wait()
    assert cheap.explanation().startswith("compiled")


@pytest.mark.parametrize("factor", [1e-6, -1.0, 1e6])
def test_what_is_measured_at_a_bad_moment_is_bounded(monkeypatch, factor):
    strange = Costs(*[factor * one for one in astuple(TYPICAL)])
    monkeypatch.setattr(costs, "_measure", lambda: strange)
    costs.find_out()
    for found, typical in zip(astuple(costs.current()), astuple(TYPICAL), strict=True):
        assert typical / FARTHEST <= found <= typical * FARTHEST


@pytest.mark.parametrize("content", [b"", b"{}", b"[1, 2, 3]", b'{"saved": 1.0}'])
def test_what_another_version_kept_is_measured_anew(monkeypatch, tmp_path, content):
    costs.find_out()
    (file,) = kept_in(tmp_path)
    if content:
        loop_compiler.write_kept(file, content)
    else:
        file.write_bytes(content)
    forget(monkeypatch)
    assert costs.current() is TYPICAL
    compile_something()
    assert costs.current() is not TYPICAL
    assert set(asdict(costs.current())) == {"saved", "compiling", "fetching"}


def test_nothing_is_measured_where_nothing_can_be_kept(monkeypatch):
    monkeypatch.setattr(costs, "_measure", lambda: pytest.fail("measured"))
    settings.update(cache_folder="none")
    compile_something()
    assert costs.current() is TYPICAL


def test_a_measurement_that_fails_is_told_of_once_and_costs_nothing_else(monkeypatch, caplog):
    def broken():
        raise RuntimeError("no clock")

    monkeypatch.setattr(costs, "_measure", broken)
    compile_something()
    assert "could not measure what compiling costs" in caplog.text
    assert costs.current() is TYPICAL
    assert costs.are_known()
