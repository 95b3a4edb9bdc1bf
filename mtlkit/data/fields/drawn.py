"""What drawn pictures with boxes share: they are held in memory, and read like other images."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlkit.data.batches import Batch, Sample

SPLITS = ("train", "val", "test")


class Drawn:
    """Pictures with a class, boxes and whatever else, in memory.

    Args:
        images: `uint8 [N, H, W, 3]`.
        labels: class of each picture.
        boxes: of each picture, rows `(x0, y0, x1, y1, class)` in pixels.
        classes: names of the classes of a picture.
        box_classes: those of the boxes.
        more: other targets `[N, ...]`.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: Sequence[int],
        boxes: Sequence[Sequence[Sequence[float]]],
        classes: Sequence[str],
        box_classes: Sequence[str],
        more: Mapping[str, Tensor],
    ) -> None:
        self.classes, self.box_classes, self.label_origin = tuple(classes), tuple(box_classes), "made"
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.tensor(labels)
        most = max([1, *map(len, boxes)])
        self.boxes, self.box_labels = torch.zeros(len(images), most, 4), torch.full((len(images), most), -1)
        for k, rows in enumerate(boxes):
            for m, (*corners, kind) in enumerate(rows):
                self.boxes[k, m], self.box_labels[k, m] = torch.tensor(corners), int(kind)
        self.has_boxes = torch.ones(len(images), dtype=torch.bool)
        self.more = dict(more)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        batch = self.batch([index])
        real = batch["box_labels"][0] >= 0
        sample = {name: batch[name][0] for name in ("image", "label", *self.more)}
        if batch["has_boxes"][0]:
            sample |= {"boxes": batch["boxes"][0][real], "box_labels": batch["box_labels"][0][real]}
        return sample

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """Return a batch of the samples at `indices`, in the form of `mtlkit.data.collate`."""
        at = torch.as_tensor(indices)
        return {
            "image": self.images[at].float().div_(255),
            "label": self.labels[at],
            "boxes": self.boxes[at],
            "box_labels": self.box_labels[at],
            "has_boxes": self.has_boxes[at],
            **{name: values[at] for name, values in self.more.items()},
        }


def stream_of(split: str, seed: int) -> int:
    """Return where the random streams of a split's pictures begin.

    Raises:
        ValueError: if there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    return (seed * len(SPLITS) + SPLITS.index(split)) * 10**6
