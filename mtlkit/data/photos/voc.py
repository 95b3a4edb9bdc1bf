"""The Pascal VOC layout, read and written."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mtlkit.data.errors import DataError
from mtlkit.data.photos.photos import Photo, Photos, existing, fifth, with_labels
from mtlkit.data.photos.writing import all_samples, true_boxes, write_image


class VocFolder(Photos):
    """Any folder in the Pascal VOC layout: `JPEGImages/`, `Annotations/*.xml`, `ImageSets/Main/<split>.txt`.

    VOC counts pixels from 1 and includes the last one; boxes come out as xyxy from 0 with an open end. Without
    `ImageSets`, "train" is four fifths of all annotations by a hash of the name and "test" the rest.

    Args:
        root: the folder.
        split: a list in `ImageSets/Main`.
        size: side of the square in pixels.
        label: how the image-level class is derived where the annotation has none: "largest" (class of the largest
            box) or "contains:NAME" (whether a box of that class is there; a random crop may cut that object off
            and so make the class wrong).
        repair: cut or leave out boxes that are wrong instead of raising.
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
        root = existing(Path(root), "Annotations", "JPEGImages")
        everything = {xml.stem: read_voc(xml, None) for xml in sorted((root / "Annotations").glob("*.xml"))}
        if not everything:
            raise DataError(f"{root / 'Annotations'} has no .xml file: expected one an image, in the Pascal VOC layout")
        photos = []
        for name in _voc_split(root, split, everything):
            if name in everything:
                photos.append(everything[name])
            elif missing_ok:
                photos.append(Photo(_image_named(root, name), name))
            else:
                raise DataError(
                    f"{root / 'Annotations' / name}.xml is missing, though ImageSets/Main/{split}.txt lists it; add "
                    "it, remove the line, or pass missing_ok=True to train on the image without boxes"
                )
        box_classes = sorted({name for photo in everything.values() for name in photo.names})
        scene_classes = sorted({photo.label for photo in everything.values() if photo.label is not None})
        photos, classes, origin = with_labels(photos, label, box_classes, scene_classes)
        super().__init__(photos, size, classes=classes, box_classes=box_classes, label_origin=origin, repair=repair)


def _image_named(root: Path, name: str) -> Path:
    return next((root / "JPEGImages").glob(f"{name}.*"), root / "JPEGImages" / f"{name}.jpg")


def _voc_split(root: Path, split: str, everything: dict[str, Photo]) -> list[str]:
    lists = root / "ImageSets" / "Main"
    if not lists.is_dir():
        if split not in ("train", "test"):
            raise ValueError(f"{root} has no ImageSets/Main: its splits are train and test, not {split!r}")
        return [name for name in everything if (fifth(name) == 0) == (split == "test")]
    file = lists / f"{split}.txt"
    if not file.is_file():
        raise DataError(
            f"{root} has no split {split!r}; it has {', '.join(sorted(f.stem for f in lists.glob('*.txt')))}"
        )
    names = [line.split()[0] for line in file.read_text().splitlines() if line.strip()]
    if not names:
        raise DataError(f"{file} is empty: expected one image name a line")
    return names


def read_voc(xml: Path, image: Path | None) -> Photo:
    """Read one annotation file; `image` overrules the file name in it."""
    try:
        tree = ElementTree.parse(xml).getroot()
        if image is None:
            image = xml.parent.parent / "JPEGImages" / tree.findtext("filename", f"{xml.stem}.jpg")
        boxes, names = [], []
        for item in tree.iter("object"):
            x0, y0, x1, y1 = (float(item.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
            if x0 < x1 and y0 < y1:  # from pixels counted from 1, the last one included
                x0, y0 = max(x0 - 1, 0.0), max(y0 - 1, 0.0)
            boxes.append((x0, y0, x1, y1))
            names.append(item.findtext("name", "").strip())
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{xml}: not a Pascal VOC annotation ({error}); correct the file") from error
    has_boxes = tree.find("boxes_missing") is None
    return Photo(image, str(xml), tuple(boxes) if has_boxes else None, tuple(names), tree.findtext("scene_class"))


def write_voc(dataset: Any, root: Path, split: str) -> None:
    """Write a data set with boxes below `root`."""
    names = []
    for index, sample in enumerate(all_samples(dataset)):
        names.append(f"{split}_{index:06d}")
        write_image(sample, root / "JPEGImages" / f"{names[-1]}.png")
        height, width = sample["image"].shape[-2:]
        tree = ElementTree.Element("annotation")
        _add(tree, "filename", f"{names[-1]}.png")
        size = ElementTree.SubElement(tree, "size")
        for tag, value in (("width", width), ("height", height), ("depth", 3)):
            _add(size, tag, value)
        if "label" in sample:
            _add(tree, "scene_class", dataset.classes[int(sample["label"])])
        for (x0, y0, x1, y1), label in true_boxes(sample):
            item = ElementTree.SubElement(tree, "object")
            _add(item, "name", dataset.box_classes[label])
            box = ElementTree.SubElement(item, "bndbox")
            # VOC counts pixels from 1 and includes the last one
            for tag, value in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
                _add(box, tag, f"{value:g}")
        if "boxes" not in sample:
            _add(tree, "boxes_missing", 1)
        ElementTree.indent(tree)
        file = root / "Annotations" / f"{names[-1]}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(tree).write(file)
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("\n".join(names) + "\n")


def _add(parent: ElementTree.Element, tag: str, value: object) -> None:
    ElementTree.SubElement(parent, tag).text = str(value)
