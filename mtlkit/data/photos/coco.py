"""The COCO layout, read and written."""

import json
from pathlib import Path
from typing import Any

from mtlkit.data.errors import DataError
from mtlkit.data.photos.photos import Photo, Photos, existing, with_labels
from mtlkit.data.photos.writing import all_samples, true_boxes, write_image


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
        root = existing(Path(root), "annotations")
        files = sorted((root / "annotations").glob(f"instances_{split}*.json"))
        if not files:
            raise DataError(f"{root}/annotations has no instances_{split}*.json: expected the COCO layout")
        photos, box_classes, scene_classes = _read_coco(root, files[0])
        photos, classes, origin = with_labels(photos, label, box_classes, scene_classes)
        super().__init__(photos, size, classes=classes, box_classes=box_classes, label_origin=origin, repair=repair)


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
    file.write_text(json.dumps(content))
