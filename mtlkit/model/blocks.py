"""What encoders are built of."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import Conv2dNormActivation

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Normalize(nn.Module):
    """Subtract the mean and divide by the standard deviation of each channel; both travel with the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | list[float] = 0.5, std: float | list[float] = 0.25) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.as_tensor(value).expand(3).reshape(3, 1, 1).clone())

    def forward(self, image: Tensor) -> Tensor:
        """Map images in 0..1 to channels of about zero mean and unit variance."""
        return (image - self.mean) / self.std


class Blocks(nn.Sequential):
    """Modules one after the other, whose inner activations need not be kept for the backward pass.

    Attributes:
        recompute: in training, keep only the input of each module and compute the rest again when its gradient is due
            (activation checkpointing; Chen et al., arXiv:1604.06174): less memory for one more forward pass.
    """

    recompute = False

    def forward(self, x: Any, *more: Any) -> Any:
        """Return what the last module makes of it; each is also given what is `more`, unchanged."""
        again = self.recompute and self.training and torch.is_grad_enabled()
        for module in self:
            if again:
                contexts = lambda m=module: (nullcontext(), _Again(m))  # noqa: E731
                x = checkpoint(module, x, *more, use_reentrant=False, context_fn=contexts)
            else:
                x = module(x, *more)
        return x


class _Again(AbstractContextManager[None]):
    """Around computing a module once more, as often as it takes: batch normalisation has counted this batch already."""

    def __init__(self, module: nn.Module) -> None:
        self.norms = [m for m in module.modules() if isinstance(m, NORMS)]
        self.before: list[tuple[float | None, Tensor | None]] = []

    def __enter__(self) -> None:
        self.before = [(norm.momentum, norm.num_batches_tracked) for norm in self.norms]
        for norm in self.norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *_: object) -> None:
        for norm, (momentum, number) in zip(self.norms, self.before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, number


class ResidualBlock(nn.Module):
    """x + two convolutions of x (He et al., "Deep residual learning", CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Conv2dNormActivation(channels, channels),
            Conv2dNormActivation(channels, channels, activation_layer=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of `x`."""
        return torch.relu(x + self.layers(x))
