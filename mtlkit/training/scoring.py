"""Scores of a model on a whole data set."""

import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from mtlkit.data import Batch, Loader, MixedLoader, collate
from mtlkit.data.batches import AbsentError, named
from mtlkit.data.loader import reads_batches
from mtlkit.machine import pick_device, to_device
from mtlkit.model import evaluating, read_input
from mtlkit.tasks import Task


def evaluate(
    model: nn.Module, tasks: Sequence[Task], dataset: Any, *, batch_size: int = 64, device: str | torch.device = "auto"
) -> dict[str, float]:
    """Return every score of every task, e.g. `{"classify/accuracy": ..., "detect/ap": ..., "detect/ap50": ...}`.

    A task whose targets a batch lacks is not scored on it; one that no batch has targets for, not at all.

    Args:
        model: gives task name → output; an average of one, too.
        tasks: what is scored.
        dataset: map-style, read through its method `batch(indices)` where it has one; or anything that gives batches,
            such as a `DataLoader`.
        batch_size: samples that go through the model together.
        device: "auto" takes CUDA where there is one.
    """
    device = pick_device(device)
    metrics = {task.name: task.metric() for task in tasks if task.metric is not None}
    reads = getattr(getattr(model, "module", model), "reads", "image")
    absent: dict[str, str] = {}
    model.to(device)
    with evaluating(model):
        for given in _batches(dataset, batch_size):
            batch = named(to_device(given, device), reads, [task.name for task in tasks])
            for name, output in model(read_input(model, batch)).items():
                if name in metrics:
                    try:
                        metrics[name].update(output, batch)
                        absent[name] = ""
                    except AbsentError as error:
                        absent.setdefault(name, error.key)
    for name, key in absent.items():
        if key:
            warnings.warn(f"the task {name!r} has no score: its metric needs {key!r}, which no batch had", stacklevel=2)
            del metrics[name]
    return {f"{task}/{name}": score for task, metric in metrics.items() for name, score in metric.compute().items()}


def _batches(dataset: Any, batch_size: int) -> Iterator[Any]:
    if isinstance(dataset, Loader | MixedLoader):
        yield from islice(dataset, dataset.batches_per_epoch)
        return
    if not hasattr(dataset, "__len__") or isinstance(dataset, DataLoader):
        yield from dataset
        return
    for indices in torch.arange(len(dataset)).split(batch_size):
        yield fetch(dataset, indices)


def fetch(dataset: Any, indices: Sequence[int] | torch.Tensor) -> Batch:
    """Return the samples of `dataset` at `indices` as one batch."""
    indices = torch.as_tensor(indices)
    return dataset.batch(indices) if reads_batches(dataset) else collate([dataset[int(k)] for k in indices])
