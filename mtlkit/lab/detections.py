"""A widget that shows what thresholds do to detections."""

from collections.abc import Sequence
from typing import Any

import ipywidgets
from torch import nn

from mtlkit import plots


class DetectionExplorer:
    """Test images with predicted and true boxes; two sliders set which predictions are kept.

    Where no widget can be shown (GitHub, a print-out) the same picture at the first setting stands in its place.

    Args:
        model: gives "classify" and "detect".
        dataset: where the images come from.
        indices: which of them.
    """

    def __init__(self, model: nn.Module, dataset: Any, indices: Sequence[int] = range(6)) -> None:
        self.model, self.dataset, self.indices = model, dataset, list(indices)
        layout, style = ipywidgets.Layout(width="22em"), {"description_width": "9em"}
        self.score = ipywidgets.FloatSlider(0.3, min=0.02, max=0.98, step=0.02, description="least confidence")
        self.overlap = ipywidgets.FloatSlider(0.5, min=0.1, max=0.95, step=0.05, description="largest overlap")
        for slider in (self.score, self.overlap):
            slider.layout, slider.style, slider.continuous_update = layout, style, False
            slider.observe(self._draw, "value")
        self.image = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))
        self.counts = ipywidgets.HTML()
        sliders = ipywidgets.HBox([self.score, self.overlap], layout=ipywidgets.Layout(flex_flow="row wrap"))
        self.widget = ipywidgets.VBox([sliders, self.counts, self.image])
        self._draw()

    def _draw(self, _: object = None) -> None:
        picture, found, true = plots.predictions(
            self.model,
            self.dataset,
            self.indices,
            score_threshold=self.score.value,
            iou_threshold=self.overlap.value,
        )
        self.picture, self.image.value, self.image.alt = picture, picture.png(), picture.alt
        self.counts.value = f"<b>{found}</b> boxes shown for <b>{true}</b> digits"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = self.picture._repr_mimebundle_()
        return self.widget._repr_mimebundle_(**options) | data, metadata
