"""Driving: what is on the road, what the weather is, where one can drive."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mtlkit.cases.case import Case, Knob, Labels
from mtlkit.cases.seen import Seen, SeenImage, answers_of, see_boxes
from mtlkit.cases.vision import classify_and_detect, image_labels, vision_model
from mtlkit.data.fields.roads import Roads
from mtlkit.model import MapHead, SharedEncoderModel
from mtlkit.tasks import Task, segmentation


def open_split(
    split: str, seed: int, *, scenes: int, val_scenes: int, test_scenes: int, night: float, **_: Any
) -> Roads:
    """Return the scenes of a split; "night" is for training, the others have as many scenes of each condition."""
    n = {"train": scenes, "val": val_scenes, "test": test_scenes}.get(split, 1)
    return Roads(split, n, seed, night if split == "train" else 0.2)


def build_model(labels: Labels, **_: Any) -> SharedEncoderModel:
    """Return an untrained model: the encoder of the scenes, their two heads, and one for the map of the free road."""
    return vision_model("conv", len(labels["classes"]), len(labels["box_classes"]), road=MapHead)


def make_tasks(labels: Labels) -> tuple[Task, ...]:
    """Return the condition ("classify"), what is where ("detect"), and where the road is free ("road")."""
    return (*classify_and_detect(labels), segmentation("road", "road"))


def see(dataset: Roads, indices: Sequence[int], model: nn.Module | None = None, **looks: Any) -> list[Seen]:
    """Show road scenes with their boxes; what the model takes for free road is tinted green."""
    images = see_boxes(dataset, indices, model, **looks)
    maps = answers_of(model, dataset.batch(indices)["image"]).get("road")
    if maps is None:
        return list(images)
    return [
        SeenImage(tinted(one.image, logits > 0), one.truth, one.answers, one.boxes, one.found)
        for one, logits in zip(images, maps, strict=True)
    ]


def tinted(image: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """Return an image `[3, H, W]` with a green tint where a map `bool [h, w]` says so."""
    cell = image.shape[1] // free.shape[0]
    there = free.repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    return torch.where(there, image * 0.7 + 0.3 * torch.tensor([0.0, 0.9, 0.3])[:, None, None], image)


ROADS = Case(
    "roads",
    "drawn road scenes: the condition, vehicles + pedestrians + signs, and the free road",
    open_split,
    build_model,
    make_tasks,
    see,
    image_labels,
    {
        "scenes": Knob(3000, "training scenes", low=1),
        "val_scenes": Knob(300, "validation scenes", low=1),
        "test_scenes": Knob(1000, "test scenes", low=1),
        "night": Knob(0.2, "share of the training scenes at night", low=0, high=1),
    },
    batch_size=32,
    seconds=60.0,
    in_lab={"scenes": 600, "val_scenes": 48, "test_scenes": 48, "batch_size": 10, "rate": 0.5},
)
