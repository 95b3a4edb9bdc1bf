"""Every weighting method against tuned static weights and single tasks: `mtlkit experiments weighting`.

Four tables a problem, each made from those before: what a step of each contestant costs, which learning rate suits each
family of contestants, and then all of them twice, with equal steps and with equal seconds.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from mtlkit.cases import Case, find_case
from mtlkit.experiments.budget import Budget, train_and_score
from mtlkit.experiments.table import Experiment, read
from mtlkit.machine import one_thread
from mtlkit.tasks import Accuracy, Task, TokenScores
from mtlkit.training import train
from mtlkit.weighting import DWA, METHODS, EqualWeights, GradientWeighting, StaticWeights, Uncertainty, Weighting

SPLITS = ("val", "test")
RATES = (0.3, 1.0, 3.0, 10.0)  # factors on the case's learning rates
EQUAL = ", equal steps"  # so the settings end with which a rate is chosen for that budget
TUNING = 100  # first seed with which rates are chosen: none of the table's
STANDARD = "NashMTL"  # with equal seconds, all get what this one's steps cost
STATIC, LOSSES, GRADIENTS = "static weights", "methods that look at losses", "methods that look at gradients"
REPRESENTATIVES = {
    STATIC: ("EqualWeights", "static 0.2", "static 0.5"),
    LOSSES: ("Uncertainty", "IMTLL", "FAMO"),
    GRADIENTS: ("PCGrad", "MGDA", "NashMTL"),
}


@dataclass(frozen=True)
class Problem:
    """A case with a budget that every contestant gets.

    Attributes:
        case: with its knobs set; the data are those of seed 0, a run's seed is that of the model and of the order.
        budget: of each run.
        sweep: static weights tried for the first task; the others weigh 1.
        which: how the case is named on the command line; the table says it.
    """

    case: Case
    budget: Budget
    sweep: tuple[float, ...]
    which: str = ""

    @property
    def table(self) -> str:
        """Name of the table with equal steps; those of the other stages begin like it."""
        return f"weighting_{self.case.name}"

    def tasks(self) -> tuple[Task, ...]:
        """Return what is learned."""
        return tuple(self.case.make_tasks(self.case.read_labels(_data(self.case, "train"))))

    def scores(self) -> dict[str, str]:
        """Return task → the score that stands for it."""
        return {task.name: task.score_name for task in self.tasks()}


PROBLEMS: dict[str, Problem] = {
    "multimnist": Problem(find_case("multimnist"), Budget(steps=500), (0.1, 0.2, 0.5, 2, 5, 10)),
    "scenes": Problem(
        find_case("scenes", scenes=6000, val_scenes=300, test_scenes=600),
        Budget(steps=200),
        (0.03, 0.1, 0.2, 0.5, 2, 5),
    ),
}


def problem_of(which: str) -> Problem:
    """Return one of `PROBLEMS`, or any other case with its own budget in seconds."""
    if which in PROBLEMS:
        return PROBLEMS[which]
    case = find_case(which)
    return Problem(case, Budget(seconds=case.seconds), (0.1, 0.3, 3, 10), which)


def weighting_experiments(problem: Problem) -> list[Experiment]:
    """Return the experiments of a problem in their order; of a budget in seconds, the comparison alone."""
    command = f"weighting --case {problem.which or problem.case.source or problem.case.name}"
    scores = [f"{split} {score}" for split in SPLITS for score in problem.scores().values()]
    table, budget, size = problem.table, problem.budget, problem.case.batch_size
    if budget.steps is None:
        settings = {setting: partial(contest, problem, setting) for setting in contestants(problem)}
        words = budget.words(size)
        return [Experiment(table, command, words, [*scores, "seconds"], settings, timed=True)]

    def stage(of: Callable[..., Mapping[str, float]]) -> dict[str, Callable[[int], Mapping[str, float]]]:
        return {setting: partial(of, problem, setting) for setting in contestants(problem)}

    tuned = {
        f"{setting} x {rate:g}{suffix}": (setting, rate, steps)
        for setting in _representatives(problem)
        for suffix, steps in (("", None), (EQUAL, budget.steps))
        if not suffix or family(setting) != GRADIENTS
        for rate in RATES
    }
    return [
        Experiment(
            f"{table}_costs",
            command,
            "80 steps of each beside 80 of equal weights, in turns of 10",
            ["cost"],
            stage(cost_of_a_step),
            timed=True,
            seeds=3,
        ),
        Experiment(
            f"{table}_rates",
            command,
            f"what {budget.words(size)} of {STANDARD} cost, or equal steps; seeds from {TUNING}",
            [*scores, "seconds"],
            {name: partial(tuning, problem, *which) for name, which in tuned.items()},
            seeds=3,
        ),
        Experiment(table, command, budget.words(size), [*scores, "steps", "seconds"], stage(with_equal_steps)),
        Experiment(
            f"{table}_seconds",
            command,
            f"what {budget.words(size)} of {STANDARD} cost, shared by single tasks",
            [*scores, "steps", "seconds"],
            stage(with_equal_seconds),
        ),
    ]


def contest(
    problem: Problem, setting: str, seed: int, steps: int | None = None, rate: float = 1.0
) -> Mapping[str, float]:
    """Train and score one contestant, with the problem's budget or so many steps."""
    budget = Budget(steps=steps) if steps else problem.budget
    method, only = contestants(problem, budget)[setting]()
    setup = problem.case.setup(seed=seed, method=method, only=only, train_set=_data(problem.case, "train"))
    for group in setup.optimizer.param_groups:
        group["initial_lr"] = group.get("initial_lr", group["lr"]) * rate  # from which the loop takes each step's
    found = train_and_score(setup, budget, {split: _data(problem.case, split) for split in SPLITS})
    scores = [f"{split} {task.score_name}" for split in SPLITS for task in setup.tasks]
    more = ["steps"] if problem.budget.steps else []
    return {name: found[name] for name in (*scores, *more, "seconds")}


