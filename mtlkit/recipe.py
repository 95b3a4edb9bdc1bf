"""The course's case, classification + detection, put together from a handful of plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtlkit.data import CocoFolder, DigitScenes, Loader, OxfordPets, VocFolder, augment, data_folder
from mtlkit.data.photos import train_and_test_split
from mtlkit.model import ClassificationHead, ConvEncoder, DetectionHead, ResNetEncoder, SharedEncoderModel
from mtlkit.optim import MovingAverage, MuonAdamW
from mtlkit.parallel import ALONE, Group
from mtlkit.tasks import Task, classification_and_detection
from mtlkit.weighting import METHODS, StaticWeights, Weighting

TEST_SCENES = 2000
# Tuned for a minute on scenes of class "texture". With equal weights, classification, which is solved early, goes on to
# pull at the shared encoder: AP 0.66 after that minute instead of 0.71.
WEIGHTS = {"classify": 0.2, "detect": 1.0}


@dataclass(frozen=True)
class Recipe:
    """What determines a run, apart from its length. A checkpoint keeps it.

    Attributes:
        data: "scenes", "pets", "voc:FOLDER" or "coco:FOLDER".
        size: side of the images in pixels.
        encoder: "conv" (small) or "resnet18".
        batch_size: images in a batch.
        seed: of the initialisation, the data and their order.
        scenes: training scenes, for "scenes".
        scene_class: what a scene's label says, for "scenes".
        image_class: how an image's class is derived from its boxes, for "voc:" and "coco:".
        repair: cut or leave out wrong boxes instead of refusing them.
        method: how the losses become one update, a name in `mtlkit.weighting.METHODS`.
    """

    data: str = "scenes"
    size: int = 64
    encoder: str = "conv"
    batch_size: int = 32
    seed: int = 0
    scenes: int = 20_000
    scene_class: str = "texture"
    image_class: str = "largest"
    repair: bool = False
    method: str = "StaticWeights"

    @classmethod
    def for_data(cls, data: str, **changes: Any) -> "Recipe":
        """Return the tested recipe for a kind of data, with `changes`; a change that is `None` is left out."""
        kind = data.partition(":")[0]
        defaults: dict[str, dict[str, Any]] = {
            "scenes": {},
            "pets": {"size": 128, "encoder": "resnet18", "batch_size": 16},
            "voc": {"size": 256, "batch_size": 8},
            "coco": {"size": 256, "batch_size": 8},
        }
        if kind not in defaults:
            raise ValueError(f"unknown data {data!r}: expected scenes, pets, voc:FOLDER or coco:FOLDER")
        chosen = {name: value for name, value in changes.items() if value is not None}
        return cls(data, **{**defaults[kind], **chosen})

    def open(self, split: str) -> Any:
        """Return the data set of a split, "train" or "test"."""
        kind, _, folder = self.data.partition(":")
        if kind == "scenes":
            n = self.scenes if split == "train" else TEST_SCENES
            return DigitScenes(split, n, self.size, self.seed, scene_class=self.scene_class)
        if kind == "pets":  # the authors' test images have no boxes
            return OxfordPets(folder or data_folder(), {"test": "val"}.get(split, split), self.size, repair=self.repair)
        reader = VocFolder if kind == "voc" else CocoFolder
        train_split, test_split = train_and_test_split(Path(folder))
        name = train_split if split == "train" else test_split
        return reader(folder, name, self.size, label=self.image_class, repair=self.repair)

    def model(self, classes: int, box_classes: int) -> SharedEncoderModel:
        """Return an untrained model; the same for the same seed."""
        encoders: Mapping[str, type[nn.Module]] = {"conv": ConvEncoder, "resnet18": ResNetEncoder}
        if self.encoder not in encoders:
            raise ValueError(f"unknown encoder {self.encoder!r}: expected one of {', '.join(encoders)}")
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            encoder: Any = encoders[self.encoder]()
            heads = {
                "classify": ClassificationHead(encoder.channels, classes),
                "detect": DetectionHead(encoder.channels, box_classes, encoder.stride),
            }
            return SharedEncoderModel(encoder, heads)


class Case:
    """A recipe with its parts made: what `train`, `evaluate` and `save_checkpoint` are given.

    Args:
        recipe: what to make.
        weights: task name → loss weight, for "StaticWeights"; by default 1, but on scenes as in `WEIGHTS`.
        train_set: the training data, if it is open already.
        group: the processes that train together.

    Raises:
        ValueError: if the method is unknown, or takes no weights though some are given.
    """

    def __init__(
        self,
        recipe: Recipe,
        weights: Mapping[str, float] | None = None,
        train_set: Any = None,
        group: Group = ALONE,
    ) -> None:
        self.recipe = recipe
        self.train_set = recipe.open("train") if train_set is None else train_set
        transform = None if recipe.data == "scenes" else augment(recipe.size)
        self.loader = Loader(self.train_set, recipe.batch_size, recipe.seed, transform, group)
        self.model = recipe.model(len(self.train_set.classes), len(self.train_set.box_classes))
        self.average = MovingAverage(self.model)
        self.tasks: tuple[Task, ...] = classification_and_detection(self.train_set.box_classes)
        self.weighting = self._weighting(weights or {})
        self.optimizer = MuonAdamW(self.model)

    def _weighting(self, weights: Mapping[str, float]) -> Weighting:
        method = self.recipe.method
        if method == "StaticWeights":
            return StaticWeights((WEIGHTS if self.recipe.data == "scenes" else {}) | dict(weights))
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}: expected one of {', '.join(METHODS)}")
        if weights:
            raise ValueError(f"{method} finds the weights itself: leave them out, or take the method StaticWeights")
        return METHODS[method]()
