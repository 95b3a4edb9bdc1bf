"""A widget that shows what a mixing temperature does."""

from collections.abc import Mapping

import ipywidgets

from mtlkit import plots
from mtlkit.data.loader import mixture
from mtlkit.data.text import SIZES
from mtlkit.lab.sliders.base import SliderExplorer


class MixingExplorer(SliderExplorer):
    """A slider for the temperature; bars of how often each task is drawn and how often each of its samples is seen.

    Args:
        temperature: at first.
        sizes: task → number of distinct samples.
        draws: samples drawn in the whole training.
    """

    def __init__(self, temperature: float = 1.0, sizes: Mapping[str, int] = SIZES, draws: int = 48_000) -> None:
        self.sizes, self.draws = dict(sizes), draws
        self.temperature = ipywidgets.FloatLogSlider(temperature, min=0, max=2, step=0.05, description="temperature")
        self.temperature.layout, self.temperature.style = ipywidgets.Layout(width="30em"), {"description_width": "8em"}
        super().__init__(self.temperature)

    def seen(self) -> dict[str, float]:
        """Return task → how often each of its samples is seen in the whole training, on average."""
        shares = mixture(self.sizes, self.temperature.value)
        return {task: self.draws * share / self.sizes[task] for task, share in shares.items()}

    def draw(self) -> tuple[plots.Picture, str]:
        """Return bars of the shares, and how often each sample is seen."""
        shares = mixture(self.sizes, self.temperature.value)
        picture = plots.bars(
            {f"{task}\n{size:,} samples": {"share of the draws": shares[task]} for task, size in self.sizes.items()},
            ylabel="share of the draws",
            top=1.0,
        )
        seen = ", ".join(f"{task} <b>{times:.3g}</b> times" for task, times in self.seen().items())
        return picture, f"each sample is seen, on average: {seen}"
