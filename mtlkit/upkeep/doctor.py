"""Is everything here that the course needs? `mtlkit doctor`, or `examine()` in a notebook."""

import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

from mtlkit.data import data_folder
from mtlkit.data.digits import mnist_digits


def examine() -> bool:
    """Print a line for each thing that must work, with what to do where it does not; return whether all do."""
    well = True
    good, bad = ("✓", "✗") if _can_print("✓✗") else ("ok:", "WRONG:")
    for what, (look, cure) in CHECKS.items():
        try:
            look()
            print(f"{good} {what}")
        except Exception as error:  # whatever is wrong with this machine is said in words
            well = False
            print(f"{bad} {what}: {type(error).__name__}: {error}. {cure}")
    return well


def _can_print(text: str) -> bool:
    """Whether the console, or the file that stands for it, knows these characters; old ones of Windows do not."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _imports() -> None:
    for module in OF_THE_NOTEBOOKS:
        import_module(module)


def _torch() -> None:
    x = torch.tensor(3.0, requires_grad=True)
    (x * x).backward()
    if x.grad != 6.0:
        raise ArithmeticError(f"the derivative of x² at 3 came out as {x.grad}")


def _digits() -> None:
    mnist_digits("train")


def _training() -> None:
    from mtlkit.cases import find_case
    from mtlkit.training import train

    list(train(*find_case("scenes", scenes=8).setup(batch_size=4).parts, steps=1))


def _widgets() -> None:
    from jupyter_core.paths import jupyter_path

    folders = [Path(folder) / "labextensions" for folder in jupyter_path()]
    for name in ("anywidget", "@jupyter-widgets/jupyterlab-manager"):
        if not any((folder / name / "package.json").is_file() for folder in folders):
            raise FileNotFoundError(f"JupyterLab's extension {name} is not installed")


def _folder() -> None:
    folder = data_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


OF_THE_NOTEBOOKS = (
    "mtlkit.lab",
    "mtlkit.exercises",
    "mtlkit.experiments",
    "mtlkit.plots",
    "mtlkit.insight",
    "mtlkit.report",
)  # what they import
INSTALL = "Install again: pip install -e . in the folder of the course"
CHECKS: dict[str, tuple[Callable[[], None], str]] = {
    "PyTorch computes and differentiates": (_torch, INSTALL),
    "what the notebooks use can be imported": (_imports, INSTALL),
    "the handwritten digits are here": (_digits, INSTALL),
    "a network trains for a step": (_training, INSTALL),
    "JupyterLab can show widgets": (_widgets, f"{INSTALL}, then restart JupyterLab"),
    "the data folder can be written": (_folder, "Set MTLKIT_DATA to a folder of yours"),
}
