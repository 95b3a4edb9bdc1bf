"""Two gradients to turn and stretch."""

from mtlkit.lab.gradients.explorer import GradientExplorer

__all__ = ["GradientExplorer"]
