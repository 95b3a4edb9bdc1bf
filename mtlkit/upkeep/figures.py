"""The pictures of the README, drawn again by one command: `mtlkit figures`.

What takes training or measuring leaves its numbers in a JSON file beside the picture, and is drawn from them.
"""

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from mtlkit import plots
from mtlkit.bench.picture import step_costs
from mtlkit.cases import SeenBox, SeenImage, find_case
from mtlkit.data import SCENE_CLASSES, DigitScenes
from mtlkit.lab.browser import Notebook, browser, jupyterlab, missing, write_notebook
from mtlkit.training import evaluate, train
from mtlkit.upkeep.house import house

FRAME = 720, 64  # of the moving picture: width in pixels, colours


def drawn(folder: Path) -> dict[str, Callable[[], plots.Picture]]:
    """Return file name → what draws it in a moment, from code and from the numbers in `folder`."""
    pictures: dict[str, Callable[[], plots.Picture]] = {
        "scenes.png": lambda: plots.samples(DigitScenes("train", 24), range(24)),
        "scene_classes.png": scene_classes,
        "house.png": house,
    }
    for name, draw in {"result": result, "training": step_costs}.items():
        if (numbers := folder / f"{name}.json").exists():
            found = json.loads(numbers.read_text(encoding="utf-8"))
            pictures[f"{name}.png"] = lambda draw=draw, found=found: draw(found)  # type: ignore[misc]
    return pictures


def draw_all(folder: Path, steps: int = 1500) -> Iterator[Path]:
    """Draw every picture into `folder` and yield its file; `steps` of training stand behind the last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(trained(steps)), encoding="utf-8")
    for name, draw in drawn(folder).items():
        draw().savefig(folder / name, dpi=100)
        yield folder / name
    if lacking := missing():
        print(f"lab.gif and lab*.png are left as they are: {lacking}")
    else:
        yield from screenshots(folder)


def screenshots(folder: Path) -> Iterator[Path]:
    """Photograph the live lab in JupyterLab, at laptop and phone width, light and dark, after some training."""
    source = "from mtlkit.lab import LossWeightingLab\nlab = LossWeightingLab(ask='First make the boxes appear.')\nlab"
    with tempfile.TemporaryDirectory() as name, browser() as chrome:
        write_notebook(Path(name) / "lab.ipynb", source)
        with jupyterlab(Path(name)) as address:
            page = chrome.new_page(viewport={"width": 1280, "height": 800})
            opened = Notebook(page, address, "lab.ipynb")
            opened.run_all()
            lab = page.locator(".mtl-lab")
            lab.wait_for(timeout=60_000)
            frames = []
            for step, key in ((120, "ArrowLeft"), (320, "ArrowRight"), (520, "")):
                while int(lab.get_attribute("data-step") or 0) <= step:
                    frames.append(lab.screenshot())
                    page.wait_for_timeout(500)
                lab.locator(".task input").first.focus()
                for k in range(14 if key else 0):
                    page.keyboard.press(key)
                    if k % 4 == 0:
                        frames.append(lab.screenshot())
            yield animated(frames, folder / "lab.gif")
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


def animated(frames: list[bytes], file: Path) -> Path:
    """Store PNG frames as a moving picture of one size, small enough for a page; the last one stays for a while."""
    width, colours = FRAME
    opened = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    height = width * opened[-1].height // opened[-1].width
    palette = opened[-1].resize((width, height)).quantize(colours)
    small = [frame.resize((width, height)).quantize(palette=palette, dither=Image.Dither.NONE) for frame in opened]
    waits = [*[350] * (len(small) - 1), 3000]
    small[0].save(file, save_all=True, append_images=small[1:], duration=waits, loop=0, optimize=True)
    return file


@dataclass(frozen=True)
class Kept:
    """A step of a run as `result.json` has it."""

    step: int
    losses: Mapping[str, float]
    seconds: float

    @property
    def tasks(self) -> list[str]:
        """Those with a loss."""
        return list(self.losses)


def trained(steps: int) -> dict[str, Any]:
    """Train for `steps`; return losses, scores, and what the model says of twelve test scenes."""
    case = find_case("scenes")
    setup, test_set = case.setup(), case.open("test")
    records = list(train(*setup.parts, average=setup.average, steps=steps, device="cpu"))
    seen = [one for one in case.see(test_set, plots.spread(len(test_set)), setup.average) if isinstance(one, SeenImage)]
    return {
        "losses": {task: [float(f"{record.losses[task]:.4g}") for record in records] for task in records[0].losses},
        "seconds": round(records[-1].seconds),
        "scores": evaluate(setup.average, setup.tasks, test_set, device="cpu"),
        "seen": [{"answers": dict(one.answers), "found": [asdict(box) for box in one.found]} for one in seen],
    }


def result(numbers: Mapping[str, Any]) -> plots.Picture:
    """Show a run that `trained` has left in numbers."""
    case = find_case("scenes")
    test_set, losses = case.open("test"), numbers["losses"]
    truth = [one for one in case.see(test_set, plots.spread(len(test_set))) if isinstance(one, SeenImage)]
    seen = [
        replace(
            one,
            answers={task: tuple(answer) for task, answer in said["answers"].items()},
            found=[SeenBox(tuple(box["corners"]), box["name"], box["score"]) for box in said["found"]],
        )
        for one, said in zip(truth, numbers["seen"], strict=True)
    ]
    steps = zip(*losses.values(), strict=True)
    records: Any = [
        Kept(k, dict(zip(losses, values, strict=True)), numbers["seconds"]) for k, values in enumerate(steps, 1)
    ]
    return plots.run(records, seen, numbers["scores"])
