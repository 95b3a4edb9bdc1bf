"""The model in which several heads share one encoder."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class SharedEncoderModel(nn.Module):
    """h = encoder(x; W_0), shared by all tasks; ŷ_i = head_i(h; W_i), one head a task.

    Args:
        encoder: from the input to shared features.
        heads: task name → module from the shared features to that task's output.
        reads: what of a batch is the input.
    """

    def __init__(self, encoder: nn.Module, heads: Mapping[str, nn.Module], reads: str = "image") -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)
        self.reads = reads
        self.features: Tensor | None = None

    def forward(self, x: Tensor, tasks: Collection[str] | None = None) -> dict[str, Any]:
        """Return task name → output, of `tasks` or of all. In training the shared features h are kept in `features`."""
        features = self.encoder(x)
        self.features = features if self.training else None
        return {name: head(features) for name, head in self.heads.items() if tasks is None or name in tasks}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"features": None}  # a copy of the model is not a copy of its last batch

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield W_0, the parameters that every task trains."""
        return self.encoder.parameters()

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        """Yield W_i, the parameters that only the task `name` trains."""
        return self.heads[name].parameters()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch a model to evaluation, without gradients, and back to what it was, whatever happens."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
