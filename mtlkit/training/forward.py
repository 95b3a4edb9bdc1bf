"""From a batch to the losses of its parts: on the device, in the precision asked for, each with its share."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtlkit.data import DataError
from mtlkit.data.batches import AbsentError, AskedBatch, batch_size, cut, named
from mtlkit.machine import LossScale, Machine, is_sharded, map_tensors, to_device
from mtlkit.model import Blocks, SharedEncoderModel, evaluating, read_input
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
        self.needs: dict[str, set[str]] = {}  # task → what its loss asks a batch for, where nothing else says it
        self.never: dict[str, str] = {}  # task that has not taken part yet → the key that the batches lacked

    @property
    def averages(self) -> bool:
        """Whether the backward pass of this step averages `.grad`: not where a task takes no part, unless sharded."""
        return self.sharded or (self.complete and self.network is not self.model)

    def __call__(self, batch: Any) -> "BatchLosses":
        """Return the losses of the tasks that have a label anywhere in the batch; none is computed yet."""
        if self.wrap and self.complete and self.network is self.model:  # one step has shown what has a gradient
            self.network = _data_parallel(self.model)
        batch = named(batch, self.model.reads, [task.name for task in self.tasks])
        pieces, number = [batch], self.machine.accumulate
        if number > 1:
            if (size := batch_size(read_input(self.model, batch))) < number:
                raise ValueError(f"a batch of {size} cannot be gone through in {number} parts: accumulate less")
            pieces = [AskedBatch(part) for part in cut(batch, number, size)]
        shares = self._shares(pieces)
        self.complete = len(shares) == len(self.tasks)
        return BatchLosses(self, pieces, shares)

    def _shares(self, pieces: Sequence[AskedBatch]) -> dict[str, list[float]]:
        """Return task → what each piece's mean counts for in the mean over all pieces of all processes."""
        if len(pieces) == 1 and self.group.size == 1:
            return {task.name: [1.0] for task in self.tasks if self._asked(task, pieces, _has_labels)}
        none = [(0, 0)] * len(pieces)
        counts = torch.tensor([self._asked(task, pieces, _counts) or none for task in self.tasks], dtype=torch.double)
        whole = self.group.sum(counts.sum(1))  # [tasks, 2]: labelled samples, units
        return {
            task.name: (count[:, 1].clamp(min=1) / units.clamp(min=1)).tolist()
            for task, count, (labelled, units) in zip(self.tasks, counts, whole, strict=True)
            if labelled > 0
        }

    def _asked(
        self, task: Task, pieces: Sequence[AskedBatch], look: Callable[[Task, Sequence[AskedBatch]], Any]
    ) -> Any:
        """Return what `look` says of a task and its batch; `None` if the batch lacks a key that the task needs."""
        try:
            if task.labelled is None and (absent := self._needs(task.name, pieces[0]) - pieces[0].keys()):
                raise AbsentError(min(absent))
            found = look(task, pieces)
        except AbsentError as error:
            self.never.setdefault(task.name, error.key)
            return None
        self.never[task.name] = ""
        return found

    def _needs(self, task: str, piece: AskedBatch) -> set[str]:
        """Return what the loss of a task asks a batch for, as a pass without gradients that changes nothing shows."""
        if task not in self.needs and not self.sharded:
            devices = [self.device] if self.device.type == "cuda" else []
            eager = torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()
            with torch.random.fork_rng(devices), evaluating(self.model), eager:
                piece = AskedBatch(to_device(piece, self.device))
                outputs = self.model(read_input(self.model, piece))
                for one in self.tasks:
                    piece.asked = set()
                    with suppress(AbsentError):
                        _loss(one, outputs, piece)
                    self.needs[one.name] = piece.asked
        return self.needs.get(task, set())

    def say_what_never_came(self) -> None:
        """Warn of tasks that have not taken part in any step so far."""
        for task, key in self.never.items():
            if key:
                self.never[task] = ""
                warnings.warn(
                    f"the task {task!r} has not taken part in any step so far: it needs {key!r}, which no batch had",
                    stacklevel=3,
                )

    def losses(self, piece: AskedBatch, shares: Mapping[str, float]) -> dict[str, Tensor]:
        """Return task → loss times its share, for the tasks in `shares`."""
        piece = AskedBatch(to_device(piece, self.device))
        x = map_tensors(_channels_last, read_input(self.model, piece))
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(self.device.type, self.low_precision) if self.low_precision else nullcontext():
            outputs = self.network(x, list(shares))
            losses = {}
            for task in (task for task in self.tasks if task.name in shares):
                try:
                    losses[task.name] = _loss(task, outputs, piece)
                except AbsentError as error:
                    raise DataError(
                        f"the loss of the task {task.name!r} asks for {error.key!r}, but the batch has "
                        f"{', '.join(map(repr, piece))}: let Task(labelled=...) ask for the same"
                    ) from error
        check_losses(losses)
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

    A part's losses are computed when its turn comes, and those of the whole batch again when it is gone through again.

    Attributes:
        tasks: names of the tasks that take part in this step.
    """

    def __init__(self, forward: Forward, pieces: Sequence[AskedBatch], shares: Mapping[str, Sequence[float]]) -> None:
        self.forward, self.pieces, self.shares, self.tasks = forward, pieces, shares, list(shares)

    def __len__(self) -> int:
        return len(self.pieces)

    def __iter__(self) -> Iterator[Mapping[str, Tensor]]:
        for number, piece in enumerate(self.pieces):
            with self.forward.until_backward(last=number + 1 == len(self)):
                yield self.forward.losses(piece, {task: share[number] for task, share in self.shares.items()})


def _has_labels(task: Task, pieces: Sequence[AskedBatch]) -> bool:
    return task.labelled is None or bool(task.labelled(pieces[0]).any())


def _counts(task: Task, pieces: Sequence[AskedBatch]) -> list[tuple[int, int]]:
    return [task.count(piece) for piece in pieces]


def _loss(task: Task, outputs: Mapping[str, Any], batch: AskedBatch) -> Tensor:
    """Return the loss of a task; what goes wrong in it is said with its name."""
    try:
        return task.loss(outputs[task.name], batch)
    except AbsentError:
        raise
    except IndexError as error:
        raise DataError(
            f"the labels of the task {task.name!r} do not fit its output ({error}): number the classes from 0, and "
            "mark what is missing with the number that the loss ignores"
        ) from error
    except DataError as error:
        raise DataError(f"the task {task.name!r}: {error}") from error
    except Exception as error:
        error.add_note(f"in the loss of the task {task.name!r}")
        raise


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


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
