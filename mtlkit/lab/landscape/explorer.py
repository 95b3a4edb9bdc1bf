"""The two-parameter, two-task landscape, to drag and click."""

from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets

from mtlkit.lab.front import Shown, script, style
from mtlkit.lab.landscape.landscape import TASKS, Landscape
from mtlkit.lab.landscape.picture import draw_landscape
from mtlkit.plots import Picture
from mtlkit.weighting import METHODS, GradientWeighting, StaticWeights

METHODS_SHOWN = ("PCGrad", "MGDA", "CAGrad", "NashMTL", "AlignedMTL")
GRID = (96, 72)  # columns and rows of the field that level lines are drawn from


class _View(anywidget.AnyWidget):
    """What the browser sees. Level lines and arrows are drawn there; paths come from here."""

    _esm, _css = script("landscape/landscape"), style("landscape/landscape")
    fields = traitlets.Bytes().tag(sync=True)  # float32 [2, rows, columns], both losses
    about = traitlets.Dict().tag(sync=True)
    weights = traitlets.List([1.0, 1.0]).tag(sync=True)
    start = traitlets.List([-0.5, 1.8]).tag(sync=True)
    paths = traitlets.Bytes().tag(sync=True)  # float32 [1 + methods, points, 2]; the weighted sum first
    gradients: Any = traitlets.List().tag(sync=True)

    def __repr__(self) -> str:
        return "landscape"


class LandscapeExplorer(Shown):
    """Level lines of w_A l_A + w_B l_B, both gradients and their sum, and where each method goes from a start point.

    Drag the weights; click to set the start. `weights` and `start` may also be set from code.

    Args:
        methods: names in `mtlkit.weighting` whose paths are drawn beside that of the weighted sum.
        weights: of tasks A and B at first.
        start: the first start point.
    """

    def __init__(
        self,
        methods: Sequence[str] = METHODS_SHOWN,
        weights: Mapping[str, float] | None = None,
        start: tuple[float, float] = (-0.5, 1.8),
    ) -> None:
        self.landscape, self.methods = Landscape(), tuple(methods)
        left, right, bottom, top = self.landscape.extent
        x, y = np.linspace(left, right, GRID[0]), np.linspace(top, bottom, GRID[1])
        field = self.landscape.losses(np.stack(np.meshgrid(x, y), -1))
        about = {
            "methods": ["weighted sum", *self.methods],
            "extent": self.landscape.extent,
            "grid": GRID,
            "centres": self.landscape.centres.tolist(),
            "pareto": self.landscape.pareto().tolist(),
        }
        first = StaticWeights(weights)
        self.widget = _View(
            fields=np.moveaxis(field, -1, 0).astype(np.float32).tobytes(),
            about=about,
            weights=[first.weights.get(task, 1.0) for task in TASKS],
            start=list(start),
        )
        self._fixed: list[np.ndarray] = []
        self._move()
        self.widget.observe(self._move, "start")
        self.widget.observe(self._draw, "weights")

    @property
    def weights(self) -> dict[str, float]:
        """Task → weight."""
        return dict(zip(TASKS, self.widget.weights, strict=True))

    @weights.setter
    def weights(self, weights: Mapping[str, float]) -> None:
        self.widget.weights = list((self.weights | StaticWeights(weights).weights).values())

    @property
    def start(self) -> tuple[float, float]:
        """Where all paths begin."""
        x, y = self.widget.start
        return x, y

    @start.setter
    def start(self, start: tuple[float, float]) -> None:
        self.widget.start = [float(value) for value in start]

    def paths(self) -> dict[str, np.ndarray]:
        """Return method → its points `[steps + 1, 2]`."""
        own = self.landscape.path(StaticWeights(self.weights), np.array(self.start))
        return dict(zip(["weighted sum", *self.methods], [own, *self._fixed], strict=True))

    def _move(self, _: object = None) -> None:
        """Follow all methods anew: only the start point matters to them, not the weights."""
        self._fixed = []
        for name in self.methods:
            method = METHODS[name]()
            assert isinstance(method, GradientWeighting)
            self._fixed.append(self.landscape.path(method, np.array(self.start)))
        self._draw()

    def _draw(self, _: object = None) -> None:
        with self.widget.hold_sync():
            self.widget.gradients = self.landscape.jacobian(np.array(self.start)).tolist()
            self.widget.paths = np.stack(list(self.paths().values())).astype(np.float32).tobytes()

    def picture(self) -> Picture:
        """Return what is seen now as a static picture."""
        return draw_landscape(self.landscape, self.weights, np.array(self.start), self.paths())

    still = picture
