"""A fair comparison: the same contestants with equal steps, and with equal seconds of one core.

Its tables are made one from another: what a step of each contestant costs; which learning rate suits each family of
them; then all with equal steps, and all with equal seconds.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from mtlkit.cases import Setup
from mtlkit.experiments.budget import Budget, train_and_score, with_rate
from mtlkit.experiments.table import RESULTS, Experiment, read
from mtlkit.machine import one_thread
from mtlkit.training import train

RATES = (0.3, 1.0, 3.0, 10.0)  # factors on the case's learning rates
EQUAL = ", equal steps"  # so the settings end with which a rate is chosen for that budget
TUNING = 100  # first seed with which rates are chosen: none of the tables' own


@dataclass(frozen=True)
class Contest:
    """Contestants that are compared twice.

    Attributes:
        table: name of the table with equal steps; those of the other stages begin like it.
        command: of `mtlkit experiments` that makes them.
        names: of the contestants, in their order.
        make: (contestant, seed, steps) → what it trains with.
        open: split → the data on which it is scored.
        steps: of each with equal steps.
        batch: in words, what a step sees, e.g. "32".
        scores: task → the score that stands for it.
        base: the contestant in whose steps costs are counted.
        standard: with equal seconds, all get what this one's steps cost.
        families: name → the contestants that stand for it when its learning rate is chosen, by their mean gain over
            each task alone; none, if all keep the case's.
        family: contestant → the name of its family.
        costly: families whose steps cost about what those of `standard` do: for them both budgets are one.
        parts: contestant → among how many the seconds are shared, as single tasks share them; 1 if not named.
        lower_is_better: the scores that are errors.
        tried: factors on the learning rates.
        seeds: of the costs and the rates.
        runs: seeds of the two comparisons, if they have a number of their own.
        more: columns of the tables beside scores, steps and seconds: "parameters".
        folder: of the tables.
    """

    table: str
    command: str
    names: Sequence[str]
    make: Callable[[str, int, int], Setup] = field(repr=False)
    open: Callable[[str], Any] = field(repr=False)
    steps: int
    batch: str
    scores: Mapping[str, str]
    base: str
    standard: str
    families: Mapping[str, Sequence[str]] = field(default_factory=dict)
    family: Callable[[str], str] = field(default=str, repr=False)
    costly: Sequence[str] = ()
    parts: Mapping[str, int] = field(default_factory=dict)
    lower_is_better: frozenset[str] = frozenset()
    tried: Sequence[float] = RATES
    seeds: int = 3
    runs: int | None = None
    more: Sequence[str] = ()
    folder: Path = RESULTS

    def experiments(self) -> list[Experiment]:
        """Return the experiments, in the order in which they must be run."""
        scores = [f"{split} {score}" for split in ("val", "test") for score in self.scores.values()]
        budget = f"{self.steps} steps of {self.batch}"
        found = [
            Experiment(
                f"{self.table}_costs",
                self.command,
                f"80 steps of each beside 80 of {self.base}, in turns of 10",
                ["cost"],
                {name: partial(self.cost, name) for name in self.names},
                timed=True,
                seeds=self.seeds,
            ),
            Experiment(
                f"{self.table}_rates",
                self.command,
                f"what {budget} of {self.standard} cost, or equal steps; seeds from {TUNING}",
                [*scores, "seconds"],
                {
                    f"{name} x {rate:g}{suffix}": partial(self.tune, name, rate, steps)
                    for family, names in self.families.items()
                    for name in names
                    for suffix, steps in (("", None), (EQUAL, self.steps))
                    if not suffix or family not in self.costly
                    for rate in self.tried
                },
                seeds=self.seeds,
            ),
            Experiment(
                self.table,
                self.command,
                budget,
                [*scores, *self.more, "steps", "seconds"],
                {name: partial(self.with_equal_steps, name) for name in self.names},
                seeds=self.runs,
            ),
            Experiment(
                f"{self.table}_seconds",
                self.command,
                f"what {budget} of {self.standard} cost, shared by single tasks",
                [*scores, *self.more, "steps", "seconds"],
                {name: partial(self.with_equal_seconds, name) for name in self.names},
                seeds=self.runs,
            ),
        ]
        return [experiment for experiment in found if experiment.settings]

    def run(self, name: str, seed: int, steps: int, rate: float = 1.0) -> Mapping[str, float]:
        """Train and score one contestant, its learning rates times `rate`."""
        setup = with_rate(self.make(name, seed, steps), rate)
        found = train_and_score(setup, Budget(steps=steps), {split: self.open(split) for split in ("val", "test")})
        scores = [f"{split} {task.score_name}" for split in ("val", "test") for task in setup.tasks]
        return {column: found[column] for column in (*scores, *self.more, "steps", "seconds")}

    def cost(self, name: str, seed: int) -> Mapping[str, float]:
        """Return what a step costs, in steps of `base`."""
        return {"cost": relative_cost(lambda one: self.make(one, seed, 90), name, self.base)}

    def tune(self, name: str, rate: float, steps: int | None, seed: int) -> Mapping[str, float]:
        """Train and score one contestant with one learning rate, and seeds that the tables do not use.

        Args:
            name: of the contestant.
            rate: factor on the learning rates.
            steps: how many; those that cost what the others' do, if not given.
            seed: counted from `TUNING`.
        """
        equal = self.steps_for_equal_seconds(name)
        if steps == equal:  # both budgets are one, and that run may be in the table
            for row in read(f"{self.table}_rates", self.folder):
                if (row.setting, row.seed) == (f"{name} x {rate:g}", seed):
                    return row.values
        found = self.run(name, TUNING + seed, steps or equal, rate)
        return {column: value for column, value in found.items() if column not in ("steps", *self.more)}

    def with_equal_steps(self, name: str, seed: int) -> Mapping[str, float]:
        """Train and score one contestant: as many steps for all, single tasks too, each family with its rate."""
        return self.run(name, seed, self.steps, self.rate(name, equal_steps=True))

    def with_equal_seconds(self, name: str, seed: int) -> Mapping[str, float]:
        """Train and score one contestant: as much processor time for all, which single tasks share.

        Where that is as many steps as with equal steps, and the same learning rate, it is the same run, and taken from
        that table.
        """
        steps, rate = self.steps_for_equal_seconds(name), self.rate(name)
        if (steps, rate) == (self.steps, self.rate(name, equal_steps=True)):
            return next(r.values for r in read(self.table, self.folder) if (r.setting, r.seed) == (name, seed))
        return self.run(name, seed, steps, rate)

    def steps_for_equal_seconds(self, name: str) -> int:
        """Return how many steps cost what the steps of `standard` cost; single tasks share them equally.

        Costs are rounded to a twentieth of a step of `base`: no two measurements agree to more.
        """
        costs = costs_of(f"{self.table}_costs", self.folder)
        return round(self.steps * costs[self.standard] / costs[name] / self.parts.get(name, 1))

    def rates(self, equal_steps: bool = False) -> dict[str, float]:
        """Return family → the factor on the learning rates with which it scores best on validation data.

        Args:
            equal_steps: for that budget, not for equal seconds.
        """
        if not self.families:
            return {}
        rows = read(f"{self.table}_rates", self.folder)

        def mean(name: str, rate: float, score: str) -> float:
            suffix = EQUAL if equal_steps and self.family(name) not in self.costly else ""
            setting = f"{name} x {rate:g}{suffix}"
            return statistics.fmean(r.values[f"val {score}"] for r in rows if r.setting == setting)

        alone = {score: mean(f"{task} alone", 1.0, score) for task, score in self.scores.items()}
        found = {}
        for family, names in self.families.items():
            own = {score for task, score in self.scores.items() if f"{task} alone" == family} or set(alone)

            def gain(rate: float, names: Sequence[str] = names, own: set[str] = own) -> float:
                return statistics.fmean(
                    mean(name, rate, score) / alone[score] * (-1 if score in self.lower_is_better else 1)
                    for name in names
                    for score in own
                )

            found[family] = max(self.tried, key=gain)
        return found

    def rate(self, name: str, equal_steps: bool = False) -> float:
        """Return the factor on the learning rates of a contestant's family, for one of the two budgets."""
        return self.rates(equal_steps)[self.family(name)] if self.families else 1.0


def relative_cost(make: Callable[[str], Setup], name: str, base: str) -> float:
    """Return the processor time of a step as a multiple of one of `base`: the median of eight turns of ten steps.

    Args:
        make: contestant → what it trains with.
        name: of a contestant.
        base: of the other.
    """
    if name == base:
        return 1.0
    runs = {one: train(*make(one).parts, steps=90, device="cpu") for one in (base, name)}
    ratios = []
    with one_thread():
        for turn in range(9):
            taken = {}
            for one in ((base, name), (name, base))[turn % 2]:
                started = time.process_time()
                for _ in range(10):
                    next(runs[one])
                taken[one] = time.process_time() - started
            if turn:  # the first one warms up
                ratios.append(taken[name] / taken[base])
    return statistics.median(ratios)


@cache
def costs_of(table: str, folder: Path = RESULTS) -> dict[str, float]:
    """Return contestant → what a step of it costs, in steps of the contest's base, rounded to a twentieth."""
    costs: dict[str, list[float]] = {}
    for row in read(table, folder):
        costs.setdefault(row.setting, []).append(row.values["cost"])
    return {name: round(20 * statistics.median(values)) / 20 for name, values in costs.items()}
