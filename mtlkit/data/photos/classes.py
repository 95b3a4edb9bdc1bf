"""Names of classes: spelled alike, and the class of a whole image that follows from its boxes."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from mtlkit.data.photos.faults import Faults


class ImageClass:
    """How the class of a whole image follows from its boxes.

    Args:
        rule: "largest" (the class of the largest box) or "contains:NAME" (whether there is a box of that class).
        box_classes: names of the box classes.

    Raises:
        ValueError: if the rule is unknown.
    """

    def __init__(self, rule: str, box_classes: Sequence[str]) -> None:
        self.name = rule.removeprefix("contains:")
        if rule == "largest":
            self.classes, self.origin, self.wanted = tuple(box_classes), "derived: class of the largest box", -1
            return
        if self.name == rule or self.name not in box_classes:
            choices = ", ".join(f"contains:{box_class}" for box_class in box_classes)
            raise ValueError(f"unknown rule for the image-level class {rule!r}: expected largest, {choices}")
        self.classes = (f"no {self.name}", self.name)
        self.origin = f"derived: whether a {self.name} has a box"
        self.wanted = list(box_classes).index(self.name)

    def of(self, boxes: Tensor, labels: Tensor) -> int | None:
        """Return the number of the class for `boxes [N, 4]` with `labels [N]`; `None` if nothing says it."""
        if self.wanted >= 0:
            return int((labels == self.wanted).any())
        if not len(boxes):
            return None
        return int(labels[(boxes[:, 2:] - boxes[:, :2]).prod(1).argmax()])


def merge_names(counts: Counter[str], faults: Faults) -> Callable[[str], str]:
    """Return what gives each class name its spelling: without blanks at the ends; with `repair` the commonest one.

    Args:
        counts: how often each spelling stands in the annotations.
        faults: takes note of spellings that differ in case or blanks only.
    """
    alike: dict[str, list[str]] = {}
    for name in counts:
        alike.setdefault(" ".join(unicodedata.normalize("NFC", name).split()).casefold(), []).append(name)
    spelled = {}
    for names in alike.values():
        common = unicodedata.normalize("NFC", max(names, key=lambda name: (counts[name], name))).strip()
        for name in names:
            spelled[name] = common if faults.repair else unicodedata.normalize("NFC", name).strip()
        if len(names) > 1:
            said = ", ".join(map(repr, sorted(names)))
            what = f"the classes {said} differ only in case or blanks"
            kept = len({spelled[name] for name in names})
            faults.note(f"{what}: taken as " + ("one" if kept == 1 else f"{kept} classes (--repair makes them one)"))
    return lambda name: spelled.get(name, unicodedata.normalize("NFC", name).strip())


def image_classes(rule: str, box_classes: Sequence[str], scene_classes: Sequence[str]) -> dict[str, Any]:
    """Return what `Photos` is told of the image-level classes: annotated ones, or derived by a rule."""
    if scene_classes:
        return {"classes": tuple(scene_classes), "label_origin": "annotated"}
    derive = ImageClass(rule, box_classes)
    return {"classes": derive.classes, "label_origin": derive.origin, "derive": derive}
