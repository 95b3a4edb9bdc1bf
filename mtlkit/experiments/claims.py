"""What multi-task learning is said to gain, tested: `mtlkit experiments claims`, the tables behind notebook 06."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

import torch

from mtlkit.cases import Case, Setup, find_case
from mtlkit.data import DigitScenes, Loader, MixedLoader
from mtlkit.data.facts import FACTS, SceneFacts
from mtlkit.experiments.architectures import TRUNKS, built, widths_of
from mtlkit.experiments.budget import Budget, train_and_score, with_rate
from mtlkit.experiments.contest import TUNING, costs_of, relative_cost
from mtlkit.experiments.table import Experiment, read
from mtlkit.experiments.weighting import data, tasks_of
from mtlkit.model import ClassificationHead, ConvEncoder, SharedEncoderModel
from mtlkit.training import MovingAverage
from mtlkit.weighting import StaticWeights, Weighting

STEPS = 200  # of joint training on scenes; single tasks get steps that cost as much
LABELS = (10, 30, 100, 300, 1000)
COUNT = find_case("scenes", scenes=3000, val_scenes=300, test_scenes=600, scene_class="count")
SPLITS = ("val", "test")
RATES = {f"rate x {rate:g}": (rate,) for rate in (1.0, 3.0)}


def claims_experiments() -> list[Experiment]:
    """Return the experiments, in the order in which they must be run."""
    cost = f"what {STEPS} steps of 32 of both tasks cost"
    return [
        Experiment(
            "claims_costs",
            "claims",
            "80 steps of each beside 80 of detect + count, in turns of 10",
            ["cost"],
            {name: partial(cost_beside_both, name) for name in NEGATIVE},
            timed=True,
            seeds=2,
        ),
        *tuned(
            "claims_labels",
            f"at most {cost}",
            ["val accuracy", "test accuracy"],
            {f"{kind}, {n} labels": partial(few_labels, kind, n) for n in LABELS for kind in ("alone", "together")},
            {
                f"rate x {rate:g}, {word} of the steps": (rate, share)
                for rate in (1.0, 3.0)
                for word, share in (("a third", 1 / 3), ("all", 1.0))
            },
        ),
        *tuned(
            "claims_transfer",
            f"{cost}; then 150 steps on 300 labels of the sum",
            [f"{split} {how}" for split in SPLITS for how in ("frozen", "fine-tuned")],
            {origin: partial(transferred, origin) for origin in ORIGINS},
        ),
        *tuned(
            "claims_negative",
            cost,
            _columns(COUNT),
            {name: partial(negative, name) for name in NEGATIVE},
            criteria={name: ["val detect/ap"] for name in NEGATIVE if "random" in name},
        ),
        *tuned(
            "claims_pairs",
            f"{PAIR_STEPS} steps of 32",
            _columns(find_case("facts")),
            {"+".join(tasks): partial(trained_together, tasks) for tasks in groups()},
        ),
    ]


Run = Callable[..., Mapping[str, float]]  # (what is tried, and the seed last) → column → number


def tuned(
    table: str,
    budget: str,
    columns: Sequence[str],
    settings: Mapping[str, Run],
    options: Mapping[str, tuple[float, ...]] = RATES,
    criteria: Mapping[str, Sequence[str]] | None = None,
    command: str = "claims",
) -> list[Experiment]:
    """Return the experiment that chooses for each setting what suits it, and the one that compares them so.

    What suits is what has the largest geometric mean of the scores on validation data, with seeds that the comparison
    does not use.

    Args:
        table: its name.
        budget: in words.
        columns: scores, those on validation data with "val" in front.
        settings: name → run, called with the values of an option and a seed.
        options: name → values.
        criteria: setting → the columns that count, if not all: those of labels that nothing can learn are noise.
        command: of `mtlkit experiments` that makes the tables.
    """
    val = [column for column in columns if column.startswith("val ")]
    tried = {
        f"{name}; {option}": partial(_try, run, values, val)
        for name, run in settings.items()
        for option, values in options.items()
    }
    compared = {
        name: partial(_with_best, f"{table}_tried", name, run, options, columns, dict(criteria or {}).get(name, val))
        for name, run in settings.items()
    }
    return [
        Experiment(f"{table}_tried", command, f"{budget}; seeds from {TUNING}", val, tried, seeds=2),
        Experiment(table, command, budget, [*columns, "rate", "steps", "seconds"], compared),
    ]


def _try(run: Run, values: tuple[float, ...], columns: Sequence[str], seed: int) -> Mapping[str, float]:
    found = run(*values, TUNING + seed)
    return {column: found[column] for column in columns if column in found}


def _with_best(
    table: str,
    name: str,
    run: Run,
    options: Mapping[str, tuple[float, ...]],
    columns: Sequence[str],
    criteria: Sequence[str],
    seed: int,
) -> Mapping[str, float]:
    rows = read(table)

    def suits(option: str) -> float:
        own = [row.values for row in rows if row.setting == f"{name}; {option}"]
        logs = [math.log(max(v[c], 1e-3)) for v in own for c in criteria if v[c] == v[c]]
        return statistics.fmean(logs)  # an error, if the option was not tried

    values = options[max(options, key=suits)]
    found = run(*values, seed)
    kept = {column: found[column] for column in (*columns, "steps", "seconds") if column in found}
    return {**kept, "rate": values[0]}


# few labels


def few_labels(kind: str, labels: int, rate: float, share: float, seed: int) -> Mapping[str, float]:
    """Train on so many labels of "count", with or without 3,000 scenes of boxes; return the scores.

    Args:
        kind: "alone" or "together": with every box, half of each batch from the scenes with a label.
        labels: how many scenes have one.
        rate: factor on the learning rate.
        share: of the steps that are allowed.
        seed: of the run; of which scenes have a label, too.
    """
    scenes = _scenes(3000, seed)
    labelled = _Part(scenes, torch.randperm(3000, generator=torch.Generator().manual_seed(seed))[:labels])
    setup = COUNT.setup(
        seed=seed, only=None if kind == "together" else "classify", method="EqualWeights", train_set=scenes
    )
    loader: Any = Loader(labelled, 32, seed)
    if kind == "together":
        loader = MixedLoader({"labelled": labelled, "boxes": _Part(scenes, None)}, 32, seed, float("inf"))
    cost = 1.0 if kind == "together" else _cost("count alone")
    found = _run(replace(setup, loader=loader), round(STEPS * share / cost), rate, COUNT)
    return found | {f"{split} accuracy": found[f"{split} classify/accuracy"] for split in SPLITS}


class _Part:
    """Some of the scenes with all their targets; without `chosen` all of them, with boxes only."""

    def __init__(self, scenes: DigitScenes, chosen: torch.Tensor | None) -> None:
        self.scenes, self.chosen = scenes, chosen

    def __len__(self) -> int:
        return len(self.scenes if self.chosen is None else self.chosen)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.chosen is not None:
            return self.scenes[int(self.chosen[index])]
        return {name: value for name, value in self.scenes[index].items() if name != "label"}


# a third task

ORIGINS: dict[str, tuple[str, ...] | None] = {
    "nothing": None,
    "count": ("classify",),
    "detect": ("detect",),
    "detect + count": ("classify", "detect"),
}


def transferred(origin: str, rate: float, seed: int) -> Mapping[str, float]:
    """Train an encoder, then a head for a third task on it, with the encoder frozen and with it trained on.

    Steps and seconds are those of all three trainings.
    """
    only = ORIGINS[origin]
    setup = COUNT.setup(seed=seed, only=only, method="EqualWeights", train_set=_scenes(3000, seed))
    runs: list[dict[str, float]] = []
    if only:
        cost = 1.0 if len(only) > 1 else _cost(f"{origin} alone")
        runs.append(_run(setup, round(STEPS / cost), rate, None))
    found: dict[str, float] = {}
    case = find_case("facts")
    learned = {name: value.clone() for name, value in setup.model.encoder.state_dict().items()}
    for how in ("frozen", "fine-tuned"):
        encoder = ConvEncoder()
        encoder.load_state_dict(learned)
        torch.manual_seed(seed)
        model = SharedEncoderModel(encoder, {"sum": ClassificationHead(64, len(FACTS["sum"]), grid=2)})
        if how == "frozen":
            encoder.requires_grad_(False).eval()
        train_set = SceneFacts("train", 300, seed=1000 + seed)
        new = case.setup(seed=seed, only="sum", method="EqualWeights", train_set=train_set)
        new = replace(new, model=model, optimizer=case.optimizer(model), average=MovingAverage(model))
        runs.append(_run(new, 150, rate, case))
        found |= {f"{split} {how}": runs[-1][f"{split} sum/accuracy"] for split in SPLITS}
    return found | {column: sum(run[column] for run in runs) for column in ("steps", "seconds")}


# negative transfer, and what mends it

NEGATIVE: dict[str, dict[str, Any]] = {
    "count alone": {"only": "classify"},
    "texture alone": {"only": "classify", "scene_class": "texture"},
    "detect alone": {"only": "detect"},
    "detect + count": {},
    "detect + texture": {"scene_class": "texture"},
    "detect + random": {"scene_class": "random"},
    "detect + texture, weight 0.2": {"scene_class": "texture", "method": StaticWeights({"classify": 0.2})},
    "detect + random, weight 0.2": {"scene_class": "random", "method": StaticWeights({"classify": 0.2})},
    "detect + texture, fork 3": {"scene_class": "texture", "way": "fork 3"},
    "detect + texture, wider": {"scene_class": "texture", "widths": (20, 40, 80)},
    "detect + texture, Nash-MTL": {"scene_class": "texture", "method": "NashMTL"},
    "detect + random, Nash-MTL": {"scene_class": "random", "method": "NashMTL"},
}


def negative(name: str, rate: float, seed: int) -> Mapping[str, float]:
    """Train and score one of `NEGATIVE`; each takes as much processor time as both tasks with equal weights."""
    return _run(negative_setup(name, seed), round(STEPS / _cost(name)), rate, COUNT.with_knobs(**_knobs(name)))


def negative_setup(name: str, seed: int) -> Setup:
    """Return what one of `NEGATIVE` trains with."""
    how, case = NEGATIVE[name], COUNT.with_knobs(**_knobs(name))
    if "way" in how or "widths" in how:
        way = how.get("way", "hard sharing")
        widths = how.get("widths") or widths_of("scenes", way)
        case = replace(case, build_model=lambda labels, **_: built(TRUNKS["scenes"], way, widths))
    method = _fresh(how.get("method", "EqualWeights"))
    return case.setup(seed=seed, only=how.get("only"), method=method, train_set=data(case, "train"))


def cost_beside_both(name: str, seed: int) -> Mapping[str, float]:
    """Return what a step of one of `NEGATIVE` costs, in steps of both tasks with equal weights."""
    return {"cost": relative_cost(lambda one: negative_setup(one, seed), name, "detect + count")}


def _cost(name: str) -> float:
    return costs_of("claims_costs")[name]


def _knobs(name: str) -> dict[str, str]:
    return {"scene_class": NEGATIVE[name].get("scene_class", "count")}


def _fresh(method: str | Weighting) -> str | Weighting:
    return StaticWeights(method.weights) if isinstance(method, StaticWeights) else method


# who should be trained together

PAIR_STEPS = 150


def groups() -> list[tuple[str, ...]]:
    """Return each task alone, all pairs, and all five."""
    return [*((task,) for task in FACTS), *combinations(FACTS, 2), tuple(FACTS)]


def trained_together(tasks: Sequence[str], rate: float, seed: int) -> Mapping[str, float]:
    """Train and score a model of some of the five questions."""
    case = find_case("facts")
    setup = case.setup(seed=seed, only=tasks, method="EqualWeights", train_set=data(case, "train"))
    return _run(setup, PAIR_STEPS, rate, case)


# what they share


def _run(setup: Setup, steps: int, rate: float, case: Case | None) -> dict[str, float]:
    """Train, and score on what the case's validation and test data are."""
    scored = {split: data(case, split) for split in SPLITS} if case else {}
    return train_and_score(with_rate(setup, rate), Budget(steps=steps), scored)


def _columns(case: Case) -> list[str]:
    return [f"{split} {task.score_name}" for split in SPLITS for task in tasks_of(case)]


_made: dict[tuple[int, int], DigitScenes] = {}


def _scenes(n: int, seed: int) -> DigitScenes:
    if (n, seed) not in _made:
        _made.clear()
        _made[n, seed] = DigitScenes("train", n, seed=seed, scene_class="count")
    return _made[n, seed]
