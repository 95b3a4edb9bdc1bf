"""Notebooks for otter-grader, with the marks that `otter assign` reads."""

from collections.abc import Collection
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_raw_cell

from mtlkit.upkeep.export.answers import Asked, opened, with_questions, write_class_settings

CONFIG = """# ASSIGNMENT CONFIG
name: mtl_{number}
init_cell: true
export_cell: false
run_tests: false
tests:
    ok_format: false
files:
    - mtlkit.toml
"""


def export_otter(folder: Path, notebooks: Path, only: Collection[str] = (), seed: int = 1) -> list[Path]:
    """Write notebooks from which `otter assign` makes one for students and one for the autograder.

    Args:
        folder: a new one; each notebook has a folder of its own in it.
        notebooks: where the course is.
        only: numbers of notebooks; all, if empty.
        seed: of the hidden draws; keep it to yourself.

    Returns:
        The files of the notebooks.
    """
    files = []
    for number, name, notebook in opened(folder, notebooks, only):
        cells = with_questions(notebook, lambda asked: _question(asked, seed))
        notebook.cells = [new_raw_cell(CONFIG.format(number=number)), *cells]
        files.append(folder / Path(name).stem / name)
        files[-1].parent.mkdir()
        nbformat.write(notebook, files[-1])
        write_class_settings(files[-1].parent, False)
    return files


def _question(asked: Asked, seed: int) -> list[nbformat.NotebookNode]:
    """Return the cells of a question: where the answer goes, what students are told, and the hidden test."""
    if asked.in_lab:
        answer = [new_code_cell(asked.stub)]
    else:
        solved = asked.solved("# BEGIN SOLUTION", "# END SOLUTION")
        answer = [new_raw_cell("# BEGIN SOLUTION"), new_code_cell(solved), new_raw_cell("# END SOLUTION")]
    return [
        new_raw_cell(f"# BEGIN QUESTION\nname: {asked.label}\npoints: {asked.points}"),
        *answer,
        new_raw_cell("# BEGIN TESTS"),
        new_code_cell(_test(asked, 0, hidden=False)),
        new_code_cell(_test(asked, seed, hidden=True)),
        new_raw_cell("# END TESTS"),
        new_raw_cell("# END QUESTION"),
    ]


def _test(asked: Asked, seed: int, hidden: bool) -> str:
    loads = "    from mtlkit.lab import saved_runs\n" if asked.in_lab else ""
    answer = asked.answer if asked.in_lab else f'env["{asked.name}"]'
    points = asked.points if hidden else 0
    return (
        f'""" # BEGIN TEST CONFIG\nhidden: {str(hidden).lower()}\npoints: {points}\n""" # END TEST CONFIG\n'
        f"def test_{asked.label}_{'hidden' if hidden else 'seen'}(env):\n{loads}"
        f"    from mtlkit.exercises import require\n\n"
        f'    require("{asked.id}", {answer}, seed={seed})'
    )
