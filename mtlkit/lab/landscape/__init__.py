"""A landscape of two tasks and two shared parameters, to drag and click."""

from mtlkit.lab.landscape.explorer import LandscapeExplorer
from mtlkit.lab.landscape.landscape import Landscape

__all__ = ["Landscape", "LandscapeExplorer"]
