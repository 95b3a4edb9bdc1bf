import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIRED = [Requirement(r) for r in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]
PINNED = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and line[0] != "#"
)


def test_constraints_pin_exactly_what_the_project_requires():
    assert sorted(PINNED) == sorted(r.name for r in REQUIRED)
    for requirement in REQUIRED:
        assert PINNED[requirement.name] in requirement.specifier, requirement


@pytest.mark.parametrize("name", sorted(PINNED))
def test_the_tests_run_with_the_pinned_versions(name):
    assert version(name).partition("+")[0] == PINNED[name]


def test_the_conda_environment_installs_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, packages = environment["dependencies"]
    assert environment["name"] == "mtlkit" and pip == "pip"
    assert packages == {"pip": ["-c constraints.txt", "-e .[dev]"]}
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])
    assert "pip install -c constraints.txt -e '.[dev]'" in (ROOT / "Makefile").read_text(encoding="utf-8")
