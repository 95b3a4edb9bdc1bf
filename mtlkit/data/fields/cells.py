"""Blood under a microscope, drawn: red cells, white cells, platelets."""

import numpy as np
import torch
from numpy.typing import NDArray

from mtlkit.data import VocFolder
from mtlkit.data.batches import Sample
from mtlkit.data.errors import DataError
from mtlkit.data.fields.drawn import Drawn, stream_of

KINDS = ("red cell", "white cell", "platelet")
WHITE = ("no white cell", "round nucleus", "lobed nucleus")
SIZE = 96  # pixels
PINK, PALE, PURPLE, VIOLET = ((0.86, 0.62, 0.62), (0.95, 0.84, 0.82), (0.36, 0.24, 0.55), (0.76, 0.68, 0.84))


class BloodCells(Drawn):
    """Drawn smears: up to 24 red cells with pale centres, at most one white cell, up to four platelets.

    A sample is that of `DigitScenes`, with "red": `float32 []`, how many red cells there are. Its label says whether
    there is a white cell, and whether its nucleus is round (a lymphocyte) or lobed (a neutrophil).

    Args:
        split: "train", "val" or "test".
        n: number of pictures.
        seed: determines everything.
        boxed: how many of them, the first ones, have boxes; all, if not given.
    """

    def __init__(self, split: str = "train", n: int = 2000, seed: int = 0, boxed: int | None = None) -> None:
        start = stream_of(split, seed)
        made = [smear(np.random.default_rng(start + k)) for k in range(n)]
        images = np.stack([image for image, *_ in made])
        boxes = [rows for _, _, rows in made]
        red = torch.tensor([float(sum(kind == 0 for *_, kind in rows)) for rows in boxes])
        super().__init__(images, [label for _, label, _ in made], boxes, WHITE, KINDS, {"red": red})
        if boxed is not None:
            self.has_boxes[boxed:] = False
            self.box_labels[boxed:] = -1


class CountedCells(VocFolder):
    """Real smears in the layout of BCCD, with "red": how many boxes of red cells an image has.

    BCCD's images have no class of their own: theirs is derived, that of the largest box. The red cells of 19 of its 364
    images are hardly annotated, so neither boxes nor counts are more right than the annotation is.

    Args:
        root: the folder.
        split: as its lists name it.
        size: side of the images in pixels.

    Raises:
        DataError: as in `VocFolder`, or if there are no boxes of red cells ("RBC").
    """

    def __init__(self, root: str, split: str, size: int) -> None:
        super().__init__(root, split, size, repair=True)
        if "RBC" not in self.box_classes:
            raise DataError(
                f"{root} has boxes of {', '.join(self.box_classes)}, and none of 'RBC': there is nothing to count"
            )

    def after_transform(self, sample: Sample) -> Sample:
        """Return a sample with the number of red cells that a transform has left in it."""
        sample = super().after_transform(sample)
        if "boxes" not in sample or "RBC" not in self.box_classes:
            return sample
        red = sample["box_labels"] == self.box_classes.index("RBC")
        return sample | {"red": red.sum().float()}


def smear(random: np.random.Generator) -> tuple[NDArray[np.uint8], int, list[tuple[float, ...]]]:
    """Return a picture `[96, 96, 3]`, the number of its class in `WHITE`, and its boxes with their kinds."""
    light = random.uniform(0.9, 1.0) * np.array([0.97, 0.93, 0.90])
    image = np.tile(light, (SIZE, SIZE, 1)) + random.normal(0, 0.01, (SIZE, SIZE, 1))
    boxes: list[tuple[float, ...]] = []
    label = int(random.integers(3))
    places = _places(random, int(random.integers(5, 25)), 5.2)
    for x, y in places:
        if label and np.hypot(x - places[0][0], y - places[0][1]) < 15 and (x, y) != places[0]:
            continue
        if label and (x, y) == places[0]:
            boxes.append((*_white(image, random, x, y, label), 1))
            continue
        radius, wide = random.uniform(5.5, 7.5), random.uniform(0.88, 1.12)
        tint = random.normal(0, 0.02, 3)
        _disc(image, x, y, radius * wide, radius / wide, PINK + tint, 0.9)
        _disc(image, x, y, 0.45 * radius, 0.45 * radius, PALE + tint, random.uniform(0.4, 0.9), soft=2.0)
        boxes.append((*_corners(x, y, radius * wide, radius / wide), 0))
    for x, y in _places(random, int(random.integers(5)), 6.0):
        radius = random.uniform(1.6, 2.4)
        _disc(image, x, y, radius, radius, PURPLE, 0.85)
        boxes.append((*_corners(x, y, radius, radius), 2))
    image += random.normal(0, 0.015, image.shape)
    return (255 * image.clip(0, 1)).astype(np.uint8), label, boxes


def _white(image: NDArray[np.float64], random: np.random.Generator, x: float, y: float, label: int) -> tuple:
    radius = random.uniform(9.5, 12.5)
    _disc(image, x, y, radius, radius, VIOLET, 0.9)
    if label == 1:
        _disc(image, x + random.uniform(-1, 1), y + random.uniform(-1, 1), 0.72 * radius, 0.72 * radius, PURPLE, 0.9)
    else:
        turn, lobes = random.uniform(0, 2 * np.pi), int(random.integers(3, 5))
        for k in range(lobes):
            angle = turn + 1.5 * k
            at = x + 0.45 * radius * np.cos(angle), y + 0.45 * radius * np.sin(angle)
            _disc(image, *at, 0.32 * radius, 0.32 * radius, PURPLE, 0.9)
    return _corners(x, y, radius, radius)


def _places(random: np.random.Generator, number: int, apart: float) -> list[tuple[float, float]]:
    """Return centres that are at least `2 * apart` pixels from each other, as many as fit."""
    found: list[tuple[float, float]] = []
    for x, y in random.uniform(8, SIZE - 8, (6 * number, 2)):
        if len(found) < number and all(np.hypot(x - a, y - b) > 2 * apart for a, b in found):
            found.append((float(x), float(y)))
    return found


def _disc(
    image: NDArray[np.float64],
    x: float,
    y: float,
    rx: float,
    ry: float,
    colour: NDArray[np.float64] | tuple[float, ...],
    alpha: float,
    soft: float = 1.0,
) -> None:
    """Blend an ellipse into the picture, its edge `soft` pixels wide."""
    reach = int(max(rx, ry) + soft + 2)
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    part = image[top : int(y) + reach, left : int(x) + reach]
    down, across = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
    inside = (1 - np.hypot((across + 0.5 - x) / rx, (down + 0.5 - y) / ry)) * min(rx, ry) / soft + 0.5
    cover = alpha * inside.clip(0, 1)[:, :, None]
    part *= 1 - cover
    part += cover * np.asarray(colour)


def _corners(x: float, y: float, rx: float, ry: float) -> tuple[float, float, float, float]:
    return max(0.0, x - rx), max(0.0, y - ry), min(float(SIZE), x + rx), min(float(SIZE), y + ry)
