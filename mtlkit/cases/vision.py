"""What the cases of classification + detection share."""

from typing import Any

from mtlkit.cases.case import Labels
from mtlkit.model import ClassificationHead, ConvEncoder, DetectionHead, ResNetEncoder, SharedEncoderModel
from mtlkit.tasks import Task, classification_and_detection


def image_labels(dataset: Any) -> Labels:
    """Return the names of the classes and of the box classes of a data set."""
    return {"classes": tuple(dataset.classes), "box_classes": tuple(dataset.box_classes)}


def vision_model(encoder: str, classes: int, box_classes: int) -> SharedEncoderModel:
    """Return an untrained model with the heads "classify" and "detect" on an encoder, "conv" or "resnet18"."""
    shared: Any = ConvEncoder() if encoder == "conv" else ResNetEncoder()
    heads = {
        "classify": ClassificationHead(shared.channels, classes),
        "detect": DetectionHead(shared.channels, box_classes, shared.stride),
    }
    return SharedEncoderModel(shared, heads)


def classify_and_detect(labels: Labels) -> tuple[Task, ...]:
    """Return the tasks "classify" and "detect"."""
    return classification_and_detection(labels["box_classes"])
