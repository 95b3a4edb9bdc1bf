"""Health: blood cells found, counted and told apart. For learning only; nothing here is a medical device."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from mtlkit.cases.case import Case, Knob, Labels
from mtlkit.cases.photos import augmented
from mtlkit.cases.seen import Seen, SeenImage, answers_of, see_boxes
from mtlkit.cases.vision import classify_and_detect, image_labels, vision_model
from mtlkit.data import VocFolder
from mtlkit.data.fields.cells import BloodCells, CountedCells
from mtlkit.model import CountHead, SharedEncoderModel
from mtlkit.tasks import Task, counting
from mtlkit.training import fetch


def open_split(
    split: str,
    seed: int,
    *,
    smears: int,
    val_smears: int,
    test_smears: int,
    boxed: float,
    folder: str,
    size: int,
    **_: Any,
) -> Any:
    """Return the smears of a split: drawn ones, or those in `folder`."""
    if folder:
        train, test = VocFolder.pair(folder)
        return CountedCells(folder, train if split == "train" else test, size)
    n = {"train": smears, "val": val_smears, "test": test_smears}.get(split, 1)
    return BloodCells(split, n, seed, round(boxed * n) if split == "train" else None)


def build_model(labels: Labels, **_: Any) -> SharedEncoderModel:
    """Return an untrained model: the encoder of the scenes, their two heads, and one that counts."""
    return vision_model("conv", len(labels["classes"]), len(labels["box_classes"]), count=CountHead)


def transform(*, folder: str, size: int, **_: Any) -> Callable[[Any], Any] | None:
    """Return what is done to a training sample: real smears are few, and varied; drawn ones are not."""
    return augmented(size=size) if folder else None


def make_tasks(labels: Labels) -> tuple[Task, ...]:
    """Return what is in the smear, where its cells are, and how many of them are red."""
    return (*classify_and_detect(labels), counting("count", "red"))


def see(dataset: Any, indices: Sequence[int], model: nn.Module | None = None, **looks: Any) -> list[Seen]:
    """Show smears with their cells, and how many red ones there are."""
    batch = fetch(dataset, torch.as_tensor(indices))
    counted = answers_of(model, batch["image"]).get("count")
    shown: list[Seen] = []
    for k, one in enumerate(see_boxes(dataset, indices, model, **looks)):
        red = float(batch["red"][k])
        truth = {**one.truth} | ({"count": f"{red:.0f} red cells"} if red == red else {})
        answers = dict(one.answers) | ({} if counted is None else {"count": (f"{float(counted[k]):.1f}", None)})
        shown.append(SeenImage(one.image, truth, answers, one.boxes, one.found))
    return shown


CELLS = Case(
    "cells",
    "blood cells, drawn: which kind of white cell, where all cells are, how many red ones; or real: cells:FOLDER",
    open_split,
    build_model,
    make_tasks,
    see,
    image_labels,
    {
        "smears": Knob(2000, "training smears", low=1),
        "val_smears": Knob(200, "validation smears", low=1),
        "test_smears": Knob(600, "test smears", low=1),
        "boxed": Knob(1.0, "share of the training smears with boxes; all are counted", low=0, high=1),
        "folder": Knob("", "real smears in the layout of BCCD, in place of drawn ones"),
        "size": Knob(256, "side of real images in pixels", low=32),
    },
    weights={"count": 0.3},
    transform=transform,
    batch_size=16,
    seconds=60.0,
    in_lab={"smears": 400, "val_smears": 48, "test_smears": 48, "batch_size": 6, "rate": 0.5},
)
