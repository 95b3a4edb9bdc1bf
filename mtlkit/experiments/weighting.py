"""Every weighting method against tuned static weights and single tasks: `mtlkit experiments weighting`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mtlkit.cases import Case, find_case
from mtlkit.experiments.budget import Budget, train_and_score
from mtlkit.experiments.table import Experiment
from mtlkit.tasks import Accuracy, Task, TokenScores
from mtlkit.weighting import DWA, METHODS, EqualWeights, StaticWeights, Uncertainty, Weighting

SPLITS = ("val", "test")


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


def weighting_experiment(problem: Problem) -> Experiment:
    """Return the experiment: each task alone, a sweep of static weights, and every method."""
    scores = [f"{split} {score}" for split in SPLITS for score in problem.scores().values()]
    return Experiment(
        f"weighting_{problem.case.name}",
        f"weighting --case {problem.which or problem.case.source or problem.case.name}",
        problem.budget.words(problem.case.batch_size),
        [*scores, "seconds"],
        {setting: partial(contest, problem, setting) for setting in contestants(problem)},
        timed=problem.budget.seconds is not None,
    )


def contest(problem: Problem, setting: str, seed: int) -> Mapping[str, float]:
    """Train and score one contestant."""
    method, only = contestants(problem)[setting]()
    setup = problem.case.setup(seed=seed, method=method, only=only, train_set=_data(problem.case, "train"))
    found = train_and_score(setup, problem.budget, {split: _data(problem.case, split) for split in SPLITS})
    scores = [f"{split} {task.score_name}" for split in SPLITS for task in setup.tasks]
    return {name: found[name] for name in (*scores, "seconds")}


def contestants(problem: Problem) -> dict[str, Callable[[], tuple[Weighting, tuple[str, ...] | None]]]:
    """Return setting → what makes its weighting method, and the tasks that it is restricted to, if any."""
    tasks = problem.tasks()
    first = tasks[0].name
    classification = [task.name for task in tasks if task.metric and isinstance(task.metric(), Accuracy | TokenScores)]
    special: Mapping[str, Callable[[], Weighting]] = {"Uncertainty": partial(Uncertainty, classification)}
    if problem.budget.steps:
        special = {**special, "DWA": partial(DWA, window=max(1, problem.budget.steps // 10))}
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
