"""From a batch to the losses of its parts: on the device, in the precision asked for, each with its share."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtlkit.data import Batch
from mtlkit.machine import LossScale, Machine, is_sharded, to_device
from mtlkit.model import Blocks, SharedEncoderModel
from mtlkit.tasks import Task
from mtlkit.weighting import WeightingError
from mtlkit.weighting.checks import check_finite


class Forward:
    """The forward pass of a training step.

    Args:
        model: gives task name → output.
        tasks: what is learned.
        machine: what the step runs on.
        scale: applied to every loss.
        wrap: let `DistributedDataParallel` average `.grad` over the processes while the backward pass goes on.
    """

    def __init__(
        self,
        model: SharedEncoderModel,
        tasks: Sequence[Task],
        machine: Machine,
        scale: LossScale | None = None,
        wrap: bool = False,
    ) -> None:
        self.model, self.tasks, self.machine, self.group = model, tasks, machine, machine.group
        self.low_precision, self.scale, self.wrap = machine.pick_precision(), scale, wrap
        self.network: nn.Module = model
        self.sharded, self.compiled = is_sharded(model), bool(machine.compile) or model.encoder in _compiled
        self.parameters = list(model.parameters())
        self.device = self.parameters[0].device
        self.complete = False  # whether all tasks take part in this step

    @property
    def averages(self) -> bool:
        """Whether the backward pass of this step averages `.grad`: not where a task takes no part, unless sharded."""
        return self.sharded or (self.complete and self.network is not self.model)

    def __call__(self, batch: Batch) -> "BatchLosses":
        """Return the losses of the tasks that have a label anywhere in the batch; none is computed yet."""
        if self.wrap and self.complete and self.network is self.model:  # one step has shown what has a gradient
            self.network = _data_parallel(self.model)
        pieces, number = [batch], self.machine.accumulate
        if number > 1:
            if (size := len(batch[self.model.reads])) < number:
                raise ValueError(f"a batch of {size} cannot be gone through in {number} parts: accumulate less")
            cut = {name: tensor.tensor_split(number) for name, tensor in batch.items()}
            pieces = [dict(zip(cut, tensors, strict=True)) for tensors in zip(*cut.values(), strict=True)]
        shares = self._shares(pieces)
        self.complete = len(shares) == len(self.tasks)
        return BatchLosses(self, pieces, shares)

    def _shares(self, pieces: Sequence[Batch]) -> dict[str, list[float]]:
        """Return task → what each piece's mean counts for in the mean over all pieces of all processes."""
        if len(pieces) == 1 and self.group.size == 1:
            return {task.name: [1.0] for task in self.tasks if task.labelled is None or task.labelled(pieces[0]).any()}
        counts = torch.tensor([[task.count(piece) for piece in pieces] for task in self.tasks], dtype=torch.double)
        whole = self.group.sum(counts.sum(1))  # [tasks, 2]: labelled samples, units
        return {
            task.name: (count[:, 1].clamp(min=1) / units.clamp(min=1)).tolist()
            for task, count, (labelled, units) in zip(self.tasks, counts, whole, strict=True)
            if labelled > 0
        }

    def losses(self, piece: Batch, shares: Mapping[str, float]) -> dict[str, Tensor]:
        """Return task → loss times its share, for the tasks in `shares`."""
        piece = {name: to_device(tensor, self.device) for name, tensor in piece.items()}
        x = piece[self.model.reads]
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(self.device.type, self.low_precision) if self.low_precision else nullcontext():
            outputs = self.network(x, list(shares))
            losses = {task.name: task.loss(outputs[task.name], piece) for task in self.tasks if task.name in shares}
        losses = {name: loss if shares[name] == 1 else shares[name] * loss for name, loss in losses.items()}
        return {name: self.scale(loss) for name, loss in losses.items()} if self.scale else losses

    @contextmanager
    def until_backward(self, last: bool) -> Iterator[None]:
        """Around the forward and backward pass of a part: only after the last one do processes average `.grad`."""
        network = self.network
        wait = isinstance(network, DistributedDataParallel) and not (last and self.complete)
        with network.no_sync() if wait else nullcontext():  # type: ignore[operator]
            yield
        if not last and self.compiled:
            for parameter in self.parameters:  # a CUDA graph writes the next part's gradient to the same place
                if parameter.grad is not None:
                    parameter.grad = parameter.grad.clone()

    def find_culprit(self, batch: Batch) -> None:
        """Raise an error that names the task whose gradient is NaN or infinite though its loss is not.

        Raises:
            WeightingError: in any case.
        """
        parameters = [p for p in self.parameters if p.requires_grad]
        for losses in self(batch):  # anew: the graph is gone
            for name, loss in losses.items():
                gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
                total = torch.stack([gradient.sum() for gradient in gradients if gradient is not None]).sum()
                check_finite("gradient", [name], self.group.sum(total[None]).tolist())
        raise WeightingError("the weighted gradient is NaN or infinite: lower the loss weights")


class BatchLosses:
    """The losses of a batch, part by part: task → loss times the part's share, so that the batch's loss is their sum.

    A part's losses are computed when its turn comes, and those of the whole batch again when it is gone through again.

    Attributes:
        tasks: names of the tasks that take part in this step.
    """

    def __init__(self, forward: Forward, pieces: Sequence[Batch], shares: Mapping[str, Sequence[float]]) -> None:
        self.forward, self.pieces, self.shares, self.tasks = forward, pieces, shares, list(shares)

    def __len__(self) -> int:
        return len(self.pieces)

    def __iter__(self) -> Iterator[Mapping[str, Tensor]]:
        for number, piece in enumerate(self.pieces):
            with self.forward.until_backward(last=number + 1 == len(self)):
                yield self.forward.losses(piece, {task: share[number] for task, share in self.shares.items()})


def _data_parallel(model: nn.Module) -> DistributedDataParallel:
    unused = any(p.grad is None for p in model.parameters() if p.requires_grad)
    with warnings.catch_warnings():  # the option's next name is not known to older releases
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(model, find_unused_parameters=unused, broadcast_buffers=False)


def recompute_activations(model: nn.Module, recompute: bool) -> None:
    """Set `Blocks.recompute` everywhere in the model."""
    blocks = [module for module in model.modules() if isinstance(module, Blocks)]
    if recompute and not blocks:
        raise ValueError("recompute=True finds nothing to compute again: build the encoder of mtlkit.model.Blocks")
    for module in blocks:
        module.recompute = recompute


_compiled: "WeakSet[nn.Module]" = WeakSet()


def compile_model(model: SharedEncoderModel, mode: str) -> None:
    """Compile encoder and heads in place, each by itself: the shared features between them stay within reach."""
    from torch._functorch import config  # there is no public name for it

    config.donated_buffer = False  # a graph is gone through once a task, so its memory cannot be given away
    for module in {model.encoder, *model.heads.values()} - set(_compiled):
        module.compile(mode=mode)
        _compiled.add(module)
