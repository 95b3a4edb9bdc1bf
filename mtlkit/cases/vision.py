"""What the cases of classification + detection share."""

from collections.abc import Callable
from typing import Any

from torch import nn

from mtlkit.cases.case import Labels
from mtlkit.model import ClassificationHead, ConvEncoder, DetectionHead, ResNetEncoder, SharedEncoderModel
from mtlkit.tasks import Task, classification_and_detection


def image_labels(dataset: Any) -> Labels:
    """Return the names of the classes and of the box classes of a data set."""
    return {"classes": tuple(dataset.classes), "box_classes": tuple(dataset.box_classes)}


def vision_model(
    encoder: str, classes: int, box_classes: int, **more: Callable[[int], nn.Module]
) -> SharedEncoderModel:
    """Return an untrained model with the heads "classify" and "detect" on an encoder, "conv" or "resnet18".

    Args:
        encoder: which one.
        classes: of an image.
        box_classes: of boxes.
        more: task → what makes its head from the number of channels.
    """
    shared: Any = ConvEncoder() if encoder == "conv" else ResNetEncoder()
    heads = vision_heads(shared.channels, classes, box_classes, shared.stride)
    return SharedEncoderModel(shared, heads | {task: make(shared.channels) for task, make in more.items()})


def vision_heads(channels: int, classes: int, box_classes: int, stride: int = 8) -> dict[str, nn.Module]:
    """Return the heads "classify" and "detect" for a feature map of so many channels."""
    return {
        "classify": ClassificationHead(channels, classes),
        "detect": DetectionHead(channels, box_classes, stride),
    }


def classify_and_detect(labels: Labels) -> tuple[Task, ...]:
    """Return the tasks "classify" and "detect"."""
    return classification_and_detection(labels["box_classes"])
