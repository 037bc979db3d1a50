"""The files that set the lab up agree with each other and with what is imported."""

import ast
import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from rattler import MatchSpec

import softprompt_lab

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [
    Requirement(line) for line in [*PROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["course"]]
]
PRESCRIBED = {"torch", "transformers", "datasets", "jupyterlab", "matplotlib", "ipywidgets"}


def _pins() -> dict[str, Version]:
    """constraints.txt as name -> version; any other kind of line is an error."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[^*,+]+", str(pin.specifier)) and not pin.url for pin in pins)
    return {canonicalize_name(pin.name): Version(str(pin.specifier)[2:]) for pin in pins}


def _environment() -> tuple[list[str], list[str]]:
    """environment.yml's conda lines and pip lines."""
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))[
        "dependencies"
    ]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return [entry for entry in dependencies if isinstance(entry, str)], pip


def test_every_requirement_has_an_upper_bound():
    open_ended = [str(r) for r in REQUIREMENTS if not any(s.operator == "<" for s in r.specifier)]
    assert open_ended == []
    assert {r.name for r in map(Requirement, PROJECT["dependencies"])} >= PRESCRIBED


def test_an_extra_repeats_a_range_word_for_word():
    ranges: dict[str, set[str]] = {}
    for requirement in REQUIREMENTS:
        ranges.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert {name: found for name, found in ranges.items() if len(found) > 1} == {}


def test_constraints_pin_every_requirement_within_its_range():
    pins = _pins()
    wrong = [
        str(requirement)
        for requirement in REQUIREMENTS
        if not requirement.specifier.contains(pins[canonicalize_name(requirement.name)])
    ]
    assert wrong == []


def test_constraints_hold_no_cuda():
    assert [name for name in _pins() if re.search("cuda|nvidia|triton", name)] == []


def _imported(folder: str) -> set[str]:
    """What the Python files in a folder import, anywhere in them: the first part of each name, no local module."""
    files = list((ROOT / folder).rglob("*.py"))
    nodes = [
        node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    ]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names


LOCAL = {
    file.stem
    for folder in ("tests", "tools", "benchmarks")
    for file in (ROOT / folder).rglob("*.py")
}
DEPENDENCIES = {canonicalize_name(r.name) for r in map(Requirement, PROJECT["dependencies"])}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("softprompt_lab", ["course"]),  # peft, in functions that say how to get it
        ("notebooks", ["course"]),
        ("tests", ["test", "quantised"]),
        ("tools", ["test"]),
        ("benchmarks", ["test"]),
    ],
)
def test_everything_that_is_imported_is_declared(folder, extras):
    """By itself, not only because another library brings it along."""
    declared = DEPENDENCIES | {
        canonicalize_name(r.name) for extra in extras for r in map(Requirement, EXTRAS[extra])
    }
    homes = packages_distributions()
    undeclared = {
        name
        for name in _imported(folder)
        - {"softprompt_lab"}
        - (LOCAL if folder != "softprompt_lab" else set())
        if not declared & {canonicalize_name(home) for home in homes.get(name, [name])}
    }
    assert undeclared == set()


def test_the_package_asks_for_peft_only_where_it_may_be_missing():
    """It is in an extra: no module imports it while it is being imported."""
    for file in (ROOT / "softprompt_lab").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = {
            alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names
        }
        names |= {
            node.module for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level
        }
        assert not {name for name in names if name.split(".")[0] == "peft"}, file


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_fast_tests_run_on_two_kinds_of_processors_and_with_the_lowest_versions():
    """Results depend neither on a processor's instructions nor on a newer library."""
    tests = [line for line in _make("-n", "test").stdout.splitlines() if "-m pytest" in line]
    fast = [line for line in tests if '-m "not slow' in line]
    assert ["ONEDNN_MAX_CPU_ISA=AVX2" in line for line in fast] == [False, True]
    assert len({line.replace("ONEDNN_MAX_CPU_ISA=AVX2 ", "") for line in fast}) == 1
    lowest = _make("-n", "-W", "pyproject.toml", "test-lowest").stdout
    assert "--resolution lowest-direct" in lowest
    assert lowest.splitlines()[-1] == fast[0].replace(".venv/", ".venv-lowest/")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_test_leaves_no_test_out_and_runs_none_of_the_slow_ones_twice():
    """Whatever its marks are, a test is in one part."""
    tests = [line for line in _make("-n", "test").stdout.splitlines() if "-m pytest" in line]
    parts = {re.search(r'.* -m "?([^"]+)"?$', line)[1] for line in tests}
    for marked in itertools.product([False, True], repeat=3):
        marks = dict(zip(("slow", "browser", "smollm2"), marked, strict=True))
        assert [eval(part, dict(marks)) for part in parts].count(True) == 1, marks


