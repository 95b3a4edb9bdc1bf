"""Scenes with five questions about each."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtlkit.data.memory import InMemory
from mtlkit.data.scenes import TEXTURES, DigitScenes

FACTS = {
    "texture": TEXTURES,
    "count": ("one digit", "two digits", "three digits", "four digits"),
    "sum": ("below 8", "8 to 14", "15 or more"),
    "where": ("top left", "top right", "bottom left", "bottom right"),
    "colour": ("red", "green", "blue"),
}


class SceneFacts(InMemory):
    """The scenes of `DigitScenes` with five labels each.

    "texture" and "count" are those of `DigitScenes`; "sum" is that of the digits, in three parts; "where" is the
    quarter in which the largest digit has its centre; "colour" is the strongest channel of the picture's mean colour.

    A sample is `{"image": float32 [3, 64, 64] in 0..1}` and each of `FACTS` `int64 []`; -1 where the label is withheld.

    Args:
        split: "train", "val" or "test"; their digits are disjoint.
        n: number of scenes.
        seed: determines everything.
        labelled: task → how many of the scenes, the first ones, have its label; all, if not named.
    """

    def __init__(
        self, split: str = "train", n: int = 6000, seed: int = 0, labelled: Mapping[str, int] | None = None
    ) -> None:
        scenes = DigitScenes(split, n, seed=seed)
        self.images, shown = scenes.images, scenes.box_labels >= 0
        area = (scenes.boxes[..., 2:] - scenes.boxes[..., :2]).prod(-1)
        largest = scenes.boxes[torch.arange(n), area.argmax(1)]
        right, low = ((largest[:, :2] + largest[:, 2:]) / 2 >= 32).long().unbind(1)
        total = scenes.box_labels.clamp(min=0).sum(1)
        self.labels = {
            "texture": scenes.labels,
            "count": shown.sum(1) - 1,
            "sum": (total >= 8).long() + (total >= 15).long(),
            "where": 2 * low + right,
            "colour": scenes.images.float().mean((2, 3)).argmax(1),
        }
        for task, number in dict(labelled or {}).items():
            if task not in FACTS:
                raise ValueError(f"labelled names the task {task!r}: expected one of {', '.join(FACTS)}")
            self.labels[task][number:] = -1

    def inputs(self, at: Tensor) -> dict[str, Any]:
        """Return the scenes."""
        return {"image": self.images[at].float().div_(255)}
