"""Samples and batches: scenes of digits, photographs, overlaid digits, text."""

from mtlkit.data.batches import Batch, Sample, collate
from mtlkit.data.download import SOURCES, DownloadError, data_folder
from mtlkit.data.errors import DataError
from mtlkit.data.loader import Loader, MixedLoader
from mtlkit.data.memory import InMemory, Part
from mtlkit.data.multimnist import MultiMNIST
from mtlkit.data.photos import CocoFolder, OxfordPets, Photos, VocFolder, export
from mtlkit.data.scenes import SCENE_CLASSES, DigitScenes
from mtlkit.data.transforms import augment

__all__ = [
    "SCENE_CLASSES",
    "SOURCES",
    "Batch",
    "CocoFolder",
    "DataError",
    "DigitScenes",
    "DownloadError",
    "InMemory",
    "Loader",
    "MixedLoader",
    "MultiMNIST",
    "OxfordPets",
    "Part",
    "Photos",
    "Sample",
    "VocFolder",
    "augment",
    "collate",
    "data_folder",
    "export",
]
