"""Who gained from a step: what the gradients predict, and what happened."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mtlkit.lab.live.scoring import copied
from mtlkit.machine import THIS_MACHINE
from mtlkit.model import SharedEncoderModel
from mtlkit.tasks import Task
from mtlkit.training.forward import Forward


def gains(
    model: SharedEncoderModel, tasks: Sequence[Task], batch: Any, before: Sequence[Tensor], random: Tensor | None = None
) -> dict[str, list[float]]:
    """Return task → predicted and true change of its loss on `batch` by the step from `before` to the model as it is.

    The prediction is g_i · Δθ, g_i the gradient of the task's loss before the step over all parameters: what the step
    would do if the losses were straight lines. The model itself is left as it is.

    Args:
        model: after the step.
        tasks: what it learns.
        batch: that of the step.
        before: the parameters before the step.
        random: state of torch's random stream at the step, for models that draw.
    """
    model = copied(model)
    parameters = list(model.parameters())
    after = [parameter.detach().clone() for parameter in parameters]
    forward, stream = Forward(model, tasks, replace(THIS_MACHINE, device="cpu")), torch.get_rng_state()
    try:
        _put(parameters, before)
        losses, predicted = _losses(forward, batch, random), {}
        trained = [k for k, parameter in enumerate(parameters) if parameter.requires_grad]
        for task, loss in losses.items():
            slopes = torch.autograd.grad(loss, [parameters[k] for k in trained], retain_graph=True, allow_unused=True)
            predicted[task] = sum(
                float((slope.double() * (after[k] - before[k])).sum())
                for k, slope in zip(trained, slopes, strict=True)
                if slope is not None
            )
        _put(parameters, after)
        with torch.no_grad():
            new = _losses(forward, batch, random)
        return {task: [predicted[task], float(new[task] - loss.detach())] for task, loss in losses.items()}
    finally:
        torch.set_rng_state(stream)


@torch.no_grad()
def _put(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def _losses(forward: Forward, batch: Any, random: Tensor | None) -> dict[str, Tensor]:
    if random is not None:
        torch.set_rng_state(random)
    return {task: loss for part in forward(batch) for task, loss in part.items()}
