"""The house: data flows one way. Rooms in the order of the flow; a room imports those before it only."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mtlkit"
ROOMS = (
    *(
        "machine",
        "data",
        "model",
        "losses",
        "tasks",
        "weighting",
        "training",
        "cases",
        "recipe",
        "insight",
        "plots",
        "report",
    ),
    *("experiments", "exercises", "lab", "bench", "upkeep", "commands", "cli", "__main__", "jupyter"),
)
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(file):
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in FILES}


def imports(file, everywhere=True):
    """Modules of the package that a file imports; with `everywhere` false, only what loading it imports."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    late = (
        {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)} if not everywhere else ()
    )
    typing = {
        id(n)
        for i in ast.walk(tree)
        if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.dump(i.test)
        for n in ast.walk(i)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in late or id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("mtlkit")}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mtlkit"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return {module for module in found if module in MODULES}


def room_of(module):
    return module.split(".")[1] if "." in module else ""


def test_every_file_is_in_a_known_room():
    assert {room_of(module) for module in MODULES} <= {"", *ROOMS}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_arrow_points_upward(module):
    room = room_of(module)
    for other in imports(MODULES[module]):
        below = room_of(other)
        assert below in ("", room) or ROOMS.index(below) < ROOMS.index(room), f"{module} imports {other}"


def test_no_file_imports_itself_by_way_of_others():
    arrows = {name: imports(file, everywhere=False) - {name} for name, file in MODULES.items()}
    arrows = {name: {other for other in to if not name.startswith(f"{other}.")} for name, to in arrows.items()}
    done, under_way = set(), []

    def visit(name):
        assert name not in under_way, " -> ".join([*under_way, name])
        if name not in done:
            under_way.append(name)
            for other in arrows[name]:
                visit(other)
            under_way.pop()
            done.add(name)

    for name in arrows:
        if MODULES[name].name != "__init__.py":
            visit(name)


def test_files_are_short_and_folders_not_crowded():
    sizes = {
        f: len(f.read_text(encoding="utf-8").splitlines())
        for f in PACKAGE.rglob("*")
        if f.suffix in (".py", ".js", ".css")
    }
    assert {file.name: size for file, size in sizes.items() if size > 350} == {}
    crowds = defaultdict(list)
    for file in FILES:
        if file.name != "__init__.py":
            crowds[file.parent].append(file.name)
    assert {folder.name: len(files) for folder, files in crowds.items() if len(files) > 12} == {}


def test_nothing_outside_the_lab_imports_widgets_and_the_core_imports_no_pictures():
    core = ROOMS[: ROOMS.index("plots")]
    for name, file in MODULES.items():
        text = file.read_text(encoding="utf-8")
        if room_of(name) != "lab":
            assert "import ipywidgets" not in text and "from ipywidgets" not in text, name
        if room_of(name) in core:
            assert "matplotlib" not in text and "anywidget" not in text, name


def test_what_is_slow_to_import_is_imported_where_it_is_needed():
    for name, file in MODULES.items():
        body = ast.parse(file.read_text(encoding="utf-8")).body
        loaded = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
        loaded |= {node.module for node in body if isinstance(node, ast.ImportFrom)}
        assert not {module.split(".")[0] for module in loaded} & {"scipy", "sklearn", "pandas"}, name


@pytest.mark.parametrize(
    ("room", "names"),
    [
        ("data", "DigitScenes Loader collate augment VocFolder CocoFolder OxfordPets MultiMNIST export data_folder"),
        ("model", "SharedEncoderModel ConvEncoder ResNetEncoder ClassificationHead DetectionHead Normalize evaluating"),
        ("losses", "classification_loss detection_loss"),
        ("tasks", "Task classification_and_detection"),
        ("weighting", "METHODS StaticWeights Uncertainty PCGrad conflict jacobian"),
        ("training", "train evaluate save_checkpoint load_checkpoint"),
        ("plots", "samples predictions loss_curves curves bars front"),
        (
            "lab",
            "LossWeightingLab GradientExplorer LandscapeExplorer SharingExplorer DetectionExplorer MixingExplorer Quiz",
        ),
        ("exercises", "check hint solution exercise grade quiz answer"),
    ],
)
def test_public_names_stay_importable(room, names):
    module = __import__(f"mtlkit.{room}", fromlist=["*"])
    assert all(hasattr(module, name) for name in names.split())
