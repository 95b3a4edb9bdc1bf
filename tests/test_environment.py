import os
import re
import subprocess
import sys
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


def test_doctor_imports_what_the_notebooks_import():
    from mtlkit.upkeep.doctor import OF_THE_NOTEBOOKS

    used = set()
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        used |= set(re.findall(r"(?:from|import) (mtlkit(?:\.\w+)?)", file.read_text(encoding="utf-8")))
    heavy = {name for name in used if name.partition(".")[2] not in LIGHT}
    assert heavy <= set(OF_THE_NOTEBOOKS) | {"mtlkit"}


LIGHT = {
    "bench",
    "cases",
    "data",
    "losses",
    "machine",
    "model",
    "tasks",
    "training",
    "weighting",
    "upkeep",
}  # those import


def test_doctor_speaks_to_a_console_that_knows_few_characters(tmp_path):
    command = [sys.executable, "-m", "mtlkit", "doctor"]
    for encoding, mark in (("cp1252", "ok: "), ("utf-8", "✓ ")):
        environment = os.environ | {"PYTHONIOENCODING": encoding, "MTLKIT_DATA": str(tmp_path)}
        said = subprocess.run(command, capture_output=True, env=environment, check=False).stdout.decode(encoding)
        assert all(line.startswith(mark) for line in said.splitlines()) and "notebooks use" in said
