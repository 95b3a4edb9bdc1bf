"""Every live picture: widgets in which a learner changes something and sees it bend."""

from mtlkit.lab.gradients import GradientExplorer
from mtlkit.lab.landscape import LandscapeExplorer
from mtlkit.lab.live import LossWeightingLab
from mtlkit.lab.panel import LossPanel
from mtlkit.lab.quiz import Quiz
from mtlkit.lab.sliders import ChannelExplorer, DetectionExplorer, ForkExplorer, MixingExplorer, SharingExplorer
from mtlkit.lab.steering.records import saved_runs

__all__ = [
    "ChannelExplorer",
    "DetectionExplorer",
    "ForkExplorer",
    "GradientExplorer",
    "LandscapeExplorer",
    "LossPanel",
    "LossWeightingLab",
    "MixingExplorer",
    "Quiz",
    "SharingExplorer",
    "saved_runs",
]
