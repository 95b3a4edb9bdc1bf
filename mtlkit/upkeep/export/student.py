"""Notebooks for students: everything but the solutions and the last hints."""

from collections.abc import Collection, Sequence
from pathlib import Path

import nbformat

from mtlkit.exercises import EXERCISES, QUIZZES, as_markdown
from mtlkit.upkeep.export.answers import copy_pages, masters, new_folder, write_class_settings


def export_student(
    folder: Path,
    notebooks: Path,
    only: Collection[str] = (),
    allowed: bool | Sequence[str] = False,
) -> list[Path]:
    """Write the notebooks without solutions, last hints and quiz answers, also in what their cells have printed.

    In this folder, `hint` and `solution` keep them back as well, until the instructor changes `mtlkit.toml`.

    Args:
        folder: a new one.
        notebooks: where the course is.
        only: numbers of notebooks; all, if empty.
        allowed: as in `mtlkit.exercises.classroom.settings_of`: whose solutions are left in.

    Returns:
        The files of the notebooks.
    """
    files = []
    chosen = list(masters(only, notebooks))
    new_folder(folder)
    for _, master in chosen:
        notebook = nbformat.read(master, as_version=4)
        without_answers(notebook, allowed)
        files.append(folder / master.name)
        nbformat.write(notebook, files[-1])
    write_class_settings(folder, allowed)
    copy_pages(notebooks, folder)
    return files


def without_answers(notebook: nbformat.NotebookNode, allowed: bool | Sequence[str] = False) -> None:
    """Take solutions, last hints and quiz answers out of what the cells have printed."""
    replaced = {}
    for exercise in EXERCISES.values():
        if not _may(exercise.id, allowed):
            replaced[exercise.text()] = exercise.text(solved=False)
    for number, questions in QUIZZES.items():
        if not _may(number, allowed):
            replaced[as_markdown(questions)] = as_markdown(questions, answered=False)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            markdown = output.get("data", {}).get("text/markdown", "")
            for whole, part in replaced.items():
                markdown = markdown.replace(whole, part)
            if markdown:
                output.data["text/markdown"] = markdown


def _may(id: str, allowed: bool | Sequence[str]) -> bool:
    return allowed if isinstance(allowed, bool) else id in allowed or id[:2] in allowed
