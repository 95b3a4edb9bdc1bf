"""Real photographs with boxes: Oxford-IIIT Pet, any folder in the Pascal VOC layout, any in the COCO layout."""

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from torchvision import tv_tensors
from torchvision.datasets import OxfordIIITPet
from torchvision.transforms.v2 import functional as F

from mtlkit.data.errors import DataError
from mtlkit.data.loader import Sample


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


class OxfordPets(Photos):
    """Oxford-IIIT Pet (Parkhi et al., "Cats and Dogs", CVPR 2012): breed of the animal + box of its head.

    Many images have no box: a natural set with partial labels. The authors give boxes for "trainval" only, so
    "val" is a fixed fifth of it and "train" the rest; "test" is theirs, with breeds only.

    Args:
        root: the folder that holds `oxford-iiit-pet/` (`mtlkit data get pets` makes it).
        split: "train", "val", "trainval" or "test".
        size: side of the square in pixels.
        repair: cut or leave out boxes that are wrong instead of raising.
    """

    def __init__(self, root: str | Path, split: str = "train", size: int = 128, *, repair: bool = False) -> None:
        if split not in ("train", "val", "trainval", "test"):
            raise ValueError(f"unknown split {split!r}: expected train, val, trainval or test")
        try:
            listed = OxfordIIITPet(root, split="test" if split == "test" else "trainval", download=False)
        except RuntimeError as error:
            raise DataError(
                f"no Oxford-IIIT Pet in {root}: get it with 'mtlkit data get pets' or point to the folder that holds "
                "oxford-iiit-pet/"
            ) from error
        boxes = Path(root) / "oxford-iiit-pet" / "annotations" / "xmls"
        photos = []
        for path, label in zip(listed._images, listed._labels, strict=True):
            if split == "trainval" or split == "test" or (_fifth(path.name) == 0) == (split == "val"):
                xml = boxes / f"{path.stem}.xml"
                photo = _read_voc(xml, path) if xml.exists() else Photo(path, str(path))
                photos.append(replace(photo, label=listed.classes[label]))
        super().__init__(
            photos,
            size,
            classes=listed.classes,
            box_classes=("cat", "dog"),
            label_origin="annotated: breed",
            repair=repair,
        )


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
        root = _existing(Path(root), "Annotations", "JPEGImages")
        everything = {xml.stem: _read_voc(xml, None) for xml in sorted((root / "Annotations").glob("*.xml"))}
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
        photos, classes, origin = _with_labels(photos, label, box_classes, scene_classes)
        super().__init__(photos, size, classes=classes, box_classes=box_classes, label_origin=origin, repair=repair)


class CocoFolder(Photos):
    """Any folder in the COCO layout: `annotations/instances_<split>.json` and the images it names.

    Images are looked for in `images/<split>/`, `<split>/`, `images/` and beside the annotations' folder. Splits may
    carry a year (`instances_train2017.json`).

    Args:
        root: the folder.
        split: "train", "val", "test" or the whole end of the file's name.
        size: side of the square in pixels.
        label: as in `VocFolder`.
        repair: cut or leave out boxes that are wrong instead of raising.
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
        root = _existing(Path(root), "annotations")
        files = sorted((root / "annotations").glob(f"instances_{split}*.json"))
        if not files:
            raise DataError(f"{root}/annotations has no instances_{split}*.json: expected the COCO layout")
        photos, box_classes, scene_classes = _read_coco(root, files[0])
        photos, classes, origin = _with_labels(photos, label, box_classes, scene_classes)
        super().__init__(photos, size, classes=classes, box_classes=box_classes, label_origin=origin, repair=repair)


def train_and_test_split(root: Path) -> tuple[str, str]:
    """Return the names of the splits to train and to test on in a folder in the VOC or COCO layout.

    Where there is a "test", "trainval" is trained on if it exists; otherwise it is "train" and "val".
    """
    lists = [*root.glob("ImageSets/Main/*.txt"), *root.glob("annotations/instances_*.json")]
    names = {file.stem.removeprefix("instances_") for file in lists}
    if not (root / "ImageSets").is_dir() and (root / "Annotations").is_dir():
        return "train", "test"  # `VocFolder` makes its own
    if "test" in names:
        return ("trainval" if "trainval" in names else "train"), "test"
    return "train", "val"


def _existing(root: Path, *folders: str) -> Path:
    for folder in folders:
        if not (root / folder).is_dir():
            raise DataError(f"{root} has no folder {folder}/: expected the layout that its reader describes")
    return root


def _fifth(name: str) -> int:
    return zlib.crc32(name.encode()) % 5  # unlike hash(), the same in every process


def _image_named(root: Path, name: str) -> Path:
    return next((root / "JPEGImages").glob(f"{name}.*"), root / "JPEGImages" / f"{name}.jpg")


def _voc_split(root: Path, split: str, everything: dict[str, Photo]) -> list[str]:
    lists = root / "ImageSets" / "Main"
    if not lists.is_dir():
        if split not in ("train", "test"):
            raise ValueError(f"{root} has no ImageSets/Main: its splits are train and test, not {split!r}")
        return [name for name in everything if (_fifth(name) == 0) == (split == "test")]
    file = lists / f"{split}.txt"
    if not file.is_file():
        raise DataError(
            f"{root} has no split {split!r}; it has {', '.join(sorted(f.stem for f in lists.glob('*.txt')))}"
        )
    names = [line.split()[0] for line in file.read_text().splitlines() if line.strip()]
    if not names:
        raise DataError(f"{file} is empty: expected one image name a line")
    return names


def _read_voc(xml: Path, image: Path | None) -> Photo:
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
    known = tree.find("boxes_missing") is None
    return Photo(image, str(xml), tuple(boxes) if known else None, tuple(names), tree.findtext("scene_class"))


def _read_coco(root: Path, file: Path) -> tuple[list[Photo], list[str], list[str]]:
    """Return photographs, box classes and (in files that `mtlkit data export` wrote) scene classes."""
    try:
        content = json.loads(file.read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        boxes: dict[int, list] = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            number = annotation["id"]
            if annotation["image_id"] not in boxes:
                raise DataError(
                    f"{file}: annotation {number} is for image {annotation['image_id']}, which is not listed"
                )
            if annotation["category_id"] not in names:
                raise DataError(
                    f"{file}: annotation {number} has category_id {annotation['category_id']}; "
                    f"the file's categories are {', '.join(map(str, names))}"
                )
            x, y, width, height = annotation["bbox"]
            boxes[annotation["image_id"]].append(((x, y, x + width, y + height), names[annotation["category_id"]]))
        folder = _coco_images(root, file)
        photos = [
            Photo(
                folder / image["file_name"],
                str(file),
                None if image.get("boxes_missing") else tuple(box for box, _ in boxes[image["id"]]),
                tuple(name for _, name in boxes[image["id"]]),
                image.get("scene_class"),
            )
            for image in content["images"]
        ]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{file}: not a COCO annotation file ({type(error).__name__}: {error}); correct it") from error
    if not photos:
        raise DataError(f"{file} lists no images")
    return photos, list(names.values()), content.get("scene_classes", [])


def _coco_images(root: Path, file: Path) -> Path:
    split = file.stem.removeprefix("instances_")
    folders = [root / "images" / split, root / split, root / "images", root]
    return next(folder for folder in folders if folder.is_dir())


def _with_labels(
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
