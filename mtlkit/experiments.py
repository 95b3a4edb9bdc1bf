"""Experiments over many seeds, kept as tables in `data/results/`: `mtlkit experiments weighting`."""

import csv
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from mtlkit import __version__
from mtlkit.data import DigitScenes, Loader, MultiMNIST
from mtlkit.losses import classification_loss
from mtlkit.metrics import Accuracy, delta_m
from mtlkit.model import ClassificationHead, ConvEncoder, DetectionHead, SharedEncoderModel
from mtlkit.tasks import Task, classification_and_detection
from mtlkit.threads import one_thread
from mtlkit.training import evaluate, train
from mtlkit.weighting import DWA, METHODS, EqualWeights, StaticWeights, Uncertainty, Weighting

RESULTS = Path(__file__).parents[1] / "data" / "results"


@dataclass(frozen=True)
class Problem:
    """Two tasks on one data set, with a budget that every contestant gets.

    Attributes:
        name: of the result file.
        tasks: what is learned.
        scores: the two scores compared, higher is better, in the order of the tasks.
        model: makes the untrained model of a seed.
        data: opens a split, "train", "val" or "test".
        steps: of training.
        batch_size: samples in a batch.
        sweep: static weights tried for the first task; the second weighs 1.
    """

    name: str
    tasks: tuple[Task, ...]
    scores: tuple[str, str]
    model: Callable[[], SharedEncoderModel]
    data: Callable[[str], Any]
    steps: int
    batch_size: int
    sweep: tuple[float, ...]


def multimnist(steps: int = 500) -> Problem:
    """Two overlaid digits and an encoder so small (1,600 parameters) that they must share it out."""

    class Named(Accuracy):
        def compute(self) -> dict[str, float]:
            return {self.target: super().compute()["accuracy"]}

    def model() -> SharedEncoderModel:
        encoder = ConvEncoder((4, 8, 8), blocks=0)
        return SharedEncoderModel(encoder, {side: ClassificationHead(8, 10, grid=5) for side in ("left", "right")})

    tasks = tuple(
        Task(side, partial(classification_loss, target=side), partial(Named, side), side) for side in ("left", "right")
    )
    sizes = {"train": 10_000, "val": 1000, "test": 2000}

    @cache
    def data(split: str) -> MultiMNIST:
        return MultiMNIST(split, sizes[split])

    return Problem("multimnist", tasks, ("left", "right"), model, data, steps, 64, (0.1, 0.2, 0.5, 2, 5, 10))


def scenes(steps: int = 200) -> Problem:
    """Background texture + digits in boxes, as in the course's case."""
    sizes = {"train": 6000, "val": 300, "test": 600}

    @cache
    def data(split: str) -> DigitScenes:
        return DigitScenes(split, sizes[split])

    def model() -> SharedEncoderModel:
        encoder = ConvEncoder()
        heads = {"classify": ClassificationHead(64, 5), "detect": DetectionHead(64, 10)}
        return SharedEncoderModel(encoder, heads)

    tasks = classification_and_detection([str(digit) for digit in range(10)])
    return Problem("scenes", tasks, ("accuracy", "ap"), model, data, steps, 32, (0.03, 0.1, 0.2, 0.5, 2, 5))


PROBLEMS: dict[str, Callable[[], Problem]] = {"multimnist": multimnist, "scenes": scenes}


@dataclass(frozen=True)
class Outcome:
    """What one training run came to: validation and test scores, and the seconds that one core trained."""

    problem: str
    setting: str
    seed: int
    val: tuple[float, float]
    test: tuple[float, float]
    seconds: float


