"""What the checks of notebook 04 read from the runs of a lab."""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

ENOUGH, SCORED = 650, 648  # steps of a run that is compared; after so many, the scores of step 641 are there


def judged_run(run: Any) -> tuple[Sequence[Any], Any]:
    """Return what `judged_of` says of a run."""
    return judged_of(run.records)


def judged_of(records: Sequence[Any]) -> tuple[Sequence[Any], Any]:
    """Return the records of the steps that count, and the one with the scores of step 641; `None` if it is to come."""
    stride = records[1].step - records[0].step if len(records) > 1 else 1
    there = records[-1].step + stride > ENOUGH  # of a long run, not every record is kept
    judged = next((record for record in records if there and record.step > SCORED), None)
    return [record for record in records if record.step <= ENOUGH], judged


def surroundings(run: Any) -> tuple[Any, ...]:
    """Return what two runs must have in common: all but weights and method."""
    settings = {name: value for name, value in run.settings.items() if name not in ("weights", "method", "rate")}
    data = {step: change["data"] for step, change in run.schedule.items() if "data" in change and step < ENOUGH}
    return settings, data, [(key, part[0].step) for key, part, _ in phases(judged_run(run)[0], lambda r: r.rate)]


def is_untouched(records: Sequence[Any]) -> bool:
    """Whether nobody has set anything: equal static weights all along."""
    return all(r.method in ("StaticWeights", "EqualWeights") and len(set(r.weights.values())) == 1 for r in records)


def was_steered(records: Sequence[Any]) -> bool:
    """Whether a weight was changed between two steps."""
    return any(a.weights != b.weights for a, b in pairwise(records))


def phases(records: Sequence[Any], of: Any) -> list[tuple[Any, list[Any], int]]:
    """Return what is so, the records meanwhile, and for how many steps at most.

    Of a long run not every record is kept, and a change is known to one record only.
    """
    parts = [(key, list(part)) for key, part in groupby(records, of)]
    stride = records[1].step - records[0].step if len(records) > 1 else 1
    ends = [*(part[0].step for _, part in parts[1:]), records[-1].step + 1]
    return [(key, part, end - part[0].step + stride - 1) for (key, part), end in zip(parts, ends, strict=True)]


def mean_loss(records: Sequence[Any], task: str) -> float | None:
    """Return the mean loss of a task over the records that have it; `None` if none has."""
    values = [record.losses[task] for record in records if task in record.losses]
    return sum(values) / len(values) if values else None
