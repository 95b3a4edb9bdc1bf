"""Oxford-IIIT Pet, as its authors ship it."""

from dataclasses import replace
from pathlib import Path

from torchvision.datasets import OxfordIIITPet

from mtlkit.data.errors import DataError
from mtlkit.data.photos.faults import Faults
from mtlkit.data.photos.photos import Photo, Photos
from mtlkit.data.photos.splits import fifth
from mtlkit.data.photos.voc import read_voc


class OxfordPets(Photos):
    """Oxford-IIIT Pet (Parkhi et al., "Cats and Dogs", CVPR 2012): breed of the animal + box of its head.

    Many images have no box: a natural set with partial labels. The authors give boxes for "trainval" only, so
    "val" is a fixed fifth of it and "train" the rest; "test" is theirs, with breeds only.

    Args:
        root: the folder that holds `oxford-iiit-pet/` (`mtlkit data get pets` makes it).
        split: "train", "val", "trainval" or "test".
        size: side of the square in pixels.
        repair: cut or leave out boxes that are wrong instead of raising.
    """

    def __init__(self, root: str | Path, split: str = "train", size: int = 128, *, repair: bool = False) -> None:
        if split not in ("train", "val", "trainval", "test"):
            raise ValueError(f"unknown split {split!r}: expected train, val, trainval or test")
        try:
            listed = OxfordIIITPet(root, split="test" if split == "test" else "trainval", download=False)
        except RuntimeError as error:
            raise DataError(
                f"no Oxford-IIIT Pet in {root}: get it with 'mtlkit data get pets' or point to the folder that holds "
                "oxford-iiit-pet/"
            ) from error
        folder = Path(root) / "oxford-iiit-pet"
        boxes, photos, faults = folder / "annotations" / "xmls", [], Faults(folder, repair)
        for path, label in _listed(folder, "test" if split == "test" else "trainval"):
            if split == "trainval" or split == "test" or (fifth(path.name) == 0) == (split == "val"):
                xml = boxes / f"{path.stem}.xml"
                photo = read_voc(xml, path, faults) if xml.exists() else Photo(path, str(path))
                photos.append(replace(photo, label=listed.classes[label]))
        super().__init__(
            photos,
            size,
            classes=listed.classes,
            box_classes=("cat", "dog"),
            label_origin="annotated: breed",
            repair=repair,
            faults=faults,
        )


def _listed(folder: Path, split: str) -> list[tuple[Path, int]]:
    """Return the photographs of a list of the authors', and the number of each one's breed, from 0."""
    lines = (folder / "annotations" / f"{split}.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return [(folder / "images" / f"{name}.jpg", int(breed) - 1) for name, breed, *_ in rows]
