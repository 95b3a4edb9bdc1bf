"""How many losses become one update."""

from mtlkit.weighting.losses import EqualWeights, StaticWeights, Weighting

__all__ = ["EqualWeights", "StaticWeights", "Weighting"]
