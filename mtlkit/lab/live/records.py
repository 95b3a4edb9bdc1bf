"""What the live lab remembers of its runs, and how that is kept in a file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT, MOST_RECORDS = 3, 4096


@dataclass(frozen=True)
class LabRecord:
    """One step of a run in the lab. What is not measured in every step is the value measured last.

    Attributes:
        step: steps done, this one included.
        seconds: spent training so far.
        method: name of the weighting method.
        rate: factor on the optimiser's learning rates.
        weights: task → the learner's weight.
        losses: task → its loss before weighting; a task without a label in the batch is not there.
        cosine: between the tasks' gradients of the shared parameters, the mean over all pairs.
        norms: task → length of that gradient, before weighting.
        scores: name → score on the validation sample, e.g. "classify/accuracy" and "detect/ap", 0..1.
    """

    step: int
    seconds: float
    method: str
    rate: float
    weights: dict[str, float]
    losses: dict[str, float]
    cosine: float | None = None
    norms: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that had a label in the batch."""
        return tuple(self.losses)


class Run:
    """The history of one run. Bounded: where there are too many records, every second one is dropped.

    Attributes:
        settings: what the run began with: case, knobs, seed, batch_size, weights, rate, method, data.
        records: in the order of their steps.
        schedule: steps done → what the next step found changed: task → weight, "rate", "method", "data". With the
            settings it determines the run, so it is never thinned out.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        records: list[LabRecord] | None = None,
        schedule: Mapping[int, dict[str, Any]] | None = None,
    ) -> None:
        self.settings, self.records, self.stride = dict(settings), records or [], 1
        self.schedule = dict(schedule or {})

    def add(self, record: LabRecord) -> None:
        """Take a record in."""
        if (record.step - 1) % self.stride == 0:
            self.records.append(record)
        if len(self.records) > MOST_RECORDS:
            self.stride *= 2
            self.records = [record for record in self.records if (record.step - 1) % self.stride == 0]

    def changes(self) -> list[int]:
        """Return the steps from which on something was set differently, the first step left out."""
        return [done + 1 for done in self.schedule if done]


def save_runs(runs: Sequence[Run], file: str | Path) -> None:
    """Write runs into one JSON file."""
    content = [
        {"settings": run.settings, "schedule": run.schedule, "records": [asdict(record) for record in run.records]}
        for run in runs
    ]
    Path(file).write_text(json.dumps({"format": FORMAT, "runs": content}), encoding="utf-8")


def load_runs(file: str | Path) -> list[Run]:
    """Return the runs of a file that are not empty.

    Raises:
        ValueError: if it is not such a file.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']} instead of {FORMAT}")
        runs = [
            Run(run["settings"], [LabRecord(**row) for row in run["records"]], _whole_steps(run["schedule"]))
            for run in content["runs"]
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} holds no runs of the lab ({error!r}): expected a file that `save` wrote") from error
    return [run for run in runs if run.records]


def _whole_steps(schedule: Mapping[str, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {int(done): changes for done, changes in schedule.items()}  # JSON makes every key a string
