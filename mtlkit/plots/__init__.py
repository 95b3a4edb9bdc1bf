"""Every static picture. Each function returns a `Picture`, which shows itself in a notebook and can be saved."""

from mtlkit.plots.curves import bars, curves, loss_curves, moving_average
from mtlkit.plots.fields import calibration, points, spectrogram
from mtlkit.plots.fronts import front
from mtlkit.plots.images import Predictions, answered, gallery, heat, predictions, rows, samples
from mtlkit.plots.methods import method_tree
from mtlkit.plots.runs import run, spread, steered
from mtlkit.plots.style import Picture
from mtlkit.plots.tables import bands, choices, intervals, squares
from mtlkit.plots.text import answers

__all__ = [
    "Picture",
    "Predictions",
    "answered",
    "answers",
    "bands",
    "bars",
    "calibration",
    "choices",
    "curves",
    "front",
    "gallery",
    "heat",
    "intervals",
    "loss_curves",
    "method_tree",
    "moving_average",
    "points",
    "predictions",
    "rows",
    "run",
    "samples",
    "spectrogram",
    "spread",
    "squares",
    "steered",
]
