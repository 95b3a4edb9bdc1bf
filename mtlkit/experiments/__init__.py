"""Experiments over many seeds, kept as tables in `data/results`: one engine, one table, one summary."""

from mtlkit.experiments.budget import Budget, train_and_score
from mtlkit.experiments.summary import (
    Comparison,
    Difference,
    Front,
    Interval,
    compare,
    differences,
    front_of,
    summarise,
    with_delta_m,
)
from mtlkit.experiments.table import RESULTS, Experiment, Row, read, run
from mtlkit.experiments.text import text_experiment
from mtlkit.experiments.weighting import PROBLEMS, problem_of, weighting_experiments

SEEDS = {"weighting": 10, "text": 5}

__all__ = [
    "PROBLEMS",
    "RESULTS",
    "SEEDS",
    "Budget",
    "Comparison",
    "Difference",
    "Experiment",
    "Front",
    "Interval",
    "Row",
    "compare",
    "differences",
    "experiments_of",
    "front_of",
    "read",
    "run",
    "summarise",
    "train_and_score",
    "with_delta_m",
]


def experiments_of(what: str, cases: list[str] | None = None) -> list[Experiment]:
    """Return the experiments behind `mtlkit experiments WHAT`.

    Args:
        what: "weighting" or "text".
        cases: for "weighting", those of `PROBLEMS` or any other; all of `PROBLEMS`, if not given.

    Raises:
        ValueError: if there is no such experiment, or it is of one case only.
    """
    if what == "text" and not cases:
        return [text_experiment()]
    if what == "weighting":
        return [made for name in cases or PROBLEMS for made in weighting_experiments(problem_of(name))]
    raise ValueError(f"there is no experiment {what!r} of {cases}: expected weighting, or text without a case")
