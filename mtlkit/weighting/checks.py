"""What every method asks of the losses and gradients that it is given, and small tools for numbers on a device."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class WeightingError(RuntimeError):
    """The losses cannot become an update; the message names the task or the method and says what to change."""


class NotFiniteError(WeightingError):
    """A number of a task is NaN or infinite.

    Attributes:
        what: "loss", or which number of its gradient.
        losses: those of all tasks `[K]`, if they are finite and only a gradient is not.
    """

    losses: Tensor | None = None

    def __init__(self, what: str, task: str, value: float) -> None:
        self.what = what
        super().__init__(
            f"the {what} of the task {task!r} is {value}: lower the learning rate or its weight, "
            "and look for NaN in its targets"
        )


def check_finite(what: str, tasks: Sequence[str], values: Sequence[float]) -> None:
    """Raise a `NotFiniteError` that names the first of `tasks` whose number in `values` is NaN or infinite."""
    for task, value in zip(tasks, values, strict=True):
        if not abs(value) < float("inf"):
            raise NotFiniteError(what, task, value)


def values_of(losses: Mapping[str, Tensor]) -> Tensor:
    """Return the losses as numbers `[K]` in float64, on their device.

    Raises:
        NotFiniteError: if one is NaN or infinite. On a GPU looking means waiting: there the training loop looks.
    """
    values = torch.stack(list(losses.values())).detach().double()
    if values.device.type == "cpu":
        check_finite("loss", list(losses), values.tolist())
    return values


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
