"""Every weighting method against tuned static weights and single tasks: `mtlkit experiments weighting`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from mtlkit.cases import Case, Setup, find_case
from mtlkit.data import Loader, Part
from mtlkit.experiments.budget import Budget, train_and_score
from mtlkit.experiments.contest import RATES, Contest
from mtlkit.experiments.table import Experiment
from mtlkit.tasks import Accuracy, MapOverlap, SequenceErrors, Task, TokenScores, WrittenRight
from mtlkit.training.scoring import fetch
from mtlkit.weighting import DWA, METHODS, EqualWeights, GradientWeighting, StaticWeights, Uncertainty, Weighting

STATIC, LOSSES, GRADIENTS = "static weights", "methods that look at losses", "methods that look at gradients"


@dataclass(frozen=True)
class Problem:
    """A case with a budget that every contestant gets.

    Attributes:
        case: with its knobs set; the data are those of seed 0, a run's seed is that of the model and of the order.
        budget: of each run.
        sweep: static weights tried for the first task; the others weigh 1.
        which: how the case is named on the command line; the table says it.
        weighted: the tasks that the sweep is for, if not the first one.
        stand_ins: two of the sweep's weights that are tried when the learning rate of static weights is chosen.
        rates: factors on the learning rates that are tried.
        seeds: with which costs are measured and rates are chosen.
        runs: seeds of the comparisons, if they have a number of their own.
        methods: those that are compared.
        standard: with equal seconds, all get what this one's steps cost.
        kind: what tables and command begin with.
    """

    case: Case
    budget: Budget
    sweep: tuple[float, ...]
    which: str = ""
    weighted: tuple[str, ...] = ()
    stand_ins: tuple[float, ...] = (0.2, 0.5)
    rates: tuple[float, ...] = RATES
    seeds: int = 3
    runs: int | None = None
    methods: tuple[str, ...] = tuple(name for name in METHODS if name != "StaticWeights")
    standard: str = "NashMTL"
    kind: str = "weighting"

    @property
    def table(self) -> str:
        """Name of the table with equal steps; those of the other stages begin like it."""
        return f"{self.kind}_{self.case.name}"

    def tasks(self) -> tuple[Task, ...]:
        """Return what is learned."""
        return tasks_of(self.case)

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
    "molecules": Problem(
        find_case("molecules"),
        Budget(steps=400),
        (0.1, 0.3, 3, 10),
        weighted=("mu", "homo", "lumo"),
        stand_ins=(0.3, 3),
        rates=(1.0, 3.0, 10.0),
        seeds=2,
        runs=3,
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
    if problem.budget.steps:
        return contest_of(problem).experiments()
    scores = [f"{split} {score}" for split in ("val", "test") for score in problem.scores().values()]
    settings = {name: partial(in_seconds, problem, name) for name in contestants(problem)}
    words = problem.budget.words(problem.case.batch_size)
    return [Experiment(problem.table, _command(problem), words, [*scores, "seconds"], settings, timed=True)]


def contest_of(problem: Problem) -> Contest:
    """Return the contest of a problem whose budget is in steps."""
    assert problem.budget.steps
    tasks = problem.tasks()
    alone = [f"{task.name} alone" for task in tasks]
    stand_ins = {
        STATIC: ("EqualWeights", *(f"static {w:g}" for w in problem.stand_ins)),
        LOSSES: tuple(name for name in ("Uncertainty", "IMTLL", "FAMO") if name in problem.methods),
        GRADIENTS: tuple(name for name in ("PCGrad", "MGDA", "NashMTL") if name in problem.methods),
    }
    return Contest(
        problem.table,
        _command(problem),
        list(contestants(problem)),
        partial(setup_of, problem),
        partial(data, problem.case),
        problem.budget.steps,
        str(problem.case.batch_size),
        problem.scores(),
        "EqualWeights",
        problem.standard,
        {**{name: (name,) for name in alone}, **{name: of for name, of in stand_ins.items() if of}},
        family,
        (GRADIENTS,) if problem.standard == "NashMTL" else (),
        dict.fromkeys(alone, len(tasks)),
        frozenset(task.score_name for task in tasks if not task.higher_is_better),
        problem.rates,
        problem.seeds,
        problem.runs,
    )


def in_seconds(problem: Problem, name: str, seed: int) -> Mapping[str, float]:
    """Train and score one contestant with a budget in seconds."""
    setup = setup_of(problem, name, seed)
    found = train_and_score(setup, problem.budget, {split: data(problem.case, split) for split in ("val", "test")})
    scores = [f"{split} {task.score_name}" for split in ("val", "test") for task in setup.tasks]
    return {column: found[column] for column in (*scores, "seconds")}


def setup_of(problem: Problem, name: str, seed: int, steps: int | None = None) -> Setup:
    """Return what a contestant trains with."""
    method, only = contestants(problem, steps)[name]()
    setup = problem.case.setup(seed=seed, method=method, only=only, train_set=data(problem.case, "train"))
    return only_labelled(setup) if only else setup


def only_labelled(setup: Setup) -> Setup:
    """Return a single task's setup that draws from the samples with its label only: the others teach it nothing."""
    (task,), dataset = setup.tasks, setup.train_set
    if task.labelled is None:
        return setup
    there = torch.cat([task.labelled(fetch(dataset, part)) for part in torch.arange(len(dataset)).split(500)])
    if there.all():
        return setup
    part = Part(dataset, there.nonzero()[:, 0])
    return replace(setup, loader=Loader(part, setup.loader.batch_size, setup.seed, setup.loader.transform))


