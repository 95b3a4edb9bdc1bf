"""Which pixels an answer rests on, by Captum; and whether the picture says anything about the network."""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.model import Detections

METHODS = ("saliency", "input x gradient", "integrated gradients", "guided backprop")


def attribution(
    model: nn.Module, task: str, images: Tensor, method: str = "integrated gradients", steps: int = 32
) -> Tensor:
    """Return how much each pixel counts for a task's most certain answer `[B, H, W]`, 0 or more.

    What is explained is the largest logit: of the class that the network would say, or of its most certain box. Values
    of the three colours are added up without their sign.

    Args:
        model: a `SharedEncoderModel` that reads images.
        task: whose output it is: logits `[B, classes]` or `Detections`.
        images: `[B, 3, H, W]`.
        method: one of `METHODS`. Simonyan et al. 2014 (saliency); Sundararajan et al. 2017 (integrated gradients, from
            a grey image); Springenberg et al. 2015 (guided backprop).
        steps: of integrated gradients.

    Raises:
        ValueError: if there is no such method or task.
    """
    from captum import attr  # slow to import

    if method not in METHODS:
        raise ValueError(f"there is no attribution {method!r}: expected one of {', '.join(METHODS)}")
    score = _Score(model, task).eval()
    inputs = images.detach().clone().requires_grad_()
    if method == "integrated gradients":
        grey = torch.full_like(images, 0.5)
        found = attr.IntegratedGradients(score).attribute(inputs, grey, n_steps=steps, internal_batch_size=256)
    else:
        made: Any = {"saliency": attr.Saliency, "input x gradient": attr.InputXGradient,
                     "guided backprop": attr.GuidedBackprop}[method]  # fmt: skip
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")
            found = made(score).attribute(inputs)
    return torch.as_tensor(found).detach().abs().sum(1)


class _Score(nn.Module):
    def __init__(self, model: nn.Module, task: str) -> None:
        super().__init__()
        if task not in model.heads:  # type: ignore[operator]
            raise ValueError(f"there is no task {task!r}: expected {', '.join(model.heads)}")  # type: ignore[arg-type]
        self.model, self.task = copy.deepcopy(model), task  # guided backprop puts hooks on its parts

    def forward(self, image: Tensor) -> Tensor:
        output = self.model(image, tasks=[self.task])[self.task]
        logits = output.logits if isinstance(output, Detections) else output
        return torch.as_tensor(logits.flatten(1).amax(1))


def randomised(model: nn.Module, parts: Callable[[nn.Module], Sequence[nn.Module]], seed: int = 0) -> nn.Module:
    """Return a copy of a model, some of its parts drawn anew as they were before training.

    Args:
        model: it stays as it is.
        parts: model → those that are drawn anew.
        seed: of the drawing.
    """
    made = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for part in parts(made):
            for module in part.modules():
                if reset := getattr(module, "reset_parameters", None):
                    reset()
    return made


def rank_agreement(maps: Tensor, others: Tensor) -> Tensor:
    """Return Spearman's rank correlation of each pair of maps `[B]`: 1 if they order the pixels alike.

    J. Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, compare a trained and a random network by it.

    Args:
        maps: `[B, H, W]`.
        others: the same shape.
    """
    from scipy.stats import spearmanr

    pairs = zip(maps.flatten(1), others.flatten(1), strict=True)
    return torch.tensor([float(spearmanr(a.numpy(), b.numpy()).statistic) for a, b in pairs])


def share_inside(maps: Tensor, boxes: Tensor) -> Tensor:
    """Return which share of each map lies in boxes, divided by the share of the image that they cover `[B]`.

    1 means that the map does not care about the boxes.

    Args:
        maps: `[B, H, W]`, 0 or more.
        boxes: `[B, N, 4]`, xyxy in pixels; rows without area are none.

    Raises:
        ValueError: if an image has no box.
    """
    height, width = maps.shape[1:]
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    left, top, right, bottom = boxes[..., None, None].unbind(2)
    inside = ((x > left) & (x < right) & (y > top) & (y < bottom)).any(1)
    covered = inside.float().mean((1, 2))
    if not covered.all():
        raise ValueError("an image has no box: leave it out, there is nothing to measure")
    return (maps * inside).sum((1, 2)) / maps.sum((1, 2)).clamp(min=1e-12) / covered
