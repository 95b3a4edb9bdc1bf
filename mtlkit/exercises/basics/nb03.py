"""Exercises and quiz of notebook 03, classification and detection."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mtlkit.exercises.differences import learning
from mtlkit.exercises.engine import Exercise
from mtlkit.exercises.questions import Option, Question


def giou(a, b):
    """Return the generalised IoU of two boxes."""
    sides = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
    shared = sides.prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared
    around = (torch.maximum(a[2:], b[2:]) - torch.minimum(a[:2], b[:2])).prod()
    return shared / union - (around - union) / around


def _parts(a: Tensor, b: Tensor, clamp: bool = True, pixel: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sides = torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2]) + pixel
    shared = (sides.clamp(min=0) if clamp else sides).prod()
    areas = (a[2:] - a[:2] + pixel).prod() + (b[2:] - b[:2] + pixel).prod()
    around = (torch.maximum(a[2:], b[2:]) - torch.minimum(a[:2], b[:2]) + pixel).prod()
    return shared, areas, areas - shared, around


def _giou_of(shared: Tensor, areas: Tensor, union: Tensor, around: Tensor) -> Tensor:
    return shared / union - (around - union) / around


def _two_boxes(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    corner = 20 * torch.rand(2, 2, generator=generator) - 5
    a, b = torch.cat([corner, corner + 4 + 8 * torch.rand(2, 2, generator=generator)], 1)
    how, middle = int(torch.randint(0, 6, (), generator=generator)), (a[:2] + a[2:]) / 2
    if how == 0:  # one in the other
        b = middle.repeat(2) + (a - middle.repeat(2)) * (0.2 + 0.6 * torch.rand(4, generator=generator))
    elif how == 1:  # a cross
        b = torch.stack([a[0] - 2, a[1] + 1, a[2] + 3, a[3] - 1])
    elif how == 2:  # small and far away
        b = a.repeat(1) + 60
        b[2:] = b[:2] + 1 + torch.rand(2, generator=generator)
    first, second = (a, b) if torch.rand((), generator=generator) < 0.5 else (b, a)
    return first.clone().requires_grad_(), second.clone().requires_grad_()


def masked_loss(logits, label):
    """Return the mean cross-entropy of the labelled samples, 0 if there are none."""
    total = cross_entropy(logits, label, ignore_index=-1, reduction="sum")
    return total / (label >= 0).sum().clamp(min=1)


def _partly_labelled(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    B, C = torch.randint(2, 8, (2,), generator=generator).tolist()
    label = torch.randint(0, C, (B,), generator=generator)
    seen = torch.rand((), generator=generator)  # none, few or all
    label[torch.rand(B, generator=generator) >= 1.4 * seen - 0.3] = -1
    return torch.randn(B, C, generator=generator).requires_grad_(), label


def flip(image, boxes):
    """Return the mirror image with its boxes."""
    width = image.shape[-1]
    left, top, right, bottom = boxes.T
    return image.flip(-1), torch.stack([width - right, top, width - left, bottom], 1)


def _image_with_boxes(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    number, channels, high, wide = (
        torch.randint(0, 4, (4,), generator=generator) + torch.tensor([0, 1, 14, 19])
    ).tolist()
    corner = 8 * torch.rand(number, 2, generator=generator)
    boxes = torch.cat([corner, corner + 2 + 4 * torch.rand(number, 2, generator=generator)], 1)
    return torch.rand(channels, high, wide, generator=generator), boxes


EXERCISES = (
    Exercise(
        "03.1",
        "Generalised IoU",
        "Write `giou(a, b)` for two boxes `[4]` (left, top, right, bottom): IoU minus the share of the smallest box "
        "around both that neither covers. It will serve as a loss, so its gradient must reach both boxes. First by "
        "hand: (0, 0, 10, 10) and (5, 0, 15, 10) share an area of 50 and cover 150, and the box around them has 150 "
        "too, so IoU = GIoU = 1/3.",
        2,
        12,
        (
            "The shared box runs from the larger left/top to the smaller right/bottom. What if that has negative width?",
            "Union = area of a + area of b - shared area. The box around runs from the smaller left/top to the larger "
            "right/bottom.",
            "shared / union - (around - union) / around, with the sides of the shared box clamped at 0.",
        ),
        giou,
        _two_boxes,
        (
            (
                "this is the IoU: it is 0 for all boxes that do not touch, near or far. Subtract the uncovered share of "
                "the box around both",
                lambda a, b: _parts(a, b)[0] / _parts(a, b)[2],
            ),
            (
                "boxes that do not touch share nothing: clamp the sides of the shared box at 0 before multiplying",
                lambda a, b: _giou_of(*_parts(a, b, clamp=False)),
            ),
            (
                "the shared area was counted twice in the union: subtract it once",
                lambda a, b: _giou_of(_parts(a, b)[0], *(_parts(a, b)[k] for k in (1, 1, 3))),
            ),
            (
                "coordinates here are edges, not pixels: a side is right - left, without + 1",
                lambda a, b: _giou_of(*_parts(a, b, pixel=1.0)),
            ),
            (
                "the uncovered area must be a share of the box around both: divide by it",
                lambda a, b: _parts(a, b)[0] / _parts(a, b)[2] - (_parts(a, b)[3] - _parts(a, b)[2]) / _parts(a, b)[2],
            ),
            (
                "the sign is wrong: empty space around the boxes must lower the value",
                lambda a, b: _parts(a, b)[0] / _parts(a, b)[2] + 1 - _parts(a, b)[2] / _parts(a, b)[3],
            ),
        ),
        learning,
        calls=24,
    ),
    Exercise(
        "03.2",
        "A label is missing",
        "Write `masked_loss(logits, label)` with `logits [B, C]` and `label [B]`, where -1 means *unlabelled*. "
        "Return the mean cross-entropy over the *labelled* samples. If there are none, return 0, still connected to the "
        "graph, so that `backward` works.",
        2,
        8,
        (
            "`cross_entropy` has an argument `ignore_index`.",
            "With `reduction='mean'` and no labelled sample it divides 0 by 0. Take the sum and divide yourself.",
            "`(label >= 0).sum().clamp(min=1)` is a divisor that is never 0.",
        ),
        masked_loss,
        _partly_labelled,
        (
            (
                "you divided by the size of the batch: then a label counts less in a batch with few labels",
                lambda logits, label: cross_entropy(logits, label, ignore_index=-1, reduction="sum") / len(label),
            ),
            (
                "a missing label was treated as class 0",
                lambda logits, label: cross_entropy(logits, label.clamp(min=0)),
            ),
            (
                "without any label this is 0 / 0 = NaN, and one NaN ends the training",
                lambda logits, label: cross_entropy(logits, label, ignore_index=-1),
            ),
            (
                "this is the sum; a batch with more labels must not count more",
                lambda logits, label: cross_entropy(logits, label, ignore_index=-1, reduction="sum"),
            ),
            (
                "the value is right, but nothing learns: it was detached",
                lambda logits, label: masked_loss(logits, label).detach(),
            ),
        ),
        learning,
        calls=20,
    ),
    Exercise(
        "03.3",
        "Flip both",
        "Write `flip(image, boxes)`: mirror an image `[C, H, W]` left to right, with its boxes `[N, 4]` (left, top, "
        "right, bottom, as edges from 0 to W). Return image and boxes, each box still with left < right.",
        2,
        8,
        (
            "A pixel edge at x lands at W - x.",
            "The old *right* edge becomes the new *left* edge.",
            "New box: (W - right, top, W - left, bottom).",
        ),
        flip,
        _image_with_boxes,
        (
            ("the picture is flipped, the boxes are not: a classic bug", lambda image, boxes: (image.flip(-1), boxes)),
            (
                "left and right changed places: every box has a negative width. The old right edge is the new left one",
                lambda image, boxes: (
                    image.flip(-1),
                    torch.stack(
                        [image.shape[-1] - boxes[:, 0], boxes[:, 1], image.shape[-1] - boxes[:, 2], boxes[:, 3]], 1
                    ),
                ),
            ),
            (
                "off by one: these are edges from 0 to W, so x lands at W - x, not at W - 1 - x",
                lambda image, boxes: (
                    image.flip(-1),
                    flip(image, boxes)[1] - torch.tensor([1.0, 0, 1, 0]),
                ),
            ),
            (
                "this flips top to bottom: left to right is the *last* axis",
                lambda image, boxes: (
                    image.flip(-2),
                    torch.stack(
                        [boxes[:, 0], image.shape[-2] - boxes[:, 3], boxes[:, 2], image.shape[-2] - boxes[:, 1]], 1
                    ),
                ),
            ),
            (
                "the boxes were measured against the height; left and right belong to the width, image.shape[-1]",
                lambda image, boxes: (
                    image.flip(-1),
                    torch.stack(
                        [image.shape[-2] - boxes[:, 2], boxes[:, 1], image.shape[-2] - boxes[:, 0], boxes[:, 3]], 1
                    ),
                ),
            ),
        ),
    ),
)

QUIZ = (
    Question(
        "An image has `has_boxes = False`. The detection loss for it is",
        (
            Option("high, as all boxes were missed", "that would punish correct detections that nobody annotated."),
            Option("zero", "nobody has annotated it, so it adds no loss.", True),
            Option("NaN", "that would be a division by zero, which the loss avoids."),
            Option("that of an empty image", "an image *known* to be empty is penalised for every false detection."),
        ),
    ),
    Question(
        "AP50 is high, AP is low. The model",
        (
            Option("misses objects that are small", "that would lower AP50 as well."),
            Option("confuses classes that look alike", "that would lower AP50 as well."),
            Option("draws boxes loosely", "they pass at IoU 0.5 and fail at stricter thresholds.", True),
            Option(
                "is too confident in its classes", "only the order of the confidences matters to AP, not their size."
            ),
        ),
    ),
    Question(
        "Why does the detection head not average over the grid?",
        (
            Option("to save time", "averaging would be cheaper."),
            Option("because the answer depends on the place", "averaging throws away where things are.", True),
            Option("because it has more classes", "the number of outputs has nothing to do with it."),
            Option("it does", "look at the shapes in section 3: its output has a grid."),
        ),
    ),
    Question(
        "You flip a picture and forget the boxes.",
        (
            Option("the loss becomes NaN, as no box fits its object", "the numbers are finite, just wrong."),
            Option(
                "an error is raised, as boxes and picture disagree", "no code can see that a box is in the wrong place."
            ),
            Option("training runs and the boxes are learned wrong", "always draw your samples before training.", True),
            Option("nothing changes, as a mirror image has the same boxes", "half of the targets are wrong."),
        ),
    ),
)
