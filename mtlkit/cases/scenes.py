"""Scenes of digits: what is the image, and what is where in it? The course's own case."""

from collections.abc import Mapping
from typing import Any

from mtlkit.cases.case import Case, Knob, Labels
from mtlkit.cases.seen import see_boxes
from mtlkit.cases.vision import classify_and_detect, image_labels, vision_model
from mtlkit.data import SCENE_CLASSES, DigitScenes
from mtlkit.model import SharedEncoderModel

OUTPUTS = max(map(len, SCENE_CLASSES.values()))  # of the classifier: the lab changes scene_class while it trains


def open_split(
    split: str,
    seed: int,
    *,
    scenes: int,
    val_scenes: int,
    test_scenes: int,
    size: int,
    scene_class: str,
    missing: float | Mapping[str, float],
    label_noise: float | Mapping[str, float],
    **_: Any,
) -> DigitScenes:
    """Return the scenes of a split; labels are missing or wrong in training only."""
    n = {"train": scenes, "val": val_scenes, "test": test_scenes}.get(split, 1)
    spoilt = {"missing": missing, "label_noise": label_noise} if split == "train" else {}
    return DigitScenes(split, n, size, seed, scene_class=scene_class, **spoilt)  # type: ignore[arg-type]


def build_model(labels: Labels, *, encoder: str, **_: Any) -> SharedEncoderModel:
    """Return an untrained model."""
    return vision_model(encoder, OUTPUTS, len(labels["box_classes"]))


SCENES = Case(
    "scenes",
    "classification + detection on little scenes of real digits, made in memory; no download",
    open_split,
    build_model,
    classify_and_detect,
    see_boxes,
    image_labels,
    {
        "scenes": Knob(20_000, "training scenes", low=1),
        "val_scenes": Knob(300, "validation scenes", low=1),
        "test_scenes": Knob(2000, "test scenes", low=1),
        "size": Knob(64, "side of the images in pixels", low=32),
        "encoder": Knob("conv", "conv is small, resnet18 is torchvision's", ("conv", "resnet18")),
        "scene_class": Knob("texture", "what a scene's label says", tuple(SCENE_CLASSES), live=True),
        "missing": Knob(0.0, "share of the labels that are absent", low=0, high=1, per_task=True, live=True),
        "label_noise": Knob(0.0, "share of the labels that are wrong", low=0, high=1, per_task=True, live=True),
    },
    # Tuned for a minute on scenes of class "texture". With equal weights, classification, which is solved early, goes
    # on to pull at the shared encoder: AP 0.66 after that minute instead of 0.71.
    weights={"classify": 0.2, "detect": 1.0},
    in_lab={"scenes": 2000, "val_scenes": 64, "test_scenes": 64, "batch_size": 16, "rate": 0.5},
)
