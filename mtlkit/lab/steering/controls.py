"""What the learner sets, checked as a whole before any of it is taken over."""

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mtlkit.cases import Case
from mtlkit.weighting import METHODS, StaticWeights

WORDS = ("weights", "rate", "method", "data")  # all other names in a change are tasks


@dataclass(frozen=True)
class Setting:
    """What one step uses.

    Attributes:
        weights: task → weight.
        method: name in `mtlkit.weighting.METHODS`.
        rate: factor on the optimiser's learning rates; `None` where the optimiser is not ours.
        case: with the knobs of its data; `None` where the data are not ours.
        stamp: which message from which view asked for it last.
    """

    weights: Mapping[str, float]
    method: str = "StaticWeights"
    rate: float | None = None
    case: Case | None = None
    stamp: tuple[str, int] = ("", 0)

    def changed(self, changes: Mapping[str, Any]) -> "Setting":
        """Return what is set after `changes`: task → weight, or "weights", "rate", "method", "data".

        Raises:
            ValueError: if anything in it is unknown or out of range.
        """
        weights = {name: value for name, value in changes.items() if name not in WORDS}
        if isinstance(nested := changes.get("weights", {}), Mapping):
            weights |= nested
        else:
            weights["weights"] = nested  # a task of that name
        new = replace(self, weights=self._checked_weights(weights))
        if "method" in changes:
            new = replace(new, method=_checked_method(changes["method"]))
        if "rate" in changes:
            new = replace(new, rate=self._checked_rate(changes["rate"]))
        if "data" in changes:
            new = replace(new, case=self._checked_case(changes["data"]))
        return new

    def _checked_weights(self, weights: Mapping[str, Any]) -> dict[str, float]:
        if unknown := [name for name in weights if name not in self.weights]:
            raise ValueError(f"there is no task {unknown[0]!r}: the tasks are {' and '.join(self.weights)}")
        try:
            numbers = {name: float(w) for name, w in weights.items()}
        except (TypeError, ValueError):
            raise ValueError(f"the weights are {weights!r}: expected task → number") from None
        return {**self.weights, **StaticWeights(numbers).weights}

    def _checked_rate(self, rate: Any) -> float:
        if self.rate is None:
            raise ValueError("there is no rate to set: the optimiser is your own")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < math.inf:
            raise ValueError(f"the rate is {rate!r}: expected a finite number, 0 or more")
        return float(rate)

    def _checked_case(self, data: Any) -> Case | None:
        live = live_knobs(self.case)
        if not isinstance(data, Mapping):
            raise ValueError(f"data is {data!r}: expected knob → value")
        if unknown := [name for name in data if name not in live]:
            known = ", ".join(live) or "none that may be changed while it trains"
            raise ValueError(f"there is no knob {unknown[0]!r} of the data; there are {known}")
        for name, value in data.items():
            strange = [task for task in value if task not in self.weights] if isinstance(value, Mapping) else []
            if strange:
                raise ValueError(f"{name} names the task {strange[0]!r}: expected {' or '.join(self.weights)}")
        return self.case.with_knobs(**data) if self.case else None

    def values(self) -> dict[str, Any]:
        """Return all that is set, as a dictionary that `changed` takes."""
        said = {"weights": dict(self.weights), "method": self.method, "rate": self.rate, "data": live_knobs(self.case)}
        return {name: value for name, value in said.items() if value is not None}

    def differences(self, before: "Setting") -> dict[str, Any]:
        """Return what `before` must be changed by to be this, a task's weight under the name of the task."""
        new, old = self.values(), before.values()
        weights = {task: w for task, w in self.weights.items() if w != before.weights[task]}
        named = {task: w for task, w in weights.items() if task not in WORDS}
        hidden = {task: w for task, w in weights.items() if task in WORDS}
        others = {name: new[name] for name in ("rate", "method", "data") if new.get(name) != old.get(name)}
        return named | ({"weights": hidden} if hidden else {}) | others


class Controls:
    """Holds what is set now. May be changed from any thread; the next step uses it.

    Attributes:
        setting: all of it at once.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._changing = threading.Lock()

    @property
    def weights(self) -> dict[str, float]:
        """Task → weight."""
        return dict(self.setting.weights)

    @property
    def rate(self) -> float | None:
        """Factor on the optimiser's learning rates; `None` where the optimiser is not ours."""
        return self.setting.rate

    @property
    def method(self) -> str:
        """Name of the weighting method. A method that is set anew begins without a memory."""
        return self.setting.method

    @property
    def data(self) -> dict[str, Any]:
        """The knobs of the case that may be changed while it trains, with their values."""
        return live_knobs(self.setting.case)

    def change(self, changes: Mapping[str, Any], stamp: tuple[str, int] | None = None) -> None:
        """Set several things at once, or nothing: task → weight, or "weights", "rate", "method", "data".

        Raises:
            ValueError: if anything in it is unknown or out of range; then nothing has changed.
        """
        with self._changing:
            self.setting = replace(self.setting.changed(changes), stamp=stamp or self.setting.stamp)


def _checked_method(method: Any) -> str:
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}; there are {', '.join(METHODS)}")
    return str(method)


def live_knobs(case: Case | None) -> dict[str, Any]:
    """Return the knobs of a case that may be changed while it trains, with their values."""
    return {name: value for name, value in case.values().items() if case.knobs[name].live} if case else {}
