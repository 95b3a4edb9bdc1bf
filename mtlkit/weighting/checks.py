"""What every method asks of the losses and gradients that it is given, and small tools for numbers on a device."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class WeightingError(RuntimeError):
    """The losses cannot become an update; the message names the task or the method and says what to change."""


class WeightingWarning(UserWarning):
    """A method will not do what it is meant to do with such losses; the message says why and what to change."""


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
            f"the {what} of the task {task!r} is {value}: lower the learning rate or its weight, look for NaN in its "
            "targets, and for a mean over no samples (let Task(labelled=...) say which have a target)"
        )


def check_losses(losses: Mapping[str, Any]) -> None:
    """See that each loss is one number that a gradient can be taken of.

    Raises:
        WeightingError: if one is not; the message names its task.
    """
    for task, loss in losses.items():
        is_tensor = isinstance(loss, Tensor)
        if is_tensor and loss.ndim:
            raise WeightingError(
                f"the loss of the task {task!r} has the shape {list(loss.shape)}: expected one number, e.g. its mean()"
            )
        if not is_tensor or (torch.is_grad_enabled() and not loss.requires_grad):
            kind = (
                "a constant that depends on no trained parameter" if is_tensor else f"the {type(loss).__name__} {loss}"
            )
            raise WeightingError(
                f"the loss of the task {task!r} is {kind}: expected a tensor with a graph. Where a batch has no target "
                "for the task, leave it out (Task(labelled=...) says so), or return 0 * output.sum()"
            )


class NegativeLosses:
    """Says once for each task that a method cannot deal with its loss, since it is below 0.

    On a GPU looking means waiting: there it looks at each 64th call only.

    Args:
        method: its name.
        why: what the method does with such a loss.
    """

    def __init__(self, method: str, why: str) -> None:
        self.method, self.why, self.calls, self.named = method, why, 0, set[str]()

    def look(self, tasks: Sequence[str], losses: Tensor) -> None:
        """Warn of the tasks whose number in `losses [K]` is below 0."""
        here = losses.device.type == "cpu" or (losses.device.type == "cuda" and self.calls % 64 == 0)
        self.calls += 1
        for task, loss in zip(tasks, losses.tolist() if here else (), strict=here):
            if loss < 0 and task not in self.named:
                self.named.add(task)
                warnings.warn(
                    f"the loss of the task {task!r} is {loss:.3g}, below 0: {self.method} {self.why}. Add a constant "
                    "that keeps the loss above 0, or use a method that does not depend on how large losses are "
                    "(StaticWeights, UPGrad, ...)",
                    WeightingWarning,
                    stacklevel=2,
                )


def check_finite(what: str, tasks: Sequence[str], values: Sequence[float]) -> None:
    """Raise a `NotFiniteError` that names the first of `tasks` whose number in `values` is NaN or infinite."""
    for task, value in zip(tasks, values, strict=True):
        if not abs(value) < float("inf"):
            raise NotFiniteError(what, task, value)


def narrowed(numbers: Tensor, like: Tensor) -> Tensor:
    """Return `numbers` in the type of `like`.

    Raises:
        WeightingError: if they are too large for it. On a GPU looking means waiting: there the loss scale looks.
    """
    narrow = numbers.to(like.dtype)
    if like.dtype == torch.float16 and like.device.type == "cpu" and not narrow.isfinite().all():
        raise WeightingError("the combined gradient is too large for float16: lower the loss scale, or use bfloat16")
    return narrow


def at_least(method: object, name: str, value: float, least: float = 0.0, *, open: bool = True) -> float:
    """Return a number that a method is made with, once it is seen to be finite and at least (or above) `least`.

    Raises:
        ValueError: if it is not.
    """
    if not (least < value if open else least <= value) or not value < float("inf"):
        bound = f"above {least:g}" if open else f"of {least:g} or more"
        raise ValueError(f"{type(method).__name__}({name}={value}): expected a finite number {bound}")
    return value


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
