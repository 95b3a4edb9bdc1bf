"""The Pascal VOC layout, read and written."""

import math
import re
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from mtlkit.data.errors import DataError
from mtlkit.data.photos.classes import image_classes, merge_names
from mtlkit.data.photos.faults import Faults
from mtlkit.data.photos.files import Folder, as_size, read_text, read_xml, says_yes
from mtlkit.data.photos.photos import Box, Photo, Photos
from mtlkit.data.photos.splits import PARTS, hashed, pick_pair, pick_validation, role, role_of

SIDES = ("xmin", "ymin", "xmax", "ymax")
IMAGES = ("JPEGImages", "images", "Images", "imgs", "jpegimages")


class VocFolder(Photos):
    """Any folder with Pascal VOC annotations, one XML file an image.

    As VOC has it: `JPEGImages/`, `Annotations/*.xml`, `ImageSets/Main/<split>.txt`; as labelImg leaves it, images and
    XML side by side; as Roboflow does, in `train/`, `valid/`, `test/`. VOC counts pixels from 1 and includes the last
    one; boxes come out as xyxy from 0 with an open end. Objects marked as difficult are ignored.

    Args:
        root: the folder.
        split: a list in `ImageSets/Main`, or a folder. Where there is one list only, or none, "train part" and
            "test part" are made of all images by a hash of the name, about a fifth for testing; "train" and "test"
            mean the same, where nothing else has that name.
        size: side of the square in pixels.
        label: how the image-level class is derived where the annotation has none: "largest" (class of the largest
            box) or "contains:NAME" (whether a box of that class is there).
        repair: mend what is wrong, or leave it out, and say so in `mended`, instead of raising.
        missing_ok: an image without annotation file has no box target, instead of raising.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        size: int = 256,
        *,
        label: str = "largest",
        repair: bool = False,
        missing_ok: bool = False,
    ) -> None:
        folder = Folder(root)
        faults, lists = Faults(folder.root, repair), _Lists(folder)
        everything = {}
        for key, xml in lists.annotations.items():
            try:
                everything[key] = read_voc(xml, None, faults, folder)
            except DataError as error:
                faults.add(str(error), "leave it out")
        if not everything and len(lists.annotations) > 1:
            raise DataError(
                f"{folder.root}: none of its {len(lists.annotations):,} annotations can be read together with an "
                f"image; the first one: {(faults.found or faults.mended)[0]}"
            )
        chosen = lists.names(split, faults)
        if lists.outside:
            faults.add(lists.outside, "leave them out")
        if lists.by_folder() and not lists.lists:
            for key in set(lists.annotations) - {key for keys in lists.by_folder().values() for key in keys}:
                faults.add(f"{lists.annotations[key]}: lies in none of the folders that are splits", "leave it out")
        counts = Counter(name for photo in everything.values() for name in photo.names)
        spell = merge_names(counts, faults)
        everything = {key: photo.renamed(spell) for key, photo in everything.items()}
        _say_what_is_named_twice(everything, faults)
        _say_what_is_not_annotated(folder, lists, everything, faults)
        photos = []
        for name in chosen:
            if name in everything:
                photos.append(everything[name])
            elif name in lists.annotations:
                continue  # its fault is said already
            elif missing_ok:
                photos.append(Photo(folder.find_image(name, lists.image_folders), name))
            else:
                faults.add(
                    f"{lists.base / name}.xml is missing, though the list {split!r} names it; add it, remove the line, "
                    "pass missing_ok=True to train on the image without boxes",
                    "leave it out",
                )
        numbers = Counter(name for photo in everything.values() for name in photo.names)
        others = [number for number in numbers.values() if number > 1]
        once = sorted(name for name in numbers if numbers[name] == 1)
        if once and others and sum(others) >= 5 * len(others):
            faults.note(f"there is only one object of {', '.join(map(repr, once))}: is the name misspelled?")
        box_classes = sorted(numbers)
        scene_classes = sorted({photo.label for photo in everything.values() if photo.label is not None})
        if not faults.found and not box_classes and not scene_classes:
            raise DataError(f"{folder.root}: no photograph has an object, so there is nothing to learn")
        about = image_classes(label, box_classes, scene_classes) if box_classes or scene_classes else {}
        about = about or {"classes": (), "label_origin": ""}
        super().__init__(photos, size, box_classes=box_classes, repair=repair, faults=faults, **about)

    @staticmethod
    def pair(root: str | Path) -> tuple[str, str]:
        """Return the names of the splits to train and to test on."""
        return _Lists(Folder(root)).pair()

    @staticmethod
    def validation(root: str | Path) -> str | None:
        """Return the name of a split that is neither trained nor tested on, if there is one."""
        lists = _Lists(Folder(root))
        return pick_validation(list(lists.lists) or list(lists.by_folder()), lists.pair())


class _Lists:
    """Which annotations there are, by name, and which of them belong to which split."""

    def __init__(self, folder: Folder) -> None:
        self.folder, root = folder, folder.root
        inside = [child for child in sorted(root.iterdir()) if child.is_dir()]
        own = next((child for child in inside if child.name.lower() == "annotations"), None)
        self.base = own or root
        self.annotations = {
            xml.relative_to(self.base).with_suffix("").as_posix(): xml
            for xml in folder.having(".xml")
            if xml.is_relative_to(self.base)
        }
        deeper = [child for child in inside if (child / "Annotations").is_dir()]
        if own is None and deeper:
            raise DataError(f"{root} has no folder Annotations/, but {deeper[0]} has: give that folder")
        if not self.annotations:
            linked = "annotations" in {link.lower() for link in folder.links_out}
            hint = "; Annotations is a link, and links are not followed: copy the files" if linked else ""
            raise DataError(f"{self.base} has no .xml file: expected one per image, in the Pascal VOC layout{hint}")
        outside = [xml for xml in folder.having(".xml") if not xml.is_relative_to(self.base)]
        self.outside = (
            f"{len(outside)} .xml files lie outside of {self.base.name}/, e.g. {outside[0]}" if outside else ""
        )
        texts = folder.having(".txt")
        places = (
            [file for file in texts if file.parent == root / "ImageSets" / "Main"],
            [file for file in texts if file.parent == root / "ImageSets"],
            [file for file in texts if file.parent == root and role(file.stem)],
        )
        self.lists = {file.stem: file for file in next((place for place in places if place), [])}
        self.image_folders = [child for child in inside if child.name in IMAGES]

    def by_folder(self) -> dict[str, list[str]]:
        """Return folder → annotations, where they lie in folders named after splits."""
        groups: dict[str, list[str]] = {}
        for key in self.annotations:
            parts = PurePosixPath(key).parts
            if len(parts) > 1 and role(parts[0]):
                groups.setdefault(parts[0], []).append(key)
        return groups if 2 * sum(map(len, groups.values())) > len(self.annotations) else {}

    def pair(self) -> tuple[str, str]:
        """Return the names of the splits to train and to test on."""
        return pick_pair(list(self.lists) or list(self.by_folder()), self.folder.root) or ("train part", "test part")

    def names(self, split: str, faults: Faults) -> list[str]:
        """Return the names of the annotations in a split."""
        if split in self.lists:
            self._say_what_is_in_both(faults)
            return self._listed(split)
        if split in (groups := self.by_folder()):
            return groups[split]
        known = list(self.lists) or list(groups)
        if split in (*PARTS, "train", "test") and len(known) < 2:
            every = self._listed(known[0]) if self.lists else list(self.annotations)
            here = hashed(every, PARTS.get(split, split))
            faults.note("there is no list of test images: about a fifth of all is used, chosen by a hash of the name")
            return here
        if split not in ("train", "test") and not known:
            raise ValueError(f"{self.folder.root} has no ImageSets/Main: its splits are train and test, not {split!r}")
        raise DataError(f"{self.folder.root} has no split {split!r}; it has {', '.join(sorted(known)[:20])}")

    def _say_what_is_in_both(self, faults: Faults) -> None:
        train, test = pick_pair(list(self.lists), self.folder.root) or ("", "")
        if train and (both := set(self._listed(train)) & set(self._listed(test))):
            faults.note(
                f"{len(both)} images are in both {train!r} and {test!r}, e.g. {min(both)}: scores will be too good"
            )

    def _listed(self, split: str) -> list[str]:
        file, best = self.lists[split], None
        for text in read_text(file, ("utf-8", "gb18030", "cp1252")):
            names = [self._known(line) for line in text.splitlines() if line.strip()]
            known = sum(name in self.annotations for name in names)
            if best is None or known > best[0]:
                best = known, names
        if not best or not best[1]:
            raise DataError(f"{file} is empty: expected one image name per line")
        return list(dict.fromkeys(best[1]))

    def _known(self, line: str) -> str:
        """Return the annotation that a line of a list means, or the line."""
        line = line.strip()
        shorter = [line, re.sub(r"\s+-?[01]$", "", line)]  # of lists of a class: "000012 -1"
        for name in (*shorter, line.split()[0]):  # of lists with two columns: the image first
            path = PurePosixPath(name.replace("\\", "/"))
            if not path.name:
                continue
            for tried in (path.as_posix(), path.with_suffix("").as_posix(), path.name, path.stem):
                if tried in self.annotations:
                    return tried
        return shorter[-1]


def _say_what_is_named_twice(photos: dict[str, Photo], faults: Faults) -> None:
    by_path: dict[Path, str] = {}
    for photo in photos.values():
        if photo.path in by_path:
            faults.found.append(
                f"{photo.source}: is for the image {photo.path.name}, and so is {by_path[photo.path]}; correct the "
                "<filename> of one of them"
            )
        by_path[photo.path] = photo.source


def _say_what_is_not_annotated(folder: Folder, lists: _Lists, photos: dict[str, Photo], faults: Faults) -> None:
    used = {photo.path for photo in photos.values()}
    beside = {photo.path.parent for photo in photos.values()}
    spare = [file for file in folder.images() if file.parent in beside and file not in used]
    if spare and not faults.found and not lists.lists:
        faults.note(f"{len(spare)} images have no annotation file and are left out, e.g. {spare[0].name}")


def read_voc(xml: Path, image: Path | None, faults: Faults, folder: Folder | None = None) -> Photo:
    """Read one annotation file.

    Args:
        xml: the file.
        image: its image; not given, it is looked for in `folder` by the name in the file.
        faults: takes note of objects that are wrong.
        folder: where images are looked for.

    Raises:
        DataError: if it is no annotation, or its image is not there.
    """
    tree = read_xml(xml)
    if tree.tag != "annotation":
        hint = " (CVAT's own format? export as Pascal VOC)" if tree.tag == "annotations" else ""
        raise DataError(f"{xml}: is not a Pascal VOC annotation: its root is <{tree.tag}>{hint}; correct or remove it")
    if image is None and folder is not None:
        near = [xml.parent, *(xml.parents[1] / name for name in IMAGES), *(folder.root / name for name in IMAGES)]
        below = xml.parent.relative_to(folder.root).parts[1:]
        near += [(folder.root / name).joinpath(*below) for name in IMAGES if below]
        inside = [path for path in near if path.is_relative_to(folder.root)]
        named, kind = (tree.findtext("filename") or "").strip() or xml.stem, role_of(xml.parent, folder.root)
        try:
            image = folder.find_image(named, inside, kind)
        except DataError as error:
            try:
                image = folder.find_image(xml.stem, inside, kind)
            except DataError:
                raise DataError(f"{xml}: {error}; correct the <filename>, or add the image") from error
    if folder is not None and image is not None and not _same_stem(image, xml):
        image = _of_its_own_name(xml, image, folder, inside, kind, faults)
    strays = (
        sum(1 for _ in tree.iter("bndbox"))
        - len(tree.findall("object/bndbox"))
        - len(tree.findall("object/part/bndbox"))
    )
    if strays:
        faults.add(f"{xml}: {strays} <bndbox> are not inside an <object>", "leave them out")
    rows = []
    for number, item in enumerate(tree.findall("object"), 1):
        name = item.findtext("name") or ""
        called = f"object {number}"
        if not name.strip():
            faults.add(f"{xml}: {called} has no name", "leave it out")
            continue
        try:
            rows.append((_read_box(item), name, says_yes(item.findtext("difficult")), called))
        except ValueError as error:
            faults.add(f"{xml}: is not a Pascal VOC annotation: {called} ({name.strip()}) {error}", "leave it out")
    assert image is not None
    size = tuple(as_size(tree.findtext(f"size/{side}")) for side in ("width", "height"))
    label = (tree.findtext("scene_class") or "").strip() or None
    photo = Photo(image, str(xml), None, (), label, size=size if all(size) else None)  # type: ignore[arg-type]
    return photo if tree.find("boxes_missing") is not None else photo.with_rows(rows)


def _same_stem(image: Path, xml: Path) -> bool:
    return unicodedata.normalize("NFC", image.stem).casefold() == unicodedata.normalize("NFC", xml.stem).casefold()


def _of_its_own_name(
    xml: Path, image: Path, folder: Folder, near: list[Path], kind: str | None, faults: Faults
) -> Path:
    """Return the image with the name of its annotation file, if there is one: <filename> is not renamed with files."""
    try:
        own = folder.find_image(xml.stem, near, kind)
    except DataError:
        return image
    faults.add(
        f"{xml}: its <filename> names {image.name}, but {own.name} is there with the annotation's own name",
        "take the one with its own name",
    )
    return own


def _read_box(item: ElementTree.Element) -> Box:
    for place in ("bndbox", *(f"bndbox/{side}" for side in SIDES)):
        if (number := len(item.findall(place))) > 1:
            raise ValueError(f"has {number} <{place.rpartition('/')[2]}>")
    corners = []
    for side in SIDES:
        text = item.findtext(f"bndbox/{side}")
        if text is None or not text.strip():
            polygon = item.find("polygon") is not None
            raise ValueError("has a polygon and no <bndbox>" if polygon else f"has no <{side}> in a <bndbox>")
        try:
            corners.append(float(text))
        except ValueError:
            raise ValueError(f"has the {side} {text.strip()!r}, which is not a number") from None
        if not math.isfinite(corners[-1]):
            raise ValueError(f"has the {side} {text.strip()}")
    x0, y0, x1, y1 = corners
    if x0 <= x1 and y0 <= y1 and (x0, y0) != (x1, y1):  # from pixels counted from 1, the last one included
        x0, y0 = max(x0 - 1, 0.0) if x0 >= 0 else x0, max(y0 - 1, 0.0) if y0 >= 0 else y0
    return x0, y0, x1, y1
