"""The COCO layout, read and written."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from faster_coco_eval.core import mask

from mtlkit.data.errors import DataError
from mtlkit.data.photos.faults import Faults
from mtlkit.data.photos.files import Folder, read_json
from mtlkit.data.photos.photos import Box, Photo, Photos, image_classes, merge_names
from mtlkit.data.photos.splits import PARTS, hashed, pick_pair, role
from mtlkit.data.photos.writing import all_samples, true_boxes, write_image

OTHER_KINDS = ("captions_", "person_keypoints_", "panoptic_", "stuff_", "image_info_")  # of annotations


class CocoFolder(Photos):
    """Any folder with annotations in the COCO format, and the images they name.

    As COCO has it: `annotations/instances_<split>.json` (splits may carry a year) and `images/<split>/`; as Roboflow
    does, `<split>/_annotations.coco.json` beside the images; as Label Studio and CVAT do, one file. Objects marked as
    a crowd are ignored. Classes have the same numbers in all splits: the order of the file to train on.

    Args:
        root: the folder.
        split: "train", "val", "test", or how the file calls it. Where there is one file only, "train part" and
            "test part" are made of its images by a hash of the name, about a fifth for testing.
        size: side of the square in pixels.
        label: as in `VocFolder`.
        repair: as in `VocFolder`.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        size: int = 256,
        *,
        label: str = "largest",
        repair: bool = False,
    ) -> None:
        folder = Folder(root)
        faults, files = Faults(folder.root, repair), _Files(folder)
        name, part = files.find(split)
        content = _Content(files.files[name], faults)
        photos = content.photos(folder, name)
        order = list(dict.fromkeys(n for file in files.in_order() for n in category_names(file)))
        for other in files.in_order():
            if other != content.file and (strange := set(content.names.values()) ^ set(category_names(other))):
                faults.note(
                    f"{content.file.name} and {other.name} have not the same categories: {', '.join(sorted(strange))}"
                )
        if len(set(content.names.values())) < len(content.names):
            faults.note("several categories have the same name: taken as one class")
        spell = merge_names(Counter({name: len(order) - k for k, name in enumerate(order)}), faults)
        if part:
            here = set(hashed(sorted(photo.path.name for photo in photos), part))
            photos = [photo for photo in photos if photo.path.name in here]
            faults.note("there is no file to test on: about a fifth of the images is taken, by a hash of the name")
        box_classes = list(dict.fromkeys(map(spell, order)))
        photos = [photo.renamed(spell) for photo in photos]
        about = image_classes(photos, label, box_classes, content.scene_classes)
        super().__init__(photos, size, box_classes=box_classes, repair=repair, faults=faults, **about)

    @staticmethod
    def pair(root: str | Path) -> tuple[str, str]:
        """Return the names of the splits to train and to test on."""
        return pick_pair(list(_Files(Folder(root)).files)) or ("train part", "test part")


class _Files:
    """The annotation files of a folder by the name of their split."""

    def __init__(self, folder: Folder) -> None:
        self.root = root = folder.root
        found = [file for file in folder.having(".json") if not file.name.startswith(OTHER_KINDS)]
        within = [file for file in found if file.parent.name.lower() == "annotations"]
        places = (
            [file for file in within if file.name.startswith("instances_")],
            [file for file in found if file.name == "_annotations.coco.json"],
            within,
            [file for file in found if file.parent == root],
            [file for file in found if file.parent.parent == root],
        )
        files = next((place for place in places if place), [])
        if not files:
            deeper = [child for child in root.parent.glob("*") if root.name == "annotations" and child == root]
            hint = f"; did you mean {root.parent}?" if deeper else ""
            hint = "; it has XML files: are they in the Pascal VOC layout (voc:)?" if folder.having(".xml") else hint
            raise DataError(
                f"{root} has no .json file with annotations in the COCO format, such as annotations/"
                f"instances_train.json{hint}"
            )
        self.files: dict[str, Path] = {}
        for file in files:
            by_folder = file.name == "_annotations.coco.json" or (role(file.stem) is None and role(file.parent.name))
            name = file.parent.name if by_folder and file.parent != root else file.stem.removeprefix("instances_")
            if name in self.files:
                raise DataError(f"{file} and {self.files[name]} are both for {name!r}: remove one of them")
            self.files[name] = file

    def in_order(self) -> list[Path]:
        """Return the files, those to train on first."""
        kinds = ("train", "trainval", "val", "test", None)
        return [self.files[name] for name in sorted(self.files, key=lambda name: (kinds.index(role(name)), name))]

    def find(self, split: str) -> tuple[str, str]:
        """Return the name of the file for a split, and which part of it: "" for the whole."""
        if split in self.files:
            return split, ""
        alike = [name for name in self.files if role(name) == role(split) is not None]
        if split not in PARTS and alike:
            return min(alike, key=lambda name: (len(name), name)), ""
        if len(self.files) == 1 and split in (*PARTS, "train", "test"):
            return next(iter(self.files)), PARTS.get(split, split)
        raise DataError(f"{self.root} has no split {split!r}; it has {', '.join(sorted(self.files))}")


