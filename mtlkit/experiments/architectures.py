"""Ways to share a network, all with as many parameters: `mtlkit experiments architectures`."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from mtlkit.cases import Case, Setup, find_case
from mtlkit.cases.multimnist import side_heads
from mtlkit.cases.scenes import OUTPUTS
from mtlkit.cases.vision import vision_heads
from mtlkit.experiments.contest import Contest
from mtlkit.experiments.weighting import data, tasks_of
from mtlkit.model import (
    PLE,
    Branched,
    CrossStitch,
    LearnedSharing,
    MMoE,
    SharedEncoderModel,
    TaskAdapters,
    TaskAttention,
    conv_stages,
    share,
)

Widths = tuple[int, int, int]
HARD = "hard sharing"


@dataclass(frozen=True)
class Trunk:
    """A case whose network is cut into stages.

    Attributes:
        case: with its knobs set.
        heads: channels → task → head.
        widths: of hard sharing.
        blocks: residual blocks.
        steps: of training.
        tasks: their names.
        size: side of the images in pixels.
        heads_alike: widths are chosen so that the encoders alone have as many parameters, the last width, and so the
            heads, being the same: where the heads hold nearly all, they would hide how large the encoders are.
    """

    case: Case
    heads: Callable[[int], Mapping[str, nn.Module]]
    widths: Widths
    blocks: int
    steps: int
    tasks: tuple[str, ...]
    size: int
    heads_alike: bool = False

    @property
    def stages(self) -> int:
        """How many stages the network has."""
        return 3 + self.blocks


TRUNKS = {
    "multimnist": Trunk(find_case("multimnist"), side_heads, (4, 8, 8), 0, 300, ("left", "right"), 36, True),
    "scenes": Trunk(
        find_case("scenes", scenes=6000, val_scenes=300, test_scenes=600),
        partial(vision_heads, classes=OUTPUTS, box_classes=10),
        (16, 32, 64),
        2,
        200,
        ("classify", "detect"),
        64,
    ),
}


def ways(trunk: Trunk) -> dict[str, Callable[[Callable[[], Any], Sequence[int]], Any]]:
    """Return name → (stages, widths of their outputs) → encoder."""
    tasks, last = trunk.tasks, trunk.stages
    forks = {f"fork {fork}": partial(_branched, tasks, fork) for fork in range(last)}
    return {
        HARD: partial(_branched, tasks, last),
        **forks,
        "cross-stitch": lambda stages, widths: CrossStitch(tasks, stages, widths),
        "attention": lambda stages, widths: TaskAttention(tasks, stages, widths),
        "MMoE": lambda stages, widths: MMoE(tasks, stages, widths, fork=1, experts=3),
        "PLE": lambda stages, widths: PLE(tasks, stages, widths, fork=1),
        "adapters": lambda stages, widths: TaskAdapters(tasks, stages, widths),
    }


def all_ways(trunk: Trunk) -> dict[str, Callable[[Callable[[], Any], Sequence[int]], Any]]:
    """Return the `ways`, and those that notebook 14 tries: gates that are learned, or held at a half."""
    gates = {name: partial(_gated, trunk.tasks, held) for name, held in (("gates", False), ("gates held", True))}
    return ways(trunk) | gates


def _gated(tasks: Sequence[str], held: bool, stages: Callable[[], Any], widths: Sequence[int]) -> LearnedSharing:
    return LearnedSharing(tasks, stages, held=held)


def _branched(tasks: Sequence[str], fork: int, stages: Callable[[], Any], widths: Sequence[int]) -> Branched:
    return Branched(tasks, stages, fork)


def built(trunk: Trunk, way: str, widths: Widths) -> SharedEncoderModel:
    """Return an untrained model that shares in one of `all_ways`."""
    outputs = (*widths, *[widths[-1]] * trunk.blocks)
    encoder = all_ways(trunk)[way](partial(conv_stages, widths, trunk.blocks), outputs)
    return share(encoder, trunk.heads(widths[-1]))


@cache
def widths_of(which: str, way: str) -> Widths:
    """Return the widths with which a way to share has about as many parameters as hard sharing, heads included.

    All are scaled alike; or the last one is kept (`Trunk.heads_alike`).
    """
    trunk = TRUNKS[which]

    def parameters(way: str, widths: Widths) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in built(trunk, way, widths).parameters())

    wanted = parameters(HARD, trunk.widths)
    a, b, c = trunk.widths
    if not trunk.heads_alike:

        def scaled(percent: int) -> Widths:
            return max(1, round(percent * a / 100)), max(1, round(percent * b / 100)), max(1, round(percent * c / 100))

        above = bisect_left(range(20, 131), wanted, key=lambda percent: parameters(way, scaled(percent))) + 20
        return min(map(scaled, (above - 1, above)), key=lambda widths: abs(parameters(way, widths) - wanted))
    size = {
        (first, second, c): parameters(way, (first, second, c))
        for first in range(1, 2 * a)
        for second in range(1, 2 * b)
    }
    nearest = min(abs(n - wanted) for n in size.values())
    fits = [widths for widths, n in size.items() if abs(n - wanted) <= max(nearest, wanted // 1000)]
    return min(fits, key=lambda w: abs(w[1] / w[0] - b / a))  # of those as near, the one that is shaped most alike


def architecture_setup(which: str, name: str, seed: int, steps: int = 0) -> Setup:
    """Return what a contestant trains with: a way to share, or "TASK alone" with the network of hard sharing."""
    trunk = TRUNKS[which]
    only, way = (name.removesuffix(" alone"), HARD) if name.endswith(" alone") else (None, name)
    case = replace(trunk.case, build_model=lambda labels, **_: built(trunk, way, widths_of(which, way)))
    return case.setup(seed=seed, only=only, method="EqualWeights", train_set=data(trunk.case, "train"))


def architecture_contest(which: str) -> Contest:
    """Return the contest of a case: with equal steps, and with the seconds that hard sharing takes."""
    trunk = TRUNKS[which]
    tasks = tasks_of(trunk.case)
    alone = [f"{task.name} alone" for task in tasks]
    names = [*alone, *ways(trunk)]
    return Contest(
        f"architectures_{which}",
        f"architectures --case {which}",
        names,
        partial(architecture_setup, which),
        partial(data, trunk.case),
        trunk.steps,
        str(trunk.case.batch_size),
        {task.name: task.score_name for task in tasks},
        HARD,
        HARD,
        {name: (name,) for name in names},
        parts=dict.fromkeys(alone, len(alone)),
        tried=(1.0, 3.0),
        seeds=2,
        more=("parameters",),
    )
