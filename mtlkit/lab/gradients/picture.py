"""Two gradients and the methods' directions as a static picture."""

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context

from mtlkit.plots.style import BLUE, GREEN, ORANGE, PINK, RED, SKY, STYLE, Picture
from mtlkit.plots.words import lines


def draw_gradients(jacobian: np.ndarray, directions: Mapping[str, np.ndarray]) -> Picture:
    """Show two gradients, the rows of `jacobian [2, 2]`, and the direction of each method."""
    arrows = {"A": jacobian[0], "B": jacobian[1], **directions}
    styles = (
        (BLUE, "-"),
        (RED, "-"),
        ("0.5", "-"),
        (GREEN, "--"),
        (PINK, ":"),
        (ORANGE, "-."),
        (SKY, "--"),
        ("black", ":"),
    )
    with rc_context(STYLE):
        figure = Picture(figsize=(6, 3.4))
        axes = figure.add_subplot()
        for (name, tip), (colour, line) in zip(arrows.items(), styles, strict=False):
            width = 6 if name == "sum" else 2.2
            axes.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "ls": line, "lw": width})
            axes.plot(*tip, color=colour, linestyle=line, linewidth=width, label=name)
        reach = max(float(np.linalg.norm(tip)) for tip in arrows.values())
        axes.set(xlim=(-1.1 * reach, 1.1 * reach), ylim=(-0.1 * reach, 1.1 * reach), aspect="equal")
        figure.legend(loc="outside right upper")
    hurt = {name: [t for t, g in zip("AB", jacobian, strict=True) if g @ d < -1e-9] for name, d in directions.items()}
    said = "; ".join(f"{name} hurts {' and '.join(tasks)}" for name, tasks in hurt.items() if tasks)
    figure.alt = lines(
        f"Two gradients and the directions of {', '.join(directions)}. {said or 'None hurts a task'}.",
        {
            name: f"length {np.linalg.norm(tip):.2f} at {np.degrees(np.arctan2(tip[1], tip[0])):.0f}°"
            for name, tip in arrows.items()
        },
    )
    return figure