def run(problem: Problem, setting: str, weighting: Weighting, seed: int, only: str | None = None) -> Outcome:
    """Train and score one model. `only` names the task of a single-task model; the other score is then NaN.

    One thread trains, so that several experiments can run side by side and their seconds can be compared.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = problem.model()
    tasks = [task for task in problem.tasks if only in (None, task.name)]
    for task in problem.tasks:
        if task not in tasks:
            del model.heads[task.name]
    loader = Loader(problem.data("train"), problem.batch_size, seed)
    with one_thread():
        started = time.process_time()
        for _ in train(model, tasks, loader, weighting, steps=problem.steps, device="cpu"):
            pass
        seconds = time.process_time() - started
        found = {split: evaluate(model, tasks, problem.data(split), device="cpu") for split in ("val", "test")}
    val, test = ((s.get(problem.scores[0], math.nan), s.get(problem.scores[1], math.nan)) for s in found.values())
    return Outcome(problem.name, setting, seed, val, test, seconds)


def contestants(problem: Problem) -> dict[str, Callable[[], tuple[Weighting, str | None]]]:
    """Return setting → what makes its weighting method, and the task that it is restricted to, if any."""
    first, second = (task.name for task in problem.tasks)
    classification = [task.name for task in problem.tasks if task.score != "ap"]
    special: Mapping[str, Callable[[], Weighting]] = {
        "Uncertainty": lambda: Uncertainty(classification),
        "DWA": lambda: DWA(window=problem.steps // 10),
    }
    singles = {f"{name} alone": (EqualWeights, name) for name in (first, second)}
    sweep = {f"static {w:g}": (partial(StaticWeights, {first: w}), None) for w in problem.sweep}
    methods = {name: (special.get(name, make), None) for name, make in METHODS.items() if name != "StaticWeights"}
    return {
        name: lambda make=make, only=only: (make(), only)  # type: ignore[misc]
        for name, (make, only) in {**singles, **sweep, **methods}.items()
    }


def weighting(names: Sequence[str] = (), seeds: int = 10, folder: Path = RESULTS) -> Iterator[Outcome]:
    """Run every contestant on every problem with every seed, and yield each outcome as it is written.

    What is in the tables already is not run again: an interrupted experiment goes on where it stopped.
    """
    for name in names or PROBLEMS:
        problem, file = PROBLEMS[name](), folder / f"weighting_{name}.csv"
        done = {(outcome.setting, outcome.seed) for outcome in read(file)} if file.exists() else set()
        for seed in range(seeds):
            for setting, make in contestants(problem).items():
                if (setting, seed) not in done:
                    method, only = make()
                    outcome = run(problem, setting, method, seed, only)
                    _append(file, outcome, problem)
                    yield outcome


def _append(file: Path, outcome: Outcome, problem: Problem) -> None:
    columns = [
        "setting",
        "seed",
        *(f"{split}_{score}" for split in ("val", "test") for score in problem.scores),
        "seconds",
    ]
    numbers = [f"{value:.4f}" for value in (*outcome.val, *outcome.test)]
    row = [outcome.setting, outcome.seed, *numbers, f"{outcome.seconds:.2f}"]
    budget = f"{problem.steps} steps of {problem.batch_size}"
    append_row(file, f"weighting --problem {problem.name}", budget, columns, row)


def append_row(file: Path, command: str, budget: str, columns: Sequence[str], row: Sequence[Any]) -> None:
    """Add a row to a table of results; a new one begins with the command that makes it, versions and budget."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f"# mtlkit experiments {command}\n"
            f"# mtlkit {__version__}, torch {torch.__version__}, Python {platform.python_version()}; "
            f"{budget}; seconds are those of one core\n{','.join(columns)}\n"
        )
    with file.open("a", newline="") as table:
        csv.writer(table, lineterminator="\n").writerow(row)


def read(file: Path) -> list[Outcome]:
    """Return the outcomes in a table that `weighting` wrote."""
    with file.open() as table:
        rows = csv.reader(line for line in table if not line.startswith("#"))
        next(rows)
        problem = file.stem.removeprefix("weighting_")
        return [
            Outcome(
                problem,
                row[0],
                int(row[1]),
                (float(row[2]), float(row[3])),
                (float(row[4]), float(row[5])),
                float(row[6]),
            )
            for row in rows
        ]


@dataclass(frozen=True)
class Summary:
    """A setting over its seeds: mean test scores, the half widths of their 95 % intervals, Δm, mean seconds.

    Δm is in percent against the single-task models of the same table, positive is better; NaN for those themselves.
    """

    mean: tuple[float, float]
    interval: tuple[float, float]
    delta_m: float
    delta_m_interval: float
    val_delta_m: float
    seconds: float


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Summary]:
    """Return setting → summary over its seeds."""
    by_setting: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_setting.setdefault(outcome.setting, []).append(outcome)

    def baseline(split: str) -> dict[str, float]:
        singles = [getattr(o, split) for o in outcomes if o.setting.endswith(" alone")]
        columns = ([pair[k] for pair in singles if pair[k] == pair[k]] for k in (0, 1))
        return {str(k): statistics.mean(column) for k, column in enumerate(columns)}

    base = {split: baseline(split) for split in ("val", "test")}
    summaries = {}
    for setting, rows in by_setting.items():
        gains = {
            split: [delta_m({str(k): getattr(o, split)[k] for k in (0, 1)}, base[split]) for o in rows]
            for split in ("val", "test")
        }
        (a, da), (b, db), (gain, dgain) = (
            _interval(values) for values in ([o.test[0] for o in rows], [o.test[1] for o in rows], gains["test"])
        )
        seconds = statistics.mean(o.seconds for o in rows)
        summaries[setting] = Summary((a, b), (da, db), gain, dgain, statistics.fmean(gains["val"]), seconds)
    return summaries


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % interval (Student's t)."""
    if any(value != value for value in values):
        return math.nan, math.nan
    from scipy.stats import t

    quantile = float(t.ppf(0.975, len(values) - 1))
    return statistics.mean(values), quantile * statistics.stdev(values) / math.sqrt(len(values))
