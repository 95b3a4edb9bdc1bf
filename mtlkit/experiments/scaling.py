"""A power law through the losses of models of several sizes, and how little it says far outside of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from numpy.typing import NDArray

from mtlkit.plots.style import BLUE, ORANGE, STYLE, Picture
from mtlkit.plots.words import lines

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """L(N) = E + A / (N / 10,000)^α (Hoffmann et al., arXiv:2203.15556, section 3.3, for a fixed amount of data).

    Attributes:
        floor: E, the loss that no size removes.
        scale: A, what size removes, in nats at 10,000 parameters.
        exponent: α.
    """

    floor: float
    scale: float
    exponent: float

    def __call__(self, parameters: float | Array) -> float | Array:
        """Return the loss at so many parameters."""
        return self.floor + self.scale * (np.asarray(parameters) / 1e4) ** -self.exponent


def fit_power_law(parameters: Sequence[float], losses: Sequence[float]) -> PowerLaw:
    """Fit E, A and α, none below 0, by least squares.

    Raises:
        ValueError: if there are fewer than four sizes: three numbers are fitted.
    """
    from scipy.optimize import least_squares  # slow to import

    N, L = np.asarray(parameters, float), np.asarray(losses, float)
    if len(set(N.tolist())) < 4:
        raise ValueError(f"a power law has three numbers: give four sizes or more, not {len(set(N.tolist()))}")
    starts = [(floor * L.min(), np.ptp(L) + 0.1, exponent) for floor in (0.1, 0.9) for exponent in (0.2, 0.8)]
    fits = [least_squares(lambda p: PowerLaw(*p)(N) - L, start, bounds=(0, np.inf)) for start in starts]
    return PowerLaw(*min(fits, key=lambda fit: fit.cost).x.tolist())


def resampled_laws(losses: Mapping[int, Sequence[float]], draws: int = 200, seed: int = 0) -> list[PowerLaw]:
    """Fit again and again, each time to as many runs of each size, drawn with repetition (bootstrap).

    Args:
        losses: number of parameters → losses of its runs, one a seed.
        draws: how many fits.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    return [
        fit_power_law(list(losses), [float(rng.choice(runs, len(runs)).mean()) for runs in losses.values()])
        for _ in range(draws)
    ]


def interval(laws: Sequence[PowerLaw], parameters: float) -> tuple[float, float]:
    """Return the range that 95 % of the `laws` give at so many parameters."""
    low, high = np.quantile([law(parameters) for law in laws], [0.025, 0.975])
    return float(low), float(high)


def draw_law(losses: Mapping[int, Sequence[float]], law: PowerLaw, laws: Sequence[PowerLaw], far: float) -> Picture:
    """Show the losses of models against their size, the fitted law, and what it may mean at the size `far`."""
    sizes = np.geomspace(min(losses), far, 80)
    low, high = zip(*(interval(laws, size) for size in sizes), strict=True)
    with rc_context(STYLE):
        figure = Picture(figsize=(8, 4))
        axes = figure.add_subplot()
        axes.fill_between(sizes, low, high, color=ORANGE, alpha=0.3, label="95 % of the fits to resampled runs")
        axes.plot(sizes, law(sizes), color=ORANGE, label="fitted law")
        axes.axhline(law.floor, color="0.5", linestyle=":", label="its floor")
        for number, (size, runs) in enumerate(losses.items()):
            axes.plot([size] * len(runs), runs, "o", color=BLUE, markersize=4, label=None if number else "one training")
        axes.axvspan(min(losses), max(losses), color="0.93", zorder=0)
        axes.set_xscale("log")
        axes.set_xlabel("parameters (grey: where there are measurements)")
        axes.set_ylabel("loss on unseen text, nats a character")
        axes.legend()
    figure.alt = lines(
        f"Losses of {len(losses)} sizes of model, and a fitted law with its floor {law.floor:.2f}; at {far:.0e} "
        f"parameters it says {law(far):.2f}, and 95 % of the fits to resampled runs {low[-1]:.2f} to {high[-1]:.2f}.",
        {f"{size:,} parameters": ", ".join(f"{loss:.3f}" for loss in runs) for size, runs in losses.items()},
    )
    return figure
