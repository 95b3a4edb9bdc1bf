"""A widget that shows what sharing an encoder saves."""

import ipywidgets

from mtlkit import plots
from mtlkit.lab.sliders.base import SliderExplorer


class SharingExplorer(SliderExplorer):
    """Sliders for the number of tasks and the sizes of encoder and heads; bars of what must be stored."""

    def __init__(self, tasks: int = 2, encoder: int = 181, head: int = 40) -> None:
        def slider(value: int, low: int, high: int, name: str) -> ipywidgets.IntSlider:
            layout, style = ipywidgets.Layout(width="24em"), {"description_width": "11em"}
            return ipywidgets.IntSlider(value, low, high, description=name, layout=layout, style=style)

        self.tasks = slider(tasks, 1, 10, "number of tasks")
        self.encoder = slider(encoder, 1, 1000, "encoder, thousands")
        self.head = slider(head, 1, 1000, "each head, thousands")
        super().__init__(self.tasks, self.encoder, self.head)

    @property
    def ratio(self) -> float:
        """Parameters of the joint model as a fraction of those of separate ones."""
        heads = self.tasks.value * self.head.value
        return (self.encoder.value + heads) / (self.tasks.value * self.encoder.value + heads)

    def draw(self) -> tuple[plots.Picture, str]:
        """Return bars of the parameters, and their ratio."""
        K, encoder, head = self.tasks.value, self.encoder.value, self.head.value
        groups = {
            "one joint network": {"encoder": float(encoder), "heads": float(K * head)},
            f"{K} separate networks": {"encoder": float(K * encoder), "heads": float(K * head)},
        }
        says = f"the joint network has <b>{100 * self.ratio:.0f} %</b> of the parameters"
        return plots.bars(groups, ylabel="parameters, thousands", top=None), says
