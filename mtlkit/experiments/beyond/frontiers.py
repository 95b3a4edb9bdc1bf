"""Five questions that research asks: `mtlkit experiments frontiers`, the tables behind notebook 14."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations

import torch

from mtlkit.cases import Setup, find_case
from mtlkit.cases.multimnist import SIDES
from mtlkit.data.facts import FACTS
from mtlkit.experiments.architectures import HARD, architecture_setup
from mtlkit.experiments.beyond.fronts import front_experiments
from mtlkit.experiments.beyond.search import ARMS, EpsilonGreedy, Exp3, Policy, Searcher, searched
from mtlkit.experiments.budget import Budget, train_and_score, with_rate
from mtlkit.experiments.claims import SPLITS, tuned
from mtlkit.experiments.table import Experiment, read
from mtlkit.experiments.weighting import data
from mtlkit.model import LearnedSharing
from mtlkit.training import evaluate
from mtlkit.weighting import StaticWeights

# weights by search

SCENES = find_case("scenes", scenes=6000, val_scenes=300, test_scenes=600)
SEARCH_STEPS, TRIAL = 300, 30
SEARCHERS: dict[str, Callable[..., Searcher]] = {
    "epsilon-greedy": partial(EpsilonGreedy, ARMS),
    "EXP3": partial(Exp3, ARMS),
    "policy gradient": Policy,
}


def searched_for(how: str, seed: int) -> Mapping[str, float]:
    """Train with weights that were searched for, the search's own steps counted, and score.

    Args:
        how: "equal weights"; "known before", the constant of notebook 05, whose search is not counted; "grid": each of
            `ARMS` for `TRIAL` steps, then the best on validation scenes from the start with the steps that are left;
            "drawn": any of `ARMS` at every look; or one of `SEARCHERS`.
        seed: of the run.
    """
    found = {"weight": 1.0}
    if how in SEARCHERS or how == "drawn":
        setup = _with_weight(1.0, seed)
        searcher = SEARCHERS[how](seed=seed) if how in SEARCHERS else EpsilonGreedy(ARMS, seed, epsilon=1.0)
        looks = list(searched(setup, searcher, data(SCENES, "val").batch(range(64)), SEARCH_STEPS))
        found["weight"] = statistics.geometric_mean(weight for _, weight, _ in looks)
    else:
        steps = SEARCH_STEPS
        if how == "known before":
            found["weight"] = 0.2
        if how == "grid":
            found["weight"] = max(ARMS, key=lambda weight: _trial(weight, seed))
            steps -= TRIAL * len(ARMS)
        setup = _with_weight(found["weight"], seed)
        train_and_score(setup, Budget(steps=steps), {})
    for split in SPLITS:
        for name, value in evaluate(setup.model, setup.tasks, data(SCENES, split), device="cpu").items():
            found[f"{split} {name}"] = value
    return {name: found[name] for name in (*SEARCH_COLUMNS, "weight")}


SEARCH_COLUMNS = [f"{split} {score}" for split in SPLITS for score in ("classify/accuracy", "detect/ap")]


def _with_weight(weight: float, seed: int) -> Setup:
    return SCENES.setup(seed=seed, method=StaticWeights({"classify": weight}), train_set=data(SCENES, "train"))


def _trial(weight: float, seed: int) -> float:
    found = train_and_score(_with_weight(weight, seed), Budget(steps=TRIAL), {"val": data(SCENES, "val")})
    return found["val classify/accuracy"] * found["val detect/ap"]


# who should be trained together

GROUP_STEPS = 300  # of all networks together
PARTITIONS = [  # into two groups, all fifteen
    (first, tuple(task for task in FACTS if task not in first)) for k in (1, 2) for first in combinations(FACTS, k)
]


def predicted(partition: Sequence[Sequence[str]]) -> float:
    """Return what the pairs of notebook 06 let one expect of a partition: the mean gain of the tasks.

    A task's gain from a group is taken as the mean of its gains from each of the others (C. Fifty et al., "Efficiently
    Identifying Task Groupings for Multi-Task Learning", NeurIPS 2021); alone it is 0.
    """
    rows = read("claims_pairs")

    def mean(setting: str, task: str) -> float:
        return statistics.fmean(r.values[f"test {task}/accuracy"] for r in rows if r.setting == setting)

    def gain(task: str, other: str) -> float:
        pair = "+".join(one for one in FACTS if one in (task, other))
        return mean(pair, task) - mean(task, task)

    return sum(
        statistics.fmean(gain(task, other) for other in group if other != task)
        for group in partition
        for task in group
        if len(group) > 1
    ) / len(FACTS)


def grouped(which: str, rate: float, seed: int) -> Mapping[str, float]:
    """Train one network for each group, with as many steps together, and score all tasks.

    Args:
        which: "all together", "all alone", "by affinity", "against it" (the partition of which least is expected), or
            "drawn": two random groups.
        rate: factor on the learning rates.
        seed: of the run.
    """
    random = torch.Generator().manual_seed(seed)
    made_of: dict[str, Callable[[], Sequence[Sequence[str]]]] = {
        "all together": lambda: [tuple(FACTS)],
        "all alone": lambda: [(task,) for task in FACTS],
        "by affinity": lambda: max(PARTITIONS, key=predicted),
        "against it": lambda: min(PARTITIONS, key=predicted),
        "drawn": lambda: PARTITIONS[int(torch.randint(len(PARTITIONS), (), generator=random))],
    }
    partition = made_of[which]()
    case, found = find_case("facts"), {"steps": 0.0, "seconds": 0.0}
    for group in partition:
        setup = case.setup(seed=2000 + seed, only=group, method="EqualWeights", train_set=data(case, "train"))
        steps = Budget(steps=GROUP_STEPS // len(partition))
        made = train_and_score(with_rate(setup, rate), steps, {split: data(case, split) for split in SPLITS})
        found |= {column: found[column] + made[column] for column in ("steps", "seconds")}
        found |= {f"{split} {task}/accuracy": made[f"{split} {task}/accuracy"] for split in SPLITS for task in group}
    for split in SPLITS:
        found[f"{split} mean"] = statistics.fmean(found[f"{split} {task}/accuracy"] for task in FACTS)
    return found


# two senses

FEW = (50, 200)
SHARED = ("nothing", "trunk", "trunk and head")
SENSE_STEPS = 200


def sensed(scarce: str, n: int, share: str, rate: float, seed: int) -> Mapping[str, float]:
    """Train on few samples of one sense, alone (with twice the steps) or beside all of the other; score the scarce one.

    Args:
        scarce: "see" or "hear".
        n: how many samples of it.
        share: what both senses share; "nothing": the scarce one is learned alone.
        rate: factor on the learning rates.
        seed: of the run, and of which samples there are.
    """
    case = find_case("senses", voices="formants", share=share, **{"pictures" if scarce == "see" else "clips": n})
    alone = share == "nothing"
    setup = case.setup(seed=seed, only=scarce if alone else None, method="EqualWeights")
    steps = Budget(steps=SENSE_STEPS * (2 if alone else 1))
    found = train_and_score(
        setup, steps, {split: data(case.with_knobs(pictures=0, clips=0), split) for split in SPLITS}
    )
    return found | {f"{split} accuracy": found[f"{split} {scarce}/accuracy"] for split in SPLITS}


# sharing that is learned

GATE_STEPS = 300


def gated(way: str, rate: float, seed: int) -> Mapping[str, float]:
    """Train and score a way to share two digits; for gates, say how open the first and the last are."""
    setup = architecture_setup("multimnist", way, seed)
    case = find_case("multimnist")
    found = train_and_score(
        with_rate(setup, rate), Budget(steps=GATE_STEPS), {split: data(case, split) for split in SPLITS}
    )
    if isinstance(setup.model.encoder, LearnedSharing):
        gates = setup.model.encoder.gates().detach()
        found |= {"first gate": float(gates[:, 0].mean()), "last gate": float(gates[:, -1].mean())}
    return found


def frontier_experiments() -> list[Experiment]:
    """Return the experiments."""
    facts = [f"{split} {what}" for split in SPLITS for what in (*(f"{task}/accuracy" for task in FACTS), "mean")]
    ways = ("all together", "all alone", "by affinity", "against it", "drawn")
    return [
        *tuned(
            "frontiers_senses",
            f"{SENSE_STEPS} steps of 64 of both senses, or twice as many of one",
            ["val accuracy", "test accuracy"],
            {
                f"{scarce}, {n} samples, {'alone' if share == 'nothing' else f'one {share}'}": partial(
                    sensed, scarce, n, share
                )
                for scarce in ("see", "hear")
                for n in FEW
                for share in SHARED
            },
            command="frontiers",
        ),
        *tuned(
            "frontiers_gates",
            f"{GATE_STEPS} steps of 64, as many parameters",
            [*(f"{split} {side}/accuracy" for split in SPLITS for side in SIDES), "first gate", "last gate"],
            {way: partial(gated, way) for way in (HARD, "fork 2", "fork 0", "gates", "gates held")},
            command="frontiers",
        ),
        Experiment(
            "frontiers_search",
            "frontiers",
            f"{SEARCH_STEPS} steps of 32, the search's own counted",
            [*SEARCH_COLUMNS, "weight"],
            {how: partial(searched_for, how) for how in ("equal weights", "known before", "grid", "drawn", *SEARCHERS)},
            seeds=10,
        ),
        *tuned(
            "frontiers_groups",
            f"{GROUP_STEPS} steps of 32 of all networks together",
            facts,
            {way: partial(grouped, way) for way in ways},
            criteria={way: ["val mean"] for way in ways},
            command="frontiers",
        ),
        *front_experiments(),
    ]
