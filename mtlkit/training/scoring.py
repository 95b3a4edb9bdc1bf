"""Scores of a model on a whole data set."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mtlkit.data import Batch, collate
from mtlkit.machine import pick_device
from mtlkit.model import evaluating
from mtlkit.tasks import Task


def evaluate(
    model: nn.Module, tasks: Sequence[Task], dataset: Any, *, batch_size: int = 64, device: str | torch.device = "auto"
) -> dict[str, float]:
    """Return every score of every task, e.g. `{"classify/accuracy": ..., "detect/ap": ..., "detect/ap50": ...}`.

    Args:
        model: gives task name → output; an average of one, too.
        tasks: what is scored.
        dataset: map-style; read through its method `batch(indices)` where it has one.
        batch_size: samples that go through the model together.
        device: "auto" takes CUDA where there is one.
    """
    device = pick_device(device)
    metrics = {task.name: task.metric() for task in tasks}
    reads = getattr(getattr(model, "module", model), "reads", "image")
    model.to(device)
    with evaluating(model):
        for indices in torch.arange(len(dataset)).split(batch_size):
            batch = {name: tensor.to(device) for name, tensor in fetch(dataset, indices).items()}
            for name, output in model(batch[reads]).items():
                if name in metrics:
                    metrics[name].update(output, batch)
    return {f"{task}/{name}": score for task, metric in metrics.items() for name, score in metric.compute().items()}


def fetch(dataset: Any, indices: Sequence[int] | torch.Tensor) -> Batch:
    """Return the samples of `dataset` at `indices` as one batch."""
    indices = torch.as_tensor(indices)
    return dataset.batch(indices) if hasattr(dataset, "batch") else collate([dataset[int(k)] for k in indices])
