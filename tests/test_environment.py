import json
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
EXTRAS = PROJECT["optional-dependencies"]
CORE = [Requirement(r) for r in PROJECT["dependencies"]]
REQUIRED = [*CORE, *(Requirement(r) for r in EXTRAS["lab"] + EXTRAS["dev"] if r != "mtlkit[lab]")]
PINNED = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and line[0] != "#"
)


def test_constraints_pin_exactly_what_the_project_requires():
    assert sorted(PINNED) == sorted({r.name for r in REQUIRED})
    for requirement in REQUIRED:
        assert PINNED[requirement.name] in requirement.specifier, requirement


@pytest.mark.skipif(bool(os.environ.get("LOWEST")), reason="the lowest versions are tested")
@pytest.mark.parametrize("name", sorted(PINNED))
def test_the_tests_run_with_the_pinned_versions(name):
    assert version(name).partition("+")[0] == PINNED[name]


def test_the_conda_environment_installs_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, packages = environment["dependencies"]
    assert environment["name"] == "mtlkit" and pip == "pip"
    assert packages == {"pip": ["-c constraints.txt", "-e .[dev]"]}
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])


def told_by_make(*arguments):
    """Return the commands that make would run on a fresh checkout."""
    command = ["make", "--dry-run", "--always-make", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_lab_installs_what_it_needs_and_no_more_and_the_tests_the_rest():
    installs = [line for line in told_by_make("test").stdout.splitlines() if "pip install" in line]
    assert [line.partition("-e ")[2] for line in installs] == ["'.[lab]'", "'.[dev]'"]
    lab = told_by_make("lab").stdout
    assert ".[dev]" not in lab and "index-url" not in lab and "jupyter lab" in lab


def test_pytorch_comes_without_nvidia_if_wanted():
    """The command line only: the index is not within reach of every machine that runs the tests."""
    first, second = [line for line in told_by_make("lab", "TORCH=cpu").stdout.splitlines() if "pip install" in line]
    index = "--index-url https://download.pytorch.org/whl/cpu"
    assert first.endswith(f"{index} torch=={PINNED['torch']} torchvision=={PINNED['torchvision']}")
    assert second.endswith("-c constraints.txt -e '.[lab]'")
    wrong = told_by_make("lab", "TORCH=cuda")
    assert wrong.returncode and "write TORCH=cpu, or leave it out" in wrong.stderr


def test_the_lowest_versions_can_be_tested():
    lines = told_by_make("test", "LOWEST=1").stdout.splitlines()
    made = next(k for k, line in enumerate(lines) if "--resolution lowest-direct" in line)
    installs = [line for line in lines[made:] if "pip install" in line]
    assert len(installs) == 2 and all("-c .venv/lowest.txt" in line for line in installs)


def test_the_core_leaves_a_service_its_kernel_and_front_end():
    assert not {r.name for r in CORE} & {"jupyterlab", "ipykernel", "notebook", "nbval", "pytest", "ipython"}
    assert "7.7.1" in next(r.specifier for r in CORE if r.name == "ipywidgets")  # Colab's


def test_the_core_is_all_that_the_package_imports(tmp_path):
    """Import every room with only what the core requires, as Colab would."""
    missing = {r.name for r in REQUIRED} - {r.name for r in CORE} - {"packaging"}  # which Matplotlib brings
    hidden = [MODULES.get(name, name.replace("-", "_")) for name in sorted(missing)]
    code = f"""
import sys
sys.modules.update(dict.fromkeys({hidden!r}))
import importlib, pkgutil, mtlkit
for one in pkgutil.walk_packages(mtlkit.__path__, "mtlkit."):
    if one.name not in ("mtlkit.__main__", "mtlkit.jupyter") and not one.name.startswith("mtlkit.upkeep"):
        importlib.import_module(one.name)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path)


MODULES = {"lightning-fabric": "lightning_fabric", "otter-grader": "otter", "pyyaml": "yaml", "nbgrader": "nbgrader"}


def test_the_containers_install_what_make_installs():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert container["postCreateCommand"] == "make .venv/.lab TORCH=cpu"
    lines = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["--extra-index-url https://download.pytorch.org/whl/cpu", "-c ../constraints.txt", "-e .[lab]"]
    assert (ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8").strip() == "python-3.11"


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
