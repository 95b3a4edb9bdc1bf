"""Data sets that are held in memory and read in whole batches, and parts of any data set."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtlkit.data.batches import Batch, Sample, collate
from mtlkit.data.loader import reads_batches


class InMemory:
    """Samples whose targets are tensors; who inherits says in `inputs` what else a batch has.

    Attributes:
        labels: task → targets of all samples `[N, ...]`.
    """

    labels: dict[str, Tensor]

    def inputs(self, at: Tensor) -> dict[str, Any]:
        """Return what is given of the samples at these indices."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(next(iter(self.labels.values())))

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return {name: tensor[0] for name, tensor in self.batch([index]).items()}

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """Return a batch of the samples at `indices`."""
        at = torch.as_tensor(indices)
        return {**self.inputs(at), **{task: known[at] for task, known in self.labels.items()}}


class Part:
    """Some samples of a data set; it gives whole batches where the data set does.

    Args:
        dataset: whose samples these are.
        chosen: their indices.
    """

    def __init__(self, dataset: Any, chosen: Sequence[int] | Tensor) -> None:
        self.dataset, self.chosen = dataset, torch.as_tensor(chosen, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.chosen[index])]

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """Return a batch of the samples at `indices` of this part."""
        at = self.chosen[torch.as_tensor(indices)]
        return self.dataset.batch(at) if reads_batches(self.dataset) else collate([self.dataset[int(k)] for k in at])
