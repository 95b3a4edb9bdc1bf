"""Where the exercises are in a notebook: cells that hold stubs and checks."""

import ast
import dis
import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import nbformat

from mtlkit.exercises import EXERCISES, QUIZZES, LabExercise, as_markdown
from mtlkit.exercises.classroom import FILE, allows, settings_of


@dataclass(frozen=True)
class Asked:
    """An exercise where a notebook asks for its answer.

    Attributes:
        id: of the exercise, e.g. "02.1".
        name: of the answer: a function's name, or `lab.records`.
        stub: the function as the notebook has it; for one in the lab, what saves its runs.
    """

    id: str
    name: str
    stub: str

    @property
    def in_lab(self) -> bool:
        """Whether it is done in the lab, and judged by saved runs."""
        return isinstance(EXERCISES[self.id], LabExercise)

    @property
    def points(self) -> int:
        """What it is worth: its difficulty, 1 to 3."""
        return EXERCISES[self.id].difficulty

    @property
    def answer(self) -> str:
        """The expression that a check is given."""
        return f'saved_runs("{self.file}")' if self.in_lab else self.name

    @property
    def file(self) -> str:
        """The file of saved runs."""
        return f"runs_{self.id.replace('.', '_')}.json"

    @property
    def label(self) -> str:
        """The id as graders want it: letters, digits, underscores."""
        return "e" + self.id.replace(".", "_")

    def solved(self, begin: str = "", end: str = "") -> str:
        """Return a right answer as a cell: the stub with a body, between the two lines."""
        solution = EXERCISES[self.id].solution
        inner = [*needed_by(solution), "", EXERCISES[self.id].source(), ""]
        inner.append(f"return {solution.__name__}({', '.join(inspect.signature(solution).parameters)})")
        body = [line for line in (begin, *"\n".join(inner).strip().splitlines(), end) if line.strip()]
        return "\n".join([self.stub.splitlines()[0], *(f"    {line}" for line in body)])


def needed_by(function: Callable[..., Any]) -> list[str]:
    """Return the lines of import, and the helpers of its own module, without which a function cannot run."""
    lines = []
    for name in sorted(_names(function.__code__) & set(function.__globals__)):
        value = function.__globals__[name]
        if isinstance(value, ModuleType):
            as_name = "" if value.__name__ == name else f" as {name}"
            lines.append(f"import {value.__name__}{as_name}")
        elif value.__module__ == function.__module__:
            lines += [*needed_by(value), textwrap.dedent(inspect.getsource(value)).strip()]
        else:
            lines.append(f"from {value.__module__} import {name}")
    return lines


def _names(code: CodeType) -> set[str]:
    """Return the global names that code reads."""
    own = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return own.union(*(_names(part) for part in code.co_consts if isinstance(part, CodeType)))


def exercises_in(cell: nbformat.NotebookNode) -> list[Asked]:
    """Return the exercises whose answers a cell asks for; none in a cell that only shows what a check says.

    Raises:
        ValueError: if a cell checks something that is no stub of it and no lab.
    """
    if cell.cell_type != "code" or "check(" not in cell.source:
        return []
    tree = ast.parse(cell.source)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    found = []
    for node in tree.body:
        call = node.value if isinstance(node, ast.Expr) else None
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "check"):
            continue
        id, name = ast.literal_eval(call.args[0]), ast.unparse(call.args[1])
        if name.startswith("lab."):
            asked = Asked(id, name, "")
            save = f'if lab.records:  # a grader has no hand on the sliders\n    lab.save("{asked.file}")'
            found.append(Asked(id, name, save))
        elif name not in functions:
            raise ValueError(f"{id} checks {name}, which its cell does not define: put stub and check into one cell")
        elif _is_stub(functions[name]):
            found.append(Asked(id, name, ast.get_source_segment(cell.source, functions[name]) or ""))
    return found


def _is_stub(function: ast.FunctionDef) -> bool:
    body = function.body
    return len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)


def opened(
    folder: Path, notebooks: Path, only: Collection[str], allowed: bool | Collection[str] = False
) -> Iterator[tuple[str, str, nbformat.NotebookNode]]:
    """Make a new folder, and yield number, file name and content of each notebook, without the answers.

    Raises:
        ValueError: if the folder is not new, or there are no such notebooks.
    """
    chosen = list(masters(only, notebooks))
    new_folder(folder)
    for number, file in chosen:
        notebook = nbformat.read(file, as_version=4)
        without_answers(notebook, allowed)
        yield number, file.name, notebook


SHOWS = re.compile(r'^(exercise|Quiz)\(("[^)]*")\)$', re.M)


def without_answers(notebook: nbformat.NotebookNode, allowed: bool | Collection[str] = False) -> None:
    """Write what the cells that show exercises and a quiz have printed anew: without solutions, last hints, answers."""
    for cell in notebook.cells:
        shown = SHOWS.search(cell.source) if cell.cell_type == "code" else None
        if shown is None:
            continue
        ids = re.findall(r'"([^"]+)"', shown.group(2))
        if shown.group(1) == "exercise":
            text = "\n\n".join(EXERCISES[id].text(solved=allows(allowed, id)) for id in ids)
        else:
            text = as_markdown(QUIZZES[ids[0]], answered=allows(allowed, ids[0]))
        for output in cell.outputs:
            if "text/markdown" in output.get("data", {}):
                output.data["text/markdown"] = text


def with_questions(
    notebook: nbformat.NotebookNode, question: Callable[[Asked], list[nbformat.NotebookNode]]
) -> list[nbformat.NotebookNode]:
    """Return the cells of a notebook, those that ask for answers replaced by the cells of each question."""
    cells = []
    for cell in notebook.cells:
        asked = exercises_in(cell)
        cells += [part for one in asked for part in question(one)] if asked else [cell]
    return cells


def masters(only: Collection[str], folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield number and file of the notebooks of the course, or of those numbers.

    Raises:
        ValueError: if there is none of a number, or no notebook at all.
    """
    files = {file.name[:2]: file for file in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    if not files:
        raise ValueError(f"no notebooks in {folder}: run this in the folder of the course, or give --notebooks FOLDER")
    if unknown := sorted(set(only) - set(files)):
        raise ValueError(f"no notebook {', '.join(unknown)}: there are {', '.join(files)}")
    yield from ((number, file) for number, file in files.items() if not only or number in only)


def new_folder(folder: Path) -> Path:
    """Make a folder and return it.

    Raises:
        ValueError: if there is something in it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: name a new folder, so that nothing is overwritten")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_class_settings(folder: Path, allowed: bool | Sequence[str]) -> None:
    """Write `mtlkit.toml`, which says what may be seen in this folder."""
    (folder / FILE).write_text(settings_of(allowed), encoding="utf-8")


def copy_pages(source: Path, folder: Path) -> None:
    """Copy the pages for learners: everything beside the notebooks but what is for instructors."""
    for page in (*source.glob("*.md"), *source.glob("*.bib")):
        if page.stem != "instructors":
            shutil.copy(page, folder / page.name)
