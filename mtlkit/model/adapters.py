"""Adapters: what a frozen network learns for one task more."""

import math

import torch
from torch import Tensor, nn

from mtlkit.model.transformer import TransformerBlock


class LowRank(nn.Module):
    """W x + B_k A_k x: a frozen layer W and, for each task k, a product of two thin matrices that is trained.

    LoRA (Hu et al., ICLR 2022, arXiv:2106.09685), one per task. B starts at 0, so that nothing changes at first.

    Args:
        layer: W; it is frozen.
        tasks: how many tasks.
        rank: rows of A_k.
    """

    def __init__(self, layer: nn.Linear, tasks: int, rank: int = 4) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(tasks, rank, layer.in_features) / math.sqrt(layer.in_features))
        self.B = nn.Parameter(torch.zeros(tasks, layer.out_features, rank))

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """Return `[B, T, out]` for `x [B, T, in]` and the number `task int64 [B]` of each sample's task."""
        return self.layer(x) + x @ self.A[task].mT @ self.B[task].mT


def add_adapters(model: nn.Module, tasks: int, rank: int = 4) -> nn.Module:
    """Freeze `model` and put a `LowRank` in the place of every layer of its blocks; return the model."""
    model.requires_grad_(False)
    for block in [module for module in model.modules() if isinstance(module, TransformerBlock)]:
        for name in ("attend", "project", "widen", "narrow"):
            setattr(block, name, LowRank(getattr(block, name), tasks, rank))
    return model
