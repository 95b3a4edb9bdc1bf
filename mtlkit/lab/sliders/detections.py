"""A widget that shows what thresholds do to detections."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from mtlkit import plots
from mtlkit.lab.sliders.base import SliderExplorer

LEAST, LARGEST = "minimum confidence", "maximum overlap"


class DetectionExplorer(SliderExplorer):
    """Test images with predicted and true boxes; two sliders set which predictions are kept.

    Args:
        model: gives "classify" and "detect".
        dataset: where the images come from.
        indices: which of them.
    """

    def __init__(self, model: nn.Module, dataset: Any, indices: Sequence[int] = range(6)) -> None:
        self.model, self.dataset, self.indices = model, dataset, list(indices)
        super().__init__({LEAST: (0.3, 0.02, 0.98, 0.02), LARGEST: (0.5, 0.1, 0.95, 0.05)})

    def draw(self) -> tuple[plots.Picture, str]:
        """Return the images with boxes, and how many there are."""
        picture, found, true = plots.predictions(
            self.model,
            self.dataset,
            self.indices,
            score_threshold=self[LEAST],
            iou_threshold=self[LARGEST],
        )
        return picture, f"{found} boxes shown for {true} digits"
