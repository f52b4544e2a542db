"""Compiling aside: never in the way, kept on disk, and given up without a word where it fails."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from msgspec.structs import replace

from darray.kernels import costs, loop_compiler, selection
from darray.kernels.costs import TYPICAL
from darray.kernels.cpu import cast
from darray.kernels.programs import Program
from darray.kernels.selection import SMALL, Selection
from darray.runtime import settings
from tests.kernels.writing import DOUBLE, PLENTY, Writing, is_compiled, polynomial, same


@pytest.fixture(autouse=True)
def anew(monkeypatch, tmp_path):
    """No structure is known, no loop compiled, and the cache folder is empty."""
    before = settings.current()
    settings.update(cache_folder=str(tmp_path), jit=True)
    monkeypatch.setattr(selection, "_structures", {})
    monkeypatch.setattr(loop_compiler, "_addresses", {})
    monkeypatch.setattr(loop_compiler, "_ufuncs", {})
    # The tests count on the same costs everywhere; nothing is measured.
    monkeypatch.setattr(costs, "_known", TYPICAL)
    monkeypatch.setattr(costs, "_is_measured", True)
    yield
    selection.wait()
    for structure in selection._structures.values():
        structure._check()
    settings._current = before


def test_numpy_begins_and_a_loop_goes_on():
    program, inputs = polynomial()
    chosen = Selection(program, [DOUBLE] * 2)
    assert chosen.program_for(SMALL) is program
    assert "could be compiled, which pays from" in chosen.explanation()
    assert chosen.program_for(PLENTY) is program
    selection.wait()
    other = chosen.program_for(SMALL)
    assert is_compiled(other)
    assert chosen.program_for(SMALL) is other
    same(program, inputs, other)
    assert chosen.explanation() == "compiled: 3 of 3 calls in 1 loop"


def test_what_is_added_is_compiled_with_a_loop_that_adds_and_a_single_call_too():
    w = Writing(np.arange(9.0))
    single = w.program(w(np.absolute, 0))
    for program in (polynomial()[0], single):
        dtypes = [DOUBLE] * 2
        chosen = Selection(program, dtypes, expected=PLENTY, is_added=True)
        assert chosen.program_for(PLENTY) is program
        selection.wait()
        (one,) = chosen.program_for(SMALL).instructions
        assert one.function.sums.signature.endswith("->()")
        other = pickle.loads(pickle.dumps(chosen))
        assert other.program_for(SMALL).instructions[0].function.sums is one.function.sums
    assert Selection(single, [DOUBLE]).program_for(PLENTY) is single
    plain = Selection(polynomial()[0], dtypes)
    plain.program_for(PLENTY)
    selection.wait()
    assert plain.program_for(SMALL).instructions[0].function.sums is None


def test_work_that_is_expected_counts_and_so_does_work_that_was_done():
    program, _ = polynomial()
    chosen = Selection(program, [DOUBLE] * 2, expected=PLENTY)
    chosen.program_for(SMALL)
    selection.wait()
    assert is_compiled(chosen.program_for(SMALL))
    again, _ = polynomial(3.0)
    assert is_compiled(Selection(again, [DOUBLE] * 2).program_for(SMALL))
    other, _ = polynomial(function=np.subtract)
    once = Selection(other, [DOUBLE] * 2)
    for _ in range(3):
        assert once.program_for(PLENTY // 50) is other
        selection.wait()
    twice = Selection(other, [DOUBLE] * 2)
    for _ in range(3):
        twice.program_for(PLENTY // 50)
        selection.wait()
    assert is_compiled(twice.program_for(SMALL))


def test_small_chunks_and_short_programs_are_never_looked_at():
    program, _ = polynomial()
    chosen = Selection(program, [DOUBLE] * 2, expected=PLENTY)
    assert chosen.program_for(SMALL - 1) is program
    w = Writing(np.ones(3), np.ones(3))
    single = w.program(w(np.add, 0, 1))
    assert Selection(single, [DOUBLE] * 2).program_for(PLENTY) is single
    assert selection._structures == {}


def test_it_can_be_switched_off():
    program, _ = polynomial()
    settings.update(jit="off")
    chosen = Selection(program, [DOUBLE] * 2, expected=PLENTY)
    assert chosen.program_for(PLENTY) is program
    selection.wait()
    assert chosen.program_for(PLENTY) is program
    assert chosen.explanation() == "NumPy: compiling is switched off (jit=False)"


@pytest.mark.parametrize("wrong", ["perhaps", 2, None])
def test_jit_is_yes_or_no(wrong):
    with pytest.raises(ValueError, match="jit is True or False"):
        settings.update(jit=wrong)


def test_what_no_loop_can_do_is_numpys():
    w = Writing(np.ones(3), np.ones(3))
    program = w.program(w(np.sin, w(np.exp, 0)))
    chosen = Selection(program, [DOUBLE] * 2)
    assert chosen.program_for(PLENTY) is program
    assert chosen.explanation() == "NumPy: there are no two calls that one loop could do"


def test_parameters_that_cannot_be_looked_up_do_no_harm():
    w = Writing(np.ones(3))
    w(np.add, 0, 0)
    program = w.program(w(np.add, -1, 0))
    call = replace(program.instructions[0], function=cast, parameters=(("dtype", []),))
    strange = Program.assemble([call, call, call], [(-1, None)])
    chosen = Selection(strange, [DOUBLE])
    assert chosen.program_for(PLENTY) is strange
    assert chosen.explanation() == "NumPy: there are no two calls that one loop could do"


def test_constants_for_which_the_loop_is_not_made_are_numpys():
    def scaled(constant):
        w = Writing(np.ones(3, np.float32))
        return w.program(w(np.add, w(np.multiply, 0, [constant]), 0))

    with np.errstate(all="ignore"):
        small, large = scaled(2.0), scaled(1e300)
    first = Selection(small, [np.dtype("f4")], expected=PLENTY * 2)
    first.program_for(SMALL)
    selection.wait()
    assert is_compiled(first.program_for(SMALL))
    assert Selection(large, [np.dtype("f4")]).program_for(SMALL) is large


def test_the_exponent_counts():
    def power(exponent):
        w = Writing(np.ones(3))
        return w.program(w(np.add, w(np.multiply, w(np.power, 0, [exponent]), 0), 0))

    for exponent, calls in ((3, "2 of 3"), (2, "3 of 3"), (4, "2 of 3")):
        chosen = Selection(power(exponent), [DOUBLE])
        assert chosen.explanation().startswith(f"NumPy: {calls} calls could be compiled")


def test_a_failure_is_told_of_and_nothing_else(monkeypatch):
    def broken(text):
        raise RuntimeError("no such processor")

    monkeypatch.setattr(loop_compiler, "compiled", broken)
    program, _ = polynomial()
    chosen = Selection(program, [DOUBLE] * 2)
    chosen.program_for(PLENTY)
    selection.wait()
    assert chosen.program_for(PLENTY) is program
    assert chosen.explanation() == (
        "NumPy: 3 of 3 calls cannot be compiled: RuntimeError: no such processor"
    )


def test_a_machine_that_calculates_otherwise_is_found_out(monkeypatch):
    real = loop_compiler.source
    monkeypatch.setattr(
        loop_compiler, "source", lambda loop: real(loop).replace("fmul double", "fadd double")
    )
    program, _ = polynomial()
    chosen = Selection(program, [DOUBLE] * 2)
    chosen.program_for(PLENTY)
    selection.wait()
    assert "add, multiply, add gives other values when compiled" in chosen.explanation()
    assert chosen.program_for(PLENTY) is program


def compiled_now(monkeypatch):
    """How often LLVM is asked from now on."""
    asked = []
    real = loop_compiler.compiled
    monkeypatch.setattr(loop_compiler, "compiled", lambda text: (asked.append(text), real(text))[1])
    return asked


def forget(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr(selection, "_structures", {})
    monkeypatch.setattr(loop_compiler, "_addresses", {})
    monkeypatch.setattr(loop_compiler, "_ufuncs", {})


def test_machine_code_is_found_in_the_cache_folder_and_sooner(monkeypatch, tmp_path):
    asked = compiled_now(monkeypatch)
    program, inputs = polynomial()
    Selection(program, [DOUBLE] * 2).program_for(PLENTY)
    selection.wait()
    (file,) = (tmp_path / "kernels").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    forget(monkeypatch)
    chosen = Selection(program, [DOUBLE] * 2)
    chosen.program_for(int(0.05 / TYPICAL.saved))
    selection.wait()
    other = chosen.program_for(SMALL)
    assert is_compiled(other)
    same(program, inputs, other)
    assert len(asked) == 1


def test_what_is_not_in_the_cache_folder_is_compiled_when_that_pays():
    program, _ = polynomial()
    chosen = Selection(program, [DOUBLE] * 2)
    chosen.program_for(int(0.02 / TYPICAL.saved))
    selection.wait()
    assert not is_compiled(chosen.program_for(SMALL))
    chosen.program_for(PLENTY)
    selection.wait()
    assert is_compiled(chosen.program_for(SMALL))


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "writable by others", "folder"])
def test_a_damaged_cache_costs_only_a_compilation(monkeypatch, tmp_path, damage):
    asked = compiled_now(monkeypatch)
    program, _ = polynomial()
    loop = selection.plan(program, [DOUBLE] * 2)[0].loop
    loop_compiler.ufunc_of(loop)
    (file,) = (tmp_path / "kernels").iterdir()
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:-100])
    elif damage == "changed":
        file.write_bytes(content[:200] + b"x" + content[201:])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "writable by others":
        file.chmod(0o666)
    else:
        file.unlink()
        file.mkdir()
    forget(monkeypatch)
    x = np.arange(5.0)
    ufunc = loop_compiler.ufunc_of(loop)
    assert ufunc(x, x, np.array(2.0)).tolist() == ((x + 2) * x + x).tolist()
    assert len(asked) == 2
    if damage != "folder":
        assert file.read_bytes()[:32] == content[:32]
        assert sorted((tmp_path / "kernels").iterdir()) == [file]


def test_a_folder_that_cannot_be_made_costs_only_a_compilation(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    settings.update(cache_folder=str(tmp_path / "file"))
    program, _ = polynomial()
    loop = selection.plan(program, [DOUBLE] * 2)[0].loop
    assert not loop_compiler.is_cached(loop)
    assert loop_compiler.ufunc_of(loop)(np.ones(1), np.ones(1), np.array(2.0)).tolist() == [4.0]
    assert (tmp_path / "file").read_text() == "not a folder"


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert loop_compiler.cache_folder() == tmp_path / "kernels"
    settings.update(cache_folder=None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert loop_compiler.cache_folder() == tmp_path / "xdg" / "darray" / "kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert loop_compiler.cache_folder() == tmp_path / "home" / ".cache" / "darray" / "kernels"
    settings.update(cache_folder="none")
    assert loop_compiler.cache_folder() is None


def test_the_caller_never_waits_for_the_compiler(monkeypatch):
    may_go = threading.Event()
    real = loop_compiler.compiled
    seen = []

    def slow(text):
        seen.append(threading.current_thread())
        assert may_go.wait(60)
        return real(text)

    monkeypatch.setattr(loop_compiler, "compiled", slow)
    program, _ = polynomial()
    other, _ = polynomial(function=np.subtract)
    for one in (program, other):
        chosen = Selection(one, [DOUBLE] * 2)
        for _ in range(3):
            assert chosen.program_for(PLENTY) is one
            assert chosen.explanation() == "NumPy: 3 of 3 calls are being compiled"
    may_go.set()
    selection.wait()
    assert is_compiled(chosen.program_for(SMALL))
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert seen[0] is not threading.current_thread()
    assert selection._thread is None


def in_a_new_process(code, tmp_path, **environment):
    """Run `code` after some that makes a program; what it prints."""
    before = """
        import os, sys, threading
        import numpy as np
        from darray.kernels import costs, loop_compiler, selection
        from darray.kernels.selection import SMALL, Selection
        from tests.kernels.writing import DOUBLE, PLENTY, is_compiled, polynomial
        program, _ = polynomial()
        chosen = Selection(program, [DOUBLE] * 2)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(before) + textwrap.dedent(code)],
        env={**os.environ, "DARRAY_CACHE_FOLDER": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.split()


def test_nothing_is_imported_nor_started_before_it_is_needed(tmp_path):
    code = """
        chosen.program_for(SMALL)
        print("llvmlite" in sys.modules, threading.active_count())
        chosen.program_for(PLENTY)
        selection.wait()
        print(is_compiled(chosen.program_for(SMALL)), "numba" in sys.modules)
    """
    assert in_a_new_process(code, tmp_path) == ["False", "1", "True", "False"]


def test_an_exit_while_something_is_compiled_is_quiet(tmp_path):
    code = """
        for function in (np.multiply, np.subtract, np.divide):
            Selection(polynomial(function=function)[0], [DOUBLE] * 2).program_for(PLENTY)
        print("done")
    """
    assert in_a_new_process(code, tmp_path) == ["done"]


def test_without_llvmlite_numpy_does_it_all(tmp_path):
    code = """
        sys.modules["llvmlite"] = None
        chosen.program_for(PLENTY)
        selection.wait()
        print(chosen.program_for(PLENTY) is program)
        print(chosen.explanation())
    """
    first, *explanation = in_a_new_process(code, tmp_path)
    assert first == "True"
    assert "darray[jit]" in " ".join(explanation)


def test_environment_switches_it_off(tmp_path):
    code = """
        chosen.program_for(PLENTY)
        print(selection._thread, "llvmlite" in sys.modules)
    """
    assert in_a_new_process(code, tmp_path, DARRAY_JIT="0") == ["None", "False"]


def test_several_processes_share_a_folder(tmp_path):
    code = "import numpy as np\n" + textwrap.dedent("""
        from darray.kernels import costs, loop_compiler, selection
        from tests.kernels.writing import DOUBLE, polynomial
        loop = selection.plan(polynomial()[0], [DOUBLE] * 2)[0].loop
        print(loop_compiler.ufunc_of(loop)(np.ones(1), np.ones(1), np.array(2.0)).tolist())
    """)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "DARRAY_CACHE_FOLDER": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [one.communicate(timeout=100)[0] for one in running] == ["[4.0]\n"] * 2
    assert len(list((tmp_path / "kernels").iterdir())) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_does_without_the_thread(tmp_path):
    code = """
        ready, may_go = threading.Event(), threading.Event()
        real = loop_compiler.compiled

        def slow(text):
            ready.set()
            may_go.wait()
            return real(text)

        loop_compiler.compiled = slow
        chosen.program_for(PLENTY)
        ready.wait()
        child = os.fork()
        if child == 0:
            loop_compiler.compiled = real
            chosen.program_for(PLENTY)
            selection.wait()
            assert "forked" in chosen.explanation(), chosen.explanation()
            assert not is_compiled(chosen.program_for(PLENTY))
            os._exit(7)
        may_go.set()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        selection.wait()
        print(is_compiled(chosen.program_for(SMALL)))
        child = os.fork()
        if child == 0:
            assert is_compiled(chosen.program_for(SMALL))
            other = Selection(polynomial(function=np.subtract)[0], [DOUBLE] * 2)
            other.program_for(PLENTY)
            selection.wait()
            assert is_compiled(other.program_for(SMALL)), other.explanation()
            os._exit(8)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert in_a_new_process(code, tmp_path) == ["7", "True", "8"]


def test_many_threads_choose_at_once():
    program, inputs = polynomial()
    chosen = Selection(program, [DOUBLE] * 2, expected=PLENTY)
    found = []

    def choose():
        for _ in range(200):
            found.append(chosen.program_for(SMALL))
        selection.wait()
        found.append(chosen.program_for(SMALL))

    threads = [threading.Thread(target=choose) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert is_compiled(found[-1])
    same(program, inputs, found[-1])
    (structure,) = selection._structures.values()
    structure._check()
