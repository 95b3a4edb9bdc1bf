"""What is in a folder of photographs, before anything is trained on it: counts, sizes, classes, what looks wrong."""

import hashlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torchvision.ops import box_iou

from mtlkit.data.errors import DataError
from mtlkit.data.photos.coco import CocoFolder
from mtlkit.data.photos.faults import DataWarning
from mtlkit.data.photos.files import Folder
from mtlkit.data.photos.images import measure
from mtlkit.data.photos.pets import OxfordPets
from mtlkit.data.photos.photos import Photo, Photos
from mtlkit.data.photos.voc import VocFolder

SIZE = 256  # pixels: of the sheet, and what "tiny" is measured at
TINY = 8  # pixels: a cell of the detection head
MOST_NAMED = 3


@dataclass
class Split:
    """One split of a folder.

    Attributes:
        name: how the folder calls it.
        photos: its photographs, with what could be mended.
        suspicious: kind → where, of boxes that are allowed and seldom meant.
        shown: photographs for a sheet, suspicious ones first.
    """

    name: str
    photos: Photos
    suspicious: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    shown: list[int] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Say what is in it."""
        photos = self.photos
        sizes = [measure(photo.path).seen for photo in photos.photos]
        objects = [sum(not row[2] for row in photo.rows()) for photo in photos.photos]
        ignored = sum(row[2] for photo in photos.photos for row in photo.rows())
        per_class = Counter(row[1] for photo in photos.photos for row in photo.rows() if not row[2])
        without = sum(photo.boxes is None for photo in photos.photos)
        said = [
            f"{self.name}: {len(photos):,} photographs, {_range([w for w, _ in sizes])} wide, "
            f"{_range([h for _, h in sizes])} high",
            f"  {sum(objects):,} objects, {_range(objects)} in a photograph; {objects.count(0):,} photographs have none"
            + (f", of which {without:,} have no box target" if without else "")
            + (f"; {ignored:,} objects are ignored (crowds, difficult ones)" if ignored else ""),
        ]
        said += [f"  class {name!r}: {per_class[name]:,} objects" for name in photos.box_classes]
        labels = Counter(photos.classes[int(label)] for label in self._labels())
        said.append(
            f"  class of the image ({photos.label_origin}): {', '.join(f'{n} {c:,}' for n, c in labels.items())}"
        )
        for title, found in (("fault", photos.mended), ("note", photos.notes)):
            said += [f"  {title}: {line}" for line in found]
        for kind, places in self.suspicious.items():
            more = f" and {len(places) - MOST_NAMED:,} more" if len(places) > MOST_NAMED else ""
            said.append(f"  {len(places):,} {kind}: {', '.join(places[:MOST_NAMED])}{more}")
        return said

    def _labels(self) -> list[torch.Tensor]:
        return [s["label"] for s in (self.photos[k] for k in range(len(self.photos))) if "label" in s]


def look(root: str | Path) -> list[Split]:
    """Read every split of a folder of photographs, whatever its format, mended where that can be done.

    Raises:
        DataError: if it is no such folder, or something in it cannot be mended.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # they stand among the notes
        splits = [Split(name, photos) for name, photos in _open(Path(root).expanduser())]
    for split in splits:
        for index, photo in enumerate(split.photos.photos):
            if _look_at_boxes(photo, split.suspicious):
                split.shown.append(index)
        number = len(split.photos)
        split.shown += [k for k in range(0, number, max(1, number // 24)) if k not in split.shown]
    return splits


def same_pictures(splits: Sequence[Split]) -> list[str]:
    """Return the photographs that are byte for byte in two splits: what is tested on them was trained on."""
    first: dict[bytes, tuple[str, Path]] = {}
    found = []
    for split in splits:
        for photo in split.photos.photos:
            digest = hashlib.blake2b(photo.path.read_bytes()).digest()
            name, path = first.setdefault(digest, (split.name, photo.path))
            if name != split.name:
                found.append(f"{path.name} of {name!r} is {photo.path.name} of {split.name!r}")
    return found


def _open(root: Path) -> list[tuple[str, Photos]]:
    if (root / "oxford-iiit-pet").is_dir():
        return [(split, OxfordPets(root, split, SIZE, repair=True)) for split in ("trainval", "test")]
    folder = Folder(root)
    readers = [kind for kind, ending in ((CocoFolder, ".json"), (VocFolder, ".xml")) if folder.having(ending)]
    if not readers:
        raise DataError(
            f"{root} has neither .xml nor .json files: expected annotations in the Pascal VOC or the COCO layout"
        )
    for reader in readers:
        try:
            return [(split, reader(root, split, SIZE, repair=True)) for split in reader.pair(root)]
        except DataError:
            if reader is readers[-1]:
                raise
    return []


def _look_at_boxes(photo: Photo, suspicious: dict[str, list[str]]) -> bool:
    """Take note of boxes that are seldom meant; return whether there are any."""
    rows = [row for row in photo.rows() if not row[2]]
    if not rows:
        return False
    before = sum(map(len, suspicious.values()))
    width, height = measure(photo.path).seen
    boxes = torch.tensor([row[0] for row in rows])
    sides = boxes[:, 2:] - boxes[:, :2]
    least = TINY * max(width, height) / SIZE
    for (_, name, _, called), (w, h) in zip(rows, sides.tolist(), strict=True):
        place = f"{photo.path.name}, {called} ({name})"
        if min(w, h) < least:
            suspicious[f"boxes smaller than {TINY} pixels in an image of {SIZE}"].append(place)
        if w * h > 0.95 * width * height:
            suspicious["boxes around the whole image"].append(place)
        if max(w, h) > 15 * min(w, h):
            suspicious["boxes more than 15 times as long as wide"].append(place)
    over = box_iou(boxes, boxes).triu(1)
    for i, j in (over > 0.95).nonzero().tolist():
        kind = "objects marked twice" if rows[i][1] == rows[j][1] else "boxes of two classes in one place"
        suspicious[kind].append(f"{photo.path.name}, {rows[i][3]} and {rows[j][3]} ({rows[i][1]}, {rows[j][1]})")
    return sum(map(len, suspicious.values())) > before


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
