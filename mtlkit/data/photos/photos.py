"""Photographs with boxes, whatever format they came in: looked at, mended, fitted into squares."""

import copy
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from faster_coco_eval.core import mask
from torch import Tensor
from torchvision import tv_tensors
from tqdm import tqdm

from mtlkit.data.batches import Sample
from mtlkit.data.errors import DataError
from mtlkit.data.photos.classes import ImageClass
from mtlkit.data.photos.faults import Faults
from mtlkit.data.photos.images import Measured, fit, measure, read_image

Box = tuple[float, float, float, float]
CACHE = 2 * 2**30  # bytes
LEAST = 0.01  # pixels of a side; less is nothing in float32
ROUNDING = 1.0  # pixels by which a box may reach over the edge: tools round


@dataclass(frozen=True)
class Photo:
    """One photograph as its annotation describes it; `None` where a target is absent.

    Attributes:
        path: the image file.
        source: the file to mend if something is wrong.
        boxes: xyxy in pixels of the image as it is seen, or as stored where `size` says so.
        names: the class of each box.
        label: class of the whole image.
        ignored: whether each box is a crowd or too difficult: it is not trained on, and finding it is no mistake.
        objects: what messages call each box.
        size: width and height of the image that was annotated, if the annotation says it.
        as_stored: whether the boxes are those of the image as stored, its EXIF orientation left alone.
    """

    path: Path
    source: str
    boxes: tuple[Box, ...] | None = None
    names: tuple[str, ...] = ()
    label: str | None = None
    ignored: tuple[bool, ...] = ()
    objects: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    as_stored: bool = False

    def rows(self) -> list[tuple[Box, str, bool, str]]:
        """Return box, class, whether it is ignored, and what it is called, for each object."""
        boxes = self.boxes or ()
        ignored = self.ignored or (False,) * len(boxes)
        objects = self.objects or tuple(f"object {k + 1}" for k in range(len(boxes)))
        return list(zip(boxes, self.names, ignored, objects, strict=True))

    def with_rows(self, rows: Sequence[tuple[Box, str, bool, str]]) -> "Photo":
        """Return the photograph with these objects."""
        boxes, names, ignored, objects = zip(*rows, strict=True) if rows else ((), (), (), ())
        return replace(self, boxes=tuple(boxes), names=tuple(names), ignored=tuple(ignored), objects=tuple(objects))

    def renamed(self, spell: Callable[[str], str]) -> "Photo":
        """Return the photograph with its classes spelled otherwise."""
        return replace(self, names=tuple(map(spell, self.names)))


