"""The order of methods: mean rank over tasks, and whether it is the order that was published."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from mtlkit.experiments.summary import Interval

# Δm in percent of the increase of errors on QM9, less is better: A. Navon et al., "Multi-Task Learning as a Bargaining
# Game", ICML 2022; FAMO from B. Liu et al., NeurIPS 2023; FairGrad from H. Ban and K. Ji, ICML 2024, whose single tasks
# and protocol are those of the first. "SI" of that table is the geometric mean of the losses.
PUBLISHED_QM9 = {
    "EqualWeights": 177.6,
    "GeometricMean": 77.8,
    "RandomWeights": 203.8,
    "DWA": 175.3,
    "Uncertainty": 108.0,
    "MGDA": 120.5,
    "PCGrad": 125.7,
    "CAGrad": 112.8,
    "IMTLG": 77.2,
    "NashMTL": 62.0,
    "FAMO": 58.5,
    "FairGrad": 57.9,
}


def mean_ranks(
    summary: Mapping[str, Mapping[str, Interval]],
    columns: Sequence[str],
    settings: Sequence[str],
    lower_is_better: Collection[str] = (),
) -> dict[str, float]:
    """Return setting → its mean place over the columns, 1 is best; equal means share their places.

    Args:
        summary: setting → column → mean, of `mtlkit.experiments.summarise`.
        columns: one for each task.
        settings: those that are ranked.
        lower_is_better: the columns that are errors.
    """
    from scipy.stats import rankdata  # slow to import

    places = [
        rankdata([(1 if column in lower_is_better else -1) * summary[name][column].mean for name in settings])
        for column in columns
    ]
    return {name: float(sum(place[k] for place in places) / len(columns)) for k, name in enumerate(settings)}


class Agreement(NamedTuple):
    """How much two orders agree.

    Attributes:
        rho: Spearman's rank correlation: 1 for the same order, -1 for the opposite one.
        low: of its 95 % interval, by Fisher's z with the standard error of Bonett and Wright (Psychometrika 65, 2000).
        high: the other end.
        n: how many were ordered.
    """

    rho: float
    low: float
    high: float
    n: int


def agreement(one: Mapping[str, float], other: Mapping[str, float]) -> Agreement:
    """Return how much two orders agree on the names that both have.

    Raises:
        ValueError: if they have fewer than five names in common: no interval then means anything.
    """
    from scipy.stats import spearmanr  # slow to import

    names = [name for name in one if name in other]
    if len(names) < 5:
        raise ValueError(f"{len(names)} names in common: expected five or more")
    rho = float(spearmanr([one[name] for name in names], [other[name] for name in names]).statistic)
    if abs(rho) == 1:
        return Agreement(rho, rho, rho, len(names))
    z, error = math.atanh(rho), 1.96 * math.sqrt((1 + rho**2 / 2) / (len(names) - 3))
    return Agreement(rho, math.tanh(z - error), math.tanh(z + error), len(names))