def cost_of_a_step(problem: Problem, setting: str, seed: int) -> Mapping[str, float]:
    """Return the processor time of a step as a multiple of one with equal weights: the median of eight turns of ten."""
    if setting == "EqualWeights":
        return {"cost": 1.0}
    runs = {}
    for name in ("EqualWeights", setting):
        method, only = contestants(problem)[name]()
        setup = problem.case.setup(seed=seed, method=method, only=only, train_set=_data(problem.case, "train"))
        runs[name] = train(*setup.parts, steps=90, device="cpu")
    ratios = []
    with one_thread():
        for turn in range(9):
            taken = {}
            for name in (("EqualWeights", setting), (setting, "EqualWeights"))[turn % 2]:
                started = time.process_time()
                for _ in range(10):
                    next(runs[name])
                taken[name] = time.process_time() - started
            if turn:  # the first one warms up
                ratios.append(taken[setting] / taken["EqualWeights"])
    return {"cost": statistics.median(ratios)}


def tuning(problem: Problem, setting: str, rate: float, steps: int | None, seed: int) -> Mapping[str, float]:
    """Train and score a representative of a family with one learning rate, and seeds that the tables do not use.

    Args:
        problem: what is learned.
        setting: who learns it.
        rate: factor on the learning rates.
        steps: how many; those that cost what the others' do, if not given.
        seed: counted from `TUNING`.
    """
    found = contest(problem, setting, TUNING + seed, steps or steps_for_equal_seconds(problem, setting), rate)
    return {name: value for name, value in found.items() if name != "steps"}


def with_equal_steps(problem: Problem, setting: str, seed: int) -> Mapping[str, float]:
    """Train and score one contestant: as many steps for all, single tasks too, each family with its rate."""
    return contest(problem, setting, seed, problem.budget.steps, rates(problem, equal_steps=True)[family(setting)])


def with_equal_seconds(problem: Problem, setting: str, seed: int) -> Mapping[str, float]:
    """Train and score one contestant: as much processor time for all, which single tasks share.

    Where that is as many steps as with equal steps, and the same learning rate, it is the same run, and taken from that
    table.
    """
    steps, rate = steps_for_equal_seconds(problem, setting), rates(problem)[family(setting)]
    if (steps, rate) == (problem.budget.steps, rates(problem, equal_steps=True)[family(setting)]):
        return next(row.values for row in read(problem.table) if (row.setting, row.seed) == (setting, seed))
    return contest(problem, setting, seed, steps, rate)


