"""The live lab."""

from mtlkit.lab.live.lab import LossWeightingLab
from mtlkit.lab.steering.records import LabRecord, Run

__all__ = ["LabRecord", "LossWeightingLab", "Run"]
