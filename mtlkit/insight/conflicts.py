"""Where the tasks' gradients disagree."""

from collections.abc import Mapping, Sequence

from torch import nn

from mtlkit.data import Batch
from mtlkit.model import read_input
from mtlkit.tasks import Task
from mtlkit.weighting import conflict, jacobian


def conflict_by_layer(
    model: nn.Module, tasks: Sequence[Task], batch: Batch, layers: Mapping[str, nn.Module]
) -> dict[str, float]:
    """Return layer → the mean cosine of the tasks' gradients of its parameters, on one batch.

    Args:
        model: in whatever mode it is.
        tasks: at least two.
        batch: the larger, the less noise: a cosine of few samples says little.
        layers: name → a module whose parameters the tasks share.
    """
    outputs = model(read_input(model, batch))
    losses = {task.name: task.loss(outputs[task.name], batch) for task in tasks}
    return {
        name: conflict(jacobian(losses, model, shared=list(layer.parameters()))).mean_cosine
        for name, layer in layers.items()
    }
