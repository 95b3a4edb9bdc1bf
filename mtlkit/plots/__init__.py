"""Every static picture. Each function returns a `Picture`, which shows itself in a notebook and can be saved."""

from mtlkit.plots.curves import bars, curves, loss_curves, moving_average
from mtlkit.plots.fronts import front
from mtlkit.plots.images import Predictions, predictions, rows, samples
from mtlkit.plots.methods import method_tree
from mtlkit.plots.runs import run, spread, steered
from mtlkit.plots.style import Picture
from mtlkit.plots.text import answers

__all__ = [
    "Picture",
    "Predictions",
    "answers",
    "bars",
    "curves",
    "front",
    "loss_curves",
    "method_tree",
    "moving_average",
    "predictions",
    "rows",
    "run",
    "samples",
    "spread",
    "steered",
]
