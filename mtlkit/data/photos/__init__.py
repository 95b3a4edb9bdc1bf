"""Photographs with boxes: Oxford-IIIT Pet, any folder in the Pascal VOC layout, any in the COCO layout."""

from mtlkit.data.photos.coco import CocoFolder
from mtlkit.data.photos.export import export
from mtlkit.data.photos.faults import DataWarning
from mtlkit.data.photos.images import read_image
from mtlkit.data.photos.pets import OxfordPets
from mtlkit.data.photos.photos import Photo, Photos
from mtlkit.data.photos.voc import VocFolder

__all__ = ["CocoFolder", "DataWarning", "OxfordPets", "Photo", "Photos", "VocFolder", "export", "read_image"]
