"""Different data for each task, and five ways in which no method helps: more of `mtlkit experiments claims`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mtlkit.cases import find_case
from mtlkit.cases.multimnist import side_heads
from mtlkit.data import Loader, MixedLoader, MultiMNIST
from mtlkit.experiments.budget import Budget, train_and_score, with_rate
from mtlkit.experiments.table import Experiment
from mtlkit.experiments.weighting import data
from mtlkit.model import ConvEncoder, SharedEncoderModel
from mtlkit.tasks import Task
from mtlkit.training import MovingAverage
from mtlkit.weighting import METHODS

DIGITS = find_case("multimnist")
SIZES = {"left": 100_000, "right": 1000}
MIXTURE_STEPS, TROUBLE_STEPS = 500, 300
SCORES = [f"{split} {side}/accuracy" for split in ("val", "test") for side in SIZES]


def trouble_experiments() -> list[Experiment]:
    """Return the experiments."""
    mixtures = {"T = 1": 1.0, "T = 2": 2.0, "T = 5": 5.0, "T = inf": float("inf")}
    return [
        Experiment(
            "claims_mixture",
            "claims",
            f"{MIXTURE_STEPS} steps of 64",
            [*SCORES, "share of right", "seconds"],
            {
                **{name: partial(mixed, temperature) for name, temperature in mixtures.items()},
                **{f"{side} alone": partial(one_source, side) for side in SIZES},
            },
        ),
        Experiment(
            "claims_troubles",
            "claims",
            f"{TROUBLE_STEPS} steps of 64",
            [*SCORES, "seconds"],
            {f"{name}: {state}": partial(troubled, name, state) for name in TROUBLES for state in STATES}
            | {"mended": partial(troubled, "", "equal weights")},
        ),
    ]


# different data for each task


class OneSide:
    """Pairs of digits of which only one side is labelled."""

    def __init__(self, pairs: MultiMNIST, side: str) -> None:
        self.pairs, self.side = pairs, side

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value for name, value in self.pairs[index].items() if name in ("image", self.side)}


_sides: dict[str, OneSide] = {}


def sources() -> dict[str, OneSide]:
    """Return side → its own pairs; hardly any pair is in both."""
    for number, (side, n) in enumerate(SIZES.items()):
        if side not in _sides:
            _sides[side] = OneSide(MultiMNIST("train", n, seed=10 + number), side)
    return _sides


def mixed(temperature: float, seed: int) -> Mapping[str, float]:
    """Train on both sources, drawn at a temperature."""
    loader = MixedLoader(sources(), DIGITS.batch_size, seed, temperature)
    share = loader.proportions["right"]
    return _scored({"seed": seed}, MIXTURE_STEPS, loader=loader) | {"share of right": share}


def one_source(side: str, seed: int) -> Mapping[str, float]:
    """Train one task alone on its source, with as many steps."""
    loader = Loader(sources()[side], DIGITS.batch_size, seed)
    return _scored({"seed": seed, "only": side}, MIXTURE_STEPS, loader=loader)


# five troubles

STATES = ("equal weights", "NashMTL", "UPGrad", "left x 10", "left alone")


def wrong_labels(setup: Any) -> Any:
    """Give the left digit the label of another pair: it says nothing."""
    pairs = MultiMNIST("train", 10_000)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
    pairs.labels["left"] = pairs.labels["left"][order]
    return replace(setup, loader=Loader(pairs, DIGITS.batch_size, setup.seed))


def large_unit(setup: Any) -> Any:
    """Count the right digit's loss in thousandths."""
    return _with_loss(setup, "right", lambda loss: lambda output, batch: 1000 * loss(output, batch))


def high_rate(setup: Any) -> Any:
    """Take a learning rate that is thirty times too high."""
    return with_rate(setup, 30)


def short_gradient(setup: Any) -> Any:
    """Divide the left digit's logits by 30: its loss begins at the same value, its gradient is 30 times shorter."""
    return _with_loss(setup, "left", lambda loss: lambda output, batch: loss(output / 30, batch))


def no_room(setup: Any) -> Any:
    """Take an encoder that gives one feature map, for two digits."""
    with torch.random.fork_rng():
        torch.manual_seed(setup.seed)
        heads = {side: head for side, head in side_heads(1).items() if side in setup.model.heads}
        model = SharedEncoderModel(ConvEncoder((2, 2, 1), blocks=0), heads)
    return replace(setup, model=model, optimizer=DIGITS.optimizer(model), average=MovingAverage(model))


TROUBLES: dict[str, Callable[[Any], Any]] = {  # what no weighting method repairs, or only hides
    "labels": wrong_labels,
    "scale": large_unit,
    "rate": high_rate,
    "lengths": short_gradient,
    "room": no_room,
}


def troubled(trouble: str, state: str, seed: int) -> Mapping[str, float]:
    """Train with a trouble, or with none, in one of `STATES`."""
    options: dict[str, Any] = {"seed": seed, "method": "EqualWeights"}
    if state in METHODS:
        options["method"] = state
    elif state == "left x 10":
        options |= {"method": "StaticWeights", "weights": {"left": 10.0}}
    elif state == "left alone":
        options["only"] = "left"
    return _scored(options, TROUBLE_STEPS, spoil=TROUBLES.get(trouble))


def _with_loss(setup: Any, task: str, change: Callable[[Any], Any]) -> Any:
    tasks: tuple[Task, ...] = tuple(
        replace(one, loss=change(one.loss)) if one.name == task else one for one in setup.tasks
    )
    return replace(setup, tasks=tasks)


def _scored(
    options: Mapping[str, Any], steps: int, loader: Any = None, spoil: Callable[[Any], Any] | None = None
) -> dict[str, float]:
    setup: Any = DIGITS.setup(train_set=data(DIGITS, "train"), **options)
    if loader is not None:
        setup = replace(setup, loader=loader)
    if spoil is not None:
        setup = spoil(setup)
    found = train_and_score(setup, Budget(steps=steps), {split: data(DIGITS, split) for split in ("val", "test")})
    return {column: value for column, value in found.items() if column in (*SCORES, "seconds")}
