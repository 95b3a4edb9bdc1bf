"""What all weighting methods share."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class WeightingError(RuntimeError):
    """The losses cannot become an update; the message names the task or the method and says what to change."""


class Weighting:
    """How many losses become one update: `backward` turns a dictionary of losses into `.grad`.

    Leave a task without a labelled sample out of the dictionary: it then takes no part in the step.

    Attributes:
        weights: task name → the factor with which its gradient last went into the update of the shared parameters.
        second_look: whether the method must see the losses of the same batch again after the update (`observe`).
    """

    weights: dict[str, float]
    second_look = False

    def __init__(self) -> None:
        self.weights = {}

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the scalar `[]` to minimise for `losses [K]` of the `tasks` (names; "0", "1", ... if not given)."""
        raise NotImplementedError(f"{type(self).__name__} combines gradients, not losses: use combine or backward")

    def combine(self, jacobian: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the update direction `[P]` for the gradients of `tasks`, the rows of `jacobian [K, P]`."""
        raise NotImplementedError(f"{type(self).__name__} combines losses, not gradients: use total or backward")

    def backward(self, losses: Mapping[str, Tensor], model: nn.Module) -> None:
        """Leave the gradient of the total loss in `.grad` of every parameter of `model`.

        The weights are the derivatives of the total with respect to the losses: one backward pass, whatever the total.

        Raises:
            WeightingError: if a loss is NaN or infinite, or there is none.
        """
        tasks, stacked = list(losses), stack(losses)
        known = stacked.detach().double().requires_grad_()
        self.total(known, tasks).backward()
        assert known.grad is not None
        stacked.backward(known.grad.to(stacked.dtype))
        self.weights.update(zip(tasks, known.grad.tolist(), strict=True))

    def observe(self, losses: Mapping[str, Tensor]) -> None:
        """Take note of the losses of the same batch after the update; called where `second_look` is true."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state that `state_dict` returned."""


def stack(losses: Mapping[str, Tensor]) -> Tensor:
    """Return the losses `[K]`; on a CPU they are checked. On a GPU looking means waiting: there `train` looks."""
    if not losses:
        raise WeightingError("there is no loss: no task has a labelled sample in this batch; skip its update")
    stacked = torch.stack(list(losses.values()))
    if stacked.device.type == "cpu":
        check_finite("loss", list(losses), stacked.detach())
    return stacked


def check_finite(what: str, tasks: Sequence[str], values: Tensor) -> None:
    """Raise a `WeightingError` that names the first of `tasks` whose number in `values [K]` is NaN or infinite."""
    for task, value in zip(tasks, values.tolist(), strict=True):
        if not abs(value) < float("inf"):
            raise WeightingError(
                f"the {what} of the task {task!r} is {value}: lower the learning rate or its weight, "
                "and look for NaN in its targets"
            )


def names(tasks: Sequence[str], number: int) -> list[str]:
    """Return `tasks`, or "0", "1", ... where none are given."""
    return list(tasks) or [str(k) for k in range(number)]
