"""A widget that shows what it means where a network forks."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mtlkit import plots
from mtlkit.experiments import read, summarise, with_delta_m
from mtlkit.experiments.architectures import HARD, TRUNKS, built, widths_of
from mtlkit.experiments.weighting import tasks_of
from mtlkit.lab.sliders.base import SliderExplorer

FORK = "stages that both tasks share"


class ForkExplorer(SliderExplorer):
    """A slider for where a network forks: what forking there costs, and what it gained when trained.

    Parameters and operations are those of the network as it is; the gain was measured with networks made narrower until
    all had as many parameters (`mtlkit experiments architectures`).

    Args:
        which: "scenes" or "multimnist".
        fork: at first.
    """

    def __init__(self, which: str = "scenes", fork: int = 3) -> None:
        trunk = TRUNKS[which]
        ways = {fork: HARD if fork == trunk.stages else f"fork {fork}" for fork in range(trunk.stages + 1)}
        models = {fork: built(trunk, way, trunk.widths) for fork, way in ways.items()}
        size = {fork: sum(p.numel() for p in model.parameters()) for fork, model in models.items()}
        shared = {fork: sum(p.numel() for p in model.shared_parameters()) for fork, model in models.items()}
        scores = {task.name: task.score_name for task in tasks_of(trunk.case)}
        tables = {"equal steps": f"architectures_{which}", "equal seconds": f"architectures_{which}_seconds"}
        found = {budget: summarise(with_delta_m(read(table), scores)) for budget, table in tables.items()}
        self.gains = {
            budget: {fork: summary[way]["test Δm"] for fork, way in ways.items()} for budget, summary in found.items()
        }
        self.panels: dict[str, dict[str, dict[int, Any]]] = {
            "parameters, thousands": {
                "all": {fork: n / 1e3 for fork, n in size.items()},
                "shared": {fork: n / 1e3 for fork, n in shared.items()},
            },
            "operations an image, millions": {
                "all": {fork: _operations(m, trunk.size) / 1e6 for fork, m in models.items()}
            },
            "measured Δm, %": self.gains,
        }
        self.widths = {fork: widths_of(which, way) for fork, way in ways.items()}
        super().__init__({FORK: (fork, 0, trunk.stages, 1)})

    def draw(self) -> tuple[plots.Picture, str]:
        """Return the three curves with a line at the present fork, and a sentence."""
        fork = int(self[FORK])
        picture = plots.choices(self.panels, xlabel="stages shared", at=fork, zero=("measured Δm, %",))
        size = self.panels["parameters, thousands"]["all"][fork]
        work = self.panels["operations an image, millions"]["all"][fork]
        gains = ", ".join(f"{g[fork].mean:+.0f} ± {g[fork].half:.0f} % at {name}" for name, g in self.gains.items())
        return picture, (
            f"{size:.0f} thousand parameters, {work:.0f} million operations; narrowed to {self.widths[fork]} "
            f"channels, so that it is as large as hard sharing: Δm {gains}"
        )


def _operations(model: torch.nn.Module, size: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size))
    return counter.get_total_flops()
