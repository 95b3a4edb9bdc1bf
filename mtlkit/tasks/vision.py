"""Tasks on images: which class, and what is where."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from mtlkit.data import Batch
from mtlkit.losses import classification_loss, detection_loss, responsible_cells
from mtlkit.tasks.metrics import Accuracy, AveragePrecision
from mtlkit.tasks.task import Task


def classification(name: str, target: str) -> Task:
    """Return the task `name`: which class is the image? Its labels are `batch[target]`, -1 where there is none."""
    return Task(
        name,
        partial(classification_loss, target=target),
        partial(Accuracy, target),
        "accuracy",
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


def _responsible(batch: Batch, stride: int) -> Tensor:
    height, width = batch["image"].shape[-2:]
    cells = (-(-height // stride), -(-width // stride))  # an encoder rounds up
    return responsible_cells(batch, cells)[1].sum()
