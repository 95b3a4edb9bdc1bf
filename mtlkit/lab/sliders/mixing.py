"""A widget that shows what a mixing temperature does."""

from collections.abc import Mapping

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
        super().__init__({"temperature": (temperature, 0, 2, 0.05)}, powers=("temperature",))

    def seen(self) -> dict[str, float]:
        """Return task → how often each of its samples is seen in the whole training, on average."""
        shares = mixture(self.sizes, self["temperature"])
        return {task: self.draws * share / self.sizes[task] for task, share in shares.items()}

    def draw(self) -> tuple[plots.Picture, str]:
        """Return bars of the shares, and how often each sample is seen."""
        shares = mixture(self.sizes, self["temperature"])
        picture = plots.bars(
            {f"{task}\n{size:,} samples": {"share of the draws": shares[task]} for task, size in self.sizes.items()},
            ylabel="share of the draws",
            top=1.0,
        )
        seen = ", ".join(f"{task} {times:.3g} times" for task, times in self.seen().items())
        return picture, f"each sample is seen, on average: {seen}"
