"""From a batch to the losses of its parts: on the device, in the precision asked for, each with its share."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtlkit.data import DataError
from mtlkit.data.batches import AbsentError, NamedBatch, batch_size, cut, named
from mtlkit.machine import LossScale, Machine, is_sharded, map_tensors, tensors_of, to_device
from mtlkit.model import Blocks, SharedEncoderModel, read_input
from mtlkit.tasks import Task
from mtlkit.weighting import WeightingError
from mtlkit.weighting.checks import check_finite, check_losses


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
        self.never: dict[str, str] = {}  # task that has not taken part yet → the key that the batches lacked
        self.layout = torch.channels_last
        self.begun = False

    @property
    def averages(self) -> bool:
        """Whether the backward pass of this step averages `.grad`: not where a task takes no part, unless sharded."""
        return self.sharded or (self.complete and self.network is not self.model)

    def __call__(self, batch: Any) -> "BatchLosses":
        """Return the losses of the tasks that have a label anywhere in the batch."""
        if self.wrap and self.complete and self.network is self.model:  # one step has shown what has a gradient
            self.network = _data_parallel(self.model)
        batch = named(batch, self.model.reads, [task.name for task in self.tasks])
        size = batch_size(read_input(self.model, batch))
        number = min(self.machine.accumulate, size)
        pieces = [NamedBatch(part) for part in cut(batch, number, size)] if number > 1 else [batch]
        if number == 1 and self.group.size == 1:  # at once: only now it shows what a loss asks the batch for
            here = {task.name: 1.0 for task in self.tasks if self._labelled(task, batch)}
            losses = self.losses(batch, here) if here else {}
            self.complete = len(losses) == len(self.tasks)
            return BatchLosses(self, pieces, {name: [1.0] for name in losses}, losses)
        shares = self._shares(pieces)
        self.complete = len(shares) == len(self.tasks)
        return BatchLosses(self, pieces, shares)

    def _labelled(self, task: Task, batch: NamedBatch) -> bool:
        """Whether any sample of the batch has a target for the task, as far as the task says it."""
        try:
            return task.labelled is None or bool(task.labelled(batch).any())
        except AbsentError as error:
            self.never.setdefault(task.name, error.key)
            return False

    def _shares(self, pieces: Sequence[NamedBatch]) -> dict[str, list[float]]:
        """Return task → what each piece's mean counts for in the mean over all pieces of all processes."""
        counts = torch.zeros(len(self.tasks), len(pieces), 2, dtype=torch.double)
        for k, task in enumerate(self.tasks):
            for n, piece in enumerate(pieces):
                try:
                    counts[k, n] = torch.tensor(task.count(piece, batch_size(read_input(self.model, piece))))
                except AbsentError as error:
                    self.never.setdefault(task.name, error.key)
        whole = self.group.sum(counts.sum(1))  # [tasks, 2]: labelled samples, units
        return {
            task.name: ((count[:, 0] > 0) * count[:, 1].clamp(min=1) / units.clamp(min=1)).tolist()
            for task, count, (labelled, units) in zip(self.tasks, counts, whole, strict=True)
            if labelled > 0
        }

    def say_what_never_came(self) -> None:
        """Warn of tasks that have not taken part in any step so far."""
        for task, key in self.never.items():
            if key:
                self.never[task] = ""
                warnings.warn(
                    f"the task {task!r} has not taken part in any step so far: it needs {key!r}, which no batch had",
                    stacklevel=3,
                )

    def losses(self, piece: NamedBatch, shares: Mapping[str, float]) -> dict[str, Tensor]:
        """Return task → loss times its share, for the tasks in `shares`.

        A task whose share is 0 has no target in this piece; its loss is 0. One whose loss asks for what the whole
        batch lacks is left out.
        """
        piece = NamedBatch(to_device(piece, self.device))
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()
        losses: dict[str, Tensor] = {}
        with torch.autocast(self.device.type, self.low_precision) if self.low_precision else nullcontext():
            outputs = self._outputs(read_input(self.model, piece), list(shares))
            for task in (task for task in self.tasks if task.name in shares):
                try:
                    output = outputs[task.name]
                    losses[task.name] = _loss(task, output, piece) if shares[task.name] else _nothing(output)
                    self.never[task.name] = ""
                except AbsentError as error:
                    self._leave_out(task.name, error.key, piece)
        check_losses(losses)
        losses = {name: loss if shares[name] in (0, 1) else shares[name] * loss for name, loss in losses.items()}
        return {name: self.scale(loss) for name, loss in losses.items()} if self.scale else losses

    def _outputs(self, x: Any, tasks: list[str]) -> dict[str, Any]:
        """Return the outputs of the network; one that cannot live with channels last gets its memory in order."""
        if self.begun:
            return self.network(map_tensors(self._laid_out, x), tasks)
        buffers, stream = [buffer.clone() for buffer in self.model.buffers()], torch.get_rng_state()
        try:
            outputs = self.network(map_tensors(self._laid_out, x), tasks)
        except RuntimeError as error:
            if "view size is not compatible" not in str(error):
                raise
            self.layout = torch.contiguous_format
            self.model.to(memory_format=self.layout)
            torch.set_rng_state(stream)
            with torch.no_grad():
                for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                    buffer.copy_(before)
            outputs = self.network(map_tensors(self._laid_out, x), tasks)
        self.begun = True
        return outputs

    def _laid_out(self, tensor: Tensor) -> Tensor:
        return tensor.contiguous(memory_format=self.layout) if tensor.ndim == 4 else tensor

    def _leave_out(self, task: str, key: str, piece: NamedBatch) -> None:
        own = next(one for one in self.tasks if one.name == task)
        if own.labelled is not None or self.machine.accumulate > 1 or self.group.size > 1:
            raise DataError(
                f"the loss of the task {task!r} asks for {key!r}, but the batch has {', '.join(map(repr, piece))}: let "
                "Task(labelled=...) ask for the same"
            )
        self.never.setdefault(task, key)

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

    def find_culprit(self, batch: Any) -> None:
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

    The losses of a batch in several parts are computed when each one's turn comes, and all of them again when the batch
    is gone through again.

    Attributes:
        tasks: names of the tasks that take part in this step.
    """

    def __init__(
        self,
        forward: Forward,
        pieces: Sequence[NamedBatch],
        shares: Mapping[str, Sequence[float]],
        losses: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.forward, self.pieces, self.shares, self.tasks = forward, pieces, shares, list(shares)
        self._losses = losses  # of the only part, where they were computed at once

    def __len__(self) -> int:
        return len(self.pieces)

    def __iter__(self) -> Iterator[Mapping[str, Tensor]]:
        losses, self._losses = self._losses, None
        if losses is not None:
            yield losses
            return
        for number, piece in enumerate(self.pieces):
            with self.forward.until_backward(last=number + 1 == len(self)):
                yield self.forward.losses(piece, {task: share[number] for task, share in self.shares.items()})


def _nothing(output: Any) -> Tensor:
    """Return 0, with the graph of an output."""
    return torch.stack([(0 * tensor).sum() for tensor in tensors_of(output)]).sum()


def _loss(task: Task, output: Any, batch: NamedBatch) -> Tensor:
    """Return the loss of a task; what goes wrong in it is said with its name."""
    try:
        return task.loss(output, batch)
    except AbsentError:
        raise
    except IndexError as error:
        if "is out of bounds" not in str(error) or "Target" not in str(error):
            raise
        raise DataError(
            f"the labels of the task {task.name!r} do not fit its output ({error}): number the classes from 0, and "
            "mark what is missing with the number that the loss ignores"
        ) from error
    except DataError as error:
        raise DataError(f"the task {task.name!r}: {error}") from error
    except Exception as error:
        error.add_note(f"in the loss of the task {task.name!r}")
        raise


def _data_parallel(model: nn.Module) -> DistributedDataParallel:
    unused = any(p.grad is None for p in model.parameters() if p.requires_grad)
    with warnings.catch_warnings():  # the option's next name is not known to older releases
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(model, find_unused_parameters=unused, broadcast_buffers=False)


def recompute_activations(model: nn.Module, recompute: bool) -> None:
    """Set `Blocks.recompute` everywhere in the model."""
    blocks = [module for module in model.modules() if isinstance(module, Blocks)]
    if recompute and not blocks:
        raise ValueError("recompute=True finds nothing to recompute: build the encoder from mtlkit.model.Blocks")
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
