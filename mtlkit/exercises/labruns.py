"""What the checks of notebook 04 read from the runs of a lab."""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

ENOUGH, SCORED = 650, 648  # steps of a run that is compared; after so many, the scores of step 641 are there
NO_METHOD = (
    "there is no earlier run with a method: train one, then press Reset and steer (the lab keeps the last four runs)"
)


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
    """Return what two runs must have in common at their first step: all but weights and method."""
    first = run.schedule.get(0, {}).get("data", {})  # it was set after the run was made
    seed, *others = (run.settings.get(name) for name in ("seed", "case", "batch_size"))
    return seed, others, *((run.settings.get(name) or {}) | first for name in ("knobs", "data")), run.records[0].rate


def is_untouched(run: Any, until: int = ENOUGH) -> bool:
    """Whether nobody has set anything: static weights of 1, one learning rate and the same data for so many steps."""
    records = [record for record in run.records if record.step <= until]
    usual = all(r.method in ("StaticWeights", "EqualWeights") and set(r.weights.values()) == {1.0} for r in records)
    return usual and not changes_of(run, until) & {"rate", "data"}


def changes_of(run: Any, until: int = ENOUGH) -> set[str]:
    """Return what was changed after the first of so many steps: "rate", "data", "method", "weights"."""
    records = [record for record in run.records if record.step <= until]
    found = {
        name
        for name in ("rate", "method", "weights")
        for a, b in pairwise(records)
        if getattr(a, name) != getattr(b, name)
    }
    noted = {name for done, changes in run.schedule.items() if 0 < done < until for name in changes}
    words = {"rate", "method", "data"}
    return found | noted & words | ({"weights"} if noted - words else set())


def learns(records: Sequence[Any]) -> bool:
    """Whether the learning rate was never 0."""
    return all(record.rate != 0 for record in records)


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


def fault_of_a_method(run: Any) -> str:
    """Say why a run is not that of a method left alone; an empty string if it is."""
    records, judged = judged_run(run)
    methods = {record.method for record in records}
    if not methods - {"StaticWeights", "EqualWeights"}:
        return NO_METHOD
    name = min(methods - {"StaticWeights", "EqualWeights"})
    if len(methods) > 1:
        return f"the run with {name} used other methods too: choose one before its first step"
    if not learns(records):
        return f"{name} trained with a learning rate of 0: put it back where it was, and Reset"
    if changes_of(run) or set(records[0].weights.values()) != {1.0}:
        return f"{name} was not left alone: let it train with both sliders at 1, and touch nothing"
    return "" if judged else f"the run with {name} has {records[-1].step} steps: it needs {ENOUGH}"


def fault_of_a_hand(run: Any) -> str:
    """Say why a run is not one by hand; an empty string if it is."""
    records, judged = judged_run(run)
    if other := {record.method for record in records} - {"StaticWeights"}:
        return f"the last run was not by hand, it has steps of {min(other)}: Pause, Reset, choose static weights, Start"
    if changed := sorted(changes_of(run) - {"weights"}):
        named = " and ".join("learning rate" if one == "rate" else one for one in changed)
        return f"the {named} changed during the last run: Reset, and steer weights only"
    return "" if judged else f"the last run has {records[-1].step} steps: it needs {ENOUGH}"
