"""A part of a data set."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtlkit.data.batches import Batch, collate
from mtlkit.data.loader import reads_batches


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
