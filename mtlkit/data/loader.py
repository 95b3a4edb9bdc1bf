"""Samples become batches: collating with missing targets, and one seeded, resumable loader for every source."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mtlkit.data.errors import DataError
from mtlkit.machine import ALONE, Group

Sample = dict[str, Any]
Batch = dict[str, Tensor]


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; pad the boxes with label -1 and mark absent targets.

    Returns:
        `{"image": float32 [B, 3, H, W], "label": int64 [B] (-1 = absent), "boxes": float32 [B, M, 4],
        "box_labels": int64 [B, M] (-1 = padding), "has_boxes": bool [B]}`, M the largest number of boxes.

    Raises:
        DataError: if an image has a NaN or infinite pixel, or images differ in size.
    """
    shapes = {tuple(sample["image"].shape) for sample in samples}
    if len(shapes) > 1:
        raise DataError(f"images of one batch differ in size {sorted(shapes)}: resize them in a transform")
    images = torch.stack([sample["image"] for sample in samples])
    for i, finite in enumerate(images.isfinite().flatten(1).all(1).tolist()):
        if not finite:
            raise DataError(f"image {i} of the batch has NaN or infinite pixels: mend the source or its transform")
    found = [sample.get("box_labels", torch.empty(0, dtype=torch.int64)) for sample in samples]
    most = max(1, *(len(labels) for labels in found)) if found else 1
    boxes, box_labels = torch.zeros(len(samples), most, 4), torch.full((len(samples), most), -1)
    for i, labels in enumerate(found):
        if len(labels):
            boxes[i, : len(labels)] = samples[i]["boxes"]
            box_labels[i, : len(labels)] = labels
    return {
        "image": images,
        "label": torch.tensor([int(sample.get("label", -1)) for sample in samples]),
        "boxes": boxes,
        "box_labels": box_labels,
        "has_boxes": torch.tensor(["boxes" in sample for sample in samples]),
    }


def check_sample(sample: Sample, index: int, dataset: Any) -> None:
    """Raise a `DataError` in words if a target of `sample` cannot be right.

    Labels are held against `dataset.classes` and `dataset.box_classes` where it has them.
    """
    label, boxes, box_labels = sample.get("label"), sample.get("boxes"), sample.get("box_labels")
    if label is not None and not 0 <= int(label) < len(getattr(dataset, "classes", range(int(label) + 1))):
        raise DataError(
            f"sample {index}: its label is {int(label)}, but there are {len(dataset.classes)} classes from 0"
        )
    if boxes is None or box_labels is None:
        return
    if len(boxes) != len(box_labels):
        raise DataError(f"sample {index}: it has {len(boxes)} boxes but {len(box_labels)} box_labels")
    height, width = sample["image"].shape[-2:]
    classes = len(getattr(dataset, "box_classes", ())) or float("inf")
    for (x0, y0, x1, y1), box_label in zip(boxes.tolist(), box_labels.tolist(), strict=True):
        box = f"the box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
        if not 0 <= box_label < classes:
            raise DataError(
                f"sample {index}: its box_labels hold {box_label}, but there are {classes} box classes from 0"
            )
        if not (x0 < x1 and y0 < y1):
            raise DataError(f"sample {index}: {box} has no area; leave it out")
        if not (x0 >= 0 and y0 >= 0 and x1 <= width + 0.5 and y1 <= height + 0.5):
            raise DataError(f"sample {index}: {box} reaches outside the image of {width}x{height} pixels; cut it")


class Loader:
    """Endless batches in a shuffled order that the seed and the epoch determine.

    A data set with a method `batch(indices)` is read through it; any other sample by sample, each with a random
    stream of its own (seed, epoch, index), so that order and augmentation do not depend on what ran before.
    The state is one number, the count of batches given out: a resumed run sees the same batches.

    Args:
        dataset: map-style; samples as in `mtlkit.data.DigitScenes`.
        batch_size: samples in a batch; every batch is full, an epoch's rest is left out.
        seed: of the order and the augmentation.
        transform: from sample to sample, applied in training (see `mtlkit.data.augment`).
        group: processes of which each gets an equal part of every batch.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 32,
        seed: int = 0,
        transform: Callable[[Sample], Sample] | None = None,
        group: Group = ALONE,
    ) -> None:
        if not len(dataset):
            raise DataError("the data set is empty: there is nothing to train on")
        self.dataset, self.seed, self.transform, self.group = dataset, seed, transform, group
        self.batch_size = min(batch_size, len(dataset))
        if self.batch_size % group.size:
            raise DataError(
                f"a batch of {self.batch_size} cannot be shared out among {group.size} processes: "
                f"take a batch size that is a multiple of {group.size}"
            )
        self.batches_given = 0
        self._epoch, self._order = -1, torch.empty(0)

    @property
    def batches_per_epoch(self) -> int:
        """Full batches in one pass over the data."""
        return len(self.dataset) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        epoch, position = divmod(self.batches_given, self.batches_per_epoch)
        if epoch != self._epoch or len(self._order) != len(self.dataset):
            generator = torch.Generator().manual_seed(_mix(self.seed, epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.dataset), generator=generator)
        indices = self._order[position * self.batch_size :][: self.batch_size]
        batch = self._fetch(indices.chunk(self.group.size)[self.group.rank], epoch)
        self.batches_given += 1
        return batch

    def _fetch(self, indices: Tensor, epoch: int) -> Batch:
        if self.transform is None and hasattr(self.dataset, "batch"):
            return self.dataset.batch(indices)
        samples = []
        for index in indices.tolist():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_mix(self.seed, epoch, index))
                sample = self.dataset[index]
                check_sample(sample, index, self.dataset)
                samples.append(self.transform(sample) if self.transform else sample)
        return collate(samples)

    def state_dict(self) -> dict[str, int]:
        """Return where the loader stands."""
        return {"batches_given": self.batches_given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batch at which `state_dict` was taken."""
        self.batches_given = state["batches_given"]


def _mix(*numbers: int) -> int:
    return hash(numbers) % 2**63  # of integers: the same in every process
