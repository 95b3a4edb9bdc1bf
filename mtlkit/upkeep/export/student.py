"""Notebooks for students: everything but the solutions and the last hints."""

from collections.abc import Collection, Sequence
from pathlib import Path

import nbformat

from mtlkit.upkeep.export.answers import copy_pages, opened, write_class_settings


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
    for _, name, notebook in opened(folder, notebooks, only, allowed):
        files.append(folder / name)
        nbformat.write(notebook, files[-1])
    write_class_settings(folder, allowed)
    copy_pages(notebooks, folder)
    return files
