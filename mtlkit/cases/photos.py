"""Photographs: Oxford-IIIT Pet, and anybody's own in the Pascal VOC or the COCO layout."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mtlkit.cases.case import Case, Knob, Labels
from mtlkit.cases.seen import see_boxes
from mtlkit.cases.vision import classify_and_detect, image_labels, vision_model
from mtlkit.data import CocoFolder, OxfordPets, Photos, VocFolder, augment, data_folder
from mtlkit.data.photos.splits import held_out
from mtlkit.model import SharedEncoderModel


def open_pets(split: str, seed: int, *, folder: str, size: int, repair: bool, **_: Any) -> OxfordPets:
    """Return a split; "test" is a fifth of the authors' training photographs: their test photographs have no boxes."""
    return OxfordPets(folder or data_folder(), {"test": "val"}.get(split, split), size, repair=repair)


def open_folder(
    reader: type[VocFolder] | type[CocoFolder],
    split: str,
    *,
    folder: str,
    size: int,
    image_class: str,
    repair: bool,
    validate: float,
    **_: Any,
) -> Photos:
    """Return a split of a folder, as its own lists have it.

    "val" is the folder's own list, where it has three; or a share of the photographs to train on; or else "test".
    """
    if not folder:
        raise ValueError("say where the photographs are, e.g. --data voc:FOLDER or --knob folder=FOLDER")
    train, test = reader.pair(folder)
    own = reader.validation(folder)
    kept = validate > 0 and own is None and split != "test"
    name = {"train": train, "val": own or (train if kept else test)}.get(split, test)
    photos = reader(folder, name, size, label=image_class, repair=repair)
    return photos.only(lambda photo: held_out(photo.path.stem, validate) == (split == "val")) if kept else photos


def open_voc(split: str, seed: int, **knobs: Any) -> Photos:
    """Return a split of a folder in the Pascal VOC layout."""
    return open_folder(VocFolder, split, **knobs)


def open_coco(split: str, seed: int, **knobs: Any) -> Photos:
    """Return a split of a folder in the COCO layout."""
    return open_folder(CocoFolder, split, **knobs)


def build_model(labels: Labels, *, encoder: str, **_: Any) -> SharedEncoderModel:
    """Return an untrained model."""
    return vision_model(encoder, len(labels["classes"]), len(labels["box_classes"]))


def augmented(*, size: int, **_: Any) -> Callable[[Any], Any]:
    """Return what is done to each training photograph."""
    return augment(size)


PETS = Case(
    "pets",
    "photographs of cats and dogs: breed + box of the head (mtlkit data get pets)",
    open_pets,
    build_model,
    classify_and_detect,
    see_boxes,
    image_labels,
    {
        "folder": Knob("", "holds oxford-iiit-pet/; the data folder, if not given"),
        "size": Knob(128, "side of the images in pixels", low=32),
        "encoder": Knob("resnet18", "conv is small, resnet18 is torchvision's", ("conv", "resnet18")),
        "repair": Knob(False, "cut or leave out wrong boxes instead of refusing them"),
    },
    batch_size=16,
    seconds=300.0,
    transform=augmented,
    in_lab={"size": 64, "encoder": "conv", "batch_size": 8, "rate": 0.5},
)
VOC = replace(
    PETS,
    name="voc",
    about="anybody's photographs in the Pascal VOC layout: class of the image + boxes",
    open_split=open_voc,
    knobs={
        "folder": Knob("", "the photographs, in the layout"),
        "size": Knob(256, "side of the images in pixels", low=32),
        "encoder": Knob("conv", "conv is small, resnet18 is torchvision's", ("conv", "resnet18")),
        "image_class": Knob("largest", "how an image's class follows from its boxes: largest, or contains:NAME"),
        "repair": Knob(False, "cut or leave out wrong boxes instead of refusing them"),
        "validate": Knob(0.0, "share of the training photographs kept for validation", low=0.0, high=0.9),
    },
    batch_size=8,
)
COCO = replace(
    VOC,
    name="coco",
    about="anybody's photographs in the COCO layout: class of the image + boxes",
    open_split=open_coco,
)
