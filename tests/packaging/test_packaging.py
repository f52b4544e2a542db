"""What pyproject.toml, the view and README.md say of the package is true of the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

from tests.view import ROOT, lay_out, links

CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGE_DIR = CONFIG["tool"]["setuptools"]["package-dir"]


def required_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in requirements}


def readme_commands() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)


def test_every_package_is_in_the_map():
    found = {
        ".".join([package, *init.parent.relative_to(ROOT / folder).parts])
        for package, folder in PACKAGE_DIR.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert found == set(CONFIG["tool"]["setuptools"]["packages"])


def test_every_module_lies_in_a_package():
    outside = [
        str(file.relative_to(ROOT))
        for folder in PACKAGE_DIR.values()
        for file in (ROOT / folder).rglob("*.py")
        if not (file.parent / "__init__.py").is_file()
    ]
    assert outside == []


def test_extra_all_holds_every_extra_but_cuda():
    extras = CONFIG["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = re.fullmatch(r"darray\[(.*)\]", everything)
    assert named is not None
    assert set(named[1].split(",")) == set(extras) - {"all", "cuda"}


def test_every_dependency_has_its_reason_written_down():
    project = CONFIG["project"]
    requirements = list(project["dependencies"])
    for extra in [
        *project["optional-dependencies"].values(),
        *CONFIG["dependency-groups"].values(),
    ]:
        requirements += extra
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text()
    reasons = set(re.findall(r"^\| `([^`]+)`", page, re.M))
    assert required_names(requirements) - {"darray"} == reasons


def test_view_is_the_installed_shape(tmp_path):
    lay_out(tmp_path)
    assert not (tmp_path / "darray" / "runtime").is_symlink()
    for name in ("darray/__init__.py", "darray/runtime/__init__.py", "darray/io/__init__.py"):
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "darray/io/__init__.py").resolve() == ROOT / "io/__init__.py"
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(links(tmp_path))


def test_view_loses_what_the_checkout_no_longer_has(tmp_path):
    lay_out(tmp_path)
    (tmp_path / "darray" / "gone").mkdir()
    (tmp_path / "darray" / "gone" / "__init__.py").symlink_to(ROOT / "gone.py")
    (tmp_path / "darray" / "gone.py").symlink_to(ROOT / "gone.py")
    lay_out(tmp_path)
    assert not (tmp_path / "darray" / "gone").exists()
    assert not (tmp_path / "darray" / "gone.py").is_symlink()


def test_readme_has_two_commands_that_stand_alone():
    commands = readme_commands()
    assert len(commands) == 2
    for command, last in zip(commands, ["darray demo", "python -m pytest -n 2"], strict=True):
        assert command.startswith("python3 -m venv .venv")
        assert command.rstrip().endswith(f".venv/bin/{last}")


def test_ci_runs_the_commands_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    run = subprocess.run([script, "--commands"], capture_output=True, text=True, check=True)
    assert run.stdout == "".join(readme_commands())
    text = script.read_text()
    for number in (1, 2):
        assert re.search(rf"^step .* readme {number}$", text, re.M)


def test_script_named_in_pyproject_is_the_module_run_by_python_m():
    target = CONFIG["project"]["scripts"]["darray"].replace(":", " import ")
    assert f"from {target}" in (ROOT / "darray" / "__main__.py").read_text()


def test_no_file_of_the_package_is_a_link():
    links_found = [
        str(path.relative_to(ROOT))
        for folder in PACKAGE_DIR.values()
        for path in Path(ROOT / folder).rglob("*")
        if path.is_symlink()
    ]
    assert links_found == []
