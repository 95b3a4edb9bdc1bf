"""What the experiments of the four fields share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtlkit.experiments.budget import Budget, train_and_score
from mtlkit.experiments.table import Experiment


def scored(setup: Any, steps: int, data: Mapping[str, Any]) -> dict[str, float]:
    """Train for so many steps, and score on the data sets."""
    return train_and_score(setup, Budget(steps=steps), data)


def table_of(
    name: str,
    budget: str,
    columns: Sequence[str],
    settings: Mapping[str, Callable[[int], Mapping[str, float]]],
    seeds: int = 5,
) -> Experiment:
    """Return the experiment behind the table `fields_<name>`, made by `mtlkit experiments fields`."""
    field = name.partition("_")[0]
    return Experiment(f"fields_{name}", f"fields --case {field}", budget, columns, settings, seeds=seeds)
