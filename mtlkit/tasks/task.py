"""A task: a name, a loss, a metric, which way is better."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from mtlkit.data import Batch
from mtlkit.data.batches import batch_size


class Metric(Protocol):
    """Collects outputs batch by batch and gives scores at the end."""

    def update(self, output: Any, batch: Batch) -> None:
        """Add a batch."""

    def compute(self) -> dict[str, float]:
        """Return score name → value."""


@dataclass(frozen=True)
class Task:
    """One thing the model learns.

    Attributes:
        name: also names the model's head and the loss.
        loss: from the head's output and the batch to a scalar; 0 with a graph where no sample has a target. Where a
            batch lacks a key that it asks for, the task takes no part.
        metric: makes an empty metric; a task without one is trained and not scored.
        score: which of the metric's scores stands for the task.
        higher_is_better: whether a larger score is better.
        labelled: from the batch to `bool [B]`: which samples have a target for this task; not given, all have.
        units: from the batch to `[]`: over how many things the loss is a mean; not given, the labelled samples. With
            it the losses of parts of a batch are put together as if it had been one.
    """

    name: str
    loss: Callable[[Any, Batch], Tensor]
    metric: Callable[[], Metric] | None
    score: str
    higher_is_better: bool = True
    labelled: Callable[[Batch], Tensor] | None = None
    units: Callable[[Batch], Tensor] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a task has the name '': give it one, it also names its head and its loss")

    @property
    def score_name(self) -> str:
        """The score that stands for the task as `evaluate` names it, e.g. "classify/accuracy"."""
        return f"{self.name}/{self.score}"

    def count(self, batch: Batch, size: int | None = None) -> tuple[int, int]:
        """Return the number of labelled samples in the batch, and that of the things its loss is a mean over.

        Args:
            batch: the batch.
            size: its number of samples; that of its first tensor, if not given.
        """
        labelled = (
            (batch_size(batch) if size is None else size) if self.labelled is None else int(self.labelled(batch).sum())
        )
        return labelled, labelled if self.units is None else int(self.units(batch))
