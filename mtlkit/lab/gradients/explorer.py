"""Two gradients to turn and stretch, and where each method goes."""

from collections.abc import Sequence
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets

from mtlkit.lab.front import Shown, script, style
from mtlkit.lab.gradients.picture import draw_gradients
from mtlkit.plots import Picture
from mtlkit.weighting import METHODS

METHODS_SHOWN = ("PCGrad", "MGDA", "CAGrad", "NashMTL", "AlignedMTL")


class _View(anywidget.AnyWidget):
    _esm, _css = script("gradients/gradients"), style("gradients/gradients")
    angle = traitlets.Float(120.0).tag(sync=True)
    ratio = traitlets.Float(2.0).tag(sync=True)
    names: Any = traitlets.List().tag(sync=True)
    directions: Any = traitlets.List().tag(sync=True)

    def __repr__(self) -> str:
        return "gradients"


class GradientExplorer(Shown):
    """Two tasks' gradients, an angle and a ratio of lengths between them, and each method's direction.

    Args:
        methods: names in `mtlkit.weighting` of methods on gradients.
        angle: between the gradients, in degrees, 0 to 180.
        ratio: length of B's gradient; A's is 1.

    Raises:
        ValueError: if angle or ratio is out of range.
    """

    def __init__(self, methods: Sequence[str] = METHODS_SHOWN, angle: float = 120.0, ratio: float = 2.0) -> None:
        if not 0 <= angle <= 180 or not ratio > 0:
            raise ValueError(f"expected an angle of 0 to 180 degrees and a ratio above 0, not {angle} and {ratio}")
        self.methods = tuple(methods)
        self.widget = _View(angle=angle, ratio=ratio, names=["sum", *self.methods])
        self.widget.observe(self._turn, ["angle", "ratio"])
        self._turn()

    def jacobian(self) -> torch.Tensor:
        """Return both gradients as rows `[2, 2]`; A points right."""
        angle = np.deg2rad(self.widget.angle)
        return torch.tensor([[1.0, 0.0], [self.widget.ratio * f(angle) for f in (np.cos, np.sin)]], dtype=torch.double)

    def directions(self) -> dict[str, np.ndarray]:
        """Return method → its update direction `[2]`, the plain sum first."""
        J = self.jacobian()
        found = {name: METHODS[name]().combine(J) for name in self.methods}
        return {name: d.numpy() for name, d in {"sum": J.sum(0), **found}.items()}

    def _turn(self, _: object = None) -> None:
        self.widget.directions = [d.tolist() for d in self.directions().values()]

    def picture(self) -> Picture:
        """Return what is seen now as a static picture."""
        return draw_gradients(self.jacobian().numpy(), self.directions())

    still = picture
