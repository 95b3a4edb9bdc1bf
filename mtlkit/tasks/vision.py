"""Tasks on images: which class, and what is where."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from mtlkit.data import Batch
from mtlkit.losses import classification_loss, detection_loss, map_loss, responsible_cells
from mtlkit.tasks.metrics import Accuracy, AveragePrecision, BalancedAccuracy, MapOverlap
from mtlkit.tasks.task import Task


def classification(name: str, target: str, balanced: bool = False) -> Task:
    """Return the task `name`: which class is it? Its labels are `batch[target]`, -1 where there is none.

    Args:
        name: of the task.
        target: where in the batch the labels are.
        balanced: score it by the mean over the classes, each counted the same however frequent it is.
    """
    return Task(
        name,
        partial(classification_loss, target=target),
        partial(BalancedAccuracy if balanced else Accuracy, target),
        "balanced" if balanced else "accuracy",
        labelled=lambda batch: batch[target] >= 0,
    )


def classification_and_detection(box_classes: Sequence[str], stride: int = 8) -> tuple[Task, Task]:
    """Return the tasks of the course's case: what is the image, and what is where in it.

    Args:
        box_classes: their names.
        stride: pixels of the image along a cell of the detection head, as in `DetectionHead`.
    """
    return (
        classification("classify", "label"),
        Task(
            "detect",
            detection_loss,
            partial(AveragePrecision, box_classes),
            "ap",
            labelled=lambda batch: batch["has_boxes"],
            units=partial(_responsible, stride=stride),
        ),
    )


def segmentation(name: str, target: str) -> Task:
    """Return the task `name`: yes or no in each part of a picture? Its maps are `batch[target]`, NaN if unknown."""
    return Task(
        name,
        partial(map_loss, target=target),
        partial(MapOverlap, target),
        "iou",
        labelled=lambda batch: batch[target].isfinite().flatten(1).any(1),
        units=lambda batch: batch[target].isfinite().sum(),
    )


def _responsible(batch: Batch, stride: int) -> Tensor:
    height, width = batch["image"].shape[-2:]
    cells = (-(-height // stride), -(-width // stride))  # an encoder rounds up
    return responsible_cells(batch, cells)[1].sum()