def test_ranges_are_as_wide_as_they_were_promised():
    """transformers: two minor releases or more; pandas 2 and 3; torch: the pin's minor release."""
    ranges = {requirement.name: requirement.specifier for requirement in REQUIREMENTS}
    assert ranges["pandas"].contains("2.2.3")
    assert ranges["pandas"].contains("3.1.1")
    minors = {number for number in range(100) if ranges["transformers"].contains(f"5.{number}.0")}
    assert len(minors) >= 2
    pin = _pins()["torch"]
    assert f">={pin.major}.{pin.minor}" in map(str, ranges["torch"])
    assert all(
        SpecifierSet(PROJECT["requires-python"]).contains(version)
        for version in ("3.11", "3.12", "3.13")
    )


def test_environment_has_only_python_and_pip_from_conda():
    conda, _ = _environment()
    specs = [MatchSpec(line, strict=True) for line in conda]
    assert {spec.name.normalized for spec in specs} == {"python", "pip"}
    python = next(line for line in conda if line.startswith("python "))
    assert SpecifierSet(python.split()[1]) == SpecifierSet(PROJECT["requires-python"])


def test_environment_pip_list_stays_within_the_package():
    _, pip = _environment()
    assert pip[:2] == ["-c constraints.txt", "-e .[course]"]
    named = {r.name: r.specifier for r in map(Requirement, pip[2:])}
    assert set(named) == PRESCRIBED
    assert named == {r.name: r.specifier for r in REQUIREMENTS if r.name in PRESCRIBED}


def test_every_environment_line_is_justified():
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    entries = [
        line for line in lines if line.lstrip().startswith("- ") and not line.endswith("pip:")
    ]
    assert len(entries) == 12
    assert [line for line in entries if not re.search(r"# \w+", line)] == []


def test_public_names_are_where_the_table_says():
    for name in softprompt_lab.__all__:
        assert getattr(softprompt_lab, name).__name__ == name
    assert set(softprompt_lab.__all__) <= set(dir(softprompt_lab))
    with pytest.raises(AttributeError, match="no attribute 'load_basemodel'"):
        _ = softprompt_lab.load_basemodel


def test_version_is_that_of_pyproject():
    assert softprompt_lab.__version__ == PROJECT["version"]


def test_importing_the_package_and_its_command_line_imports_no_torch():
    code = "import sys, softprompt_lab.cli.commands; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert said.stdout.strip() == "[]"


@cache
def _make(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """`make` without running any recipe that does not have to, without the flags that `make test` hands on."""
    command = ["make", *arguments]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment | variables
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_lab_keeps_the_token_and_stays_on_this_machine():
    recipe = _make("-n", "lab", "NO_BROWSER=1").stdout
    (line,) = [line for line in recipe.splitlines() if "/jupyter lab" in line]
    assert "--ip=127.0.0.1" in line
    assert "--no-browser" in line
    assert "token" not in line.lower()
    assert line.endswith("notebooks/00_one_model_many_jobs.ipynb")
    assert "--no-browser" not in _make("-n", "lab", NO_BROWSER="").stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_names_its_targets_and_refuses_without_a_python(tmp_path):
    named = [line.split()[1] for line in _make().stdout.splitlines()]
    assert named == ["lab", "run", "test", "test-lowest", "notebooks"]
    bare = _make("lab", f"VENV={tmp_path / 'venv'}", "PYTHON=")
    assert bare.returncode != 0
    assert "No Python 3.11, 3.12 or 3.13 found" in bare.stdout


def test_ci_is_an_executable_script():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert script.read_text(encoding="utf-8").splitlines()[-2:] == ["make test", "make test-lowest"]


@pytest.mark.parametrize("name", sorted(r.name for r in map(Requirement, PROJECT["dependencies"])))
def test_requirement_is_importable(name):
    module = {"scikit-learn": "sklearn", "pillow": "PIL", "ipython": "IPython"}.get(name, name)
    assert importlib.util.find_spec(module) is not None
