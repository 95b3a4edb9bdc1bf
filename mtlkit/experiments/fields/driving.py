"""What is rare, and how long an answer takes."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from mtlkit.cases import Setup, find_case
from mtlkit.data import Batch, MixedLoader
from mtlkit.data.fields.roads import CONDITIONS, KINDS, Roads
from mtlkit.experiments.fields.common import scored, table_of
from mtlkit.experiments.table import Experiment
from mtlkit.experiments.weighting import data
from mtlkit.losses import detection_loss
from mtlkit.machine import one_thread
from mtlkit.model import Detections, SharedEncoderModel, evaluating
from mtlkit.tasks import AveragePrecision, find_objects

RARE, TIMES = 0.03, 10  # share of the training scenes at night; how many times as much they are made to count
NIGHT, PEDESTRIAN = CONDITIONS.index("night"), KINDS.index("pedestrian")
WAYS = ("as it is", "loss weight", "sampling", "no focus", "more focus", "night for night")


def at_night(how: str, seed: int) -> Mapping[str, float]:
    """Train with few scenes at night; return the AP50 of pedestrians there, and in all other scenes."""
    case = find_case("roads", scenes=2000, night=0.2 if how == "night for night" else RARE)
    setup = case.setup(seed=seed, method="EqualWeights", train_set=data(case, "train"))
    if how == "loss weight":
        setup = _with_detection(setup, night_weighted)
    elif how in ("no focus", "more focus"):
        setup = _with_detection(setup, partial(detection_loss, focus=0.0 if how == "no focus" else 4.0))
    elif how == "sampling":
        setup = replace(setup, loader=_drawn_more_often(setup, seed))
    found = scored(setup, 250, {})
    for when, share in (("at night", 1.0), ("else", 0.0)):
        found[f"pedestrians {when}"] = pedestrians_found(setup.model, _test(share))
    return {column: found[column] for column in ("pedestrians at night", "pedestrians else", "seconds")}


def night_weighted(output: Detections, batch: Batch) -> Tensor:
    """Return a detection loss `[]` in which what is to be found at night counts `TIMES` times."""
    night = batch["label"] == NIGHT
    only = batch | {
        "has_boxes": batch["has_boxes"] & night,
        "box_labels": torch.where(night[:, None], batch["box_labels"], -1),
    }
    boxes, there = ((one["box_labels"] >= 0).sum() for one in (batch, only))
    return detection_loss(output, batch) + (TIMES - 1) * there / boxes.clamp(min=1) * detection_loss(output, only)


def _with_detection(setup: Setup, loss: object) -> Setup:
    tasks = tuple(replace(task, loss=loss) if task.name == "detect" else task for task in setup.tasks)  # type: ignore[arg-type]
    return replace(setup, tasks=tasks)


def _drawn_more_often(setup: Setup, seed: int) -> Any:
    """Return a loader that draws a scene at night `TIMES` times as often as another one."""
    night = setup.train_set.labels == NIGHT
    few, many = (Subset(setup.train_set, where.nonzero()[:, 0].tolist()) for where in (night, ~night))
    loader = MixedLoader({"night": few, "else": many}, setup.case.batch_size, seed)
    weight = TIMES * len(few) / (TIMES * len(few) + len(many))
    loader.proportions = {"night": weight, "else": 1 - weight}
    return loader


def pedestrians_found(model: SharedEncoderModel, test: Roads) -> float:
    """Return the AP50 of pedestrians in some scenes."""
    metric = AveragePrecision(KINDS)
    with evaluating(model):
        for start in range(0, len(test), 50):
            batch = test.batch(range(start, min(start + 50, len(test))))
            found = find_objects(model(batch["image"], tasks=["detect"])["detect"])
            own = [{name: part[one["labels"] == PEDESTRIAN] for name, part in one.items()} for one in found]
            labels = torch.where(batch["box_labels"] == PEDESTRIAN, PEDESTRIAN, -1)
            metric.add(own, batch | {"box_labels": labels})
    return metric.compute()["ap50"]


@cache
def _test(night: float) -> Roads:
    return Roads("test", 400, seed=7, night=night)


def answer_times(batch_size: int, seed: int) -> Mapping[str, float]:
    """Return how many ms one network with all heads takes on one core, and three networks with one head each."""
    case = find_case("roads", scenes=32)
    joint = case.new_model({"classes": CONDITIONS, "box_classes": KINDS}, seed)
    alone = [case.setup(seed=seed, only=task, train_set=data(case, "train")).model for task in joint.heads]
    image = torch.rand(batch_size, 3, 64, 96, generator=torch.Generator().manual_seed(seed))
    ways = {"one network": [joint], "three networks": alone}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    with one_thread(), torch.inference_mode():
        for turn in range(60):
            for way, models in ways.items():
                started = time.process_time()
                for model in models:
                    model.eval()(image)
                if turn >= 10:  # the first ones warm up
                    taken[way].append(1000 * (time.process_time() - started))
    found = {way: statistics.median(times) for way, times in taken.items()}
    return found | {"ratio": found["one network"] / found["three networks"]}


def driving_experiments() -> list[Experiment]:
    """Return the tables of rare scenes and of answering times."""
    times = table_of(
        "roads_times",
        "50 answers each, in turns; ms of one core",
        ["one network", "three networks", "ratio"],
        {f"batch of {size}": partial(answer_times, size) for size in (1, 32)},
    )
    return [
        table_of(
            "roads_rare",
            "250 steps of 32",
            ["pedestrians at night", "pedestrians else", "seconds"],
            {way: partial(at_night, way) for way in WAYS},
        ),
        replace(times, timed=True),
    ]
