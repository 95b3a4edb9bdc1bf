"""A widget that shows what thresholds do to detections."""

from collections.abc import Sequence
from typing import Any

import ipywidgets
from torch import nn

from mtlkit import plots
from mtlkit.lab.sliders.base import SliderExplorer


class DetectionExplorer(SliderExplorer):
    """Test images with predicted and true boxes; two sliders set which predictions are kept.

    Args:
        model: gives "classify" and "detect".
        dataset: where the images come from.
        indices: which of them.
    """

    def __init__(self, model: nn.Module, dataset: Any, indices: Sequence[int] = range(6)) -> None:
        self.model, self.dataset, self.indices = model, dataset, list(indices)
        self.score = ipywidgets.FloatSlider(0.3, min=0.02, max=0.98, step=0.02, description="least confidence")
        self.overlap = ipywidgets.FloatSlider(0.5, min=0.1, max=0.95, step=0.05, description="largest overlap")
        for slider in (self.score, self.overlap):
            slider.layout, slider.style = ipywidgets.Layout(width="22em"), {"description_width": "9em"}
        super().__init__(self.score, self.overlap)

    def draw(self) -> tuple[plots.Picture, str]:
        """Return the images with boxes, and how many there are."""
        picture, found, true = plots.predictions(
            self.model,
            self.dataset,
            self.indices,
            score_threshold=self.score.value,
            iou_threshold=self.overlap.value,
        )
        return picture, f"<b>{found}</b> boxes shown for <b>{true}</b> digits"
