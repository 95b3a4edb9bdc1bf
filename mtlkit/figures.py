"""The pictures of the README, drawn again by one command: `mtlkit figures`."""

from collections.abc import Iterator
from pathlib import Path

from mtlkit import plots
from mtlkit.data import SCENE_CLASSES, DigitScenes
from mtlkit.recipe import Case, Recipe
from mtlkit.training import evaluate, train


def draw_all(folder: Path, steps: int = 1500) -> Iterator[Path]:
    """Draw every picture into `folder` and yield its file; `steps` of training stand behind the last."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "scenes.png": lambda: plots.samples(DigitScenes("train", 24), range(24)),
        "scene_classes.png": scene_classes,
        "result.png": lambda: result(steps),
    }
    for name, draw in pictures.items():
        draw().savefig(folder / name, dpi=100)
        yield folder / name


def scene_classes() -> plots.Picture:
    """Show what the image-level label says under each setting of the knob `scene_class`."""
    chosen = {}
    for scene_class in SCENE_CLASSES:
        scenes = DigitScenes("train", 100, scene_class=scene_class)
        chosen[f"scene_class = {scene_class!r}"] = [
            (scenes, int((scenes.labels == label).nonzero()[0])) for label in range(len(scenes.classes))
        ]
    return plots.rows(chosen)


def result(steps: int) -> plots.Picture:
    """Train for `steps` and show the run."""
    recipe = Recipe()
    case = Case(recipe)
    parts = (case.model, case.tasks, case.loader, case.weighting, case.optimizer)
    records = list(train(*parts, average=case.average, steps=steps, device="cpu"))
    test_set = recipe.open("test")
    return plots.run(records, case.average, test_set, evaluate(case.average, case.tasks, test_set, device="cpu"))
