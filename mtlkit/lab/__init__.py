"""Every live picture: widgets in which a learner changes something and sees it bend."""

import gc

from mtlkit.lab.detections import DetectionExplorer
from mtlkit.lab.gradients import GradientExplorer
from mtlkit.lab.landscape import LandscapeExplorer
from mtlkit.lab.live import LossWeightingLab
from mtlkit.lab.mixing import MixingExplorer
from mtlkit.lab.quiz import Quiz
from mtlkit.lab.sharing import SharingExplorer

__all__ = [
    "DetectionExplorer",
    "GradientExplorer",
    "LandscapeExplorer",
    "LossWeightingLab",
    "MixingExplorer",
    "Quiz",
    "SharingExplorer",
]

# What has been imported lives as long as the process. Left to the collector, looking through it again and again stops
# everything for 0.2 s in each few hundred steps, and a slider waits.
gc.freeze()
