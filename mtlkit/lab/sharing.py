"""A widget that shows what sharing an encoder saves."""

from typing import Any

import ipywidgets

from mtlkit import plots


class SharingExplorer:
    """Sliders for the number of tasks and the sizes of encoder and heads; bars of what must be stored.

    Where no widget can be shown the picture at the first setting stands in its place.
    """

    def __init__(self, tasks: int = 2, encoder: int = 181, head: int = 40) -> None:
        def slider(value: int, low: int, high: int, name: str) -> ipywidgets.IntSlider:
            made = ipywidgets.IntSlider(value, low, high, description=name, continuous_update=False)
            made.layout, made.style = ipywidgets.Layout(width="24em"), {"description_width": "11em"}
            made.observe(self._draw, "value")
            return made

        self.tasks = slider(tasks, 1, 10, "number of tasks")
        self.encoder = slider(encoder, 1, 1000, "encoder, thousands")
        self.head = slider(head, 1, 1000, "each head, thousands")
        self.image = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))
        self.says = ipywidgets.HTML()
        self.widget = ipywidgets.VBox([self.tasks, self.encoder, self.head, self.says, self.image])
        self._draw()

    @property
    def ratio(self) -> float:
        """Parameters of the joint model as a fraction of those of separate ones."""
        heads = self.tasks.value * self.head.value
        return (self.encoder.value + heads) / (self.tasks.value * self.encoder.value + heads)

    def _draw(self, _: object = None) -> None:
        K, encoder, head = self.tasks.value, self.encoder.value, self.head.value
        groups = {
            "one joint network": {"encoder": float(encoder), "heads": float(K * head)},
            f"{K} separate networks": {"encoder": float(K * encoder), "heads": float(K * head)},
        }
        self.picture = plots.bars(groups, ylabel="parameters, thousands", top=None)
        self.image.value, self.image.alt = self.picture.png(), self.picture.alt
        self.says.value = f"the joint network has <b>{100 * self.ratio:.0f} %</b> of the parameters"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = self.picture._repr_mimebundle_()
        return self.widget._repr_mimebundle_(**options) | data, metadata
