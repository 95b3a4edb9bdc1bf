"""The course's optimiser and learning-rate schedule."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from torch.optim.swa_utils import AveragedModel


class MuonAdamW:
    """Muon for convolution kernels, AdamW for all other parameters; used like a `torch.optim.Optimizer`.

    Muon replaces the momentum of a matrix by the nearest orthogonal matrix (Jordan et al., 2024,
    https://kellerjordan.github.io/posts/muon/). `torch.optim.Muon` takes matrices only, so each kernel
    `[out, in, k, k]` with k > 1 is shown to it as a view `[out, in*k*k]` of the same memory. The layer that reads
    pixels and the 1x1 layers that give the outputs stay with AdamW; so does everything in a model without such kernels.

    Args:
        model: its parameters that require a gradient are optimised in place.
        muon_lr: peak learning rate of the kernels.
        adamw_lr: peak learning rate of everything else.
        muon_decay: weight decay of the kernels, decoupled. It matters: without it AP was 0.014 lower after a minute.
        adamw_decay: weight decay of everything else, decoupled.

    Raises:
        ValueError: if no parameter requires a gradient.
    """

    def __init__(
        self,
        model: nn.Module,
        muon_lr: float = 0.03,
        adamw_lr: float = 8e-3,
        muon_decay: float = 0.3,
        adamw_decay: float = 0.01,
    ) -> None:
        trained = [p for p in model.parameters() if p.requires_grad]
        if not trained:
            raise ValueError("no parameter of the model is trained: set requires_grad of some of them")
        self.kernels = [p for p in trained if p.ndim == 4 and p.shape[-1] > 1 and p.shape[1] > 3]
        chosen = {id(p) for p in self.kernels}
        others = [p for p in trained if id(p) not in chosen]
        self.matrices = [_as_matrix(kernel.detach()) for kernel in self.kernels]
        self.formats = [_in_channels_last(kernel) for kernel in self.kernels]  # in which the momentum is kept
        fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in others)
        self.adamw = AdamW(others, lr=adamw_lr, weight_decay=adamw_decay, fused=fused) if others else None
        self.muon = Muon(self.matrices, lr=muon_lr, weight_decay=muon_decay, ns_steps=3) if self.kernels else None
        for group in self.param_groups:
            group["initial_lr"] = group["lr"]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both optimisers, as a schedule reads them."""
        return [group for optimizer in self._parts().values() for group in optimizer.param_groups]

    def _parts(self) -> dict[str, Any]:
        parts = {"adamw": self.adamw, "muon": self.muon}
        return {name: optimizer for name, optimizer in parts.items() if optimizer is not None}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, whatever is asked for: there is nothing that zeros would be needed for."""
        if self.adamw is not None:
            self.adamw.zero_grad()
        for kernel in self.kernels:
            kernel.grad = None

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        if self.muon is not None:
            for k, (kernel, matrix) in enumerate(zip(self.kernels, self.matrices, strict=True)):
                matrix.data = _as_matrix(kernel.detach())  # again: the model may have moved since
                matrix.grad = None if kernel.grad is None else _as_matrix(_laid_out(kernel.grad, kernel))
                self._turn_momentum(k)
            self.muon.step()
        if self.adamw is not None:
            for parameter, state in self.adamw.state.items():
                for name, moment in state.items():
                    # the fused step walks memory: a moment loaded in another memory format would be misread
                    if moment.shape == parameter.shape:
                        state[name] = _laid_out(moment, parameter)
            self.adamw.step()

    def _turn_momentum(self, k: int) -> None:
        """Bring the momentum of kernel `k` into the order of its numbers in memory, which may have changed."""
        kernel = self.kernels[k]
        if (now := _in_channels_last(kernel)) == self.formats[k]:
            return
        state = self.muon.state.get(self.matrices[k], {}) if self.muon is not None else {}
        for name, moment in state.items():
            if moment.shape == self.matrices[k].shape:
                size, into, height, width = kernel.shape
                if now:  # was [in, k, k], becomes [k, k, in]
                    turned = moment.view(size, into, height, width).permute(0, 2, 3, 1)
                else:
                    turned = moment.view(size, height, width, into).permute(0, 3, 1, 2)
                state[name] = turned.reshape(moment.shape)
        self.formats[k] = now

    def follow_parameters(self) -> None:
        """Bring the state of both optimisers to where the parameters are."""
        for kernel, matrix in zip(self.kernels, self.matrices, strict=True):
            matrix.data = _as_matrix(kernel.detach())
        for optimizer in self._parts().values():
            follow_parameters(optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both optimisers."""
        states = {name: optimizer.state_dict() for name, optimizer in self._parts().items()}
        return states | {"channels_last": list(self.formats)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state that `state_dict` returned.

        Raises:
            ValueError: if it is that of another model.
        """
        if state.keys() - {"channels_last"} != self._parts().keys() or len(state["channels_last"]) != len(self.kernels):
            raise ValueError("the state belongs to another model: its kernels differ")
        for name, optimizer in self._parts().items():
            optimizer.load_state_dict(state[name])
        self.formats = list(state["channels_last"])


def follow_parameters(optimizer: Any) -> None:
    """Bring the state of `optimizer` to where its parameters are: a model loaded on the CPU may go on on a GPU."""
    if isinstance(optimizer, MuonAdamW):
        optimizer.follow_parameters()
    elif isinstance(optimizer, Optimizer) and any(
        isinstance(tensor, Tensor) and tensor.shape == parameter.shape and tensor.device != parameter.device
        for parameter, state in optimizer.state.items()
        for tensor in state.values()
    ):
        optimizer.load_state_dict(optimizer.state_dict())


def _in_channels_last(kernel: Tensor) -> bool:
    return kernel.is_contiguous(memory_format=torch.channels_last)


def _laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """Return `tensor`, its numbers in the same order in memory as those of `like`."""
    return tensor if tensor.stride() == like.stride() else torch.empty_like(like).copy_(tensor)


def _as_matrix(kernel: Tensor) -> Tensor:
    """View a kernel `[out, in, k, k]` as `[out, k*k*in]` without copying, whichever memory format it has."""
    if _in_channels_last(kernel):
        kernel = kernel.permute(0, 2, 3, 1)
    return kernel.reshape(len(kernel), -1)


class MovingAverage(AveragedModel):
    """Exponential moving average of a model's parameters and buffers; scored instead of the model, it is less noisy.

    Does what `AveragedModel` does with `get_ema_multi_avg_fn`, without waiting for a GPU in each step.

    Args:
        model: is copied.
        decay: what is left of the average in each step.
    """

    def __init__(self, model: nn.Module, decay: float = 0.99) -> None:
        super().__init__(model)
        self.decay = decay
        self._begun = False

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards `model`; the first time, onto it."""
        self._begun = self._begun or int(self.n_averaged) > 0
        pairs = [
            pair
            for ours, its in ((self.module.parameters(), model.parameters()), (self.module.buffers(), model.buffers()))
            for pair in zip(ours, its, strict=True)
        ]
        smooth = [(average, value) for average, value in pairs if average.is_floating_point()]
        torch._foreach_lerp_(
            [average for average, _ in smooth], [value for _, value in smooth], 1 - self.decay if self._begun else 1.0
        )
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)
        self._begun = True
        self.n_averaged += 1


def one_cycle(progress: float, warmup: float = 0.1) -> float:
    """Return the factor on every learning rate at `progress` in 0..1: a linear rise, then half a cosine to 0."""
    if progress < warmup:
        return max(progress / warmup, 1e-3)
    return (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2
