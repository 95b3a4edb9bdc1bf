"""What is inside a trained network: `mtlkit experiments insight`, the tables behind notebook 13."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.cases import Setup, find_case
from mtlkit.data import Batch
from mtlkit.experiments.table import Experiment
from mtlkit.experiments.weighting import data
from mtlkit.insight import (
    ATTRIBUTIONS,
    attribution,
    channel_effects,
    cka,
    conflict_by_layer,
    features_of,
    losses_without,
    randomised,
    rank_agreement,
    share_inside,
)
from mtlkit.insight.channels import channel_means
from mtlkit.training import train

SCENES = find_case("scenes", scenes=6000, val_scenes=300, test_scenes=600)
STEPS, CHOSEN, DRAWS = 400, 8, 20
LOOKS = (1, 10, 25, 50, 100, 200, 400)
LAYERS = ("layer 1", "layer 2", "layer 3", "layer 4", "layer 5", "layer 6")
ALIKE = (0, 50, 400)
TASKS = ("classify", "detect")


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return name → layer of a `ConvEncoder`: four convolutions and two residual blocks."""
    encoder: Any = getattr(model, "module", model).encoder  # type: ignore[union-attr]
    return {f"layer {k}": layer for k, layer in enumerate(encoder.layers) if k}


def scenes_setup(seed: int, only: str | None = None) -> Setup:
    """Return what the case of notebook 03 trains with, with equal weights."""
    return SCENES.setup(seed=seed, only=only, method="EqualWeights", train_set=data(SCENES, "train"))


@lru_cache(maxsize=2)
def trained(seed: int, only: str | None = None, steps: int = STEPS) -> Setup:
    """Return it trained."""
    setup = scenes_setup(seed, only)
    for _ in train(*setup.parts, average=setup.average, steps=steps, device="cpu"):
        pass
    return setup


@cache
def looked_at(split: str, n: int = 300) -> Batch:
    """Return held-out scenes in one batch."""
    return data(SCENES, split).batch(range(n))


@lru_cache(maxsize=2)
def by_effect(seed: int) -> tuple[Tensor, Tensor]:
    """Return the channels of the shared features, first those that a task needs most `[K, C]`; their means `[C]`."""
    setup = trained(seed)
    model: Any = setup.average.module
    batch = looked_at("val")
    effects = channel_effects(model, setup.tasks, batch, model.encoder)
    return effects.argsort(0, descending=True).T, channel_means(model, batch, model.encoder)


def without_channels(which: str, seed: int) -> Mapping[str, float]:
    """Return the losses of test scenes without the channels that a task needs most, or without random ones."""
    setup = trained(seed)
    order, means = by_effect(seed)
    model: Any = setup.average.module
    batch, C = looked_at("test"), order.shape[1]
    names = [task.name for task in setup.tasks]
    chosen = {name: row[:CHOSEN].tolist() for name, row in zip(names, order, strict=True)}
    if which == "drawn":
        random = torch.Generator().manual_seed(seed)
        sets = [torch.randperm(C, generator=random)[:CHOSEN].tolist() for _ in range(DRAWS)]
    else:
        sets = [[]] if which == "none" else [chosen[which.removeprefix("of ")]]
    losses = torch.stack([losses_without(model, setup.tasks, batch, model.encoder, s, means) for s in sets]).mean(0)
    both = len(set(chosen["classify"]) & set(chosen["detect"]))
    return dict(zip(names, losses.tolist(), strict=True)) | {"in both": both}


def maps_of(method: str, task: str, seed: int) -> Mapping[str, float]:
    """Return how a map changes when the network is drawn anew, and how much of it lies on the digits."""
    model, batch = trained(seed).average.module, looked_at("test")
    there = ((batch["box_labels"] >= 0).any(1)).nonzero()[:100, 0]
    images, boxes = batch["image"][there], batch["boxes"][there]
    boxes = torch.where((batch["box_labels"][there] >= 0)[..., None], boxes, 0.0)
    maps = attribution(model, task, images, method)
    parts: dict[str, Callable[[Any], Sequence[nn.Module]]] = {
        "head drawn anew": lambda m: [m.heads[task]],
        "all drawn anew": lambda m: [m],
    }
    found = {
        name: rank_agreement(maps, attribution(randomised(model, which, seed), task, images, method)).mean()
        for name, which in parts.items()
    }
    found["on digits"] = share_inside(maps, boxes).mean()
    return {name: float(value) for name, value in found.items()}


def alike(other: str, step: int, seed: int) -> Mapping[str, float]:
    """Return the CKA of each layer of the joint network with that of one that was drawn and trained otherwise."""
    only = None if other == "both" else other
    networks = [_at_steps(seed, None)[step], _at_steps(1000 + seed, only)[step]]
    spaces = [features_of(one, looked_at("test"), layers_of(one)) for one in networks]
    return {name: cka(spaces[0][name], spaces[1][name]) for name in LAYERS}


@lru_cache(maxsize=4)
def _at_steps(seed: int, only: str | None) -> dict[int, nn.Module]:
    """Return step → the network as it was then."""
    setup = scenes_setup(seed, only)
    kept: dict[int, nn.Module] = {0: copy.deepcopy(setup.model)}
    for record in train(*setup.parts, steps=STEPS, device="cpu"):
        if record.step in ALIKE:
            kept[record.step] = copy.deepcopy(setup.model)
    return kept


def conflict_at(step: int, seed: int) -> Mapping[str, float]:
    """Return the cosine of the two tasks' gradients in each layer at one step."""
    return _conflicts(seed)[step]


@lru_cache(maxsize=1)
def _conflicts(seed: int) -> dict[int, dict[str, float]]:
    setup = scenes_setup(seed)
    batch = setup.train_set.batch(range(256))
    found = {}
    for record in train(*setup.parts, steps=STEPS, device="cpu"):
        if record.step in LOOKS:
            found[record.step] = conflict_by_layer(setup.model, setup.tasks, batch, layers_of(setup.model))
    return found


def insight_experiments() -> list[Experiment]:
    """Return the experiments."""
    budget = f"{STEPS} steps of {SCENES.batch_size}"
    makers = {
        "channels": (
            f"{budget}; {CHOSEN} of 64 channels, replaced by their means; {DRAWS} drawn sets",
            ["classify", "detect", "in both"],
            {which: partial(without_channels, which) for which in ("none", "of classify", "of detect", "drawn")},
        ),
        "maps": (
            f"{budget}; 100 scenes",
            ["head drawn anew", "all drawn anew", "on digits"],
            {f"{method}, {task}": partial(maps_of, method, task) for method in ATTRIBUTIONS for task in TASKS},
        ),
        "similarity": (
            f"{budget}; 300 scenes",
            LAYERS,
            {f"{other}, step {step}": partial(alike, other, step) for step in ALIKE for other in ("both", *TASKS)},
        ),
        "conflicts": (
            f"{budget}; 256 scenes",
            LAYERS,
            {f"step {step}": partial(conflict_at, step) for step in LOOKS},
        ),
    }
    return [Experiment(f"insight_{name}", "insight", *made) for name, made in makers.items()]
