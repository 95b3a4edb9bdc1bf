"""Experiments over many seeds, kept as tables in `data/results`: one engine, one table, one summary."""

from mtlkit.experiments.budget import Budget, train_and_score
from mtlkit.experiments.summary import (
    Comparison,
    Difference,
    Front,
    Interval,
    Ratio,
    compare,
    differences,
    front_of,
    spread_ratio,
    summarise,
    with_delta_m,
)
from mtlkit.experiments.table import RESULTS, Experiment, Row, read, run
from mtlkit.experiments.text import text_experiment
from mtlkit.experiments.weighting import PROBLEMS, problem_of, weighting_experiments

SEEDS = {"weighting": 10, "text": 5, "claims": 10, "architectures": 5, "fields": 5, "insight": 5, "frontiers": 5}

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
    "Ratio",
    "Row",
    "compare",
    "differences",
    "experiments_of",
    "front_of",
    "read",
    "run",
    "spread_ratio",
    "summarise",
    "train_and_score",
    "with_delta_m",
]


def experiments_of(what: str, cases: list[str] | None = None) -> list[Experiment]:
    """Return the experiments behind `mtlkit experiments WHAT`.

    Args:
        what: a key of `SEEDS`.
        cases: for "weighting", those of `PROBLEMS` or any other; for "architectures", "scenes" or "multimnist"; both
            of these, if not given. For "fields", any of the fields; all of them, if not given.

    Raises:
        ValueError: if there is no such experiment, or it is of one case only.
    """
    from mtlkit.experiments.architectures import TRUNKS, architecture_contest  # its models take a moment
    from mtlkit.experiments.beyond.frontiers import frontier_experiments
    from mtlkit.experiments.beyond.insight import insight_experiments
    from mtlkit.experiments.claims import claims_experiments
    from mtlkit.experiments.fields import FIELDS, field_experiments
    from mtlkit.experiments.troubles import trouble_experiments

    whole = {
        "text": lambda: [text_experiment()],
        "claims": lambda: [*claims_experiments(), *trouble_experiments()],
        "insight": insight_experiments,
        "frontiers": frontier_experiments,
    }
    if what in whole and not cases:
        return whole[what]()
    if what == "fields" and set(cases or ()) <= set(FIELDS):
        return [made for name in cases or FIELDS for made in field_experiments(name)]
    if what == "weighting":
        return [made for name in cases or TRUNKS for made in weighting_experiments(problem_of(name))]
    if what == "architectures" and set(cases or ()) <= set(TRUNKS):
        return [made for name in cases or TRUNKS for made in architecture_contest(name).experiments()]
    raise ValueError(
        f"there is no experiment {what!r} of {cases}: expected weighting, architectures (of {', '.join(TRUNKS)}), "
        f"fields (of {', '.join(FIELDS)}), or {', '.join(whole)} without a case"
    )
