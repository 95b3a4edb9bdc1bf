"""What all weighting methods share."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtlkit.machine import ALONE, Group
from mtlkit.weighting.checks import WeightingError, check_losses, read, values_of
from mtlkit.weighting.graph import Shared
from mtlkit.weighting.rows import add_gradients, split_rows, task_gradients


class Parts(Protocol):
    """The losses of a batch that is gone through part by part, so that only one part's graph is in memory.

    The loss of the whole batch is the sum over its parts. Each is task → loss, of the same tasks in the same order.
    """

    @property
    def tasks(self) -> Sequence[str]: ...  # noqa: D102
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Mapping[str, Tensor]]: ...


Losses = Mapping[str, Tensor] | Parts


class Update(NamedTuple):
    """What a method knows once its gradient is in `.grad`.

    Attributes:
        losses: of the whole batch, over all processes `[K]`: float64, on the device, in the order of the tasks.
        weights: task → the factor `[]` with which its gradient last went into the update of the shared parameters;
            empty where a method has none.
    """

    losses: Tensor
    weights: Mapping[str, Tensor]


class _OnePart:
    """A dictionary of losses, as a batch in one part."""

    def __init__(self, losses: Mapping[str, Tensor]) -> None:
        self.losses, self.tasks = losses, list(losses)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Mapping[str, Tensor]]:
        yield self.losses


def as_parts(losses: Losses) -> Parts:
    """Return `losses` as parts: a dictionary is one.

    Raises:
        WeightingError: if there is no loss, or one is not a number with a graph.
    """
    parts: Parts
    if isinstance(losses, Mapping):
        check_losses(losses)
        parts = _OnePart(losses)
    else:
        parts = losses
    if not parts.tasks:
        raise WeightingError("there is no loss: no task has a labelled sample in this batch; skip its update")
    return parts


class Weighting:
    """A way to turn several losses into one update: `backward` turns a dictionary of losses into `.grad`.

    Leave a task without a labelled sample out of the dictionary: it then takes no part in the step.

    Attributes:
        factors: task name → the factor `[]` with which its gradient last went into the update of the shared
            parameters, on the device.
        linear: whether the weights of a step are known before its losses.
        second_look: whether the method must see the losses of the same batch again after the update (`observe`).
    """

    linear = False
    second_look = False

    def __init__(self) -> None:
        self.factors: dict[str, Tensor] = {}

    @property
    def weights(self) -> dict[str, float]:
        """Task name → the factor as a number. Reading it waits for the device."""
        return read(self.factors)

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the scalar `[]` to minimise for `losses [K]` of the `tasks` (names; "0", "1", ... if not given)."""
        raise NotImplementedError(f"{type(self).__name__} combines gradients, not losses: use combine or backward")

    def combine(self, jacobian: Tensor, tasks: Sequence[str] = (), group: Group = ALONE) -> Tensor:
        """Return the update direction `[P]` for the gradients of `tasks`, the rows of `jacobian [K, P]`."""
        raise NotImplementedError(f"{type(self).__name__} combines losses, not gradients: use total or backward")

    def one_pass(self, parts: int) -> bool:
        """Whether `backward` leaves `.grad` by one ordinary backward pass a part, for a batch of so many parts."""
        return self.linear or parts == 1

    def backward(self, losses: Losses, model: nn.Module, group: Group = ALONE, shared: Shared = None) -> Update:
        """Add the gradient of the total loss to `.grad` of every parameter of `model`; return what is then known.

        The weights are the derivatives of the total with respect to the losses: one backward pass, whatever the total.
        For a batch in several parts they must be known before its first part is let go. Where they are not, the tasks'
        gradients of all parameters are added up first: K passes a part, and memory for K gradients.

        Args:
            losses: task name → loss, or the `Parts` of a batch.
            model: its parameters get the gradient.
            group: processes that have a part of the batch each; all get the gradient of the sum of their losses.
            shared: the parameters that the tasks share, or the module that holds them. Not given, the model's own
                `shared_parameters()`; if it has no such method, those that more than one loss reaches.

        Raises:
            WeightingError: if a loss is NaN or infinite, or there is none.
        """
        parts = as_parts(losses)
        if self.linear or len(parts) == 1:
            values, w = self._backward_part_by_part(parts, model, group)
        else:
            parameters = [p for p in model.parameters() if p.requires_grad]
            J, reached, values = task_gradients(parts, parameters)
            group.sum_([J, values])
            w = self.slopes(values, parts.tasks)
            rows = split_rows(w.to(J.dtype) @ J, parameters)
            add_gradients(parameters, [row if used else None for row, used in zip(rows, reached, strict=True)])
        self.factors |= zip(parts.tasks, w.unbind(), strict=True)
        self.learn(values, parts.tasks)
        return Update(values, self.factors)

    def _backward_part_by_part(self, parts: Parts, model: nn.Module, group: Group) -> tuple[Tensor, Tensor]:
        """Go back through each part once; return the losses of all parts and processes `[K]`, and the weights `[K]`."""
        whole, total = len(parts) == 1, torch.empty(0)
        with adding_up(model, group):
            for n, part in enumerate(parts):
                self.before_backward(part, model)
                values = group.sum(values_of(part)) if whole else values_of(part)
                if n == 0:
                    w = self.slopes(values if whole else torch.ones_like(values), parts.tasks)
                stacked = torch.stack(list(part.values()))
                stacked.backward(w.to(stacked.dtype) * (group.size if group.averages else 1))
                total = total + values if n else values
            if group.size > 1 and not group.averages:
                group.sum_(p.grad for p in model.parameters() if p.grad is not None)
        return total if whole else group.sum(total), w

    def slopes(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the derivatives `[K]` of the total with respect to `losses [K]`, in float64."""
        losses = losses.detach().double().requires_grad_()
        (w,) = torch.autograd.grad(self.total(losses, tasks), losses)
        return w

    def before_backward(self, losses: Mapping[str, Tensor], model: Any) -> None:
        """Take note of a part's losses while its graph is there."""

    def learn(self, losses: Tensor, tasks: Sequence[str]) -> None:
        """Take note of the losses `[K]` of the whole batch, once its gradient is there."""

    def observe(self, losses: Losses, group: Group = ALONE) -> None:
        """Take note of the losses of the same batch after the update; called where `second_look` is true."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state that `state_dict` returned."""


def refuse_data_parallel(model: nn.Module, group: Group, method: str) -> None:
    """Raise a `WeightingError` if processes would silently drift apart: their hooks see no gradient taken by a task."""
    if isinstance(model, DistributedDataParallel) and group.size == 1 and model.process_group.size() > 1:
        raise WeightingError(
            f"{method} takes gradients that DistributedDataParallel does not average: give backward the model itself "
            "and group=... (mtlkit.machine.joined)"
        )


@contextmanager
def adding_up(model: nn.Module, group: Group) -> Iterator[None]:
    """Add what comes into `.grad` meanwhile to what was there before, and let processes sum up the new part only."""
    before = [(p, p.grad) for p in model.parameters() if p.grad is not None] if group.size > 1 else []
    for parameter, _ in before:
        parameter.grad = None
    yield
    add_gradients([parameter for parameter, _ in before], [gradient for _, gradient in before])
