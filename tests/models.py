"""Models that many tests need."""

from mtlkit.cases import find_case
from mtlkit.data.scenes import TEXTURES

LABELS = {"classes": TEXTURES, "box_classes": [str(digit) for digit in range(10)]}


def small_model(seed=0, encoder="conv"):
    """Return an untrained model of the course's case; the same for the same seed."""
    return find_case("scenes", encoder=encoder).new_model(LABELS, seed)
