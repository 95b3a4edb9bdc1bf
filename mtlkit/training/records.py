"""What the training loop tells: one record a step, whose numbers are fetched from the device late and many at once."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mtlkit.weighting import Conflict

BLOCK = 64  # steps


@dataclass(frozen=True)
class Progress:
    """How far a training run has come.

    Attributes:
        step: steps done.
        seconds: spent in them, not between them.
        loss_scale: in float16, by how much losses are scaled, and the good steps since that changed.
    """

    step: int = 0
    seconds: float = 0.0
    loss_scale: tuple[float, int] | None = None


class Block:
    """The numbers of up to `BLOCK` steps. They lie on the device until the first of them is read, or all are there.

    On a GPU a full block is copied while training goes on; only reading one that is not full makes it wait.
    """

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._there: list[Tensor] = []  # where they were computed
        self._here: list[Tensor] = []
        self._copied: torch.cuda.Event | None = None
        self._values: list[list[float]] = []

    @property
    def full(self) -> bool:
        """Whether it is time for another block."""
        return len(self.lengths) == BLOCK

    def add(self, numbers: Tensor) -> int:
        """Take the numbers `[N]` of a step; return where they are."""
        self.lengths.append(len(numbers))
        self._there.append(numbers)
        if self.full:
            self._copy()
        return len(self.lengths) - 1

    def _copy(self) -> None:
        if self._there:
            there = torch.cat(self._there)
            self._here.append(there.to("cpu", non_blocking=True))  # into pinned memory
            if there.is_cuda:
                self._copied = torch.cuda.Event()
                self._copied.record()
            self._there = []

    def read(self, place: int) -> list[float]:
        """Return the numbers of a step."""
        if place >= len(self._values):
            self._copy()
            if self._copied is not None:
                self._copied.synchronize()
            parts = torch.cat(self._here).split(self.lengths[len(self._values) :])
            self._values += [part.tolist() for part in parts]
            self._here = []
        return self._values[place]


@dataclass(frozen=True)
class Record(Progress):
    """What happened in one step.

    Attributes:
        step: steps done so far, this one included.
        seconds: time spent training so far; the caller's own time between steps is not counted.
        rate: factor on every learning rate, as the schedule gave it.
        tasks: names of the tasks that took part: those with a label in the batch.
        weighted: names of the tasks whose weights are known.
        block: the numbers of this step and its neighbours, the losses before the weights.
        place: where in the block they are.
        conflict: angles and lengths of the tasks' gradients of the shared parameters, where they were measured.
    """

    rate: float = 0.0
    tasks: tuple[str, ...] = ()
    weighted: tuple[str, ...] = ()
    block: Block = field(default_factory=Block, repr=False, compare=False)
    place: int = 0
    conflict: Conflict | None = None

    @property
    def losses(self) -> dict[str, float]:
        """Task name → loss before weighting. Reading it may wait for the device."""
        return dict(zip(self.tasks, self._numbers(), strict=False))

    @property
    def weights(self) -> dict[str, float]:
        """Task name → the weight with which the method last used its gradient. Reading it may wait for the device."""
        return dict(zip(self.weighted, self._numbers()[len(self.tasks) :], strict=True))

    def _numbers(self) -> list[float]:
        return self.block.read(self.place) if self.tasks or self.weighted else []

    @property
    def cosine(self) -> float | None:
        """Mean cosine between the tasks' gradients, where it was measured."""
        return self.conflict.mean_cosine if self.conflict else None
