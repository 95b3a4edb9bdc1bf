"""Balancing losses: one backward pass through a weighted sum."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Weighting:
    """What all weighting methods share: `backward` turns a dictionary of losses into `.grad`."""

    weights: dict[str, float]

    def total(self, losses: Tensor) -> Tensor:
        """Return the one scalar that is minimised for `losses [K]`, in the order of `weights`."""
        raise NotImplementedError

    def backward(self, losses: Mapping[str, Tensor], model: nn.Module) -> None:
        """Leave the gradient of the total loss in `.grad` of every parameter of `model`."""
        self.total(torch.stack(list(losses.values()))).backward()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state that `state_dict` returned."""


class StaticWeights(Weighting):
    """L = Σ w_i l_i, a sum and not a mean: doubling every weight doubles the gradient.

    `weights` may be changed between steps; the next step uses the new values.

    Args:
        weights: task name → w_i, at least 0; a task that is not named weighs 1.

    Raises:
        ValueError: if a weight is negative or not finite, or names no task of the losses.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.weights = dict(weights or {})
        for name, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {name!r} is {weight}: expected a finite number, 0 or more")

    def total(self, losses: Tensor) -> Tensor:
        """Return Σ w_i l_i for `losses [K]` in the order of `weights`."""
        return torch.dot(losses, losses.new_tensor(list(self.weights.values()) or [1.0] * len(losses)))

    def backward(self, losses: Mapping[str, Tensor], model: nn.Module) -> None:
        """Leave Σ w_i ∇l_i in `.grad`."""
        if unknown := self.weights.keys() - losses.keys():
            raise ValueError(f"there is a weight for {min(unknown)!r}, but the losses are {', '.join(losses)}")
        self.weights = {name: self.weights.get(name, 1.0) for name in losses}
        super().backward(losses, model)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights."""
        return {"weights": dict(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over saved weights."""
        self.weights = dict(state["weights"])


class EqualWeights(StaticWeights):
    """L = Σ l_i: every task weighs 1."""

    def __init__(self) -> None:
        super().__init__()