class _Content:
    """One annotation file.

    Raises:
        DataError: if it is none.
    """

    def __init__(self, file: Path, faults: Faults) -> None:
        self.file, self.faults = file, faults
        content = read_json(file)
        for name in ("images", "annotations", "categories"):
            if not isinstance(content.get(name), list):
                here = ", ".join(map(repr, content)) or "nothing"
                raise DataError(f"{file}: is not a COCO annotation file: it has no list {name!r}, but {here}")
        if not content["images"]:
            raise DataError(f"{file}: lists no images")
        self.names = dict(_categories(content, file, faults))
        self.images: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, list[tuple[Box, str, bool, str]]] = {}
        classes = content.get("scene_classes", [])
        self.scene_classes = [str(name) for name in classes] if isinstance(classes, list) else []
        self._read_images(content["images"])
        for number, annotation in enumerate(content["annotations"], 1):
            self._read_annotation(number, annotation)

    def _read_images(self, images: list[Any]) -> None:
        twice = set()
        for number, image in enumerate(images, 1):
            key = _id(image.get("id")) if isinstance(image, dict) else None
            if key is None or not isinstance(image.get("file_name"), str) or not image["file_name"].strip():
                what = "id" if key is None else "file_name"
                self.faults.add(f"{self.file}: image {number} of the list has no {what}", "leave it out")
            elif key in self.images and image["file_name"] != self.images[key]["file_name"]:
                said = f"{self.images[key]['file_name']!r} and {image['file_name']!r}"
                self.faults.add(
                    f"{self.file}: the images {said} have the same id {key}, so nobody knows whose annotations are "
                    "whose",
                    "leave both out",
                )
                twice.add(key)
            else:
                self.images[key] = image
                self.rows[key] = []
        for key in twice:
            self.images.pop(key)

    def _read_annotation(self, number: int, annotation: Any) -> None:
        if not isinstance(annotation, dict):
            self.faults.add(f"{self.file}: annotation number {number} is no object", "leave it out")
            return
        called = f"annotation {annotation['id']}" if "id" in annotation else f"annotation number {number}"
        image, category = _id(annotation.get("image_id")), _id(annotation.get("category_id"))
        if image not in self.rows:
            self.faults.add(
                f"{self.file}: {called} is for image {annotation.get('image_id')!r}, which is not listed",
                "leave it out",
            )
        elif category not in self.names:
            self.faults.add(
                f"{self.file}: {called} has category_id {annotation.get('category_id')!r}; the file's categories are "
                f"{', '.join(self.names) or 'none'}",
                "leave it out",
            )
        else:
            assert image is not None and category is not None
            try:
                box = _read_box(annotation)
            except ValueError as error:
                self.faults.add(f"{self.file}: {called} ({self.names[category]}) {error}", "leave it out")
                return
            ignored = any(_id(annotation.get(name)) in ("1", "True") for name in ("iscrowd", "ignore", "difficult"))
            self.rows[image].append((box, self.names[category], ignored, called))

    def photos(self, folder: Folder, split: str) -> list[Photo]:
        """Return the photographs of the file."""
        root, kind = folder.root, role(split)
        near = [root / "images" / split, root / split, self.file.parent, root / "images", root / "data", root]
        found: dict[Path, Photo] = {}
        for key, image in self.images.items():
            try:
                path = folder.find_image(image["file_name"], [place for place in near if place.is_dir()], kind)
            except DataError as error:
                self.faults.add(f"{self.file}: {error}", "leave it out")
                continue
            if path in found:
                self.faults.add(f"{self.file}: the image {image['file_name']!r} is listed twice", "take it as one")
                found[path] = found[path].with_rows([*found[path].rows(), *self.rows[key]])
                continue
            size = tuple(_whole(image.get(side)) for side in ("width", "height"))
            label = image.get("scene_class")
            photo = Photo(path, str(self.file), None, (), label, size=size if all(size) else None)  # type: ignore[arg-type]
            found[path] = photo if image.get("boxes_missing") else photo.with_rows(self.rows[key])
        if not found:
            raise DataError(
                f"{self.file}: none of the {len(self.images):,} images that it names lies below {root}: give the "
                "folder that holds annotations and images"
            )
        return list(found.values())


