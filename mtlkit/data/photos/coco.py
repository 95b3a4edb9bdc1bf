"""The COCO layout, read and written."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from mtlkit.data.errors import DataError
from mtlkit.data.photos.classes import image_classes, merge_names
from mtlkit.data.photos.faults import Faults
from mtlkit.data.photos.files import Folder, as_id, as_size, read_json, says_yes, short
from mtlkit.data.photos.photos import Box, Photo, Photos, around
from mtlkit.data.photos.splits import PARTS, hashed, pick_pair, pick_validation, role

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
        order = list(dict.fromkeys(n for file in files.in_order() for n in summary(file).categories))
        for other in files.in_order():
            if other != content.file and (strange := set(content.names.values()) ^ set(summary(other).categories)):
                faults.note(
                    f"{content.file.name} and {other.name} differ in their categories: {', '.join(sorted(strange))}"
                )
        for other in files.empty:
            faults.note(f"{other.relative_to(folder.root)} lists no images and is left out")
        if len(set(content.names.values())) < len(content.names):
            faults.note("several categories have the same name: taken as one class")
        self._say_what_is_in_both(files, name, photos, folder, faults)
        spell = merge_names(Counter({name: len(order) - k for k, name in enumerate(order)}), faults)
        if part:
            places = {photo.path.relative_to(folder.root).as_posix(): photo for photo in photos}
            photos = [places[place] for place in hashed(list(places), part)]
            faults.note("there is no test file: about a fifth of the images is used, chosen by a hash of the name")
        box_classes = list(dict.fromkeys(map(spell, order)))
        photos = [photo.renamed(spell) for photo in photos]
        about = image_classes(label, box_classes, content.scene_classes)
        super().__init__(photos, size, box_classes=box_classes, repair=repair, faults=faults, **about)

    @staticmethod
    def _say_what_is_in_both(
        files: "_Files", name: str, photos: Sequence[Photo], folder: Folder, faults: Faults
    ) -> None:
        pair = pick_pair(list(files.files), folder.root) or ()
        for other in [other for other in pair if name in pair and other != name]:
            theirs = set()
            for image in summary(files.files[other]).images:
                with suppress(DataError):
                    theirs.add(find_image(folder, files.files[other], other, image))
            if both := {photo.path for photo in photos} & theirs:
                example = min(both).name
                faults.note(
                    f"{len(both)} images are in both {name!r} and {other!r}, e.g. {example}: scores will be too good"
                )

    @staticmethod
    def pair(root: str | Path) -> tuple[str, str]:
        """Return the names of the splits to train and to test on."""
        folder = Folder(root)
        return pick_pair(list(_Files(folder).files), folder.root) or ("train part", "test part")

    @staticmethod
    def validation(root: str | Path) -> str | None:
        """Return the name of a split that is neither trained nor tested on, if there is one."""
        names = list(_Files(Folder(root)).files)
        return pick_validation(names, CocoFolder.pair(root))


class _Files:
    """The annotation files of a folder by the name of their split."""

    def __init__(self, folder: Folder) -> None:
        self.root = root = folder.root
        every = folder.having(".json")
        found = [file for file in every if not file.name.startswith(OTHER_KINDS)] or every
        within = [file for file in found if file.parent.name.lower() == "annotations"]
        places = (
            [file for file in within if file.name.startswith("instances_")],
            [file for file in found if file.name == "_annotations.coco.json"],
            within,
            [file for file in found if file.parent == root],
            [file for file in found if file.parent.parent == root],
        )
        files: list[Path] = []
        for place in places:  # a split that is not there yet may lie elsewhere
            have = {self._role(file) for file in files}
            files += [
                file for file in place if file not in files and (not files or self._role(file) not in {None, *have})
            ]
        needless = [file for file in files if len(files) > 1 and self._role(file) in (None, "test")]
        self.empty = [file for file in needless if not summary(file).images]
        files = [file for file in files if file not in self.empty]
        if not files:
            hint = "; it has XML files: are they in the Pascal VOC layout (voc:)?" if folder.having(".xml") else ""
            raise DataError(
                f"{root} has no .json file with annotations in the COCO format, such as annotations/"
                f"instances_train.json{hint}"
            )
        self.files: dict[str, Path] = {}
        for file in files:
            name = file.parent.name if self._by_folder(file) else file.stem.removeprefix("instances_")
            if name in self.files:
                raise DataError(f"{file} and {self.files[name]} are both for {name!r}: remove one of them")
            self.files[name] = file

    def _by_folder(self, file: Path) -> bool:
        says = file.name == "_annotations.coco.json" or (role(file.stem) is None and role(file.parent.name) is not None)
        return says and file.parent != self.root

    def _role(self, file: Path) -> str | None:
        return role(file.parent.name if self._by_folder(file) else file.stem)

    def in_order(self) -> list[Path]:
        """Return the files, those to train on first."""
        kinds = ("train", "trainval", "val", "test", None)
        return [self.files[name] for name in sorted(self.files, key=lambda name: (kinds.index(role(name)), name))]

    def find(self, split: str) -> tuple[str, str]:
        """Return the name of the file for a split, and which part of it: "" for the whole."""
        if split in self.files:
            return split, ""
        alike = [name for name in self.files if role(name) == role(split) and role(split)]
        if split not in PARTS and len(alike) == 1:
            return alike[0], ""
        if len(self.files) == 1 and split in (*PARTS, "train", "test"):
            return next(iter(self.files)), PARTS.get(split, split)
        raise DataError(f"{self.root} has no split {split!r}; it has {', '.join(sorted(self.files)[:20])}")


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
                here = ", ".join(repr(key[:40]) for key in list(content)[:5]) or "nothing"
                hint = "; is it labelme's own format?" if "shapes" in content else ""
                raise DataError(
                    f"{file}: is not a COCO annotation file: it has no list {name!r}, but {here}; export as COCO{hint}"
                )
        if not content["images"]:
            raise DataError(f"{file}: lists no images; remove it")
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
            key = as_id(image.get("id")) if isinstance(image, dict) else None
            if key is None or not isinstance(image.get("file_name"), str) or not image["file_name"].strip():
                what = "id" if key is None else "file_name"
                self.faults.add(f"{self.file}: image {number} of the list has no {what}", "leave it out")
            elif key in self.images and image["file_name"] != self.images[key]["file_name"]:
                said = f"{self.images[key]['file_name']!r} and {image['file_name']!r}"
                self.faults.add(
                    f"{self.file}: the images {said} have the same id {key}, so their annotations cannot be told apart",
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
            self.faults.add(f"{self.file}: annotation number {number} is not an object", "leave it out")
            return
        called = f"annotation {annotation['id']}" if "id" in annotation else f"annotation number {number}"
        image, category = as_id(annotation.get("image_id")), as_id(annotation.get("category_id"))
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
            ignored = any(says_yes(annotation.get(name)) for name in ("iscrowd", "ignore", "difficult"))
            self.rows[image].append((box, self.names[category], ignored, called))

    def photos(self, folder: Folder, split: str) -> list[Photo]:
        """Return the photographs of the file."""
        found: dict[Path, Photo] = {}
        names: dict[Path, str] = {}
        lost = set()
        for key, image in self.images.items():
            try:
                path = find_image(folder, self.file, split, image["file_name"])
            except DataError as error:
                self.faults.add(f"{self.file}: {error}", "leave it out")
                continue
            if path in found and names[path] != image["file_name"]:
                said = f"{names[path]!r} and {image['file_name']!r}"
                self.faults.add(f"{self.file}: the images {said} are both {path.name}", "leave both out")
                lost.add(path)
            elif path in found:
                self.faults.add(f"{self.file}: the image {image['file_name']!r} is listed twice", "take it as one")
                found[path] = found[path].with_rows([*found[path].rows(), *self.rows[key]])
            else:
                size = tuple(as_size(image.get(side)) for side in ("width", "height"))
                label = image.get("scene_class")
                told = size if all(size) else None
                photo = Photo(path, str(self.file), None, (), label, size=told)  # type: ignore[arg-type]
                found[path] = photo if image.get("boxes_missing") else photo.with_rows(self.rows[key])
                names[path] = image["file_name"]
        if not found:
            raise DataError(
                f"{self.file}: none of the {len(self.images):,} images that it names lies below {folder.root}: give "
                "the folder that holds annotations and images"
            )
        return [photo for path, photo in found.items() if path not in lost]


def find_image(folder: Folder, file: Path, split: str, name: str) -> Path:
    """Return the image that an annotation file of a split means by `name`."""
    root = folder.root
    near = [root / "images" / split, root / split, file.parent, root / "images", root / "data", root]
    return folder.find_image(name, [place for place in near if place.is_dir()], role(split))


def _categories(content: dict[str, Any], file: Path, faults: Faults | None = None) -> Iterator[tuple[str, str]]:
    """Yield number and name of each category."""
    seen: dict[str, str] = {}
    for number, category in enumerate(content["categories"], 1):
        key = as_id(category.get("id")) if isinstance(category, dict) else None
        name = category.get("name") if isinstance(category, dict) else None
        name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
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


class Summary(NamedTuple):
    """What is asked of the annotation files of other splits: names of categories and images."""

    categories: tuple[str, ...]
    images: tuple[str, ...]


def summary(file: Path) -> Summary:
    """Return the names in an annotation file; of one that is none, no images."""
    return _summary(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _summary(file: Path, changed: int) -> Summary:
    content = read_json(file)
    images, categories = content.get("images"), content.get("categories")
    if not isinstance(images, list) or not isinstance(categories, list):
        return Summary((), ())
    names = [image.get("file_name") for image in images if isinstance(image, dict)]
    return Summary(
        tuple(dict.fromkeys(name for _, name in _categories(content, file))),
        tuple(name for name in names if isinstance(name, str)),
    )


def _read_box(annotation: dict[str, Any]) -> Box:
    """Return the corners of an annotation's box; where it has none, those of its outline.

    Raises:
        ValueError: if it has neither; the message goes on after its name.
    """
    given, outline = annotation.get("bbox"), annotation.get("segmentation")
    if given in (None, [], "") and outline:
        return around(outline)
    if not isinstance(given, list | tuple) or len(given) != 4:
        raise ValueError(f"has the bbox {short(given)}: expected [x, y, width, height]")
    try:
        if any(isinstance(value, bool) for value in given):
            raise TypeError
        x, y, width, height = (float(value) for value in given)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"has the bbox {short(given)}: expected four numbers") from None
    if not all(map(math.isfinite, (x, y, width, height))):
        raise ValueError(f"has the bbox {given!r}: expected finite numbers")
    return x, y, x + width, y + height
