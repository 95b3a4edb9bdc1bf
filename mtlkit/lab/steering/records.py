"""What the live lab remembers of its runs, and how that is kept in a file."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT, MOST_RECORDS = 4, 4096
SETTINGS = {"case": str, "knobs": dict, "seed": int, "batch_size": int, "weights": dict, "rate": float, "method": str}


@dataclass(frozen=True)
class LabRecord:
    """One step of a run in the lab. What is not measured in every step is the value measured last.

    Attributes:
        step: steps done, this one included.
        seconds: spent training so far; in a loop of one's own, since its first step, pauses left out.
        method: name of the weighting method.
        rate: factor on the optimiser's learning rates; `None` where the optimiser is not the lab's.
        weights: task → the learner's weight.
        losses: task → its loss before weighting; a task without a label in the batch is not there.
        cosine: between the tasks' gradients of the shared parameters, the mean over all pairs.
        norms: task → length of that gradient, before weighting.
        scores: name → score on the validation sample, e.g. "classify/accuracy" and "detect/ap".
        cosines: task → a later task → cosine between the two gradients.
        gains: task → the change of its loss by this step that its gradient predicts, and the one that happened, both
            on the step's own batch; empty where it was not measured.
    """

    step: int
    seconds: float
    method: str
    rate: float | None
    weights: dict[str, float]
    losses: dict[str, float]
    cosine: float | None = None
    norms: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    cosines: dict[str, dict[str, float]] = field(default_factory=dict)
    gains: dict[str, list[float]] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that had a label in the batch."""
        return tuple(self.losses)


class Run:
    """The history of one run. Bounded: where there are too many records, every second one is dropped.

    Attributes:
        last: the record of the last step, kept or not.
        settings: what the run began with: case, knobs, seed, batch_size, weights, rate, method, data. A run of one's
            own loop has weights and method only.
        records: in the order of their steps.
        schedule: steps done → what the next step found changed: task → weight, "rate", "method", "data". With the
            settings it determines the run, so it is never thinned out.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        records: Sequence[LabRecord] = (),
        schedule: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> None:
        self.settings, self.records, self.stride = dict(settings), list(records), 1
        self.last = self.records[-1] if self.records else None
        self.schedule: dict[int, Mapping[str, Any]] = dict(schedule or {})

    def add(self, record: LabRecord) -> None:
        """Take a record in."""
        self.last = record
        if (record.step - 1) % self.stride == 0:
            self.records.append(record)
        if len(self.records) > MOST_RECORDS:
            self.stride *= 2
            self.records = [record for record in self.records if (record.step - 1) % self.stride == 0]

    def amend(self, record: LabRecord) -> None:
        """Put a record in the place of the last one, of the same step."""
        self.last = record
        if self.records and self.records[-1].step == record.step:
            self.records[-1] = record

    def changes(self) -> list[int]:
        """Return the steps from which on something was set differently, the first step left out."""
        return [done + 1 for done in list(self.schedule) if done]

    def copy(self) -> "Run":
        """Return a run that goes its own way from here on."""
        other = Run(self.settings, self.records, self.schedule)
        other.stride, other.last = self.stride, self.last
        return other


@dataclass
class Guess:
    """Where somebody thought the scores would be.

    Attributes:
        step: after which they are measured.
        guessed: score → value.
        found: the same scores as they were then; empty until they are measured.
    """

    step: int
    guessed: dict[str, float]
    found: dict[str, float] = field(default_factory=dict)

    @property
    def off(self) -> float | None:
        """How far off the guess was: the distance in the plane of the scores, `None` until it is known."""
        if not self.found:
            return None
        return sum((self.found[name] - value) ** 2 for name, value in self.guessed.items()) ** 0.5


def save_runs(runs: Sequence[Run], file: str | Path) -> None:
    """Write runs into one JSON file."""
    written = [
        {"settings": run.settings, "schedule": run.schedule, "records": [asdict(record) for record in run.records]}
        for run in runs
    ]
    content = plain({"format": FORMAT, "runs": written}, str)
    Path(file).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


def saved_runs(file: str | Path) -> list[Run] | None:
    """Return the runs that were saved in a file; `None` if there is no such file: nobody has saved any."""
    return load_runs(file) if Path(file).exists() else None


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
            Run(_settings(run["settings"]), [_record(row) for row in run["records"]], _schedule(run["schedule"]))
            for run in content["runs"]
        ]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{file} holds no runs of the lab ({error!r}): expected a file that `save` wrote") from error
    return [run for run in runs if run.records]


def plain(value: Any, word: Callable[[float], Any] = lambda number: None) -> Any:
    """Return `value` with `word(number)` in place of what JSON has no word for: NaN and infinity."""
    if isinstance(value, Mapping):
        return {name: plain(one, word) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, word) for one in value]
    return word(value) if isinstance(value, float) and not math.isfinite(value) else value


def _settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    own_loop = "case" not in settings and bool(settings)
    for name in ("weights", "method") if own_loop else SETTINGS:
        kind = (int, float) if SETTINGS[name] is float else SETTINGS[name]
        if not isinstance(settings[name], kind):  # type: ignore[arg-type]
            raise ValueError(f"{name} is {settings[name]!r}")
    for weight in settings["weights"].values():
        float(weight)
    if not settings["weights"]:
        raise ValueError("it names no task")
    return settings if own_loop else {"data": {}, **settings}


def _record(row: Mapping[str, Any]) -> LabRecord:
    numbers = {
        name: {key: float(value) for key, value in row.get(name, {}).items()}
        for name in ("weights", "losses", "norms", "scores")
    }
    record = LabRecord(**{**row, **numbers})
    if not isinstance(record.step, int) or not isinstance(record.method, str):
        raise ValueError(f"a record is {row!r}")
    float(record.seconds), float(record.cosine or 0), float(record.rate or 0)
    return record


def _schedule(schedule: Mapping[str, Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    return {int(done): dict(changes) for done, changes in schedule.items()}  # JSON makes every key a string
