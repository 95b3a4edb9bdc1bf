"""The steps of CONTRIBUTING.md, taken as they stand there, in a copy of the project."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = dict(re.findall(r"\n## (An? .*?)\n(.*?)(?=\n## |\Z)", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.S))
CODE = r"\s*```python\n(.*?)\n *```"
STEP = re.compile(
    rf"\*\*New file\*\* `(?P<new>.*?)`:{CODE}"
    rf"|\*\*At the end of\*\* `(?P<end>.*?)`:{CODE}"
    rf"|\*\*In\*\* `(?P<file>.*?)` \*\*in place of\*\* `(?P<old>.*?)`:{CODE}"
    r"|\*\*Run\*\* `(?P<run>.*?)`",
    re.S,
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for name in ("mtlkit", "tests", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    (folder / "data").mkdir()
    shutil.copytree(ROOT / "data" / "results", folder / "data" / "results")
    return folder


def unindented(code):
    """Return a block without the indent of its list item, which is that of its fence."""
    return "\n".join(line.removeprefix("   ") for line in code.splitlines()) + "\n"


def take(step, folder):
    """Do what a step says."""
    codes = [code for code in (step[2], step[4], step[7]) if code]
    if step["run"]:
        command = shlex.split(" ".join(step["run"].split()))
        command[0] = sys.executable
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, f"{step['run']}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout
    file, code = folder / (step["new"] or step["end"] or step["file"]), unindented(codes[0])
    if step["new"]:
        assert not file.exists()
        file.write_text(code, "utf-8")
    elif step["end"]:
        file.write_text(f"{file.read_text('utf-8')}\n\n{code}", "utf-8")
    else:
        text = file.read_text("utf-8")
        assert text.count(step["old"]) == 1, step["old"]
        file.write_text(text.replace(step["old"], code.removesuffix("\n")), "utf-8")
    return ""


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_works_as_written(recipe, copy):
    text = RECIPES[recipe]
    assert 3 <= len(re.findall(r"^\d\. ", text, re.M)) <= 5
    steps = list(STEP.finditer(text))
    assert text.count("```python") + text.count("**Run**") == len(steps)
    said = "".join(take(step, copy) for step in steps)
    assert {
        "A weighting method": " passed",
        "A task": "1 passed",
        "A case": "shape/accuracy",
        "A source of data": "spirals",
        "A notebook": "passed",
        "An exercise": "✓ 02.9",
    }[recipe] in said
    if recipe == "A notebook":
        assert "glossary.md" in (copy / "notebooks" / "16_waves.ipynb").read_text("utf-8")


def test_the_files_are_formatted_as_the_project_is(copy):
    """Run last: what the recipes have made passes the linter, but for examples that are not whole files."""
    made = ["mtlkit/data/waves.py", "mtlkit/cases/waves.py", "mtlkit/weighting/losses.py", "mtlkit/tasks/table.py"]
    command = [sys.executable, "-m", "ruff", "check", "--config", str(copy / "pyproject.toml"), *made]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_kind_has_a_recipe():
    kinds = "weighting method, task, case, source of data, notebook, exercise"
    assert [recipe.split(" ", 1)[1] for recipe in RECIPES] == kinds.split(", ")
    assert textwrap.dedent("   x") == unindented("   x").strip()
