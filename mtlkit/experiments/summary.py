"""What a table says: means with intervals, and differences paired by seed with a correction for many comparisons."""

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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


def mean_of(values: Sequence[float], overlap: float = 0.0) -> Interval:
    """Return the mean of `values` with its interval.

    Args:
        values: one a seed.
        overlap: where seeds are random splits of one set of data: test samples by training samples. Splits that share
            samples make similar mistakes, and the variance of the mean is then larger by 1 + seeds · overlap
            (C. Nadeau, Y. Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003).
    """
    if not values or any(math.isnan(value) for value in values):
        return Interval(math.nan, math.nan)
    if len(values) == 1:
        return Interval(values[0], math.nan)
    from scipy.stats import t  # slow to import

    quantile = float(t.ppf((1 + LEVEL) / 2, len(values) - 1))
    return Interval(fmean(values), quantile * stdev(values) * math.sqrt(1 / len(values) + overlap))


def summarise(rows: Sequence[Row], overlap: float = 0.0) -> dict[str, dict[str, Interval]]:
    """Return setting → column → mean over its seeds; `overlap` as in `mean_of`."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for row in rows:
        found.setdefault(row.setting, []).append(row.values)
    return {
        setting: {name: mean_of([run[name] for run in runs], overlap) for name in runs[0]}
        for setting, runs in found.items()
    }


def differences(
    rows: Sequence[Row], column: str, base: str, settings: Collection[str] | None = None, overlap: float = 0.0
) -> dict[str, Difference]:
    """Compare settings with `base` in one column, seed by seed.

    Args:
        rows: of a table.
        column: what is compared.
        base: the setting that the others are held against.
        settings: those that are compared, and for whose number the p values are corrected; all, if not given.
        overlap: as in `mean_of`, where seeds are splits of one set of data.

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
            found[setting] = Difference(*mean_of(gaps, overlap), _p_value(gaps, overlap))
    corrected = holm([difference.p for difference in found.values()])
    return {name: found[name]._replace(p=p) for name, p in zip(found, corrected, strict=True)}


class Front(NamedTuple):
    """The front of some settings, with its own uncertainty.

    Attributes:
        line: the points of it `[N, 2]`, from the smallest first score on.
        band: of the same from bootstrap draws, 95 % of them: first score, lowest and highest second score `[M, 3]`.
        beyond: setting → the share of the draws in which it lies beyond the front.
    """

    line: NDArray[np.float64]
    band: NDArray[np.float64]
    beyond: dict[str, float]


