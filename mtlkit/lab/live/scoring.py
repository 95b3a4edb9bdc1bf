"""A model's scores on validation samples, a few samples between two steps."""

import copy
from typing import Any

import torch
from torch import nn

from mtlkit.machine import tensors_of
from mtlkit.model import read_input
from mtlkit.training import fetch

CHUNK, MOST = 8, 64  # samples scored between two steps; in all


class Scoring:
    """Scores a model as it was when this was made, whatever becomes of it.

    Args:
        step: after which the model is as it is.
        model: is copied.
        tasks: those without a metric are left out.
        dataset: of validation samples.
    """

    def __init__(self, step: int, model: nn.Module, tasks: Any, dataset: Any) -> None:
        self.step, self.model, self.dataset, self.done = step, copied(model).eval(), dataset, 0
        self.metrics = {task.name: task.metric() for task in tasks if task.metric is not None}

    @torch.no_grad()
    def advance(self) -> dict[str, float] | None:
        """Score some samples; return score name → value at the end."""
        number = min(MOST, len(self.dataset)) if self.metrics else 0
        if self.done < number:
            batch = fetch(self.dataset, torch.arange(self.done, min(self.done + CHUNK, number)))
            for name, output in self.model(read_input(self.model, batch), list(self.metrics)).items():
                self.metrics[name].update(output, batch)
            self.done += CHUNK
            return None
        return {
            f"{task}/{name}": float(value)
            for task, metric in self.metrics.items()
            for name, value in metric.compute().items()
            if isinstance(value, int | float)
        }

    def copy(self) -> "Scoring":
        """Return one that goes on from here by itself."""
        other = copy.copy(self)
        other.metrics = copy.deepcopy(self.metrics)
        return other


def copied(model: Any) -> Any:
    """Return a copy of a model, also of one that keeps something of its last forward pass."""
    kept = [tensor for module in model.modules() for tensor in tensors_of(list(vars(module).values()))]
    return copy.deepcopy(model, {id(tensor): tensor.detach() for tensor in kept if tensor.grad_fn is not None})