def family(name: str) -> str:
    """Return to which family a contestant belongs: each has a learning rate of its own."""
    if name.endswith(" alone"):
        return name
    if name == "EqualWeights" or name.startswith("static "):
        return STATIC
    return GRADIENTS if issubclass(METHODS[name], GradientWeighting) else LOSSES


def contestants(
    problem: Problem, steps: int | None = None
) -> dict[str, Callable[[], tuple[Weighting, tuple[str, ...] | None]]]:
    """Return name → what makes its weighting method, and the tasks that it is restricted to, if any."""
    tasks, steps = problem.tasks(), steps or problem.budget.steps
    weighted = problem.weighted or (tasks[0].name,)
    likelihoods = Accuracy | TokenScores | WrittenRight | SequenceErrors | MapOverlap
    classification = [task.name for task in tasks if task.metric and isinstance(task.metric(), likelihoods)]
    special: Mapping[str, Callable[[], Weighting]] = {"Uncertainty": partial(Uncertainty, classification)}
    if steps:
        special = {**special, "DWA": partial(DWA, window=max(1, steps // 10))}
    makers: dict[str, tuple[Callable[[], Weighting], tuple[str, ...] | None]] = {
        **{f"{task.name} alone": (EqualWeights, (task.name,)) for task in tasks},
        **{f"static {w:g}": (partial(StaticWeights, dict.fromkeys(weighted, w)), None) for w in problem.sweep},
        **{name: (special.get(name, METHODS[name]), None) for name in problem.methods},
    }
    return {name: partial(_made, make, only) for name, (make, only) in makers.items()}


def _made(make: Callable[[], Weighting], only: tuple[str, ...] | None) -> tuple[Weighting, tuple[str, ...] | None]:
    return make(), only


def _command(problem: Problem) -> str:
    return f"{problem.kind} --case {problem.which or problem.case.source or problem.case.name}"


def tasks_of(case: Case) -> tuple[Task, ...]:
    """Return what is learned; the data are opened only where they are what says it."""
    labels = {} if case.read_labels is Case.read_labels else case.read_labels(data(case, "train"))
    return tuple(case.make_tasks(labels))


_open: dict[str, Any] = {}


def data(case: Case, split: str) -> Any:
    """Return a data set, opened once in each process."""
    key = f"{case.open_split.__module__} {case.name} {split} {sorted(case.settings.items())}"
    if key not in _open:
        _open[key] = case.open(split)
    return _open[key]
