"""What the learner sets in the live lab, checked at once."""

import math
from collections.abc import Mapping
from typing import Any

from mtlkit.cases import Case
from mtlkit.weighting import METHODS, StaticWeights


class Controls:
    """Loss weights, learning rate, method and the data of a case. May be set from any thread; the next step uses them.

    Args:
        case: its live knobs are those of the data.
        tasks: their names.
    """

    def __init__(self, case: Case, tasks: tuple[str, ...]) -> None:
        self.case, self._weights = case, dict.fromkeys(tasks, 1.0)
        self._rate, self._method = 1.0, "StaticWeights"

    @property
    def weights(self) -> dict[str, float]:
        """Task → weight."""
        return dict(self._weights)

    @weights.setter
    def weights(self, weights: Mapping[str, float]) -> None:
        if unknown := set(weights) - set(self._weights):
            raise ValueError(f"there is no task {min(unknown)!r}: the tasks are {' and '.join(self._weights)}")
        self._weights = self._weights | {k: float(w) for k, w in StaticWeights(weights).weights.items()}

    @property
    def rate(self) -> float:
        """Factor on the optimiser's learning rates."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        if not 0 <= rate < math.inf:
            raise ValueError(f"the rate is {rate}: expected a finite number, 0 or more")
        self._rate = float(rate)

    @property
    def method(self) -> str:
        """Name of the weighting method. A method that is set anew begins without a memory."""
        return self._method

    @method.setter
    def method(self, method: str) -> None:
        if method not in METHODS:
            raise ValueError(f"there is no method {method!r}; there are {', '.join(METHODS)}")
        self._method = method

    @property
    def data(self) -> dict[str, Any]:
        """The knobs of the case that may be changed while it trains, with their values."""
        return live_knobs(self.case)

    @data.setter
    def data(self, data: Mapping[str, Any]) -> None:
        if unknown := set(data) - set(self.data):
            known = ", ".join(self.data) or "none that may be changed while it trains"
            raise ValueError(f"there is no knob {min(unknown)!r} of the data; there are {known}")
        for name, value in data.items():
            if isinstance(value, Mapping) and (strange := set(value) - set(self._weights)):
                raise ValueError(f"{name} names the task {min(strange)!r}: expected {' or '.join(self._weights)}")
        self.case = self.case.with_knobs(**data)

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set several things at once: task → weight, or "rate", "method", "data"."""
        self.weights = {name: value for name, value in changes.items() if name not in ("rate", "method", "data")}
        for name in changes.keys() & {"rate", "method", "data"}:  # the others may be set by another thread right now
            setattr(self, name, changes[name])


def live_knobs(case: Case) -> dict[str, Any]:
    """Return the knobs of a case that may be changed while it trains, with their values."""
    return {name: value for name, value in case.values().items() if case.knobs[name].live}