@cache
def _costs(table: str) -> dict[str, float]:
    rows = read(f"{table}_costs")
    return {
        name: round(20 * statistics.median(r.values["cost"] for r in rows if r.setting == name)) / 20
        for name in {r.setting for r in rows}
    }


def steps_for_equal_seconds(problem: Problem, setting: str) -> int:
    """Return how many steps cost what the problem's steps of `STANDARD` cost; single tasks share them equally.

    Costs are rounded to a twentieth of a step of equal weights: no two measurements agree to more.
    """
    costs = _costs(problem.table)
    assert problem.budget.steps is not None
    share = len(problem.tasks()) if setting.endswith(" alone") else 1
    return round(problem.budget.steps * costs[STANDARD] / costs[setting] / share)


def family(setting: str) -> str:
    """Return to which family of contestants a setting belongs: each has a learning rate of its own."""
    if setting.endswith(" alone"):
        return setting
    if setting == "EqualWeights" or setting.startswith("static "):
        return STATIC
    return GRADIENTS if issubclass(METHODS[setting], GradientWeighting) else LOSSES


def _representatives(problem: Problem) -> list[str]:
    alone = [f"{task.name} alone" for task in problem.tasks()]
    return [*alone, *(setting for settings in REPRESENTATIVES.values() for setting in settings)]


@cache
def _rates(table: str, scores: tuple[tuple[str, str], ...], suffix: str) -> dict[str, float]:
    rows = read(f"{table}_rates")

    def mean(setting: str, rate: float, score: str) -> float:
        name = f"{setting} x {rate:g}{'' if setting in REPRESENTATIVES[GRADIENTS] else suffix}"
        return statistics.fmean(r.values[f"val {score}"] for r in rows if r.setting == name)

    alone = {score: mean(f"{task} alone", 1.0, score) for task, score in scores}
    found = {}
    for name, settings in {**{f"{task} alone": (f"{task} alone",) for task, _ in scores}, **REPRESENTATIVES}.items():
        mine = [score for task, score in scores if not name.endswith(" alone") or name == f"{task} alone"]
        gain = {
            rate: statistics.fmean(mean(setting, rate, score) / alone[score] for setting in settings for score in mine)
            for rate in RATES
        }
        found[name] = max(gain, key=lambda rate: gain[rate])
    return found


def rates(problem: Problem, equal_steps: bool = False) -> dict[str, float]:
    """Return family → the factor on the learning rates with which it scores best on validation data.

    Methods that look at gradients cost about what `STANDARD` costs: for them both budgets are one.

    Args:
        problem: what is learned.
        equal_steps: for that budget, not for equal seconds.
    """
    return _rates(problem.table, tuple(problem.scores().items()), EQUAL if equal_steps else "")


def contestants(
    problem: Problem, budget: Budget | None = None
) -> dict[str, Callable[[], tuple[Weighting, tuple[str, ...] | None]]]:
    """Return setting → what makes its weighting method, and the tasks that it is restricted to, if any."""
    tasks, budget = problem.tasks(), budget or problem.budget
    first = tasks[0].name
    classification = [task.name for task in tasks if task.metric and isinstance(task.metric(), Accuracy | TokenScores)]
    special: Mapping[str, Callable[[], Weighting]] = {"Uncertainty": partial(Uncertainty, classification)}
    if budget.steps:
        special = {**special, "DWA": partial(DWA, window=max(1, budget.steps // 10))}
    makers: dict[str, tuple[Callable[[], Weighting], tuple[str, ...] | None]] = {
        **{f"{task.name} alone": (EqualWeights, (task.name,)) for task in tasks},
        **{f"static {w:g}": (partial(StaticWeights, {first: w}), None) for w in problem.sweep},
        **{name: (special.get(name, make), None) for name, make in METHODS.items() if name != "StaticWeights"},
    }
    return {name: partial(_made, make, only) for name, (make, only) in makers.items()}


def _made(make: Callable[[], Weighting], only: tuple[str, ...] | None) -> tuple[Weighting, tuple[str, ...] | None]:
    return make(), only


_open: dict[str, Any] = {}


def _data(case: Case, split: str) -> Any:
    """Return a data set, opened once in each process."""
    key = f"{case.open_split.__module__} {case.name} {split} {sorted(case.settings.items())}"
    if key not in _open:
        _open[key] = case.open(split)
    return _open[key]
