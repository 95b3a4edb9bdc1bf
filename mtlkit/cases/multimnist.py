"""MultiMNIST: two digits written over each other, and an encoder so small that they must share it out."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mtlkit.cases.case import Case, Knob, Labels
from mtlkit.cases.seen import Seen, SeenImage, answers_of, class_answers
from mtlkit.data import MultiMNIST
from mtlkit.model import ClassificationHead, ConvEncoder, SharedEncoderModel
from mtlkit.tasks import Task, classification

SIDES = ("left", "right")


def open_split(split: str, seed: int, *, pairs: int, val_pairs: int, test_pairs: int, **_: Any) -> MultiMNIST:
    """Return the pairs of a split."""
    return MultiMNIST(split, {"train": pairs, "val": val_pairs, "test": test_pairs}.get(split, 1), seed)


def build_model(labels: Labels, **_: Any) -> SharedEncoderModel:
    """Return an untrained model with an encoder of 1,600 parameters."""
    return SharedEncoderModel(ConvEncoder((4, 8, 8), blocks=0), side_heads(8))


def side_heads(channels: int) -> dict[str, nn.Module]:
    """Return a head for each digit, for a feature map of so many channels."""
    return {side: ClassificationHead(channels, 10, grid=5) for side in SIDES}


def make_tasks(labels: Labels) -> tuple[Task, ...]:
    """Return one classification a digit."""
    return tuple(classification(side, side) for side in SIDES)


def see(dataset: MultiMNIST, indices: Sequence[int], model: nn.Module | None = None, **_: Any) -> list[Seen]:
    """Show pairs of digits."""
    batch = dataset.batch(torch.as_tensor(indices))
    answers = {
        side: class_answers(logits, dataset.classes) for side, logits in answers_of(model, batch["image"]).items()
    }
    return [
        SeenImage(
            batch["image"][k],
            {side: dataset.classes[int(batch[side][k])] for side in SIDES},
            {side: said[k] for side, said in answers.items()},
        )
        for k in range(len(indices))
    ]


MULTIMNIST = Case(
    "multimnist",
    "two real digits written over each other: the left one + the right one, made in memory; no download",
    open_split,
    build_model,
    make_tasks,
    see,
    knobs={
        "pairs": Knob(10_000, "training pairs", low=1),
        "val_pairs": Knob(1000, "validation pairs", low=1),
        "test_pairs": Knob(2000, "test pairs", low=1),
    },
    batch_size=64,
    seconds=30.0,
    in_lab={"pairs": 4000, "val_pairs": 256, "rate": 0.5},
)
