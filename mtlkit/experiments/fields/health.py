"""Labels that nobody took down, what a mistake costs, and two ways to count cells."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mtlkit.cases import find_case
from mtlkit.data.fields.cells import BloodCells
from mtlkit.data.fields.tumours import MEASURES
from mtlkit.experiments.fields.common import scored, table_of
from mtlkit.experiments.table import Experiment
from mtlkit.experiments.weighting import data, only_labelled
from mtlkit.model import evaluating
from mtlkit.tasks import calibration_error, find_objects, temperature_of

COST = 10.0  # of a malignant tumour called benign, in those of a benign one called malignant
OVERLAP = 0.25 / 0.6  # of the random splits of the table of tumours: test samples by training samples


def incomplete(only: str | None, knobs: Mapping[str, Any], seed: int) -> Mapping[str, float]:
    """Train with labels missing; score on complete ones."""
    case = find_case("tumours", **knobs)
    setup = case.setup(seed=seed, only=only, method="EqualWeights")
    found = scored(only_labelled(setup) if only else setup, 300, {"test": case.open("test", seed)})
    return {name: value for name, value in found.items() if name.endswith(("mae", "accuracy", "seconds"))}


def decided(how: str, seed: int) -> Mapping[str, float]:
    """Decide who has a tumour, where missing one costs ten times a false alarm; return what it costs a patient."""
    case = find_case("tumours")
    setup = case.setup(seed=seed, method="EqualWeights")
    if how == "loss weight":
        weighted = replace(setup.tasks[0], loss=malignant_weighted)
        setup = replace(setup, tasks=(weighted, *setup.tasks[1:]))
    scored(setup, 300, {})
    scale = 1.0
    if how == "calibrated threshold":
        scale = temperature_of(*_diagnoses(setup, case.open("val", seed)))
    logits, truth = _diagnoses(setup, case.open("test", seed))
    sure = (logits / scale).softmax(1)[:, 1]
    alarm = sure > (1 / (1 + COST) if "threshold" in how else 0.5)
    missed, false = (truth == 1) & ~alarm, (truth == 0) & alarm
    return {
        "cost": float((COST * missed.float() + false.float()).mean()),
        "missed": float(missed.sum() / (truth == 1).sum()),
        "false alarms": float(false.sum() / (truth == 0).sum()),
        "calibration error": calibration_error(sure, truth),
    }


def malignant_weighted(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Cross-entropy `[]` in which a malignant tumour counts `COST` times."""
    weight = torch.tensor([1.0, COST])
    return cross_entropy(logits, batch["diagnosis"], weight, ignore_index=-1)


def _diagnoses(setup: Any, dataset: Any) -> tuple[Tensor, Tensor]:
    batch = dataset.batch(range(len(dataset)))
    with evaluating(setup.model):
        return setup.model(batch["features"], tasks=["diagnosis"])["diagnosis"], batch["diagnosis"]


def tumours_experiments() -> list[Experiment]:
    """Return missing labels, by chance and not; and decisions where mistakes do not cost the same."""
    shares: dict[str, dict[str, Any]] = {
        "all measured": {},
        "30 % by chance": {"known": 0.3},
        "30 % suspicious first": {"known": 0.3, "why": "suspicious first"},
        "10 % by chance": {"known": 0.1},
        "5 % diagnosed": {"diagnosed": 0.05},
    }
    tasks: Mapping[str, str | None] = {"together": None} | {f"{task} alone": task for task in ("diagnosis", *MEASURES)}
    settings = {
        f"{name}, {share}": partial(incomplete, only, knobs)
        for share, knobs in shares.items()
        for name, only in tasks.items()
    }
    columns = ["test diagnosis/accuracy", *(f"test {name}/mae" for name in MEASURES), "seconds"]
    ways = ("threshold at half", "moved threshold", "calibrated threshold", "loss weight")
    return [
        table_of("tumours_missing", "300 steps of 32", columns, settings, seeds=20),
        table_of(
            "tumours_decided",
            "300 steps of 32",
            ["cost", "missed", "false alarms", "calibration error"],
            {way: partial(decided, "half" if "half" in way else way) for way in ways},
            seeds=20,
        ),
    ]


def counted(only: tuple[str, ...], boxed: float, seed: int) -> Mapping[str, float]:
    """Count red cells by a head of its own and by the boxes that are found."""
    case = find_case("cells", smears=1200, test_smears=400, boxed=boxed)
    setup = case.setup(seed=seed, only=only, method="EqualWeights", train_set=data(case, "train"))
    found = scored(only_labelled(setup) if len(only) == 1 else setup, 250, {"test": data(case, "test")})
    kept: dict[str, float] = {
        name: found[name] for name in ("test detect/ap", "test count/mae", "seconds") if name in found
    }
    if "detect" in only:
        kept["test boxes/mae"] = count_by_boxes(setup.model, data(case, "val"), data(case, "test"))
    return kept


def count_by_boxes(model: nn.Module, val: BloodCells, test: BloodCells) -> float:
    """Return the mean error of counting the red cells that are found, at the score that is best on validation data."""

    def scores_of(dataset: BloodCells) -> list[Tensor]:
        found = []
        with evaluating(model):
            for start in range(0, len(dataset), 50):
                outputs = model(dataset.batch(range(start, min(start + 50, len(dataset))))["image"], tasks=["detect"])
                found += find_objects(outputs["detect"])
        return [one["scores"][one["labels"] == 0] for one in found]

    def error(scores: list[Tensor], red: Tensor, least: float) -> float:
        return float((torch.tensor([float((s > least).sum()) for s in scores]) - red).abs().mean())

    tried, red = scores_of(val), val.more["red"]
    best = min((k / 20 for k in range(1, 20)), key=lambda least: error(tried, red, least))
    return error(scores_of(test), test.more["red"], best)


def cells_experiments() -> list[Experiment]:
    """Return counting as a task of its own against counting boxes, with few boxes and with many."""
    together = ("classify", "detect", "count")
    settings = {
        f"{name}, {share:.0%} boxed": partial(counted, only, share)
        for share in (1.0, 0.05)
        for name, only in {"together": together, "detect alone": ("detect",), "count alone": ("count",)}.items()
    }
    return [
        table_of(
            "cells_counted",
            "250 steps of 16",
            ["test detect/ap", "test count/mae", "test boxes/mae", "seconds"],
            settings,
        )
    ]
