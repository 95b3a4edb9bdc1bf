"""What the explorers with sliders share: a picture and a sentence that follow the sliders."""

from typing import Any

import ipywidgets

from mtlkit.plots import Picture


class SliderExplorer:
    """Sliders over a sentence and a picture. Without a widget, the picture at the first setting stands in its place.

    Args:
        sliders: when one moves, `draw` gives the new picture and sentence.
    """

    def __init__(self, *sliders: ipywidgets.ValueWidget) -> None:
        self.image = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))
        self.says = ipywidgets.HTML()
        row = ipywidgets.HBox(sliders, layout=ipywidgets.Layout(flex_flow="row wrap"))
        self.widget = ipywidgets.VBox([row, self.says, self.image])
        for slider in sliders:
            slider.continuous_update = False
            slider.observe(self._follow, "value")
        self._follow()

    def draw(self) -> tuple[Picture, str]:
        """Return the picture at the present setting, and a sentence in HTML."""
        raise NotImplementedError

    def _follow(self, _: object = None) -> None:
        self.picture, self.says.value = self.draw()
        self.image.value, self.image.alt = self.picture.png(), self.picture.alt

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = self.picture._repr_mimebundle_()
        return self.widget._repr_mimebundle_(**options) | data, metadata
