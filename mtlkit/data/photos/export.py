"""Write a data set to disk in the layouts the world uses: COCO, Pascal VOC, one folder a class."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torchvision.transforms.v2.functional import to_pil_image

from mtlkit.data.batches import Sample
from mtlkit.data.errors import DataError


def export(dataset: Any, folder: str | Path, layout: str, split: str = "train") -> Path:
    """Write every sample of `dataset` below `folder`; images as PNG, so that reading gives equal pixels.

    "coco" and "voc" can be read back by `CocoFolder` and `VocFolder`. The formats know no class of a whole image: it
    goes into a field `scene_class` of our own. "imagefolder" keeps only that class (`torchvision.datasets.ImageFolder`)
    and leaves out images without one.

    Args:
        dataset: map-style, with `classes` and `box_classes`.
        folder: made if need be; files of the same name are replaced.
        layout: "coco", "voc" or "imagefolder".
        split: name of the split that is written.

    Raises:
        ValueError: if the layout is unknown.
        DataError: if the folder cannot be written.
    """
    writers: dict[str, Callable[[Any, Path, str], None]] = {
        "coco": write_coco,
        "voc": write_voc,
        "imagefolder": _write_image_folder,
    }
    if layout not in writers:
        raise ValueError(f"unknown layout {layout!r}: expected one of {', '.join(writers)}")
    try:
        writers[layout](dataset, Path(folder), split)
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error
    return Path(folder)


def _write_image_folder(dataset: Any, root: Path, split: str) -> None:
    for index, sample in enumerate(all_samples(dataset)):
        if "label" in sample:
            write_image(sample, root / split / dataset.classes[int(sample["label"])] / f"{index:06d}.png")


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
        ElementTree.ElementTree(tree).write(file, encoding="utf-8")
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def _add(parent: ElementTree.Element, tag: str, value: object) -> None:
    ElementTree.SubElement(parent, tag).text = str(value)


def all_samples(dataset: Any) -> list[Sample]:
    """Return every sample."""
    return [dataset[index] for index in range(len(dataset))]


def true_boxes(sample: Sample) -> list[tuple[list[float], int]]:
    """Return the boxes of a sample with their labels."""
    return list(
        zip(
            sample.get("boxes", torch.empty(0, 4)).tolist(),
            sample.get("box_labels", torch.empty(0)).tolist(),
            strict=True,
        )
    )


def write_image(sample: Sample, file: Path) -> None:
    """Write the image of a sample; its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image((sample["image"] * 255).round().to(torch.uint8)).save(file)
