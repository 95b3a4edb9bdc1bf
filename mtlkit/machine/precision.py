"""Which numbers the step computes in, and what float16 needs on top."""

from typing import Any

import torch
from torch import Tensor, nn

KINDS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the type for `torch.autocast`, or `None` for float32.

    "auto" is float32 on a CPU and bfloat16 on a GPU that computes with it; on older ones float16.

    Raises:
        ValueError: if the precision is unknown.
    """
    if precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if precision not in KINDS:
        raise ValueError(f"unknown precision {precision!r}: expected auto, {', '.join(KINDS)}")
    return KINDS[precision]


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32, or in float64 if it is so already: where sums and exponentials need the digits."""
    return x if x.dtype == torch.double else x.float()


class LossScale:
    """Keeps float16 gradients from vanishing: each loss sends back S times its gradient, each parameter divides by S.

    So every gradient that a weighting method or an optimiser sees is the true one, in float32.
    `torch.amp.GradScaler` divides when the optimiser steps; by then a weighting method has used the gradients. As
    there, S falls by half when a gradient overflows, that step is left out, and S doubles after many good ones.

    Args:
        model: its parameters divide, until `remove`.
        scale: S at the start.
        good: steps in a row that were good before.
        patience: good steps after which S doubles.
    """

    def __init__(self, model: nn.Module, scale: float = 2.0**16, good: int = 0, patience: int = 2000) -> None:
        self.scale, self.patience, self.good = scale, patience, good
        self._hooks = [p.register_hook(lambda g: g / self.scale) for p in model.parameters() if p.requires_grad]

    def __call__(self, loss: Tensor) -> Tensor:
        """Return `loss`; its gradient will be S times as large."""
        return _Scaled.apply(loss, self.scale)

    def update(self, finite: bool) -> None:
        """Take note of whether the gradients of a step were finite."""
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.scale /= 2
        elif self.good % self.patience == 0:
            self.scale *= 2

    def remove(self) -> None:
        """Leave the parameters as they were."""
        for hook in self._hooks:
            hook.remove()


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient * ctx.scale, None
