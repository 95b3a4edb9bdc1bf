"""The pictures of the README, drawn again by one command: `mtlkit figures`."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from mtlkit import plots
from mtlkit.bench.picture import step_costs
from mtlkit.cases import find_case
from mtlkit.data import SCENE_CLASSES, DigitScenes
from mtlkit.lab.browser import Notebook, browser, jupyterlab, missing, write_notebook
from mtlkit.training import evaluate, train


def draw_all(folder: Path, steps: int = 1500) -> Iterator[Path]:
    """Draw every picture into `folder` and yield its file; `steps` of training stand behind the last."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "scenes.png": lambda: plots.samples(DigitScenes("train", 24), range(24)),
        "scene_classes.png": scene_classes,
        "result.png": lambda: result(steps),
    }
    if (numbers := folder / "training.json").exists():  # left by `mtlkit bench training --figures`
        pictures["training.png"] = lambda: step_costs(json.loads(numbers.read_text(encoding="utf-8")))
    for name, draw in pictures.items():
        draw().savefig(folder / name, dpi=100)
        yield folder / name
    if lacking := missing():
        print(f"lab*.png are left as they are: {lacking}")
    else:
        yield from screenshots(folder)


def screenshots(folder: Path) -> Iterator[Path]:
    """Photograph the live lab in JupyterLab, at laptop and phone width, light and dark, after some training."""
    source = "from mtlkit.lab import LossWeightingLab\nlab = LossWeightingLab(ask='Make the boxes appear first.')\nlab"
    with tempfile.TemporaryDirectory() as name, browser() as chrome:
        write_notebook(Path(name) / "lab.ipynb", source)
        with jupyterlab(Path(name)) as address:
            page = chrome.new_page(viewport={"width": 1280, "height": 800})
            opened = Notebook(page, address, "lab.ipynb")
            opened.run_all()
            lab = page.locator(".mtl-lab")
            lab.wait_for(timeout=60_000)
            for step, key in ((120, "ArrowLeft"), (320, "ArrowRight"), (520, "")):
                page.wait_for_function(f"Number(document.querySelector('.mtl-lab').dataset.step) > {step}", timeout=0)
                lab.locator(".task input").first.focus()
                for _ in range(14 if key else 0):
                    page.keyboard.press(key)
            for name, width, theme in (("lab", 1280, "Light"), ("lab_phone", 390, "Dark")):
                opened.command("apputils:change-theme", theme=f"JupyterLab {theme}")
                page.set_viewport_size({"width": width, "height": 1100})
                page.wait_for_timeout(2500)
                lab.screenshot(path=folder / f"{name}.png")
                with Image.open(folder / f"{name}.png") as picture:
                    picture.convert("RGB").quantize(256).save(folder / f"{name}.png", optimize=True)
                yield folder / f"{name}.png"


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
    case = find_case("scenes")
    setup, test_set = case.setup(), case.open("test")
    records = list(train(*setup.parts, average=setup.average, steps=steps, device="cpu"))
    seen = case.see(test_set, plots.spread(len(test_set)), setup.average)
    return plots.run(records, seen, evaluate(setup.average, setup.tasks, test_set, device="cpu"))
