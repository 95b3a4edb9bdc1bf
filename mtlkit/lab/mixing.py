"""A widget that shows what a mixing temperature does."""

from collections.abc import Mapping
from typing import Any

import ipywidgets

from mtlkit import plots
from mtlkit.data.text import SIZES, mixture


class MixingExplorer:
    """A slider for the temperature; bars of how often each task is drawn and how often each of its samples is seen.

    Where no widget can be shown the picture at the first setting stands in its place.

    Args:
        temperature: at first.
        sizes: task → number of distinct samples.
        draws: samples drawn in the whole training.
    """

    def __init__(self, temperature: float = 1.0, sizes: Mapping[str, int] = SIZES, draws: int = 48_000) -> None:
        self.sizes, self.draws = dict(sizes), draws
        self.temperature = ipywidgets.FloatLogSlider(
            temperature, min=0, max=2, step=0.05, description="temperature", continuous_update=False
        )
        self.temperature.layout, self.temperature.style = ipywidgets.Layout(width="30em"), {"description_width": "8em"}
        self.image = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))
        self.says = ipywidgets.HTML()
        self.widget = ipywidgets.VBox([self.temperature, self.says, self.image])
        self.temperature.observe(self._draw, "value")
        self._draw()

    def seen(self) -> dict[str, float]:
        """Return task → how often each of its samples is seen in the whole training, on average."""
        shares = mixture(self.sizes, self.temperature.value)
        return {task: self.draws * share / self.sizes[task] for task, share in shares.items()}

    def _draw(self, _: object = None) -> None:
        shares, seen = mixture(self.sizes, self.temperature.value), self.seen()
        self.picture = plots.bars(
            {f"{task}\n{size:,} samples": {"share of the draws": shares[task]} for task, size in self.sizes.items()},
            ylabel="share of the draws",
            top=1.0,
        )
        self.image.value, self.image.alt = self.picture.png(), self.picture.alt
        self.says.value = "each sample is seen, on average: " + ", ".join(
            f"{task} <b>{times:.3g}</b> times" for task, times in seen.items()
        )

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = self.picture._repr_mimebundle_()
        return self.widget._repr_mimebundle_(**options) | data, metadata
