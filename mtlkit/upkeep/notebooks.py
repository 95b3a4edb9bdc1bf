"""Run notebooks and store them as the repository keeps them: `python -m mtlkit.upkeep.notebooks FILES`."""

import os
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import nbformat
from nbclient import NotebookClient

PLACE = re.compile(r"cell-\d+|\d{1,3}")  # an id that says where a cell stands
PROJECT = Path(__file__).parents[2] / "pyproject.toml"
SERVICES = {  # name → badge, address of a notebook there
    "Open in Colab": (
        "https://colab.research.google.com/assets/colab-badge.svg",
        "https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb",
    ),
    "Open in Kaggle": (
        "https://kaggle.com/static/images/open-in-kaggle.svg",
        "https://kaggle.com/kernels/welcome?src=https://github.com/{repository}/blob/main/notebooks/{name}.ipynb",
    ),
    "Open in Binder": (
        "https://mybinder.org/badge_logo.svg",
        "https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/notebooks/{name}.ipynb",
    ),
}
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(file: Path) -> None:
    """Run a notebook in its folder and write it back with its outputs.

    Widget views are dropped, as they cannot be shown without a kernel: the picture before them stays. Times, widget
    state and kernel details are dropped too, so that a second run changes nothing. A cell keeps its id for good.
    """
    notebook = nbformat.read(file, as_version=4)
    os.environ["MTLKIT_PROGRESS"] = ""  # what was solved here is no part of it
    where = {"metadata": {"path": str(file.parent)}}
    NotebookClient(notebook, timeout=600, resources=where, coalesce_streams=True).execute()
    give_ids(notebook.cells)
    notebook.cells[0].source = with_links(notebook.cells[0].source, file.stem, repository())
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


def repository() -> str:
    """Return "owner/name" on GitHub, from `[project.urls]` in pyproject.toml; nothing, while that names none."""
    urls = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"].get("urls", {})
    return str(urls.get("Repository", "")).removeprefix("https://github.com/").removesuffix(".git").strip("/")


def links(name: str, repository: str) -> list[str]:
    """Return the lines of a notebook's card that lead elsewhere: to explanations, and to services that run it."""
    lines = ["Terms: [glossary](glossary.md) · questions: [FAQ](faq.md)"]
    if repository:
        lines += [
            f"[![{title}]({badge})]({address.format(repository=repository, name=name)})"
            for title, (badge, address) in SERVICES.items()
        ]
        install = f"%pip install -q git+https://github.com/{repository}"
        lines.append(f"On Colab and Kaggle, run `{install}` in a new cell first.")
    return lines


def with_links(source: str, name: str, repository: str) -> str:
    """Return the text of a notebook's card with its links, which replace those that it had."""
    card = source.splitlines()
    old = [k for k, line in enumerate(card) if "(glossary.md)" in line]
    if old:  # they are a paragraph of their own
        end = next((k for k in range(old[0], len(card)) if card[k].strip("> ") == ""), len(card))
        del card[old[0] - 1 : end]
    time = next((k for k, line in enumerate(card) if line.startswith("> **Time**")), None)
    at, mark = (len(card), "") if time is None else (time + 1, "> ")
    card[at:at] = [mark.rstrip(), *(mark + line for line in links(name, repository))]
    return "\n".join(card)


def _is_noise(output: nbformat.NotebookNode) -> bool:
    is_empty = output.output_type in ("display_data", "execute_result") and not output.data
    return is_empty or (output.output_type == "stream" and output.name == "stderr")


def main(files: Sequence[str]) -> None:
    """Execute each notebook named, and say what it cost: the card of a notebook has the CPU seconds."""
    for file in files:
        before = os.times()
        execute(Path(file))
        after = os.times()  # its kernel is a process that has ended by now
        used = after.children_user + after.children_system - before.children_user - before.children_system
        print(f"ran {file}: {used:.0f} CPU seconds", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
