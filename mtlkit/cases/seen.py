"""What a learner sees of a sample: what is given, what is right, what the model says. Plain data, for any picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.machine import map_tensors
from mtlkit.model import evaluating
from mtlkit.tasks import find_objects
from mtlkit.training import fetch


@dataclass(frozen=True)
class SeenBox:
    """A box in an image: corners x0, y0, x1, y1 in pixels, what is in it, how sure that is (`None`: it is true)."""

    corners: tuple[float, ...]
    name: str
    score: float | None = None


@dataclass(frozen=True)
class SeenImage:
    """An image, its classes and its boxes.

    Attributes:
        image: `float32 [3, H, W]` in 0..1.
        truth: task → its class, where it is labelled.
        answers: task → what the model says, and how sure it is, 0..1; `None` where it does not say.
        boxes: the true ones.
        found: those that the model draws.
    """

    image: Tensor
    truth: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, tuple[str, float | None]] = field(default_factory=dict)
    boxes: Sequence[SeenBox] = ()
    found: Sequence[SeenBox] = ()


@dataclass(frozen=True)
class SeenText:
    """A line of text: what is given, what should follow, and what the model lets follow.

    Attributes:
        task: which job it is.
        given: the beginning.
        right: what should follow.
        answer: what the model says.
    """

    task: str
    given: str
    right: str
    answer: str | None = None


@dataclass(frozen=True)
class SeenRow:
    """A row of a table.

    Attributes:
        given: column → its value, as it is to be read.
        truth: task → what is true, where it is known.
        answers: task → what the model says.
        right: task → whether that is right, for tasks that can be right or wrong.
    """

    given: Mapping[str, str]
    truth: Mapping[str, str]
    answers: Mapping[str, str] = field(default_factory=dict)
    right: Mapping[str, bool] = field(default_factory=dict)


Seen = SeenImage | SeenText | SeenRow


def answers_of(model: nn.Module | None, inputs: Any) -> dict[str, Any]:
    """Return task → output for `inputs`, a tensor or several, on the CPU; nothing without a model."""
    if model is None:
        return {}
    device = next(model.parameters()).device
    there = map_tensors(lambda tensor: tensor.to(device), inputs)
    with evaluating(model):
        return {name: _to_cpu(output) for name, output in model(there).items()}


def _to_cpu(output: Any) -> Any:
    return output.cpu() if isinstance(output, Tensor) else type(output)(*(part.cpu() for part in output))


def named(classes: Sequence[str], number: int) -> str:
    """Return the name of a class; "-" where the model knows one more than the data."""
    return classes[number] if number < len(classes) else "-"


def class_answers(logits: Tensor, classes: Sequence[str]) -> list[tuple[str, float]]:
    """Return for each row of `logits [B, classes]` the class and how sure it is."""
    sure, number = logits.float().softmax(1).max(1)
    return [(named(classes, k), s) for k, s in zip(number.tolist(), sure.tolist(), strict=True)]


def see_boxes(
    dataset: Any,
    indices: Sequence[int],
    model: nn.Module | None = None,
    *,
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
    most: int = 100,
) -> list[SeenImage]:
    """Show images of classification + detection.

    Args:
        dataset: has `classes` and `box_classes`; samples as in `mtlkit.data.DigitScenes`.
        indices: which samples.
        model: gives "classify" and "detect", or one of them.
        score_threshold: the least sure box that is shown.
        iou_threshold: the largest overlap of two boxes of a class.
        most: boxes in an image.
    """
    batch = fetch(dataset, torch.as_tensor(indices))
    outputs = answers_of(model, batch["image"])
    answers: list[dict[str, tuple[str, float | None]]] = [{} for _ in indices]
    found: list[list[SeenBox]] = [[] for _ in indices]
    if "classify" in outputs:
        answers = [{"classify": said} for said in class_answers(outputs["classify"], dataset.classes)]
    if "detect" in outputs:
        objects = find_objects(
            outputs["detect"], score_threshold=score_threshold, iou_threshold=iou_threshold, most=most
        )
        found = [_boxes(one["boxes"], one["labels"], dataset.box_classes, one["scores"].tolist()) for one in objects]
    return [
        SeenImage(
            batch["image"][k],
            {"classify": dataset.classes[label]} if (label := int(batch["label"][k])) >= 0 else {},
            answers[k],
            _boxes(batch["boxes"][k], batch["box_labels"][k], dataset.box_classes),
            found[k],
        )
        for k in range(len(indices))
    ]


def _boxes(
    corners: Tensor, labels: Tensor, names: Sequence[str], scores: Sequence[float] | None = None
) -> list[SeenBox]:
    given: Sequence[float | None] = scores or [None] * len(labels)
    return [
        SeenBox(tuple(box), names[label], score)
        for box, label, score in zip(corners.tolist(), labels.tolist(), given, strict=True)
        if label >= 0
    ]
