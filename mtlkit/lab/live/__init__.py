"""The live lab."""

from mtlkit.lab.live.lab import LossWeightingLab
from mtlkit.lab.live.records import LabRecord, Run

__all__ = ["LabRecord", "LossWeightingLab", "Run"]
