"""Run notebooks and store them as the repository keeps them: `python -m mtlkit.upkeep.notebooks FILES`."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import nbformat
from nbclient import NotebookClient

PLACE = re.compile(r"cell-\d+|\d{1,3}")  # an id that says where a cell stands
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(file: Path) -> None:
    """Run a notebook in its folder and write it back with its outputs.

    Widget views are dropped, as they cannot be shown without a kernel: the picture before them stays. Times, widget
    state and kernel details are dropped too, so that a second run changes nothing. A cell keeps its id for good.
    """
    notebook = nbformat.read(file, as_version=4)
    where = {"metadata": {"path": str(file.parent)}}
    NotebookClient(notebook, timeout=600, resources=where, coalesce_streams=True).execute()
    give_ids(notebook.cells)
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in ("tags", "jupyter")}
        if cell.cell_type == "code":
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET, None)
            cell.outputs = [output for output in cell.outputs if not _is_noise(output)]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.validate(notebook)
    nbformat.write(notebook, file)


def give_ids(cells: Sequence[nbformat.NotebookNode]) -> None:
    """Give each cell an id of its own that it keeps wherever it moves: a translation refers to it."""
    seen: set[str] = set()
    for cell in cells:
        if not cell.get("id") or cell.id in seen or PLACE.fullmatch(cell.id):
            cell.id = uuid4().hex[:8]
        seen.add(cell.id)


def _is_noise(output: nbformat.NotebookNode) -> bool:
    is_empty = output.output_type in ("display_data", "execute_result") and not output.data
    return is_empty or (output.output_type == "stream" and output.name == "stderr")


def main(files: Sequence[str]) -> None:
    """Execute each notebook named."""
    for file in files:
        execute(Path(file))
        print(f"ran {file}")


if __name__ == "__main__":
    main(sys.argv[1:])
