"""A whole front from one network, against one network for each weight."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtlkit.cases import Setup, find_case
from mtlkit.cases.multimnist import SIDES, side_heads
from mtlkit.experiments.budget import Budget, train_and_score, with_rate
from mtlkit.experiments.claims import SPLITS, tuned
from mtlkit.experiments.table import Experiment
from mtlkit.experiments.weighting import data
from mtlkit.machine import ALONE, Group
from mtlkit.model import SharedEncoderModel, conv_stages
from mtlkit.training import evaluate
from mtlkit.weighting import StaticWeights, Weighting
from mtlkit.weighting.base import Losses, Update
from mtlkit.weighting.graph import Shared

PAIRS = find_case("multimnist")
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the left digit in the preference
TOLD = {"one, told": 0.0, "one, told, COSMOS": 2.0}  # name → λ
WAYS = ("one", "five", *TOLD)
STEPS = 1500  # of all networks of a contestant together


class Conditioned(nn.Module):
    """An encoder that is told what is preferred: h ← (1 + γ(r)) h + β(r) after every stage, γ and β linear in r.

    E. Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018. The paper of COSMOS gives r
    as more channels of the image; batch normalisation takes away what is the same in a whole batch, and so all of it.

    Args:
        stages: of a network.
        widths: channels of each stage's output.
        tasks: how many, K.
    """

    preference: Tensor

    def __init__(self, stages: Sequence[nn.Module], widths: Sequence[int], tasks: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.films = nn.ModuleList(nn.Linear(tasks, 2 * width) for width in widths)
        self.register_buffer("preference", torch.full((tasks,), 1 / tasks))

    def forward(self, image: Tensor) -> Tensor:
        """Return features of images `[B, 3, H, W]` for the present preference."""
        h = image
        for stage, film in zip(self.stages, self.films, strict=True):
            scale, shift = film(self.preference).chunk(2)
            h = (1 + scale)[:, None, None] * stage(h) + shift[:, None, None]
        return h


class Drawn(Weighting):
    """L = Σ r_i l_i - λ cos(l, r), r drawn from Dirichlet(α) for every batch, and told to the network.

    With λ = 0 this is loss-conditional training: A. Dosovitskiy, J. Djolonga, "You Only Train Once", ICLR 2020. With
    λ > 0 it is COSMOS: M. Ruchte, J. Grabocka, "Scalable Pareto Front Approximation for Deep Multi-Objective Learning",
    ICDM 2021, arXiv:2103.13392. The penalty is to spread the answers over the front.

    Args:
        seed: of the draws.
        alpha: of the Dirichlet distribution.
        spread: λ.
    """

    def __init__(self, seed: int, alpha: float = 1.2, spread: float = 0.0) -> None:
        super().__init__()
        self.random, self.alpha, self.spread = np.random.default_rng(seed), alpha, spread
        self.r = torch.tensor([])

    def backward(self, losses: Losses, model: Any, group: Group = ALONE, shared: Shared = None) -> Update:
        """Go on as with any total loss, for what the model was told; then draw what it is told for the next batch."""
        told = model.encoder.preference
        self.r = told.clone()
        update = super().backward(losses, model, group, shared)
        told.copy_(torch.from_numpy(self.random.dirichlet([self.alpha] * len(told))))
        return update

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return Σ r_i l_i - λ cos(l, r)."""
        r = self.r.to(losses)
        return r @ losses - self.spread * torch.cosine_similarity(losses, r, dim=0)


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float] = (0.0, 0.0)) -> float:
    """Return the area between a reference and the points that no other beats, two scores of which more is better.

    E. Zitzler, L. Thiele, "Multiobjective Evolutionary Algorithms: A Comparative Case Study and the Strength Pareto
    Approach", IEEE Trans. Evol. Comput. 3, 1999.
    """
    area, height = 0.0, reference[1]
    for x, y in sorted(points, reverse=True):  # from the right; each adds what is above those before it
        if x > reference[0] and y > height:
            area += (x - reference[0]) * (y - height)
            height = y
    return area


def told_setup(seed: int, spread: float = 0.0) -> Setup:
    """Return what the one network of a whole front trains with."""
    case = replace(PAIRS, build_model=lambda labels, **_: _told_model())
    return case.setup(seed=seed, method=Drawn(seed, spread=spread), train_set=data(PAIRS, "train"))


def _told_model() -> SharedEncoderModel:
    widths = (4, 8, 8)
    return SharedEncoderModel(Conditioned(conv_stages(widths, 0), widths, len(SIDES)), side_heads(8))


def front_with(how: str, rate: float, seed: int) -> Mapping[str, float]:
    """Return the accuracies of a contestant at five preferences, and the area below its front."""
    found: dict[str, float] = {"steps": 0.0, "seconds": 0.0}
    scored = {split: data(PAIRS, split) for split in SPLITS}

    def run(setup: Setup, steps: int) -> dict[str, float]:
        made = train_and_score(with_rate(setup, rate), Budget(steps=steps), scored)
        for column in ("steps", "seconds"):
            found[column] += made[column]
        return made

    if how in TOLD:
        setup = told_setup(seed, TOLD[how])
        run(setup, STEPS)
    if how == "one":
        scores = run(PAIRS.setup(seed=seed, method="EqualWeights", train_set=data(PAIRS, "train")), STEPS)
    for share in SHARES:
        if how in TOLD:
            told: Any = setup.model.encoder
            told.preference.copy_(torch.tensor([share, 1 - share]))
            scores = {
                f"{split} {name}": value
                for split, dataset in scored.items()
                for name, value in evaluate(setup.model, setup.tasks, dataset, device="cpu").items()
            }
        elif how == "five":
            method = StaticWeights({"left": 2 * share, "right": 2 * (1 - share)})
            setup = PAIRS.setup(seed=seed, method=method, train_set=data(PAIRS, "train"))
            scores = run(setup, STEPS // len(SHARES))
        for split in SPLITS:
            found |= {f"{split} {side} {share:g}": scores[f"{split} {side}/accuracy"] for side in SIDES}
    for split in SPLITS:
        points = [(found[f"{split} left {share:g}"], found[f"{split} right {share:g}"]) for share in SHARES]
        found[f"{split} area"] = hypervolume(points)
    return found


def front_experiments() -> list[Experiment]:
    """Return the experiments."""
    columns = [f"{split} {side} {share:g}" for split in SPLITS for share in SHARES for side in SIDES]
    return tuned(
        "frontiers_fronts",
        f"{STEPS} steps of 64 of all networks together",
        [*columns, *(f"{split} area" for split in SPLITS)],
        {how: partial(front_with, how) for how in WAYS},
        criteria={how: ["val area"] for how in WAYS},
        command="frontiers",
    )
