"""Assignments for nbgrader: one a notebook, each exercise with a cell for the answer and one that tests it."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell

from mtlkit.upkeep.export.answers import Asked, opened, with_questions, write_class_settings

CONFIG = """c = get_config()
c.CourseDirectory.course_id = {course!r}
c.ExecutePreprocessor.timeout = 600  # seconds a cell may take
c.ClearSolutions.code_stub = {{"python": "..."}}
"""


def export_nbgrader(
    folder: Path, notebooks: Path, only: Collection[str] = (), course: str = "mtl", seed: int = 1
) -> list[Path]:
    """Write a course directory of nbgrader: `source/mtl_02/02_the_loss.ipynb`, one assignment a notebook.

    Students see what `check` says. Hidden tests draw further inputs. A guided experiment in the lab is judged by the
    runs that the student saves in a file beside the notebook.

    Args:
        folder: a new one.
        notebooks: where the course is.
        only: numbers of notebooks; all, if empty.
        course: its id.
        seed: of the hidden draws; keep it to yourself.

    Returns:
        The files of the notebooks.
    """
    files = []
    for number, name, notebook in opened(folder, notebooks, only):
        notebook.cells = with_questions(notebook, lambda asked: _graded(asked, seed))
        assignment = folder / "source" / f"mtl_{number}"
        assignment.mkdir(parents=True)
        files.append(assignment / name)
        nbformat.write(notebook, files[-1])
        write_class_settings(assignment, False)
    (folder / "nbgrader_config.py").write_text(CONFIG.format(course=course), encoding="utf-8")
    return files


def _graded(asked: Asked, seed: int) -> list[nbformat.NotebookNode]:
    """Return the cell of the answer, and that of its test."""
    loads = "from mtlkit.lab import saved_runs\n\n" if asked.in_lab else ""
    test = (
        f'{loads}check("{asked.id}", {asked.answer})\n### BEGIN HIDDEN TESTS\n'
        f'from mtlkit.exercises import require\n\nrequire("{asked.id}", {asked.answer}, seed={seed})\n'
        "### END HIDDEN TESTS"
    )
    if asked.in_lab:
        answer = new_code_cell(asked.stub)
    else:
        answer = _cell(asked.solved("### BEGIN SOLUTION", "### END SOLUTION"), asked.label, solution=True)
    return [answer, _cell(test, f"test_{asked.label}", points=asked.points)]


def _cell(source: str, grade_id: str, solution: bool = False, points: int | None = None) -> nbformat.NotebookNode:
    told: dict[str, Any] = {
        "cell_type": "code",
        "grade": points is not None,
        "grade_id": grade_id,
        "locked": points is not None,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }
    if points is not None:
        told["points"] = points
    return new_code_cell(source, metadata={"nbgrader": told})
