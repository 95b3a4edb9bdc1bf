"""What all weighting methods share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.parallel import ALONE, Group
from mtlkit.weighting.rows import split_rows, task_gradients


class WeightingError(RuntimeError):
    """The losses cannot become an update; the message names the task or the method and says what to change."""


class NotFiniteError(WeightingError):
    """A loss or a gradient is NaN or infinite."""


class Parts:
    """The losses of a batch that is gone through part by part, so that only one part's graph is in memory.

    The loss of the whole batch is the sum over its parts. Iterating computes the losses of one part after the other.

    Args:
        tasks: names of the tasks, the same in each part.
        number: of parts.
        losses: from the number of a part, from 0, to its losses.
        around: from the number of a part to a context in which its losses are computed and used.

    Attributes:
        known: the sum `[K]` of the losses of the parts that there were, in float64, on the device; after
            `Weighting.backward` that over all processes.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        number: int,
        losses: Callable[[int], Mapping[str, Tensor]],
        around: Callable[[int], AbstractContextManager[Any]] = lambda part: nullcontext(),
    ) -> None:
        self.tasks, self.number, self.losses, self.around = list(tasks), number, losses, around
        self.known = torch.empty(0)

    @classmethod
    def of(cls, losses: "Losses") -> "Parts":
        """Return `losses` as parts: a dictionary is one."""
        if not (parts := losses if isinstance(losses, Parts) else cls(list(losses), 1, lambda part: losses)).tasks:
            raise WeightingError("there is no loss: no task has a labelled sample in this batch; skip its update")
        return parts

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[Mapping[str, Tensor]]:
        for part in range(self.number):
            with self.around(part):
                losses = self.losses(part)
                values = torch.stack(list(losses.values())).detach().double()
                self.known = self.known + values if part else values
                if values.device.type == "cpu":  # on a GPU looking means waiting: there the training loop looks
                    check_finite("loss", self.tasks, values)
                yield losses


Losses = Mapping[str, Tensor] | Parts


class Weighting:
    """How many losses become one update: `backward` turns a dictionary of losses into `.grad`.

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

    def backward(self, losses: Losses, model: nn.Module, group: Group = ALONE) -> None:
        """Leave the gradient of the total loss in `.grad` of every parameter of `model`.

        The weights are the derivatives of the total with respect to the losses: one backward pass, whatever the total.
        For a batch in several parts they must be known before its first part is let go. Where they are not, the tasks'
        gradients of all parameters are added up first: K passes a part, and memory for K gradients.

        Args:
            losses: task name → loss, or the `Parts` of a batch.
            model: its parameters get the gradient.
            group: processes that have a part of the batch each; all get the gradient of the sum of their losses.

        Raises:
            WeightingError: if a loss is NaN or infinite, or there is none.
        """
        parts = Parts.of(losses)
        if self.linear or len(parts) == 1:
            for n, part in enumerate(parts):
                if n == 0:
                    known = group.sum(parts.known) if len(parts) == 1 else torch.ones_like(parts.known)
                    w = self.slopes(known, parts.tasks)
                total = torch.stack(list(part.values()))
                total.backward(w.to(total.dtype) * (group.size if group.averages else 1))
            if group.size > 1 and not group.averages:
                group.sum_(p.grad for p in model.parameters() if p.grad is not None)
            parts.known = known if len(parts) == 1 else group.sum(parts.known)
        else:
            parameters = [p for p in model.parameters() if p.requires_grad]
            J, reached = task_gradients(parts, parameters)
            group.sum_([J, parts.known])
            w = self.slopes(parts.known, parts.tasks)
            for parameter, row, used in zip(
                parameters, split_rows(w.to(J.dtype) @ J, parameters), reached, strict=True
            ):
                parameter.grad = row if used else None
        self.factors |= zip(parts.tasks, w.unbind(), strict=True)
        self.learn(parts.known, parts.tasks)

    def slopes(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the derivatives `[K]` of the total with respect to the known `losses [K]`, in float64."""
        known = losses.detach().double().requires_grad_()
        (w,) = torch.autograd.grad(self.total(known, tasks), known)
        return w

    def learn(self, losses: Tensor, tasks: Sequence[str]) -> None:
        """Take note of the losses `[K]` of the whole batch, once its gradient is there."""

    def observe(self, losses: Mapping[str, Tensor]) -> None:
        """Take note of the losses of the same batch after the update; called where `second_look` is true."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state that `state_dict` returned."""


def check_finite(what: str, tasks: Sequence[str], values: Any) -> None:
    """Raise a `NotFiniteError` that names the first of `tasks` whose number in `values [K]` is NaN or infinite."""
    for task, value in zip(tasks, values.tolist(), strict=True):
        if not abs(value) < float("inf"):
            raise NotFiniteError(
                f"the {what} of the task {task!r} is {value}: lower the learning rate or its weight, "
                "and look for NaN in its targets"
            )


def read(numbers: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the numbers `[]` of each name, fetched from the device together."""
    return dict(zip(numbers, torch.stack(list(numbers.values())).tolist(), strict=True)) if numbers else {}


def constants(values: Sequence[float], like: Tensor) -> Tensor:
    """Return `values [K]` where `like` is and of its type. A GPU fills them in: a copy from here would wait for it."""
    if like.device.type == "cpu":
        return like.new_tensor(values)
    return torch.stack([like.new_full((), value) for value in values])


def names(tasks: Sequence[str], number: int) -> list[str]:
    """Return `tasks`, or "0", "1", ... where none are given."""
    return list(tasks) or [str(k) for k in range(number)]
