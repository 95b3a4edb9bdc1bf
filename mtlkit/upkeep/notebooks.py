"""Run notebooks top to bottom and store them the way the repository keeps them: `python -m mtlkit.notebooks FILES`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient

WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(file: Path) -> None:
    """Run a notebook in its folder and write it back with its outputs.

    Widget views are dropped, as they cannot be shown without a kernel: the picture beside them stays. Times, widget
    state and kernel details are dropped too, so that a second run changes nothing.
    """
    notebook = nbformat.read(file, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(file.parent)}}).execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in ("tags", "jupyter")}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_noise(output)]
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET, None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.validate(notebook)
    nbformat.write(notebook, file)


def _is_noise(output: nbformat.NotebookNode) -> bool:
    return output.output_type == "stream" and output.name == "stderr"


def main(files: Sequence[str]) -> None:
    """Execute each notebook named."""
    for file in files:
        execute(Path(file))
        print(f"ran {file}")


if __name__ == "__main__":
    main(sys.argv[1:])