def _categories(content: dict[str, Any], file: Path, faults: Faults | None = None) -> Iterator[tuple[str, str]]:
    """Yield number and name of each category."""
    seen: dict[str, str] = {}
    for number, category in enumerate(content["categories"], 1):
        key = _id(category.get("id")) if isinstance(category, dict) else None
        name = category.get("name") if isinstance(category, dict) else None
        if key is None or not isinstance(name, str) or not name.strip():
            if faults:
                faults.add(f"{file}: category number {number} has no {'id' if key is None else 'name'}", "leave it out")
        elif seen.get(key, name) != name:
            if faults:
                faults.found.append(
                    f"{file}: the categories {seen[key]!r} and {name!r} have the same id {key}; correct it"
                )
        else:
            seen[key] = name
            yield key, name


def category_names(file: Path) -> tuple[str, ...]:
    """Return the names of the categories of an annotation file."""
    return _category_names(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _category_names(file: Path, changed: int) -> tuple[str, ...]:
    content = read_json(file)
    if not isinstance(content.get("categories"), list):
        raise DataError(f"{file}: is not a COCO annotation file: it has no list 'categories'")
    return tuple(dict.fromkeys(name for _, name in _categories(content, file)))


def _id(value: Any) -> str | None:
    """Return an id as text, for tools write the same one as a number or a string; `None` if it is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None if isinstance(value, int | str) else None


def _whole(value: Any) -> int:
    try:
        return max(0, round(float(value)))
    except (TypeError, ValueError, OverflowError):
        return 0


def _read_box(annotation: dict[str, Any]) -> Box:
    """Return the corners of an annotation's box; where it has none, those of its outline.

    Raises:
        ValueError: if it has neither; the message goes on after its name.
    """
    given, outline = annotation.get("bbox"), annotation.get("segmentation")
    if given in (None, [], "") and outline:
        return _around(outline)
    if not isinstance(given, list | tuple) or len(given) != 4:
        raise ValueError(f"has the bbox {given!r}: expected [x, y, width, height]")
    try:
        if any(isinstance(value, bool) for value in given):
            raise TypeError
        x, y, width, height = (float(value) for value in given)
    except (TypeError, ValueError):
        raise ValueError(f"has the bbox {given!r}: expected four numbers") from None
    if not all(map(math.isfinite, (x, y, width, height))):
        raise ValueError(f"has the bbox {given!r}: expected finite numbers")
    return x, y, x + width, y + height


def _around(outline: Any) -> Box:
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


def write_coco(dataset: Any, root: Path, split: str) -> None:
    """Write a data set with boxes below `root`."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, sample in enumerate(all_samples(dataset)):
        name = f"{index:06d}.png"
        write_image(sample, root / "images" / split / name)
        height, width = sample["image"].shape[-2:]
        images.append(
            {"id": index, "file_name": name, "width": width, "height": height}
            | ({"scene_class": dataset.classes[int(sample["label"])]} if "label" in sample else {})
            | ({} if "boxes" in sample else {"boxes_missing": True})
        )
        for (x0, y0, x1, y1), label in true_boxes(sample):
            width, height = x1 - x0, y1 - y0
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": label + 1,  # 0 is often taken for the background
                    "bbox": [x0, y0, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": k, "name": name} for k, name in enumerate(dataset.box_classes, 1)]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": categories,
        "scene_classes": list(dataset.classes),
    }
    file = root / "annotations" / f"instances_{split}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
