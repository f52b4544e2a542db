"""Floating-point errors: answered as asked where the expression was built, once, when collected."""

import warnings

import numpy as np
import pytest

import darray as da
from darray.kernels import warnings_ledger
from darray.kernels.warnings_ledger import Ledger, captured_errors, recording

pytestmark = pytest.mark.usefixtures("engine")

X = np.array([-1.0, 0.0, 1.0, np.inf, -2.0, 0.0])


def cut():
    return da.distribute(X, da.Blocks(2))


def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [(one.category, str(one.message), one.filename) for one in caught]


def test_nothing_is_said_when_built_and_all_once_when_collected():
    x = cut()
    built = []
    assert warned(lambda: built.append(np.sqrt(x) + 1 / x)) == []
    said = warned(built[0].collect)
    assert [(category, text) for category, text, _ in said] == [
        (RuntimeWarning, "invalid value encountered in sqrt"),
        (RuntimeWarning, "divide by zero encountered in divide"),
    ]
    assert {name for *_, name in said} == {__file__}


def test_each_operation_is_answered_as_asked_where_it_was_written():
    x = cut()
    with np.errstate(invalid="ignore"):
        quiet = np.sqrt(x)
    with np.errstate(divide="raise"):
        strict = 1 / x
    assert warned(quiet.collect) == []
    assert [text for _, text, _ in warned((quiet + np.log(x)).collect)] == [
        "divide by zero encountered in log",
        "invalid value encountered in log",
    ]
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="divide by zero"):
        strict.collect()
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(quiet.collect()[2], 1.0)


def test_callbacks_and_logs_hear_what_numpy_would_tell_them(capsys):
    heard, lines = [], []

    class Log:
        def write(self, line):
            lines.append(line)

    with np.errstate(all="call", call=lambda *heard_now: heard.append(heard_now)):
        called = 1 / cut()
    with np.errstate(all="log", call=Log()):
        logged = np.exp(cut() * 1000)
    with np.errstate(all="print"):
        printed = np.log(cut())
    called.collect()
    logged.collect()
    printed.collect()
    assert heard == [("divide by zero", 1)]
    assert sorted(lines) == [
        "Warning: overflow encountered in exp\n",
        "Warning: underflow encountered in exp\n",
    ]
    assert "Warning: invalid value encountered in log" in capsys.readouterr().out


def test_casts_say_what_numpys_casts_say():
    for build in (
        lambda x: x.astype("f4"),
        lambda x: np.add(x, 1, dtype="f4", casting="same_kind"),
        lambda x: x.astype("i4"),
    ):
        plain = np.array([1.0, 1e300, 2.0])
        x = da.distribute(plain, da.Blocks(1))
        theirs = {text for _, text, _ in warned(lambda b=build, p=plain: b(p))}
        assert {text for _, text, _ in warned(lambda b=build, p=x: b(p).collect())} == theirs
        assert theirs


def test_discarding_imaginary_parts_is_said_once_when_built():
    x = da.distribute(np.array([1 + 2j, 3j, 4]), da.Blocks(1))
    built = []
    (said,) = warned(lambda: built.append(x.astype(float)))
    assert said[0] is np.exceptions.ComplexWarning
    assert warned(built[0].collect) == []
    np.testing.assert_array_equal(built[0].collect(), [1.0, 0.0, 4.0])


def test_results_that_are_kept_are_warned_of_where_they_are_collected_first():
    roots = np.sqrt(cut()).persist()
    roots.wait()
    assert [text for _, text, _ in warned(roots.collect)] == ["invalid value encountered in sqrt"]


def test_a_warning_made_an_error_is_raised_where_the_value_is_collected():
    y = np.log(cut())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="in log"):
            y.collect()
    assert len(warned(y.collect)) == 2


def test_reductions_warn():
    x = da.distribute(np.full(4, 1e308), da.Blocks(2))
    assert warned(lambda: x.sum().collect())[0][1] == "overflow encountered in reduce"
    with np.errstate(over="raise"):
        total = x.sum()
    with pytest.raises(FloatingPointError, match="overflow"):
        total.collect()
    empty = da.zeros(0).mean()
    assert {text for _, text, _ in warned(empty.collect)} == {
        "Mean of empty slice",
        "invalid value encountered in divide",
    }


def test_errors_are_answered_alike_where_numpy_has_no_state_to_set(monkeypatch):
    x = cut()
    built = [np.sqrt(x) + 1 / x, np.log(x).sum(), (x[:2] / 0).max(keepdims=True)]
    expected = [warned(one.copy().collect) for one in built]
    assert all(expected)
    monkeypatch.setattr(warnings_ledger, "_STATE", None)
    with np.errstate(divide="raise"):
        strict = 1 / x
    again = [np.sqrt(x) + 1 / x, np.log(x).sum(), (x[:2] / 0).max(keepdims=True)]
    assert [warned(one.collect) for one in again] == expected
    with pytest.raises(FloatingPointError, match="divide by zero"):
        strict.collect()


def test_recording_keeps_what_has_nothing_to_do_with_errors():
    ledger, errors = Ledger(), captured_errors()
    before = np.setbufsize(4096)
    try:
        with recording(errors, ledger):
            assert np.getbufsize() == 4096
    finally:
        np.setbufsize(before)
    with recording(errors, ledger):
        assert np.getbufsize() == before


def test_blocks_in_blocks_note_in_their_own_ledgers():
    outer, inner, errors = Ledger(), Ledger(), captured_errors()
    one, zero = np.array([1.0]), np.array([0.0])
    with recording(errors, outer, 1):
        with recording(errors, inner, 2):
            np.divide(one, zero)
        assert outer.is_empty()
        assert not inner.is_empty()
        np.log(-one)
    assert not outer.is_empty()
    assert len(warned(inner.issue)) == len(warned(outer.issue)) == 1
