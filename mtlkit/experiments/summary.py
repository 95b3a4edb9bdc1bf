"""What a table says: means with intervals, and differences paired by seed with a correction for many comparisons."""

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from mtlkit.experiments.table import Row
from mtlkit.tasks import delta_m

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean over seeds and the half width of its 95 % interval (Student's t); NaN where a number is missing."""

    mean: float
    half: float


class Difference(NamedTuple):
    """How much a setting differs from another, paired by seed.

    Attributes:
        mean: of the differences.
        half: half width of the 95 % interval of that mean, for this comparison alone.
        p: of the paired t test, corrected for all comparisons made with it (Holm 1979): below 0.05, the difference is
            more than chance.
    """

    mean: float
    half: float
    p: float


def mean_of(values: Sequence[float]) -> Interval:
    """Return the mean of `values` with its interval."""
    if not values or any(math.isnan(value) for value in values):
        return Interval(math.nan, math.nan)
    if len(values) == 1:
        return Interval(values[0], math.nan)
    from scipy.stats import t  # slow to import

    quantile = float(t.ppf((1 + LEVEL) / 2, len(values) - 1))
    return Interval(fmean(values), quantile * stdev(values) / math.sqrt(len(values)))


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, Interval]]:
    """Return setting → column → mean over its seeds."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for row in rows:
        found.setdefault(row.setting, []).append(row.values)
    return {
        setting: {name: mean_of([run[name] for run in runs]) for name in runs[0]} for setting, runs in found.items()
    }


def differences(
    rows: Sequence[Row], column: str, base: str, settings: Collection[str] | None = None
) -> dict[str, Difference]:
    """Compare settings with `base` in one column, seed by seed.

    Args:
        rows: of a table.
        column: what is compared.
        base: the setting that the others are held against.
        settings: those that are compared, and for whose number the p values are corrected; all, if not given.

    Raises:
        ValueError: if a setting lacks a seed that `base` has.
    """
    by_setting: dict[str, dict[int, float]] = {}
    for row in rows:
        by_setting.setdefault(row.setting, {})[row.seed] = row.values[column]
    against = by_setting.pop(base)
    found: dict[str, Difference] = {}
    for setting, values in by_setting.items():
        if settings is not None and setting not in settings:
            continue
        if values.keys() != against.keys():
            raise ValueError(f"{setting!r} and {base!r} were not run with the same seeds: finish the experiment first")
        gaps = [values[seed] - against[seed] for seed in against]
        if not any(math.isnan(gap) for gap in gaps):
            found[setting] = Difference(*mean_of(gaps), _p_value(gaps))
    corrected = holm([difference.p for difference in found.values()])
    return {name: found[name]._replace(p=p) for name, p in zip(found, corrected, strict=True)}


def _p_value(gaps: Sequence[float]) -> float:
    if not any(gaps):
        return 1.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(gaps, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number: the smallest times n, the next times n - 1, ..., never falling.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[k]))
        corrected[k] = largest
    return corrected


def with_delta_m(
    rows: Sequence[Row],
    scores: Mapping[str, str],
    splits: Sequence[str] = ("val", "test"),
    lower_is_better: Collection[str] = (),
) -> list[Row]:
    """Add the columns "val Δm" and "test Δm": the mean relative gain in percent over each task alone.

    Args:
        rows: of a table with the settings "TASK alone".
        scores: task → its score, e.g. `{"classify": "classify/accuracy"}`.
        splits: those that are scored.
        lower_is_better: the scores that are errors.
    """
    means = summarise(rows)
    alone = {
        split: {score: means[f"{task} alone"][f"{split} {score}"].mean for task, score in scores.items()}
        for split in splits
    }
    return [
        row._replace(
            values=row.values
            | {
                f"{split} Δm": delta_m(
                    {score: row.values[f"{split} {score}"] for score in scores.values()}, alone[split], lower_is_better
                )
                for split in splits
            }
        )
        for row in rows
    ]
