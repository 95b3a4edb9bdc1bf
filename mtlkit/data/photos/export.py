"""Write a data set to disk in the layouts the world uses: COCO, Pascal VOC, one folder a class."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtlkit.data.errors import DataError
from mtlkit.data.photos.coco import write_coco
from mtlkit.data.photos.voc import write_voc
from mtlkit.data.photos.writing import all_samples, write_image


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