class Photos(torch.utils.data.Dataset):
    """Photographs fitted into squares of `size` pixels.

    Every file is looked at when the data set is made, and what was decoded then is kept in memory, up to a bound. The
    longer side is scaled to `size` and the rest filled with grey, boxes with it. Samples are as in `DigitScenes`;
    ignored boxes stand apart, in "ignored" and "ignored_labels".

    Args:
        photos: what the annotations say.
        size: side of the square in pixels.
        classes: names of the image-level classes.
        box_classes: names of the box classes.
        label_origin: where the image-level label comes from; says "derived" if it follows from the boxes.
        repair: mend boxes that are wrong and leave out images that cannot be read, instead of raising.
        derive: how an image's class follows from its boxes, if it does: from those that are left after mending, and
            after the crop of a transform.
        faults: what was found while the annotations were read.
        cache: bytes of decoded images that are kept in memory.

    Attributes:
        mended: what was mended, a sentence each.
        notes: what is no fault, but should be known.

    Raises:
        DataError: if annotations or images are wrong; the message lists them all, with file, object and mend.
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
        derive: ImageClass | None = None,
        faults: Faults | None = None,
        cache: int = CACHE,
    ) -> None:
        photos = list(photos)
        self.faults = faults or Faults(photos[0].path.parent if photos else "this data set", repair)
        self.size, self.classes, self.box_classes = size, tuple(classes), tuple(box_classes)
        self.label_origin, self.repair, self.derive, self.cache = label_origin, repair, derive, cache
        self._samples: dict[int, Sample] = {}
        self._kept = 0
        self.photos = [photo for photo in map(self._checked_names, photos) if photo is not None]
        self._look_at_all()
        self.faults.raise_all()
        if not self.photos:
            raise DataError(f"{self.faults.root}: no photograph is left")
        rows = [row for photo in self.photos for row in photo.rows()]
        if all(row[2] for row in rows) and all(photo.label is None for photo in self.photos):
            why = (
                f"all {len(rows)} objects are marked as difficult or crowds" if rows else "no photograph has an object"
            )
            raise DataError(f"{self.faults.root}: {why}, so there is nothing to learn")
        self.mended, self.notes = self.faults.mended, self.faults.notes

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"photograph {index} of {len(self)}")
        index %= len(self)
        if (kept := self._samples.get(index)) is None:
            kept = self._read(self.photos[index])
            self._keep(index, kept)
        sample = dict(kept)
        sample["image"] = tv_tensors.wrap(sample["image"] / 255, like=sample["image"])
        return sample

    def only(self, chosen: Callable[[Photo], bool]) -> "Photos":
        """Return some of the photographs, with the same classes.

        Raises:
            DataError: if none is left.
        """
        made = copy.copy(self)
        made.photos, made._samples, made._kept = [photo for photo in self.photos if chosen(photo)], {}, 0
        if not made.photos:
            raise DataError(f"{self.faults.root}: no photograph is left of {len(self):,}; choose another share")
        return made

    def after_transform(self, sample: Sample) -> Sample:
        """Return a sample that a transform has changed, with the class that follows from the boxes it has now."""
        if self.derive is None or "boxes" not in sample:
            return sample
        label = self.derive.of(sample["boxes"], sample["box_labels"])
        rest = {name: value for name, value in sample.items() if name != "label"}
        return rest if label is None else rest | {"label": torch.tensor(label)}

    def _keep(self, index: int, sample: Sample) -> None:
        taken = sample["image"].nbytes
        if self._kept + taken <= self.cache:
            self._samples[index] = sample
            self._kept += taken

    # looking at everything

    def _checked_names(self, photo: Photo) -> Photo | None:
        if photo.label is not None and photo.label not in self.classes:
            self.faults.add(
                f"{photo.source}: class {photo.label!r} is not one of {', '.join(self.classes)}", "leave the image out"
            )
            return None
        rows = []
        for row in photo.rows():
            if row[1] in self.box_classes:
                rows.append(row)
            else:
                self.faults.add(
                    f"{photo.source}: {row[3]} is a {row[1]!r}, which is not one of {', '.join(self.box_classes)}",
                    "leave it out",
                )
        return photo if photo.boxes is None else photo.with_rows(rows)

    def _look_at_all(self) -> None:
        """Decode every image once, in the order of the list; boxes are held against what it turns out to be."""

        def look(photo: Photo) -> tuple[Measured, tuple[Tensor, float]] | DataError:
            try:
                measured = measure(photo.path)
                return measured, self._image(photo.path, _says_as_stored(photo, measured))
            except DataError as error:
                return error

        kept: list[Photo] = []
        threads = max(1, min(8, os.cpu_count() or 1))
        bar = tqdm(desc="looking at photographs", total=len(self.photos), delay=2, leave=False, disable=None)
        with ThreadPoolExecutor(threads) as pool, bar:
            for start in range(0, len(self.photos), 4 * threads):  # no more than these are in memory at a time
                some = self.photos[start : start + 4 * threads]
                for photo, found in zip(some, pool.map(look, some), strict=True):
                    bar.update()
                    if isinstance(found, DataError):
                        self.faults.add(str(found), "leave the image out")
                        continue
                    measured, image = found
                    if (checked := _checked_boxes(photo, measured, self.faults)) is not None:
                        self._keep(len(kept), self._with_targets(image, checked))
                        kept.append(checked)
        self.photos = kept
        self._say_what_is_odd()

    def _say_what_is_odd(self) -> None:
        twice = []
        for photo in self.photos:
            seen = set()
            for box, name, _, called in photo.rows():
                if (box, name) in seen:
                    twice.append(f"{called} of {photo.path.name}")
                seen.add((box, name))
        if twice:
            self.faults.note(f"{len(twice)} objects are marked twice, in one place, e.g. {twice[0]}")

    def _image(self, path: Path, as_stored: bool) -> tuple[Tensor, float]:
        return fit(read_image(path, as_stored), self.size)

    def _read(self, photo: Photo) -> Sample:
        return self._with_targets(self._image(photo.path, photo.as_stored), photo)

    def _with_targets(self, fitted: tuple[Tensor, float], photo: Photo) -> Sample:
        image, scale = fitted
        sample: Sample = {"image": tv_tensors.Image(image)}
        if photo.label is not None:
            sample["label"] = torch.tensor(self.classes.index(photo.label))
        if photo.boxes is None:
            return sample
        for here, boxes, labels in ((False, "boxes", "box_labels"), (True, "ignored", "ignored_labels")):
            rows = [row for row in photo.rows() if row[2] == here]
            if rows or not here:
                corners = torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4) * scale
                canvas = (self.size, self.size)
                sample[boxes] = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=canvas)
                sample[labels] = torch.tensor([self.box_classes.index(row[1]) for row in rows], dtype=torch.int64)
        return self.after_transform(sample)


def _says_as_stored(photo: Photo, measured: Measured) -> bool:
    """Whether the annotation was made on the image as stored: its size is that one, and not the one that is seen."""
    return photo.as_stored or bool(
        photo.size and measured.turned and photo.size == measured.size and photo.size != measured.seen
    )


def _checked_boxes(photo: Photo, measured: Measured, faults: Faults) -> Photo | None:
    """Return the photograph with boxes that lie within its image; `None` if they cannot be brought there."""
    as_stored = _says_as_stored(photo, measured)
    width, height = measured.size if as_stored else measured.seen
    factor_x = factor_y = 1.0
    if photo.size and photo.boxes and any(abs(a - b) > 1 for a, b in zip(photo.size, (width, height), strict=True)):
        factor_x, factor_y = width / photo.size[0], height / photo.size[1]
        what = (
            f"{photo.source}: says that {photo.path.name} has {photo.size[0]}x{photo.size[1]} pixels, but it has "
            f"{width}x{height}"
        )
        if not math.isclose(factor_x, factor_y, rel_tol=0.02):
            faults.add(f"{what}, a different shape", "leave the image out")
            return None
        faults.add(f"{what}: it was scaled after it had been annotated", "scale its boxes, too")
    if photo.boxes and all(0 <= side <= 1 for box in photo.boxes for side in box) and _any_broken(photo.boxes):
        faults.add(
            f"{photo.source}: all boxes of {photo.path.name} lie within one pixel: they seem to be fractions of "
            "the image's width and height; write them in pixels",
            "leave the image out",
        )
        return None
    rows = []
    for box, name, ignored, called in photo.rows():
        x0, y0, x1, y1 = box[0] * factor_x, box[1] * factor_y, box[2] * factor_x, box[3] * factor_y
        what = f"{photo.source}: the box of {called} ({name}), {_text(box)},"
        if x0 > x1 or y0 > y1:
            faults.add(f"{what} has its corners in the wrong order", "swap them")
            x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        cut = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
        if not (cut[2] - cut[0] > LEAST and cut[3] - cut[1] > LEAST):
            where = (
                "has no area"
                if min(x1 - x0, y1 - y0) <= LEAST
                else f"lies outside the image of {width}x{height} pixels"
            )
            faults.add(f"{what} {where}", "leave it out")
            continue
        if max(abs(a - b) for a, b in zip(cut, (x0, y0, x1, y1), strict=True)) > ROUNDING:
            faults.add(f"{what} reaches outside the image of {width}x{height} pixels", "cut it at the border")
        rows.append((cut, name, ignored, called))
    return replace(photo if photo.boxes is None else photo.with_rows(rows), as_stored=as_stored)


def _any_broken(boxes: Sequence[Box]) -> bool:
    return any(side != int(side) for box in boxes for side in box)


def _text(box: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"


def around(outline: Any) -> Box:
    """Return the box around an outline as COCO has it: polygons, or a mask in runs.

    Raises:
        ValueError: if it cannot be read; the message goes on after its name.
    """
    try:
        if isinstance(outline, dict):
            height, width = outline["size"]
            packed = mask.frPyObjects(outline, height, width) if isinstance(outline["counts"], list) else outline
            x, y, width, height = map(float, mask.toBbox(packed))
            return x, y, x + width, y + height
        rings = outline if isinstance(outline[0], list | tuple) else [outline]
        numbers = [[float(value) for value in ring] for ring in rings]
        xs, ys = ([value for ring in numbers for value in ring[k::2]] for k in (0, 1))
        if not all(map(math.isfinite, (*xs, *ys))):
            raise ValueError
        return min(xs), min(ys), max(xs), max(ys)
    except Exception:  # whatever the decoder says of an outline that is none
        raise ValueError("has no bbox, and a segmentation that cannot be read") from None
