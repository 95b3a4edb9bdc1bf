"""The learner's weights in front of any weighting method."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mtlkit.machine import ALONE, Group
from mtlkit.weighting import StaticWeights, Update, Weighting
from mtlkit.weighting.base import Losses, as_parts
from mtlkit.weighting.graph import Shared


class SteeredWeighting(Weighting):
    """The learner's weights in front of any method, which then sees w_i l_i. A task that weighs 0 takes no part.

    Attributes:
        wanted: gives task name → w_i. Asked after the forward pass, as late as can be.
        used: the w_i of the last step.
        method: combines the scaled losses.
    """

    def __init__(self, wanted: Callable[[], dict[str, float]], method: Weighting) -> None:
        self.wanted, self.used, self.method = wanted, wanted(), method

    @property
    def factors(self) -> dict[str, Tensor]:  # type: ignore[override]
        """Task name → the factor with which its gradient went into the update: the learner's times the method's."""
        one = torch.ones((), dtype=torch.double)
        return {task: w * self.method.factors.get(task, one) for task, w in self.used.items()}

    @property
    def second_look(self) -> bool:  # type: ignore[override]
        """Whether the method must see the losses again."""
        return self.method.second_look

    def _scaled(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {task: self.used[task] * loss for task, loss in losses.items() if self.used[task] > 0}

    def weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the sum `[]` of the losses, each times the learner's weight and the method's.

        Raises:
            WeightingError: if the method needs more than the losses.
        """
        self.used = self.wanted()
        scaled = self._scaled(losses)
        if not scaled:  # nothing is to be learned, and nothing gets a gradient
            return torch.zeros_like(next(iter(losses.values())), requires_grad=True)
        if type(self.method) is StaticWeights:
            return torch.stack(list(scaled.values())).sum()
        stacked, tasks = torch.stack(list(scaled.values())), list(scaled)
        values = stacked.detach().double()
        if not bool(values.isfinite().all()):  # a method must not learn from that
            return stacked.sum()
        w = self.method.slopes(values, tasks)
        self.method.factors |= zip(tasks, w.unbind(), strict=True)
        self.method.learn(values, tasks)
        return torch.dot(w.to(stacked.dtype), stacked)

    def backward(self, losses: Losses, model: Any, group: Group = ALONE, shared: Shared = None) -> Update:
        """Leave the method's gradient of the scaled losses in `.grad`; none if every weight is 0."""
        (part,) = as_parts(losses)  # a lab's batch is in one part
        self.used = self.wanted()
        if scaled := self._scaled(part):
            self.method.backward(scaled, model, group, shared)
        values = torch.stack(list(part.values())).detach().double()  # one that weighs 0 may be anything
        return Update(values, self.factors)

    def observe(self, losses: Losses, group: Group = ALONE) -> None:
        """Show the method the scaled losses after the update."""
        with torch.no_grad():
            (part,) = as_parts(losses)
        if scaled := self._scaled(part):
            self.method.observe(scaled, group)
