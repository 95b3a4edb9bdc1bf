"""The landscape as a static picture."""

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context

from mtlkit.lab.landscape.landscape import Landscape
from mtlkit.plots.style import BLUE, LINES, RED, STYLE, Picture
from mtlkit.plots.words import lines


def draw_landscape(
    place: Landscape, weights: Mapping[str, float], start: np.ndarray, paths: Mapping[str, np.ndarray]
) -> Picture:
    """Show level lines of the weighted loss, both gradients and their sum at `start`, and the path of each method."""
    left, right, bottom, top = place.extent
    w = np.array(list(weights.values()))
    x, y = np.meshgrid(np.linspace(left, right, 121), np.linspace(bottom, top, 91))
    total = place.losses(np.stack([x, y], -1)) @ w
    styles = (("black", "-"), *LINES)
    with rc_context(STYLE):
        figure = Picture(figsize=(7.6, 5.2))
        axes = figure.add_subplot()
        axes.contour(
            x, y, total, total.min() + np.ptp(total) * np.linspace(0.07, 1, 14) ** 2.5, colors="0.75", zorder=0
        )
        axes.plot(*place.pareto().T, color="0.5", linewidth=5, alpha=0.45, label="Pareto set")
        for (name, path), (colour, line) in zip(paths.items(), styles, strict=False):
            axes.plot(*path.T, color=colour, linestyle=line, label=name, linewidth=1.8, marker="o", markevery=[-1])
        gradients = place.jacobian(start)
        arrows = {"-g_A": (gradients[0], BLUE), "-g_B": (gradients[1], RED), "sum": (w @ gradients, "black")}
        scale = 1.1 / max(float(np.linalg.norm(g)) for g, _ in arrows.values())
        for name, (g, colour) in arrows.items():
            tip = tuple(start - scale * g)
            axes.annotate("", tip, tuple(start), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})
            axes.annotate(name, tip, color=colour, xytext=(4, 4), textcoords="offset points")
        for task, centre in zip(weights, place.centres, strict=True):
            axes.plot(*centre, "k*", markersize=11)
            axes.annotate(f"best for {task}", centre, xytext=(6, -13), textcoords="offset points")
        axes.plot(*start, "o", markerfacecolor="white", markeredgecolor="black", markersize=9, zorder=5)
        axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        axes.set(xlabel="shared parameter 1", ylabel="shared parameter 2")
        axes.grid(False)
        figure.legend(loc="outside upper center", ncols=4, fontsize=8)
    lengths = ", ".join(f"{task} {np.linalg.norm(g):.2f}" for task, g in zip(weights, gradients, strict=True))
    figure.alt = lines(
        f"Level lines of the weighted loss of tasks {' and '.join(weights)} over two shared parameters, and the Pareto "
        f"set. Gradients at the start ({start[0]:.2f}, {start[1]:.2f}) have the lengths {lengths}. Paths end at:",
        {
            name: f"({path[-1][0]:.2f}, {path[-1][1]:.2f}), losses "
            + ", ".join(f"{task} {loss:.3f}" for task, loss in zip(weights, place.losses(path[-1]), strict=True))
            for name, path in paths.items()
        },
    )
    return figure
