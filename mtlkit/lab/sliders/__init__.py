"""Explorers made of sliders and a picture."""

from mtlkit.lab.sliders.channels import ChannelExplorer
from mtlkit.lab.sliders.detections import DetectionExplorer
from mtlkit.lab.sliders.forks import ForkExplorer
from mtlkit.lab.sliders.mixing import MixingExplorer
from mtlkit.lab.sliders.sharing import SharingExplorer

__all__ = ["ChannelExplorer", "DetectionExplorer", "ForkExplorer", "MixingExplorer", "SharingExplorer"]
