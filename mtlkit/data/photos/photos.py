"""Photographs with boxes, whatever format they came in: read, checked, fitted into squares."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from mtlkit.data.batches import Sample
from mtlkit.data.errors import DataError


@dataclass(frozen=True)
class Photo:
    """One photograph as its annotation describes it; `None` where a target is absent."""

    path: Path
    source: str  # the file to mend if something is wrong
    boxes: tuple[tuple[float, float, float, float], ...] | None = None  # xyxy, pixels of the file
    names: tuple[str, ...] = ()  # one a box
    label: str | None = None  # class of the whole image


class Photos(torch.utils.data.Dataset):
    """Photographs fitted into squares of `size` pixels, decoded once and then kept in memory.

    The longer side is scaled to `size` and the rest filled with grey, boxes with it. Samples are as in
    `DigitScenes`.

    Attributes:
        classes: names of the image-level classes.
        box_classes: names of the box classes.
        label_origin: where the image-level label comes from; says "derived" if it follows from the boxes.

    Raises:
        DataError: if an annotation or an image is wrong; the message names the file and the mend.
    """

    def __init__(
        self,
        photos: Iterable[Photo],
        size: int,
        *,
        classes: Sequence[str],
        box_classes: Sequence[str],
        label_origin: str,
        repair: bool = False,
    ) -> None:
        self.photos = [_checked(photo, box_classes, repair) for photo in photos]
        self.size, self.classes, self.box_classes = size, tuple(classes), tuple(box_classes)
        self.label_origin, self.repair = label_origin, repair
        for photo in self.photos:
            if photo.label is not None and photo.label not in self.classes:
                raise DataError(f"{photo.source}: class {photo.label!r} is not one of {', '.join(self.classes)}")
        self._samples: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Sample:
        if index not in self._samples:
            self._samples[index] = self._read(self.photos[index])
        sample = dict(self._samples[index])
        sample["image"] = tv_tensors.wrap(sample["image"] / 255, like=sample["image"])
        return sample

    def _read(self, photo: Photo) -> Sample:
        image = read_image(photo.path)
        height, width = image.shape[-2:]
        scale = self.size / max(height, width)
        image = F.resize(image, [max(1, round(height * scale)), max(1, round(width * scale))], antialias=True)
        image = pad(image, (0, self.size - image.shape[-1], 0, self.size - image.shape[-2]), value=127)
        sample: Sample = {"image": tv_tensors.Image(image)}
        if photo.label is not None:
            sample["label"] = torch.tensor(self.classes.index(photo.label))
        if photo.boxes is not None:
            boxes, names = _inside(photo, width, height, self.repair)
            sample["boxes"] = tv_tensors.BoundingBoxes(
                torch.tensor(boxes).reshape(-1, 4) * scale, format="XYXY", canvas_size=(self.size, self.size)
            )
            sample["box_labels"] = torch.tensor([self.box_classes.index(n) for n in names], dtype=torch.int64)
        return sample


def read_image(path: Path) -> Tensor:
    """Read any image file that Pillow knows, whatever its ending says, as `uint8 [3, H, W]`.

    Raises:
        DataError: if the file is absent, cut off or no image.
    """
    try:
        with Image.open(path) as image:
            return F.pil_to_tensor(image.convert("RGB"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: the annotations name this image, but it is not there") from error
    except (OSError, SyntaxError) as error:
        raise DataError(
            f"{path}: cannot be read as an image ({error}); replace it or remove it from the list"
        ) from error


def _checked(photo: Photo, box_classes: Sequence[str], repair: bool) -> Photo:
    for k, (box, name) in enumerate(zip(photo.boxes or (), photo.names, strict=True), 1):
        if name not in box_classes:
            raise DataError(f"{photo.source}: object {k} is a {name!r}, which is not one of {', '.join(box_classes)}")
        if not (box[0] < box[2] and box[1] < box[3]) and not repair:
            raise DataError(
                f"{photo.source}: the box of object {k} ({name}), {_text(box)}, has no area; correct it or pass "
                "repair=True (--repair) to leave it out"
            )
    if not repair or photo.boxes is None:
        return photo
    good = [k for k, box in enumerate(photo.boxes) if box[0] < box[2] and box[1] < box[3]]
    return replace(photo, boxes=tuple(photo.boxes[k] for k in good), names=tuple(photo.names[k] for k in good))


def _inside(photo: Photo, width: int, height: int, repair: bool) -> tuple[list[tuple[float, ...]], list[str]]:
    boxes: list[tuple[float, ...]] = []
    names: list[str] = []
    for k, (box, name) in enumerate(zip(photo.boxes or (), photo.names, strict=True), 1):
        x0, y0, x1, y1 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height)
        if (x0, y0, x1, y1) != box and not repair:
            raise DataError(
                f"{photo.source}: the box of object {k} ({name}), {_text(box)}, reaches outside the image of "
                f"{width}x{height} pixels; correct it or pass repair=True (--repair) to cut it at the border"
            )
        if x0 < x1 and y0 < y1:
            boxes.append((x0, y0, x1, y1))
            names.append(name)
    return boxes, names


def _text(box: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"


def existing(root: Path, *folders: str) -> Path:
    """Return the folder, if it has these folders in it; else raise a `DataError`."""
    for folder in folders:
        if not (root / folder).is_dir():
            raise DataError(f"{root} has no folder {folder}/: expected the layout that its reader describes")
    return root


def fifth(name: str) -> int:
    """Return a number from 0 to 4 that a name always gets, to split by."""
    return zlib.crc32(name.encode()) % 5  # unlike hash(), the same in every process


def with_labels(
    photos: list[Photo], rule: str, box_classes: Sequence[str], scene_classes: Sequence[str]
) -> tuple[list[Photo], Sequence[str], str]:
    """Return the photographs with an image-level class each, the classes, and where the class comes from."""
    if scene_classes:
        return photos, scene_classes, "annotated"
    if rule == "largest":
        labels = [max(zip(map(_area, p.boxes), p.names, strict=True))[1] if p.boxes else None for p in photos]
        return _relabel(photos, labels), box_classes, "derived: class of the largest box"
    name = rule.removeprefix("contains:")
    if name == rule or name not in box_classes:
        choices = ", ".join(f"contains:{box_class}" for box_class in box_classes)
        raise ValueError(f"unknown rule for the image-level class {rule!r}: expected largest, {choices}")
    labels = [None if p.boxes is None else name if name in p.names else f"no {name}" for p in photos]
    return _relabel(photos, labels), (f"no {name}", name), f"derived: whether a {name} has a box"


def _relabel(photos: list[Photo], labels: Sequence[str | None]) -> list[Photo]:
    return [replace(photo, label=label) for photo, label in zip(photos, labels, strict=True)]


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
