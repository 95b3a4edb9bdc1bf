"""Several processes that train one model: each has a part of every batch, and what they find is added up."""

import gc
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from mtlkit.machine.precision import at_least_float32


class ParallelError(RuntimeError):
    """Another process is gone or does not answer; the message says how to go on."""


@dataclass(frozen=True)
class Group:
    """The processes of a run. All of them must call the same methods in the same order.

    Attributes:
        rank: which of them this is, from 0.
        size: how many there are.
        averages: whether `DistributedDataParallel` averages `.grad` in each backward pass.
    """

    rank: int = 0
    size: int = 1
    averages: bool = False

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, in one message for each kind of number."""
        if self.size == 1:
            return
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault(tensor.dtype, []).append(tensor)
        for alike in kinds.values():
            message = torch.cat([tensor.reshape(-1) for tensor in alike])
            with self.watch():
                distributed.all_reduce(message)
            parts = message.split([tensor.numel() for tensor in alike])
            torch._foreach_copy_(alike, [part.view(t.shape) for part, t in zip(parts, alike, strict=True)])

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of `tensor` over the processes."""
        if self.size > 1:
            tensor = tensor.clone()
            self.sum_([tensor])
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any of the processes."""
        return bool(self.sum(torch.tensor(float(flag))) > 0) if self.size > 1 else flag

    def mean(self, number: float) -> float:
        """Return the mean of a number over the processes."""
        return float(self.sum(torch.tensor(number, dtype=torch.double))) / self.size if self.size > 1 else number

    def prepare(self, model: nn.Module) -> None:
        """Give every process the numbers of the first one, and batch normalisation the statistics of all.

        A sharded model is left alone: who sharded it saw to that.
        """
        if self.size == 1 or is_sharded(model):
            return
        for module in model.modules():
            if type(module) in SYNCED:
                module.__class__ = SYNCED[type(module)]  # its parameters and their optimiser stay as they are
        with self.watch():
            for tensor in model.state_dict().values():
                distributed.broadcast(tensor, 0)

    def broken(self, reason: str) -> ParallelError:
        """Return the error for a group that has lost one of its processes."""
        return ParallelError(
            f"process {self.rank} of {self.size} lost the others: one has ended or does not answer. Look at its "
            f"message, then start all of them again with --resume. ({reason})"
        )

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Say in words that another process is gone, whoever noticed it."""
        try:
            yield
        except RuntimeError as error:
            noticed = isinstance(error, distributed.DistError) or any(w in str(error) for w in ("gloo", "NCCL"))
            if self.size == 1 or isinstance(error, ParallelError) or not noticed:
                raise
            raise self.broken(str(error).splitlines()[0]) from error


ALONE = Group()


@contextmanager
def joined(device: torch.device, timeout: float = 60.0) -> Iterator[Group]:
    """Join the processes that `torchrun` started, for as long as the context lasts; without it, be `ALONE`.

    Numbers on the CPU travel with gloo, those on a GPU with NCCL.

    Args:
        device: where this process trains.
        timeout: seconds after which a process that does not answer counts as gone.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ALONE
        return
    backend = "gloo"
    if device.type == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(device)
    distributed.init_process_group(backend, timeout=timedelta(seconds=timeout), **_meeting_place(timeout))
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
        distributed.barrier()  # nobody leaves before the others are done
        gc.collect()  # a sharded model that is only garbage would hold the group's threads beyond its end: an abort
    finally:
        distributed.destroy_process_group()


def _meeting_place(timeout: float) -> dict[str, Any]:
    """Return where the processes of this machine find each other, apart from those before a restart.

    `torchrun` restarts them with the same store, in which they may read the addresses of the dead. With several
    machines the restarts are not counted alike everywhere; there the usual way is left alone.
    """
    env = os.environ
    if env["GROUP_WORLD_SIZE"] != "1":
        return {}
    store = distributed.TCPStore(
        env["MASTER_ADDR"], int(env["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=timeout)
    )
    attempt = distributed.PrefixStore(f"mtlkit, attempt {env['TORCHELASTIC_RESTART_COUNT']}", store)
    return {"store": attempt, "rank": int(env["RANK"]), "world_size": int(env["WORLD_SIZE"])}


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds a part of the parameters only."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


class Synced:
    """Batch normalisation by mean and variance over the samples of all processes, on a CPU too.

    `torch.nn.SyncBatchNorm` does the same for GPUs only.
    """

    def forward(self: Any, x: Tensor) -> Tensor:
        """Normalise `x [B, C, ...]`."""
        if not (self.training and distributed.is_initialized()):
            return super().forward(x)  # type: ignore[misc]
        dims = [dim for dim in range(x.ndim) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(x.ndim)]
        wide = at_least_float32(x)
        number = _Summed.apply(wide.new_tensor(x.numel() / x.shape[1]))
        mean = _Summed.apply(wide.sum(dims)) / number
        centred = wide - mean.view(shape)
        variance = _Summed.apply(centred.square().sum(dims)) / number
        if self.running_mean is not None:
            self.num_batches_tracked.add_(1)
            step = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.detach(), step)
            self.running_var.lerp_(variance.detach() * (number / (number - 1)), step)
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)


class SyncedBatchNorm1d(Synced, nn.BatchNorm1d):
    """See `Synced`."""


class SyncedBatchNorm2d(Synced, nn.BatchNorm2d):
    """See `Synced`."""


class SyncedBatchNorm3d(Synced, nn.BatchNorm3d):
    """See `Synced`."""


SYNCED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SyncedBatchNorm1d,
    nn.BatchNorm2d: SyncedBatchNorm2d,
    nn.BatchNorm3d: SyncedBatchNorm3d,
}


class _Summed(torch.autograd.Function):
    """The sum over the processes; each gets back the sum of what all of them send."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total
