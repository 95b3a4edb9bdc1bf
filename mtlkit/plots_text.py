"""The pictures of the language model."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context

from mtlkit.plots import BLUE, GREEN, ORANGE, RED, STYLE, Picture
from mtlkit.scaling import PowerLaw, interval


def answers(rows: Sequence[tuple[str, str, str]]) -> Picture:
    """Show questions with a model's answers and the right ones, marked."""
    with rc_context(STYLE):
        figure = Picture(figsize=(8, 0.3 + 0.34 * (1 + len(rows))))
        axes = figure.add_subplot()
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) + 0.5, -0.7)
    for x, head in ((0.0, "what it is given"), (0.42, "what it writes"), (0.75, "what is right")):
        axes.text(x, 0, head, weight="bold", va="center")
    for line, (question, written, right) in enumerate(rows, 1):
        good = written == right
        axes.text(0.0, line, question, family="monospace", va="center")
        axes.text(0.42, line, written, family="monospace", va="center", color=GREEN if good else RED)
        axes.text(0.70, line, "✓" if good else "✗", va="center", color=GREEN if good else RED)
        axes.text(0.75, line, right, family="monospace", va="center", color="0.4")
    figure.alt = f"A table of {len(rows)} questions, the answers that the model writes, and the right ones."
    return figure


def scaling(losses: Mapping[float, Sequence[float]], law: PowerLaw, laws: Sequence[PowerLaw], far: float) -> Picture:
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
    figure.alt = (
        f"Losses of {len(losses)} sizes of model fall with the number of parameters; the fitted law goes on to "
        f"{far:.0e} parameters, with a band around it that widens outside of the measured sizes."
    )
    return figure