def front_of(rows: Sequence[Row], scores: tuple[str, str], base: Collection[str], draws: int = 2000) -> Front:
    """Return the front of the settings `base`, e.g. all static weights, and how surely each other lies beyond it.

    A draw takes seeds with replacement, the same for all settings (bootstrap; Efron 1979), and then means. Between two
    points of a front that no setting beats in both scores, it is taken as straight.

    Args:
        rows: of a table, each setting with the same seeds.
        scores: the two columns, more is better in both.
        base: the settings that make the front.
        draws: how many.
    """
    by_setting: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        by_setting.setdefault(row.setting, {})[row.seed] = [row.values[score] for score in scores]
    seeds = sorted(next(iter(by_setting.values())))
    values = {name: np.array([found[seed] for seed in seeds]) for name, found in by_setting.items()}
    others = [name for name in values if name not in base and not np.isnan(values[name]).any()]
    line = _nondominated(np.array([values[name].mean(0) for name in base]))
    grid = np.linspace(line[0, 0], line[-1, 0], 60)
    random, share, heights = np.random.default_rng(0), dict.fromkeys(others, 0), []
    for _ in range(draws):
        drawn = random.integers(len(seeds), size=len(seeds))
        there = _nondominated(np.array([values[name][drawn].mean(0) for name in base]))
        heights.append(np.interp(grid, *there.T))
        for name in others:
            share[name] += _is_beyond(values[name][drawn].mean(0), there)
    low, high = np.quantile(heights, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Front(line, np.stack([grid, low, high], 1), {name: n / draws for name, n in share.items()})


def _nondominated(points: NDArray[np.float64]) -> NDArray[np.float64]:
    kept = [p for p in points if not ((points >= p).all(1) & (points > p).any(1)).any()]
    return np.array(sorted(map(tuple, kept)))


def _is_beyond(point: NDArray[np.float64], line: NDArray[np.float64]) -> bool:
    """Whether a point lies above a front or, beside its ends, is not beaten by the one that is nearest."""
    if point[0] > line[-1, 0] or point[1] > line[0, 1]:
        return True
    return bool(point[0] >= line[0, 0] and point[1] > np.interp(point[0], *line.T))


def _p_value(gaps: Sequence[float], overlap: float = 0.0) -> float:
    if not any(gaps):
        return 1.0
    from scipy.stats import t, ttest_1samp

    plain = float(ttest_1samp(gaps, 0.0).statistic) / math.sqrt(1 + len(gaps) * overlap)
    return float(2 * t.sf(abs(plain), len(gaps) - 1))


class Ratio(NamedTuple):
    """A ratio of two standard deviations, and its 95 % interval."""

    ratio: float
    low: float
    high: float


def spread_ratio(rows: Sequence[Row], column: str, base: str, setting: str) -> Ratio:
    """Return how much more the values of `setting` spread over seeds than those of `base`.

    The interval is that of the F distribution, for two independent normal samples.

    Args:
        rows: of a table.
        column: what spreads.
        base: the setting in whose standard deviation the other one's is counted.
        setting: the other one.
    """
    from scipy.stats import f  # slow to import

    values = {name: [row.values[column] for row in rows if row.setting == name] for name in (base, setting)}
    ratio = stdev(values[setting]) / stdev(values[base])
    freedom = len(values[setting]) - 1, len(values[base]) - 1
    low, high = (math.sqrt(float(f.ppf(share, *freedom))) for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Ratio(ratio, ratio / high, ratio / low)


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


class Comparison(NamedTuple):
    """What a table of weighting methods says.

    Attributes:
        summary: setting → column → mean and interval, with "val Δm" and "test Δm".
        tuned: the static weight with the best validation Δm.
        front: of the static weights on test data; `None` where there are not two tasks.
        gaps: setting → by how much its test Δm differs from that of `tuned`, corrected for all of them.
    """

    summary: dict[str, dict[str, Interval]]
    tuned: str
    front: Front | None
    gaps: dict[str, Difference]

    def beyond(self, share: float = LEVEL) -> list[str]:
        """Return the settings that lie beyond the front in at least this share of the draws, the surest first."""
        found = self.front.beyond if self.front else {}
        return sorted((name for name in found if found[name] >= share), key=lambda name: -found[name])

    def better(self) -> list[str]:
        """Return the settings that are better than the tuned static weight by more than chance, the best first."""
        chosen = [name for name, gap in self.gaps.items() if gap.p < 1 - LEVEL and gap.mean > 0]
        return sorted(chosen, key=lambda name: -self.gaps[name].mean)

    def worse(self) -> list[str]:
        """Return the settings that are worse than the tuned static weight by more than chance, the worst first."""
        chosen = [name for name, gap in self.gaps.items() if gap.p < 1 - LEVEL and gap.mean < 0]
        return sorted(chosen, key=lambda name: self.gaps[name].mean)


def compare(rows: Sequence[Row], scores: Mapping[str, str], lower_is_better: Collection[str] = ()) -> Comparison:
    """Hold all weighting methods of a table against its static weights.

    Args:
        rows: of the table; its settings are those of `mtlkit experiments weighting`.
        scores: task → its score.
        lower_is_better: the scores that are errors.
    """
    rows = with_delta_m(rows, scores, lower_is_better=lower_is_better)
    summary = summarise(rows)
    static = [name for name in summary if name == "EqualWeights" or name.startswith("static ")]
    tuned = max(static, key=lambda name: summary[name]["val Δm"].mean)
    methods = [name for name in summary if name not in static and not name.endswith(" alone")]
    first, *others = (f"test {score}" for score in scores.values())
    front = front_of(rows, (first, others[0]), static) if len(others) == 1 else None
    return Comparison(summary, tuned, front, differences(rows, "test Δm", tuned, methods))
